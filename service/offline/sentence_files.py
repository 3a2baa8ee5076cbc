"""How token vectors become a text's vector, as the files of sentence-transformers say.

modules.json                        which steps there are: Pooling, Dense, Normalize
1_Pooling/config.json               mean or the first token
2_Dense/                            a linear layer behind it
config_sentence_transformers.json   prompts, put before a text
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from service.errors import CheckpointInvalid
from service.offline.heads import Activation, Pooling, Projection
from service.offline.model_folder import (
    read_json,
    read_json_if_there,
    read_list_if_there,
    subfolder,
)

WEIGHTS_FILE = "model.safetensors"

_STEPS = ("Pooling", "Dense", "Normalize")
# They leave a vector as it is.
_WITHOUT_EFFECT = ("Transformer", "Dropout")
_POOLINGS: dict[str, Pooling] = {
    "cls": "cls",
    "mean": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
}
_ACTIVATIONS: dict[str, Activation] = {
    "Tanh": "tanh",
    "Identity": "identity",
    "ReLU": "relu",
    "GELU": "gelu",
}


@dataclass(frozen=True)
class EmbeddingUse:
    """How the authors make one vector a text.

    projection: behind the pooling. prompts, default_prompt: as in a manifest.
    """

    pooling: Pooling
    normalize: bool
    projection: Projection | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None

    def fields(self) -> dict[str, Any]:
        """What of it a manifest states."""
        return {
            "task": "embedding",
            "pooling": self.pooling,
            "normalized": self.normalize,
            "prompts": self.prompts,
            "default_prompt": self.default_prompt,
        }


def embedding_use(folder: Path) -> EmbeddingUse:
    """What the files in `folder` say; the mean, unscaled, where they say nothing.

    Raises:
        CheckpointInvalid: a step or a pooling that is not known here, or weights that are pickled.
    """
    steps = _steps(folder)
    prompts, default_prompt = _prompts(folder)
    return EmbeddingUse(
        pooling=_pooling(steps.get("Pooling", folder / "1_Pooling"), prompts),
        normalize="Normalize" in steps,
        projection=_dense(steps["Dense"]) if "Dense" in steps else None,
        prompts=prompts,
        default_prompt=default_prompt,
    )


def makes_embeddings(folder: Path) -> bool:
    """True where a pooling is stated, whatever the architecture is called."""
    return "Pooling" in _steps(folder) or (folder / "1_Pooling" / "config.json").is_file()


def _steps(folder: Path) -> dict[str, Path]:
    """The steps behind the encoder by kind, each with its folder."""
    modules = read_list_if_there(folder / "modules.json")
    kinds = [(str(module.get("type")).rsplit(".", 1)[-1], module) for module in modules]
    steps = [(kind, module) for kind, module in kinds if kind not in _WITHOUT_EFFECT]
    names = [kind for kind, _ in steps]
    if names != [kind for kind in _STEPS if kind in names]:
        raise CheckpointInvalid(
            f"{folder / 'modules.json'} has the steps {names}; known are {', '.join(_STEPS)}, each "
            "once and in this order"
        )
    return {
        kind: subfolder(folder, module.get("path") or f"{place}_{kind}")
        for place, (kind, module) in enumerate(steps, start=1)
    }


def _pooling(folder: Path, prompts: dict[str, str]) -> Pooling:
    config = read_json_if_there(folder / "config.json")
    if not config:
        return "mean"
    if config.get("include_prompt") is False and any(prompts.values()):
        raise CheckpointInvalid(
            f"{folder} leaves prompts out of the pooling, which the graph cannot: prompts are read "
            "as part of the text"
        )
    modes = _modes(config)
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise CheckpointInvalid(f"pooling {modes} of {folder} is neither mean nor cls")
    return _POOLINGS[modes[0]]


def _modes(config: dict[str, Any]) -> list[str]:
    """The poolings that are on, in the newer form of the file or the older."""
    if (mode := config.get("pooling_mode")) is not None:
        return [mode] if isinstance(mode, str) else list(mode)
    return [
        key for key, value in config.items() if key.startswith("pooling_mode_") and value is True
    ]


def _dense(folder: Path) -> Projection:
    config = read_json(folder / "config.json")
    activation = str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    place = config.get("module_input_name", "sentence_embedding")
    if (
        activation not in _ACTIVATIONS
        or config.get("use_residual")
        or place != (config.get("module_output_name") or "sentence_embedding")
    ):
        raise CheckpointInvalid(
            f"{folder} is no plain layer on a text's vector with one of {', '.join(_ACTIVATIONS)}"
        )
    projection = Projection(config["in_features"], config["out_features"], _ACTIVATIONS[activation])
    _load_dense(projection, folder / WEIGHTS_FILE)
    return projection.eval()


def _load_dense(projection: Projection, file: Path) -> None:
    if not file.is_file():
        raise CheckpointInvalid(
            f"{file.parent} holds no {WEIGHTS_FILE}, and pickled weights are not read: save the "
            "model again with a newer sentence-transformers"
        )
    try:
        tensors = load_file(file)
        bias = tensors.get("linear.bias", torch.zeros(projection.width))
        projection.dense.load_state_dict({"weight": tensors["linear.weight"], "bias": bias})
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise CheckpointInvalid(f"{file} is not the layer of its config.json: {error}") from error


def _prompts(folder: Path) -> tuple[dict[str, str], str | None]:
    config = read_json_if_there(folder / "config_sentence_transformers.json")
    prompts = {name: text or "" for name, text in (config.get("prompts") or {}).items()}
    default = config.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise CheckpointInvalid(
            f"{folder}: the default prompt {default!r} is not among the prompts"
        )
    return prompts, default
