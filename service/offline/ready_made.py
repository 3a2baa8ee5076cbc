"""A ready-made ONNX folder as the hub has it: its files, and which of them and of the graph count.

model.onnx or onnx/model.onnx, tokenizer.json, config.json, and what `sentence_files` reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, TensorProto

from service.errors import CheckpointInvalid
from service.offline.label_files import (
    ClassifierUse,
    classifier_use,
    is_classifier,
    separator_id_of,
)
from service.offline.model_folder import (
    CONFIG_FILE,
    longest_input,
    marks_segments,
    read_json,
    tokenizer_of,
)
from service.offline.onnx_graph import tensors_of
from service.offline.sentence_files import EmbeddingUse, embedding_use
from service.runtime.padding import PADDED_INPUTS

MODEL_FILE = "model.onnx"
_USUAL_PLACES = (MODEL_FILE, f"onnx/{MODEL_FILE}")
# Of several outputs: vectors that are pooled already come first.
_TOKENS = ("last_hidden_state", "token_embeddings")
_EMBEDDINGS = ("sentence_embedding", "embedding", *_TOKENS)
# Families that count positions from the padding id have no room for the ones up to it.
_COUNT_FROM_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")


@dataclass(frozen=True)
class ReadyMade:
    """The folder's files, read and found fit.

    model: the graph of `model_file`. inputs, output: what of the graph is used.
    token_output: where the graph says that its vectors of tokens are; of embeddings.
    separator_id: ends the first text of a pair; None for a model of single texts.
    """

    name: str
    model_file: Path
    model: ModelProto
    inputs: tuple[str, ...]
    output: str
    token_output: str | None
    tokenizer_file: Path
    vocabulary_size: int
    use: EmbeddingUse | ClassifierUse
    separator_id: int | None
    max_tokens: int


def read_ready_made(
    folder: Path, file: str | None, pairs: bool | None, max_tokens: int | None
) -> ReadyMade:
    """Read the files; nothing is run yet. Arguments and errors as of `import_folder`."""
    model_file = _model_file(folder, file)
    model = _load(model_file)
    tokenizer_file = tokenizer_of(folder)
    config = read_json(folder / CONFIG_FILE)
    classifies = is_classifier(folder, config)
    use = classifier_use(folder, config, pairs) if classifies else embedding_use(folder)
    inputs = _inputs(model)
    separator_id = separator_id_of(use, tokenizer_file)
    if separator_id is not None and "token_type_ids" in inputs:
        _refuse_unmarked_segments(tokenizer_file)
    return ReadyMade(
        name=folder.resolve().name,
        model_file=model_file,
        model=model,
        inputs=inputs,
        output=_output(model, classifies=classifies),
        token_output=None if classifies else _token_output(model),
        tokenizer_file=tokenizer_file,
        vocabulary_size=int(config["vocab_size"]),
        use=use,
        separator_id=separator_id,
        max_tokens=longest_input(folder, _positions(config), max_tokens),
    )


def _model_file(folder: Path, file: str | None) -> Path:
    if not folder.is_dir():
        raise CheckpointInvalid(f"{folder} is no folder: download the model's files into one")
    if links := sorted(str(path) for path in folder.rglob("*") if path.is_symlink()):
        raise CheckpointInvalid(
            f"{links[0]} is a link: copy the files themselves, or download them with "
            "`hf download ID --local-dir FOLDER`"
        )
    places = _USUAL_PLACES if file is None else (file,)
    found = [path for place in places if (path := folder / place).is_file()]
    if not found:
        raise CheckpointInvalid(f"{folder} holds no {' or '.join(places)}: name one with --file")
    if not found[0].resolve().is_relative_to(folder.resolve()):
        raise CheckpointInvalid(f"{file} lies outside of {folder}: name a file inside it")
    return found[0]


def _load(file: Path) -> ModelProto:
    try:
        model = onnx.load(file, load_external_data=False)
    except Exception as error:  # protobuf's own classes
        raise CheckpointInvalid(f"{file} is not an ONNX file: {type(error).__name__}") from error
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors_of(model.graph)):
        raise CheckpointInvalid(
            f"{file} keeps weights in other files: make it one file with "
            "onnx.save(onnx.load(path), path)"
        )
    return model


def _inputs(model: ModelProto) -> tuple[str, ...]:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in constants]
    names = {entry.name for entry in inputs}
    if not {"input_ids", "attention_mask"} <= names <= set(PADDED_INPUTS):
        raise CheckpointInvalid(
            f"the graph's inputs are {sorted(names)}; known are {', '.join(PADDED_INPUTS)}, of "
            "which it needs the first two: export it as an encoder"
        )
    if any(entry.type.tensor_type.elem_type != TensorProto.INT64 for entry in inputs):
        raise CheckpointInvalid("an input of the graph is not int64: export it with int64 inputs")
    return tuple(name for name in PADDED_INPUTS if name in names)


def _refuse_unmarked_segments(tokenizer_file: Path) -> None:
    if not marks_segments(tokenizer_file):
        raise CheckpointInvalid(
            "the graph asks for token_type_ids, and tokenizer.json has one segment for both texts "
            "of a pair: export the graph without that input"
        )


def _output(model: ModelProto, *, classifies: bool) -> str:
    names: list[str] = [entry.name for entry in model.graph.output]
    wanted = ("logits",) if classifies else _EMBEDDINGS
    if known := [name for name in wanted if name in names]:
        return known[0]
    if len(names) == 1 and names != ["logits"]:
        return names[0]
    raise CheckpointInvalid(
        f"the graph's outputs are {sorted(names)}, none of them {' or '.join(wanted)}: export it "
        "for feature extraction, or for sequence classification"
    )


def _token_output(model: ModelProto) -> str | None:
    names = {entry.name for entry in model.graph.output}
    return next((name for name in _TOKENS if name in names), None)


def _positions(config: Mapping[str, Any]) -> int | None:
    """How many tokens have a position; None where any number has, which some write as -1."""
    positions = int(config.get("max_position_embeddings") or 0)
    if positions < 1:
        return None
    counts = config.get("model_type") in _COUNT_FROM_PADDING
    return positions - (int(config.get("pad_token_id") or 0) + 1 if counts else 0)
