"""Pretraining with a tokenizer that others made, or that is none."""

from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file
from tokenizers import models, normalizers, pre_tokenizers, processors
from torch import Tensor
from typer.testing import CliRunner

from service import cli
from service.errors import CheckpointInvalid, DatasetInvalid
from service.offline import scratch
from service.offline.encoder import EncoderConfig
from service.offline.masked_model import NOT_HIDDEN, PretrainingModel
from service.offline.pretrain import PretrainConfig, pretrain
from service.offline.progress import Progress
from service.offline.wordpiece import (
    CLASS,
    MASK,
    PADDING,
    SEPARATOR,
    SPECIAL_TOKENS,
    UNKNOWN,
)
from tests.offline.pretraining_texts import TEXTS, command

# As in bert-base-uncased: not the first ids, and not side by side.
PLACES = {PADDING: 0, UNKNOWN: 100, CLASS: 101, SEPARATOR: 102, MASK: 103}


def tokenizer_of_others(folder: Path, places: dict[str, int]) -> list[str]:
    """The option of a tokenizer whose special tokens have these ids, and which has no others."""
    words = sorted({word for text in TEXTS for word in text.split()})
    vocabulary = {word: index for index, word in enumerate(words, start=1)} | places
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if {CLASS, SEPARATOR} <= set(places):
        around = [(CLASS, places[CLASS]), (SEPARATOR, places[SEPARATOR])]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{CLASS} $A {SEPARATOR}", special_tokens=around
        )
    tokenizer.save(str(folder / "others.json"))
    return ["--tokenizer", str(folder / "others.json")]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """All that the model was shown, and what it was to name, batch by batch."""
    found: list[tuple[Tensor, Tensor]] = []
    forward = PretrainingModel.forward

    def told(model: PretrainingModel, *batch: Tensor) -> tuple[Tensor, Tensor]:
        found.extend([(batch[0], batch[1]), (batch[2], batch[3])])
        return forward(model, *batch)

    monkeypatch.setattr(PretrainingModel, "forward", told)
    return found


def test_special_tokens_are_not_to_be_named_wherever_their_ids_lie(
    tmp_path: Path, batches: list[tuple[Tensor, Tensor]]
) -> None:
    option = tokenizer_of_others(tmp_path, PLACES)
    result = CliRunner().invoke(cli.app, command(tmp_path, "out", *option), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    seen, wanted = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
    hidden = wanted != NOT_HIDDEN
    assert not set(wanted[hidden].tolist()) & set(PLACES.values())
    assert float((seen[hidden] == PLACES[MASK]).float().mean()) == pytest.approx(0.8, abs=0.02)
    assert not (seen[~hidden] == PLACES[MASK]).any()
    rows = load_file(tmp_path / "out" / "new" / "model.safetensors")
    assert len(rows["embeddings.word_embeddings.weight"]) == max(PLACES.values()) + 1


def test_texts_without_a_word_that_the_tokenizer_knows_are_not_learned_from(
    quiet: Progress, batches: list[tuple[Tensor, Tensor]]
) -> None:
    texts = [*[[2, 3], [2, 1, 3], []] * 30, *([2, word, 3] for word in range(5, 30))]
    size = EncoderConfig(30, hidden_size=16, layers=1, heads=2, feed_forward_size=16)
    config = PretrainConfig(epochs=2, batch_tokens=3)
    result = pretrain(texts, size, config, quiet, "new", mask_id=4, special_ids=range(5))
    assert np.isfinite(list(result.metrics.values())).all()
    for _, wanted in batches:
        assert set(wanted.tolist()) - {NOT_HIDDEN}
        assert set(wanted.tolist()) <= {NOT_HIDDEN, *range(5, 30)}
    with pytest.raises(DatasetInvalid, match="knows a word in 1 of them"):
        pretrain(texts[:91], size, config, quiet, "new", mask_id=4, special_ids=range(5))


@pytest.mark.parametrize("missing", SPECIAL_TOKENS)
def test_tokenizer_without_a_special_token_is_refused(tmp_path: Path, missing: str) -> None:
    places = {name: index for name, index in PLACES.items() if name != missing}
    arguments = command(tmp_path, "out", *tokenizer_of_others(tmp_path, places))
    with pytest.raises(CheckpointInvalid) as caught:
        CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert f"has no {missing}: " in str(caught.value)
    assert "leave --tokenizer out" in str(caught.value)


def test_file_that_is_no_tokenizer_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mistyped.json"
    arguments = command(tmp_path, "out", "--tokenizer", str(file))
    with pytest.raises(CheckpointInvalid, match=r"mistyped\.json cannot be read as a tokenizer"):
        CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert not file.exists()
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointInvalid, match=r"mistyped\.json cannot be read as a tokenizer"):
        CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert file.read_text(encoding="utf-8") == "{}"


def test_pretraining_killed_while_it_writes_the_tokenizer_can_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])
        raise KeyboardInterrupt

    arguments = command(tmp_path, "out")
    with monkeypatch.context() as patched:
        patched.setattr(scratch, "write_synced", killed)
        assert CliRunner().invoke(cli.app, arguments).exit_code != 0
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "out" / ".training").iterdir()) == []
