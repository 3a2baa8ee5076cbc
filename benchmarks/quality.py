"""Accuracy of a published classifier on labelled files, through the runtime that serves.

    python -m benchmarks.quality FILE.tsv... [--model sentiment]

Files have the columns `text` and `label`. Labels 0 and 1 are compared with the larger of negative
and positive; other labels with the likeliest label.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score, f1_score

from benchmarks.common import STORE, machine, read_column
from service.runtime.session import PackedEncoder, open_session
from service.runtime.tokenizer import Tokenizer
from service.store.manifest import TOKENIZER_FILE
from service.store.repository import ModelRepository, verify

TEXTS_PER_RUN = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--model", default="sentiment")
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args()
    model = ModelRepository(options.store).resolve(options.model)
    verify(model)
    manifest = model.manifest
    tokenizer = Tokenizer(model.file(TOKENIZER_FILE), manifest.max_tokens)
    session = open_session(model.file(manifest.default_file))
    encoder = PackedEncoder(session, manifest.output, manifest.width)
    print(f"{machine()}; {manifest.name} version {manifest.version}\n")
    print("| file | texts | classes | accuracy | macro F1 |\n|---|---:|---:|---:|---:|")
    for path in options.files:
        truth = read_column(path, "label")
        logits = logits_of(encoder, tokenizer, read_column(path))
        predicted = predict(logits, manifest.labels, binary=set(truth) <= {"0", "1"})
        accuracy = accuracy_score(truth, predicted)
        macro_f1 = f1_score(truth, predicted, average="macro")
        row = f"{len(truth)} | {len(set(truth))} | {accuracy:.3f} | {macro_f1:.3f}"
        print(f"| {path.stem} | {row} |", flush=True)


def logits_of(encoder: PackedEncoder, tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """Logits in the order of the texts; neighbours in length run together."""
    tokenized = [text.token_ids for text in tokenizer.encode(texts)]
    order = sorted(range(len(texts)), key=lambda index: len(tokenized[index]))
    runs = [order[start : start + TEXTS_PER_RUN] for start in range(0, len(order), TEXTS_PER_RUN)]
    rows = np.concatenate([encoder([tokenized[index] for index in run]) for run in runs])
    return rows[np.argsort(order)]


def predict(logits: np.ndarray, labels: tuple[str, ...], *, binary: bool) -> list[str]:
    if not binary:
        return [labels[winner] for winner in logits.argmax(axis=1)]
    positive, negative = labels.index("positive"), labels.index("negative")
    return [str(int(row[positive] > row[negative])) for row in logits]


if __name__ == "__main__":
    main()
