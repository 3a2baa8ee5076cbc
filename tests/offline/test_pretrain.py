"""From raw texts to an encoder that other tools read, by both objectives, killed or not."""

from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file
from tokenizers import models, normalizers, pre_tokenizers, processors
from torch import Tensor
from typer.testing import CliRunner

from service import cli
from service.errors import CheckpointInvalid, DatasetInvalid, InvalidField, WorkshopError
from service.offline import scratch
from service.offline.checkpoints import load_checkpoint
from service.offline.encoder import EncoderConfig
from service.offline.masked_model import NOT_HIDDEN, PretrainingModel
from service.offline.pretrain import PretrainConfig, pretrain, read_choices
from service.offline.progress import Progress
from service.offline.scratch import refuse_finished
from service.offline.training.batches import packed_tensors
from service.offline.training.state import STATE_FILE
from service.offline.wordpiece import (
    CLASS,
    MASK,
    PADDING,
    SEPARATOR,
    SPECIAL_TOKENS,
    UNKNOWN,
    encode_in_portions,
    train_wordpiece,
)
from tests.offline.killing import first_step_told, kill_on_its_way, saved_step

ADJECTIVES = ("red", "old", "small", "warm")
NOUNS = ("boat", "house", "river", "garden", "bridge")
TEXTS = [
    f"the {a} {n} is near the {b} {m}"
    for a in ADJECTIVES
    for b in ADJECTIVES
    for n in NOUNS
    for m in NOUNS
]
WORDS = ("red", "old", "boat", "house", "river", "cold", "wind", "salt")
# As in bert-base-uncased: not the first ids, and not side by side.
PLACES = {PADDING: 0, UNKNOWN: 100, CLASS: 101, SEPARATOR: 102, MASK: 103}
CHINESE = ["服务很好,味道不错", "送餐太慢,味道一般", "味道很好,送餐也快"] * 2


def test_tokenizer_learns_words_and_takes_chinese_apart_by_characters() -> None:
    tokenizer = train_wordpiece([*TEXTS, *CHINESE], 200)
    assert tokenizer.encode("The red garden").tokens == ["[CLS]", "the", "red", "garden", "[SEP]"]
    assert tokenizer.encode("味道好").tokens == ["[CLS]", "味", "道", "好", "[SEP]"]
    assert tokenizer.encode("a", "b").type_ids[-1] == 1
    assert [tokenizer.id_to_token(index) for index in range(5)] == list(SPECIAL_TOKENS)


def test_long_texts_are_learned_from_to_their_end() -> None:
    tokenizer = train_wordpiece(TEXTS, 200)
    portions = encode_in_portions(tokenizer, ["red " * 30], 12)
    assert [len(portion) for portion in portions] == [12, 12, 12]
    assert {(portion[0], portion[-1]) for portion in portions} == {(2, 3)}


def test_texts_are_encoded_a_thousand_at_a_time_into_few_bytes() -> None:
    tokenizer = train_wordpiece(TEXTS, 200)
    watched = Mock(wraps=tokenizer)
    portions = encode_in_portions(watched, TEXTS * 6, 12)
    batches = [len(call.args[0]) for call in watched.encode_batch.call_args_list]
    assert batches == [1000, 1000, 400]
    assert {portion.dtype for portion in portions} == {np.dtype(np.int32)}
    assert [portion.tolist() for portion in portions] == [
        tokenizer.encode(text).ids for text in TEXTS * 6
    ]


def test_padding_that_a_tokenizer_of_others_asks_for_is_not_learned_from() -> None:
    tokenizer = train_wordpiece(TEXTS, 200)
    tokenizer.enable_padding(length=12)
    assert [len(ids) for ids in encode_in_portions(tokenizer, ["red", "red boat"], 12)] == [3, 4]


def trained(
    quiet: Progress, config: PretrainConfig, texts: Sequence[str] = TEXTS
) -> dict[str, float]:
    tokenizer = train_wordpiece(texts, 200)
    size = EncoderConfig(
        tokenizer.get_vocab_size(),
        hidden_size=32,
        layers=1,
        heads=2,
        feed_forward_size=64,
        max_positions=16,
        dropout=0.0,
    )
    result = pretrain(
        encode_in_portions(tokenizer, texts, 16),
        size,
        config,
        quiet,
        "new",
        mask_id=SPECIAL_TOKENS.index(MASK),
        special_ids=range(len(SPECIAL_TOKENS)),
    )
    return result.metrics


