"""Where a published model comes from: its base, the code and the libraries that made it."""

import importlib.metadata
import subprocess
from pathlib import Path

from service.store.manifest import Provenance

_LIBRARIES = ("torch", "transformers", "onnxruntime", "tokenizers", "numpy")


def provenance_of(
    base: str, base_sha256: str, *, data_sha256: str | None = None, seed: int | None = None
) -> Provenance:
    """`base` by name and digest, and what is installed here; data and seed of what was trained."""
    return Provenance(
        base=base,
        base_sha256=base_sha256,
        data_sha256=data_sha256,
        git_commit=_git_commit(),
        libraries={library: importlib.metadata.version(library) for library in _LIBRARIES},
        seed=seed,
    )


def _git_commit() -> str | None:
    """The commit of the checkout this runs from, if it is one."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
