"""What all benchmarks share: a server of their own, texts to send, and who measured."""

import os
import platform
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from service.offline.corpus import load_sentiment_corpus

STORE = Path("model_store")
READY = "encserve is ready on "


@contextmanager
def running_server(store: Path, *options: str) -> Iterator[str]:
    """`encserve serve` on a free port; yields its address."""
    command = [sys.executable, "-m", "service.cli", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--model-store", str(store), "--log-level", "warning", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        line = next((line for line in process.stdout if line.startswith(READY)), "")
        if not line:
            raise SystemExit("the server did not start")
        yield line.removeprefix(READY).partition(";")[0]
    finally:
        process.terminate()
        process.wait(timeout=60)


def read_column(path: Path, column: str = "text") -> list[str]:
    """One column of a tab-separated file with a header line, nothing quoted."""
    lines = path.read_text(encoding="utf-8").splitlines()
    index = lines[0].split("\t").index(column)
    return [line.split("\t")[index] for line in lines[1:]]


def mixed_texts(path: Path | None, *, seed: int = 0) -> list[str]:
    """The texts of a file, or the corpus's sentences joined to lengths as people send them."""
    rng = random.Random(seed)
    if path is not None:
        texts = read_column(path)
        rng.shuffle(texts)
        return texts
    sentences = [example.text for example in load_sentiment_corpus()]
    lengths = [rng.choice((1, 1, 1, 2, 2, 4, 8, 20)) for _ in range(2000)]
    return [" ".join(rng.choices(sentences, k=length)) for length in lengths]


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine() -> str:
    """Cores, processor, versions and commit, for the head of every result."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "fastapi"))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return (
        f"{len(os.sched_getaffinity(0))} cores, {_processor()}, Python "
        f"{platform.python_version()}, {libraries}, commit {commit or 'unknown'}"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    known = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni") if flag in flags]
    return f"{names[0] if names else platform.machine()} ({' '.join(known)})"