def test_masked_language_model_learns_what_stands_where(quiet: Progress) -> None:
    few, many = (
        trained(quiet, PretrainConfig(epochs=epochs, batch_tokens=256, learning_rate=3e-3))
        for epochs in (1, 25)
    )
    assert many["dev_loss"] < few["dev_loss"] / 2


def test_autoencoder_rebuilds_a_sentence_from_its_own_vector_only(quiet: Progress) -> None:
    """Of three words in any order the others say nothing: only the vector can."""
    texts = [f"{a} {b} {c}" for a in WORDS for b in WORDS for c in WORDS]
    config = PretrainConfig(
        "autoencoder",
        epochs=100,
        batch_tokens=256,
        learning_rate=5e-3,
        masked=0.05,
        decoder_masked=0.8,
        dev_fraction=0.1,
    )
    metrics = trained(quiet, config, texts)
    assert metrics["dev_right"] > 0.4
    assert metrics["dev_right"] > metrics["dev_right_with_vectors_of_others"] + 0.2


def test_unknown_objective_or_pooling_is_refused() -> None:
    with pytest.raises(InvalidField, match="mlm or autoencoder"):
        read_choices("gpt", "mean")
    with pytest.raises(InvalidField, match="mean or cls"):
        read_choices("mlm", "max")


def command(folder: Path, output: str, *more: str) -> list[str]:
    data = folder / "texts.txt"
    data.write_text("\n".join(TEXTS), encoding="utf-8")
    return [
        *["pretrain", "new", "--data", str(data), "--output", str(folder / output)],
        *["--vocabulary-size", "200", "--hidden-size", "16", "--layers", "2", "--heads", "2"],
        *["--max-tokens", "16", "--batch-tokens", "256", "--epochs", "3", *more],
    ]


def test_encoder_from_nothing_is_read_by_transformers_and_by_us(tmp_path: Path) -> None:
    import transformers

    result = CliRunner().invoke(cli.app, command(tmp_path, "out"), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "out" / "new"
    ours = load_checkpoint(str(folder))
    bert = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False)
    theirs = bert.eval()  # type: ignore[no-untyped-call]  # transformers' stub
    ids = [2, 7, 9, 11, 3]
    with torch.inference_mode():
        expected = theirs(torch.tensor([ids])).last_hidden_state[0]
        assert torch.allclose(ours.encoder(*packed_tensors([ids])), expected, atol=1e-5)
    assert (ours.pooling, ours.normalize, ours.max_tokens) == ("mean", True, 16)
    assert list((tmp_path / "out" / ".training").iterdir()) == []
    with pytest.raises(WorkshopError, match="there already: choose another name"):
        CliRunner().invoke(cli.app, command(tmp_path, "out"), catch_exceptions=False)


def test_run_that_was_killed_while_it_saved_goes_on(tmp_path: Path) -> None:
    folder, state_folder = tmp_path / "mine", tmp_path / ".training" / "mine"
    refuse_finished(folder, state_folder)
    folder.mkdir()
    with pytest.raises(WorkshopError):
        refuse_finished(folder, state_folder)
    state_folder.mkdir(parents=True)
    (state_folder / STATE_FILE).touch()
    refuse_finished(folder, state_folder)


def test_too_few_texts_are_refused(tmp_path: Path) -> None:
    arguments = command(tmp_path, "out")
    (tmp_path / "texts.txt").write_text("one text\nand another\n", encoding="utf-8")
    with pytest.raises(DatasetInvalid, match="2 different texts are too few"):
        CliRunner().invoke(cli.app, arguments, catch_exceptions=False)


def test_killed_pretraining_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    killed = command(tmp_path, "killed")
    kill_on_its_way([*killed, "--save-every-s", "0"])
    step = saved_step(tmp_path / "killed" / ".training" / "new")
    again = CliRunner().invoke(cli.app, killed, catch_exceptions=False)
    assert again.exit_code == 0, again.output
    assert first_step_told(again.output) > step
    tokenizer = ["--tokenizer", str(tmp_path / "killed" / "new" / "tokenizer.json")]
    whole = CliRunner().invoke(
        cli.app, command(tmp_path, "whole", *tokenizer), catch_exceptions=False
    )
    assert whole.exit_code == 0, whole.output
    first, second = (
        load_file(tmp_path / name / "new" / "model.safetensors") for name in ("whole", "killed")
    )
    assert first.keys() == second.keys()
    for name, weights in first.items():
        assert np.array_equal(weights.numpy(), second[name].numpy()), name


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
