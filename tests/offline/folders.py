"""Folders as the hub has them, of tiny random models of `transformers`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from service.offline import variants
from service.offline.export import MODEL_FILE
from tests.conftest import tiny_tokenizer

VOCABULARY = tiny_tokenizer().get_vocab_size()
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
DISTILBERT_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "dim": 16,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 24,
    "max_position_embeddings": 40,
}
TEXTS = ["the food is good", "a", "not a bad train at nine, but the train leaves the food", "nine"]
PAIRS = [("the food", "is good"), ("a train", "a bad train leaves at nine"), ("nine", "the")]


def bert(**changes: Any) -> Any:
    return transformers.BertConfig(**SIZES | changes)


def save(folder: Path, model: Any, **changes: Any) -> Any:
    """Write the model's files with random weights of some size; returns it, ready to be asked.

    Args:
        changes: of `config.json`.
    """
    torch.manual_seed(1)
    # The library starts biases at 0 and norms at 1, which would hide one taken for the other.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.3
    model.save_pretrained(folder)
    change(folder / "config.json", **changes)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    return model.eval()


def write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def change(path: Path, **changes: object) -> None:
    write(path, json.loads(path.read_text()) | changes)


def sentence_transformers_files(folder: Path, *steps: str, pooling: str = "mean") -> None:
    """modules.json with these steps behind the encoder, and the pooling's file."""
    kinds = ("Transformer", "Pooling", *steps)
    write(
        folder / "modules.json",
        [
            {"path": f"{place}_{kind}" if place else "", "type": f"sentence_transformers.x.{kind}"}
            for place, kind in enumerate(kinds)
        ],
    )
    write(folder / "1_Pooling" / "config.json", {"pooling_mode": pooling})


@torch.inference_mode()
def ask(model: Any, inputs: Sequence[str | tuple[str, str]], *, segments: bool = True) -> Any:
    """What transformers itself answers to each text or pair alone."""
    tokenizer = tiny_tokenizer()
    answers = []
    for entry in inputs:
        encoding = tokenizer.encode(*([entry] if isinstance(entry, str) else entry))
        arrays = {"input_ids": torch.tensor([encoding.ids])}
        if segments and not isinstance(entry, str):
            arrays["token_type_ids"] = torch.tensor([encoding.type_ids])
        answers.append(model(**arrays))
    return answers


def skip_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing two tiny models takes seconds, and which is faster is a matter of luck."""
    speeds = {MODEL_FILE: 2.0, variants.INT8_FILE: 1.0}
    monkeypatch.setattr(variants, "_speeds", lambda encoders, texts: speeds)
