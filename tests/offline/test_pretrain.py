"""From raw texts to an encoder that other tools read, by both objectives, killed or not."""

from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from service import cli
from service.errors import DatasetInvalid, InvalidField, WorkshopError
from service.offline.checkpoints import load_checkpoint
from service.offline.encoder import EncoderConfig
from service.offline.pretrain import PretrainConfig, pretrain, read_choices
from service.offline.progress import Progress
from service.offline.scratch import refuse_finished
from service.offline.training.batches import packed_tensors
from service.offline.training.state import STATE_FILE
from service.offline.wordpiece import (
    MASK,
    SPECIAL_TOKENS,
    encode_in_portions,
    train_wordpiece,
)
from tests.offline.killing import first_step_told, kill_on_its_way, saved_step
from tests.offline.pretraining_texts import TEXTS, command

WORDS = ("red", "old", "boat", "house", "river", "cold", "wind", "salt")
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
