"""A training run on disk, so that a killed one goes on where it was and ends in the same weights.

Tensors are kept in safetensors, the rest in JSON: nothing is ever unpickled. The rate and every
random choice follow from seed and step, and so need no keeping.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from service.store.files import write_synced

STATE_FILE = "state.json"
MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
BEST_FILE = "best.safetensors"

# One batch is luck: of the loss an exponential moving average is shown.
LOSS_DECAY = 0.9


@dataclass
class Progressed:
    """How far a run came.

    step: the next one. best_score, best_step: of the dev split; None before the first look.
    history: what was measured, a row an evaluation. smoothed_loss: None before the first step.
    """

    step: int = 0
    best_score: float | None = None
    best_step: int = 0
    history: tuple[dict[str, float], ...] = ()
    smoothed_loss: float | None = None

    def smooth_loss(self, loss: float, step: int) -> float:
        """The moving average with the loss of one more step; of the first steps their plain mean.

        Args:
            step: from 0 on, each once and in order.
        """
        weight = max(1 / (step + 1), 1 - LOSS_DECAY)
        before = self.smoothed_loss or 0.0
        self.smoothed_loss = before + weight * (loss - before)
        return self.smoothed_loss


class TrainingFolder:
    """The state of one run in `folder`; None keeps nothing.

    Args:
        fingerprint: of settings and data: a state of another run is not gone on with.
    """

    def __init__(self, folder: Path | None, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint

    def save(
        self,
        progressed: Progressed,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        best: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Replace the last state; killed at any moment, one whole state is there."""
        if self._folder is None:
            return
        draft = self._folder.with_name(self._folder.name + ".writing")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        save_file(_apart(model.state_dict()), draft / MODEL_FILE)
        save_file(_flat(optimizer), draft / OPTIMIZER_FILE)
        if best is not None:
            save_file(_apart(best), draft / BEST_FILE)
        state = {"fingerprint": self._fingerprint, **vars(progressed)}
        write_synced(draft / STATE_FILE, json.dumps(state).encode())
        old = self._folder.with_name(self._folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        if self._folder.exists():
            self._folder.rename(old)
        draft.rename(self._folder)
        shutil.rmtree(old, ignore_errors=True)

    def load(
        self, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[Progressed, dict[str, Tensor] | None]:
        """Put the last state into model and optimizer; a fresh one where there is none."""
        found = self._found()
        if found is None:
            return Progressed(), None
        folder, state = found
        model.load_state_dict(load_file(folder / MODEL_FILE))
        _unflatten(optimizer, load_file(folder / OPTIMIZER_FILE))
        best = folder / BEST_FILE
        del state["fingerprint"]
        state["history"] = tuple(state["history"])
        return Progressed(**state), load_file(best) if best.is_file() else None

    def _candidates(self) -> list[Path]:
        return [] if self._folder is None else _forms_of(self._folder)

    def _found(self) -> tuple[Path, dict[str, Any]] | None:
        """Killed between its two renames, a save leaves the state before it as `.old`."""
        for folder in self._candidates()[:2]:
            if (folder / STATE_FILE).is_file():
                state: dict[str, Any] = json.loads((folder / STATE_FILE).read_bytes())
                if state["fingerprint"] == self._fingerprint:
                    return folder, state
        return None


def has_state(folder: Path) -> bool:
    """Whether a run was killed here, and nothing has been made of it yet."""
    return any((form / STATE_FILE).is_file() for form in _forms_of(folder))


def clear_state(folder: Path) -> None:
    """What was made of the run is safe: nothing is left to go on with."""
    for form in _forms_of(folder):
        shutil.rmtree(form, ignore_errors=True)


def fingerprint_of(*facts: object) -> str:
    """sha256 of what a run depends on: of the `repr` of the facts, and all numbers of arrays."""
    digest = hashlib.sha256()
    for piece in _pieces(facts):
        digest.update(piece)
    return digest.hexdigest()


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights as they are now."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _pieces(fact: object) -> Iterator[bytes]:
    """One at a time: all texts of a corpus as one string are as large as the corpus again."""
    if isinstance(fact, np.ndarray):
        # Its repr leaves out the middle.
        yield f"{fact.dtype}{fact.shape}".encode()
        yield fact.tobytes()
    elif type(fact) is list or type(fact) is tuple:
        yield b"[" if type(fact) is list else b"("
        for index, part in enumerate(fact):
            yield b", " if index else b""
            yield from _pieces(part)
        yield b"]" if type(fact) is list else b",)" if len(fact) == 1 else b")"
    else:
        yield repr(fact).encode()


def _forms_of(folder: Path) -> list[Path]:
    """The state, the one before it, and the one being written."""
    return [folder, *(folder.with_name(folder.name + end) for end in (".old", ".writing"))]


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tied weights are one tensor under two names, which safetensors refuses: copies are not."""
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).detach().cpu().clone()
        for index, values in state.items()
        for name, value in values.items()
    }


def _unflatten(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
