"""How good a published classifier is on labelled files, through the runtime that serves.

    python -m benchmarks.quality FILE.tsv... [--model sentiment]

Files have the columns `text` and `label`. Labels 0 and 1 are compared with the larger of negative
and positive; other labels with the likeliest label. `encserve evaluate` says more of one file.
"""

import argparse
from pathlib import Path

from benchmarks.common import STORE, machine
from service.offline.evaluation.variants import headline
from service.offline.predict import Predictor
from service.offline.reading import read_examples
from service.store.repository import ModelRepository
from service.store.verification import verify


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
        examples = read_examples(path)
        scores = predictor.scores([example.input for example in examples])
        found = headline(scores, manifest, examples)
        classes = len({example.label for example in examples})
        row = f"{len(examples)} | {classes} | {found['accuracy']:.3f} | {found['macro_f1']:.3f}"
        print(f"| {path.stem} | {row} |", flush=True)


if __name__ == "__main__":
    main()
