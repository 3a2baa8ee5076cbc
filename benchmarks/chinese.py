"""An encoder from nothing but Chinese texts, against the same network without them.

    python -m benchmarks.chinese --folder DATA --work FOLDER [--epochs 5]

From the texts of the zh_*_train.tsv files of DATA, without their labels, `encserve pretrain` makes
an encoder; `encserve finetune` trains it on four fifths of zh_waimai, and the same network from
random weights; both are measured on the last fifth, which pretraining did not see either. Beside
them, TF-IDF of 1 to 3 characters with logistic regression.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks.common import machine
from service.offline.cleaning import clean
from service.offline.data import Example
from service.offline.reading import read_examples
from service.offline.splits import split

WAIMAI = "zh_waimai_10k_train.tsv"
SEED = 13
SIZE = ["--hidden-size", "256", "--layers", "3", "--heads", "4", "--vocabulary-size", "6000"]
# TF-IDF learns from all four fifths: here a twentieth of them decides, and none is held out again.
FINETUNING = ["--learning-rate", "6e-4", "--no-freeze-embeddings", "--dev-fraction", "0.05"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--finetuning-epochs", type=int, default=4)
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    examples = clean(read_examples(options.folder / WAIMAI), "single_label").examples
    train, test = split(examples, "single_label", (0.2,), SEED)
    write(work / "train.tsv", train)
    write(work / "test.tsv", test)
    sources = sorted(options.folder.glob("zh_*_train.tsv"))
    pretrain = ["--exclude", str(work / "test.tsv"), "--output", str(work), *SIZE]
    pretrain += [word for source in sources for word in ("--data", str(source))]
    pretrain += ["--text-column", "text,sentence1,sentence2", "--batch-tokens", "2048"]
    seconds = {"pretrain": encserve("pretrain", "zh", *pretrain, "--epochs", str(options.epochs))}
    tokenizer = ["--tokenizer", str(work / "zh" / "tokenizer.json")]
    encserve("pretrain", "zh-random", *pretrain, *tokenizer, "--epochs", "0")
    print(f"{machine()}\n\n| | accuracy on {len(test)} | seconds |\n|---|---:|---:|")
    for base in ("zh", "zh-random"):
        seconds[base] = finetune(work, base, str(options.finetuning_epochs))
        spent = f"{seconds['pretrain']:.0f} + {seconds[base]:.0f}" if base == "zh" else ""
        print(f"| {base} | {accuracy(work, base):.4f} | {spent or round(seconds[base])} |")
    print(f"| TF-IDF, logistic regression | {tf_idf(train, test):.4f} | |")


def finetune(work: Path, base: str, epochs: str) -> float:
    return encserve(
        *["finetune", base, "--base", str(work / base), "--data", str(work / "train.tsv")],
        *["--test-data", str(work / "test.tsv"), "--epochs", epochs, *FINETUNING],
        *["--model-store", str(work / "store")],
    )


def accuracy(work: Path, name: str) -> float:
    """Of the published fp32 file, through `encserve evaluate`."""
    command = [sys.executable, "-m", "service.cli", "evaluate", name, "--variant", "fp32", "--json"]
    command += ["--data", str(work / "test.tsv"), "--model-store", str(work / "store")]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return float(found["measures"]["accuracy"])


def tf_idf(train: list[Example], test: list[Example]) -> float:
    model = make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True),
        LogisticRegression(C=4, max_iter=2000),
    )
    model.fit([example.text for example in train], [example.label for example in train])
    return float(
        model.score([example.text for example in test], [example.label for example in test])
    )


def encserve(*arguments: str) -> float:
    """Run a command to its end; seconds."""
    started_s = time.monotonic()
    subprocess.run([sys.executable, "-m", "service.cli", *arguments], check=True)
    return time.monotonic() - started_s


def write(path: Path, examples: list[Example]) -> None:
    rows = "".join(f"{example.text}\t{example.label}\n" for example in examples)
    path.write_text("text\tlabel\n" + rows, encoding="utf-8")


if __name__ == "__main__":
    main()
