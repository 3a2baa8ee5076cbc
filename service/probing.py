"""A published model is tried in a process of its own, under limits, before the server opens it.

A graph that crashes onnxruntime, eats memory or never ends does so there, and not in the server.
"""

import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

from service.errors import EncserveError, ModelFailed
from service.store.repository import PublishedModel, read_version

_MOST_OUTPUT_BYTES = 4096
_REFUSED = 3


def probe(model: PublishedModel, variant: str, *, memory_bytes: int, timeout_s: float) -> None:
    """Load the variant in a child process, and let it answer.

    Raises:
        ModelFailed: it does not load, does not answer as it should, or hits a limit.
    """
    name = f"{model.manifest.name}@{model.manifest.version}, {variant}"
    command = [sys.executable, "-P", "-m", "service.probing", str(model.path), variant]
    with subprocess.Popen(
        [*command, str(memory_bytes), str(math.ceil(timeout_s))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
    ) as child:
        try:
            output, _ = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            raise ModelFailed(
                f"{name}: no answer within {timeout_s:g} s (ENCSERVE_PROBE_TIMEOUT_S)"
            ) from None
        except BaseException:
            child.kill()
            raise
    if child.returncode == 0:
        return
    if child.returncode == _REFUSED:
        raise ModelFailed(f"{name}: {_reason(output)}")
    ended = f"signal {-child.returncode}" if child.returncode < 0 else f"status {child.returncode}"
    raise ModelFailed(
        f"{name}: the process that tried it ended with {ended}: the graph crashes onnxruntime, or "
        "needs more than ENCSERVE_PROBE_MEMORY_BYTES"
    )


def _environment() -> dict[str, str]:
    """Nothing of the server's own, which may hold secrets, but where Python finds its modules."""
    return {
        "PYTHONPATH": os.pathsep.join(entry or "." for entry in sys.path),
        "LANG": "C.UTF-8",
        # Threads that are not needed would take of the address space.
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _reason(output: bytes) -> str:
    """What the child says of the failure; its words are ours, and one line."""
    try:
        said = json.loads(output[:_MOST_OUTPUT_BYTES])["error"]
    except (ValueError, KeyError, TypeError):
        return "the process that tried it said nothing"
    return " ".join(str(said).split())


def _limit(memory_bytes: int, timeout_s: int) -> None:
    """What this process may take; it may write no file, nor leave a core behind."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    # The parent's clock ends it first; this one is for a parent that has died.
    resource.setrlimit(resource.RLIMIT_CPU, (timeout_s + 1, timeout_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def main(folder: Path, variant: str, memory_bytes: int, timeout_s: int) -> int:
    """In the child: 0 if all is well, else the reason on standard output."""
    _limit(memory_bytes, timeout_s)
    try:
        from service.trial import try_out

        try_out(read_version(folder), variant)
    except EncserveError as error:
        return _refuse(error.message)
    except MemoryError:
        return _refuse("it needs more memory than ENCSERVE_PROBE_MEMORY_BYTES")
    return 0


def _refuse(reason: str) -> int:
    print(json.dumps({"error": reason[: _MOST_OUTPUT_BYTES // 8]}))
    return _REFUSED


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:5])))
