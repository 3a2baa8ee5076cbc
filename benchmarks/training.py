"""Texts a second in training: our packed batches against the padded ones of `transformers.Trainer`.

    python -m benchmarks.training --data FILE [--rows 1536] [--rounds 3]

The same texts, labels, encoder, batch size and optimizer; every weight is trained, in one pass a
step (`--adversarial 0`). Trainer runs as it comes, and once more with its option to group texts by
length. Interleaved rounds, medians.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

import torch
import transformers

from benchmarks.common import machine
from service.offline.checkpoints import load_checkpoint
from service.offline.cleaning import clean, labels_of
from service.offline.data import Example
from service.offline.finetune import FinetuneConfig, finetune
from service.offline.model_folder import find_folder
from service.offline.progress import Progress
from service.offline.reading import read_examples

BATCH_SIZE = 32
DEV_ROWS = 32
LEARNING_RATE = 5e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", type=int, default=1536)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    examples = clean(read_examples(options.data), "single_label").examples[: options.rows]
    labels = labels_of(examples, "single_label")
    ways: dict[str, Callable[[], float]] = {
        "encserve, packed": lambda: ours(examples, labels),
        "Trainer, padded": lambda: trainer(examples, labels, group_by_length=False),
        "Trainer, padded, grouped by length": lambda: trainer(
            examples, labels, group_by_length=True
        ),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, run in ways.items():
            rates[way].append(len(examples) / run())
            print(f"{way}: {rates[way][-1]:.1f} texts/s", flush=True)
    print(f"\n{machine()}; {len(examples)} texts, medians of {options.rounds} rounds\n")
    print("| | texts/s | encserve is times as fast |\n|---|---:|---:|")
    packed = statistics.median(rates["encserve, packed"])
    for way, found in rates.items():
        rate = statistics.median(found)
        print(f"| {way} | {rate:.1f} | {packed / rate:.2f} |")


def ours(examples: Sequence[Example], labels: tuple[str, ...]) -> float:
    """Seconds for one epoch, the look at a few dev texts included."""
    config = FinetuneConfig(
        epochs=1,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        freeze_embeddings=False,
        adversarial=0,
    )
    checkpoint = load_checkpoint()
    started_s = time.monotonic()
    finetune(checkpoint, examples, examples[:DEV_ROWS], labels, config, Progress.silent(), "packed")
    return time.monotonic() - started_s


def trainer(
    examples: Sequence[Example], labels: tuple[str, ...], *, group_by_length: bool
) -> float:
    """Seconds for one epoch of `transformers.Trainer`, texts tokenized beforehand."""
    folder = find_folder("sentence-transformers/all-MiniLM-L6-v2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(labels)
    )
    rows = [
        tokenizer(example.text, truncation=True, max_length=256)
        | {"labels": labels.index(str(example.label))}
        for example in examples
    ]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = transformers.TrainingArguments(
            output_dir=scratch,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            train_sampling_strategy="group_by_length" if group_by_length else "random",
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        job = transformers.Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
        )
        started_s = time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()):
            job.train()
        return time.monotonic() - started_s


if __name__ == "__main__":
    main()
