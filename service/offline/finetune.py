"""Fine-tuning: an encoder and a linear head learn labelled texts, in packed batches."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional

from service.offline.checkpoints import Checkpoint
from service.offline.corpus import Example, labels_of
from service.offline.heads import ClassificationModel
from service.offline.progress import Progress
from service.runtime.packing import pack
from service.runtime.tokenizer import Tokenizer

BATCHES_PER_WINDOW = 16


@dataclass(frozen=True)
class FinetuneConfig:
    """How to train; the defaults are those of the default sentiment model.

    freeze_embeddings: keep the base's token vectors, half of a small encoder's weights: a small
        corpus sees few of them, and moving only those few hurts the rest.
    """

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 1e-4
    warmup_fraction: float = 0.1
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    dropout: float = 0.1
    freeze_embeddings: bool = True
    dev_fraction: float = 0.1
    seed: int = 13


@dataclass(frozen=True)
class Finetuned:
    """The trained model, its labels in the order of the logits, and its score on held-out texts."""

    model: ClassificationModel
    labels: tuple[str, ...]
    metrics: dict[str, float]
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class _Split:
    sources: list[str]
    texts: list[list[int]]
    labels: Tensor  # [texts] int64
    lengths: Tensor  # [texts] int64


def finetune(
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    config: FinetuneConfig,
    progress: Progress,
    name: str,
) -> Finetuned:
    """Train a classifier from `checkpoint`, whose encoder is changed in place.

    A stratified `dev_fraction` is held out of training and measured at the end. The same seed
    on the same machine gives the same weights.

    Raises:
        DatasetInvalid: there is nothing to learn from the examples.
    """
    torch.manual_seed(config.seed)
    labels = labels_of(examples)
    train, dev = _split(checkpoint, examples, labels, config)
    model = ClassificationModel(
        checkpoint.encoder, checkpoint.pooling, len(labels), dropout=config.dropout
    )
    model.encoder.embeddings.requires_grad_(not config.freeze_embeddings)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    steps = config.epochs * math.ceil(len(train.texts) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warmup_then_decay(steps, config))

    model.train()
    with progress.phase(f"{name}: train", steps) as phase:
        for _ in range(config.epochs):
            for rows in _batches(train, config.batch_size):
                logits = model(*packed_tensors([train.texts[row] for row in rows.tolist()]))
                loss = functional.cross_entropy(logits, train.labels[rows])
                loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
                torch.nn.utils.clip_grad_norm_(trained, config.max_gradient_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                phase.advance(f"loss {loss.item():.3f}")
    model.eval()
    return Finetuned(model, labels, _evaluate(model, dev, config.batch_size), tuple(dev.sources))


def packed_tensors(texts: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
    """The arguments of a model's `forward` for these token ids."""
    return tuple(torch.from_numpy(array) for array in pack(texts).feeds().values())


def _split(
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    labels: tuple[str, ...],
    config: FinetuneConfig,
) -> tuple[_Split, _Split]:
    tokenizer = Tokenizer(checkpoint.tokenizer_file, checkpoint.max_tokens)
    texts = [entry.token_ids for entry in tokenizer.encode([example.text for example in examples])]
    indices = [labels.index(example.label) for example in examples]
    dev_texts = max(len(labels), round(config.dev_fraction * len(examples)))
    train_rows, dev_rows = train_test_split(
        np.arange(len(examples)), test_size=dev_texts, stratify=indices, random_state=config.seed
    )

    def take(rows: Sequence[int]) -> _Split:
        chosen = [texts[row] for row in rows]
        return _Split(
            sources=[examples[row].text for row in rows],
            texts=chosen,
            labels=torch.tensor([indices[row] for row in rows]),
            lengths=torch.tensor([len(text) for text in chosen]),
        )

    return take(train_rows), take(dev_rows)


def _batches(train: _Split, batch_size: int) -> list[Tensor]:
    """Every row once, in random batches of texts of like length.

    Attention works on a block as wide as the longest text: sorting within random windows keeps
    the blocks narrow and the order random.
    """
    windows = torch.split(torch.randperm(len(train.texts)), BATCHES_PER_WINDOW * batch_size)
    batches = [
        batch
        for window in windows
        for batch in torch.split(window[train.lengths[window].argsort()], batch_size)
    ]
    return [batches[index] for index in torch.randperm(len(batches)).tolist()]


def _warmup_then_decay(steps: int, config: FinetuneConfig) -> Callable[[int], float]:
    warmup_steps = max(1, round(config.warmup_fraction * steps))

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return max(0.0, (steps - step) / max(1, steps - warmup_steps))

    return factor


@torch.inference_mode()
def _evaluate(model: ClassificationModel, split: _Split, batch_size: int) -> dict[str, float]:
    predicted: list[int] = []
    for start in range(0, len(split.texts), batch_size):
        logits = model(*packed_tensors(split.texts[start : start + batch_size]))
        predicted += logits.argmax(dim=-1).tolist()
    truth = split.labels.tolist()
    return {
        "dev_texts": len(truth),
        "dev_accuracy": float(accuracy_score(truth, predicted)),
        "dev_macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0)),
    }
