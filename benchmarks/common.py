"""What all benchmarks share: a server of their own, texts to send, and who measured."""

import os
import platform
import random
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from service.offline.corpus import join_to_mixed_lengths, load_sentiment_corpus
from service.runtime.cpus import processor
from service.runtime.session import PackedEncoder, open_session
from service.runtime.tokenizer import Tokenizer
from service.store.manifest import TOKENIZER_FILE, Manifest
from service.store.repository import ModelRepository
from service.store.verification import verify

STORE = Path("model_store")


def load_encoder(
    store: Path, name: str, variant: str | None = None
) -> tuple[PackedEncoder, Tokenizer, Manifest]:
    """A published model as the server runs it; without a variant the fastest."""
    model = ModelRepository(store).resolve(name)
    verify(model)
    manifest = model.manifest
    session = open_session(model.file(manifest.file_of(variant or manifest.default_variant)))
    return (
        PackedEncoder(session, manifest.output, manifest.width),
        Tokenizer(model.file(TOKENIZER_FILE), manifest.max_tokens),
        manifest,
    )


def read_column(path: Path, column: str = "text") -> list[str]:
    """One column of a tab-separated file with a header line, nothing quoted."""
    lines = path.read_text(encoding="utf-8").splitlines()
    index = lines[0].split("\t").index(column)
    return [line.split("\t")[index] for line in lines[1:]]


def mixed_texts(path: Path | None, *, seed: int = 0) -> list[str]:
    """The texts of a file, or the corpus's sentences joined to lengths as people send them."""
    if path is not None:
        texts = read_column(path)
        random.Random(seed).shuffle(texts)
        return texts
    sentences = [example.text for example in load_sentiment_corpus()]
    return join_to_mixed_lengths(sentences, 2000, seed=seed)


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
        f"{len(os.sched_getaffinity(0))} cores, {processor()}, Python "
        f"{platform.python_version()}, {libraries}, commit {commit or 'unknown'}"
    )
