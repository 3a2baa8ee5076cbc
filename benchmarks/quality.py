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
from service.offline.predict import Predictor
from service.store.repository import ModelRepository, verify


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--model", default="sentiment")
    parser.add_argument("--variant", help="fp32 or int8 (default: the fastest)")
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args()
    model = ModelRepository(options.store).resolve(options.model)
    verify(model)
    manifest = model.manifest
    variant = options.variant or manifest.default_variant
    predictor = Predictor(model.path, manifest, variant)
    print(f"{machine()}; {manifest.name} version {manifest.version}, {variant}\n")
    print("| file | texts | classes | accuracy | macro F1 |\n|---|---:|---:|---:|---:|")
    for path in options.files:
        truth = read_column(path, "label")
        logits = predictor.rows(read_column(path))
        predicted = predict(logits, manifest.labels, binary=set(truth) <= {"0", "1"})
        accuracy = accuracy_score(truth, predicted)
        macro_f1 = f1_score(truth, predicted, average="macro")
        row = f"{len(truth)} | {len(set(truth))} | {accuracy:.3f} | {macro_f1:.3f}"
        print(f"| {path.stem} | {row} |", flush=True)


def predict(logits: np.ndarray, labels: tuple[str, ...], *, binary: bool) -> list[str]:
    if not binary:
        return [labels[winner] for winner in logits.argmax(axis=1)]
    positive, negative = labels.index("positive"), labels.index("negative")
    return [str(int(row[positive] > row[negative])) for row in logits]


if __name__ == "__main__":
    main()
