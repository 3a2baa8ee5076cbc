"""Fine-tuning: an encoder and a linear head learn labelled texts or pairs, in packed batches."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from service.offline.checkpoints import Checkpoint
from service.offline.data import Example, digest_of
from service.offline.heads import ClassificationModel
from service.offline.progress import Progress
from service.offline.training import processes
from service.offline.training.adversary import Adversary
from service.offline.training.batches import plan_epoch, share_of
from service.offline.training.examples import Reader, Rows
from service.offline.training.lora import add_lora, merge_lora
from service.offline.training.objectives import SCORES, dev_scores, loss_of
from service.offline.training.optimization import (
    adamw,
    freeze,
    set_rate,
    trainable,
    warmup_then_decay,
)
from service.offline.training.state import TrainingFolder, fingerprint_of, snapshot
from service.runtime.outputs import ProblemType

FloatArray = npt.NDArray[np.float32]

EVALUATION_BATCH = 32


@dataclass(frozen=True)
class FinetuneConfig:
    """How to train; the defaults are those of the default sentiment model.

    layer_decay: each block learns this much slower than the one above it.
    freeze_embeddings: keep the base's token vectors, half of a small encoder's weights: a small
        corpus sees few of them, and moving only those few hurts the rest.
    frozen_blocks: keep the lowest blocks, too.
    adversarial: in the second half of training, when texts begin to be known by heart, each step is
        learned once more with its texts moved against the model by this share of their length
        (`Adversary`), which takes about twice as long as a step without; 0 for not.
    lora_rank: above 0, attention learns by LoRA and everything else but the head is frozen.
    patience: looks at the dev split without gain that training outlasts; one more ends it, and the
        best weights are kept.
    evaluations_per_epoch: looks at the dev split.
    max_tokens: cut longer texts; None for the longest that the base reads.
    """

    problem_type: ProblemType = "single_label"
    epochs: int = 2
    batch_size: int = 32
    learning_rate: float = 1e-4
    layer_decay: float = 1.0
    warmup_fraction: float = 0.1
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    dropout: float = 0.1
    label_smoothing: float = 0.0
    class_weights: bool = False
    freeze_embeddings: bool = True
    frozen_blocks: int = 0
    adversarial: float = 0.03
    lora_rank: int = 0
    lora_alpha: float = 16.0
    patience: int = 2
    evaluations_per_epoch: int = 1
    max_tokens: int | None = None
    seed: int = 13


def defaults_for(problem_type: ProblemType) -> FinetuneConfig:
    """The settings where none are named; without the adversary where it is not known to help.

    Of numbers it changed nothing but the time, of many labels it was not measured (decision 0011).
    """
    if problem_type == "single_label":
        return FinetuneConfig()
    return FinetuneConfig(problem_type=problem_type, epochs=3, adversarial=0.0)


@dataclass(frozen=True)
class Finetuned:
    """The trained model and how its dev split went.

    metrics: the best look at the dev split, texts a second and the like.
    held_out_logits: [n, labels] float32, of the dev examples, then of the unseen ones.
    separator_id: ends the first text of a pair; None if it reads single texts.
    """

    model: ClassificationModel
    labels: tuple[str, ...]
    metrics: dict[str, float]
    history: tuple[dict[str, float], ...]
    held_out_logits: FloatArray
    separator_id: int | None


def finetune(
    checkpoint: Checkpoint,
    train: Sequence[Example],
    dev: Sequence[Example],
    labels: tuple[str, ...],
    config: FinetuneConfig,
    progress: Progress,
    name: str,
    *,
    unseen: Sequence[Example] = (),
    state_folder: Path | None = None,
    save_every_s: float = 60.0,
) -> Finetuned:
    """Train a classifier from `checkpoint`, whose encoder is changed in place.

    The same seed on the same machine gives the same weights, also if the run was killed and started
    again with the same `state_folder`. Run by `accelerate launch` or `torchrun`, each process takes
    its share of every step.

    Args:
        train, dev: share no text; all texts, or all pairs.
        labels: in the order of the logits; for regression, the one name of the number.
        unseen: looked at by nothing in training; answered at the end.
    """
    torch.manual_seed(config.seed)
    accelerator = processes.start_accelerator()
    processes.say_where(accelerator, progress, name)
    read = Reader(checkpoint, train, config.problem_type, config.max_tokens)
    learned, looked_at = read(train, labels), read(dev, labels)
    mean, deviation = _scale_of(learned, config)
    model = _model(checkpoint, labels, config)
    optimizer = adamw(
        model,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        layer_decay=config.layer_decay,
    )
    loss_fn = loss_of(
        config.problem_type,
        learned.targets,
        class_weights=config.class_weights,
        label_smoothing=config.label_smoothing,
    )
    plan = [
        rows
        for epoch in range(config.epochs)
        for rows in plan_epoch(
            learned.lengths, seed=config.seed, epoch=epoch, batch_size=config.batch_size
        )
    ]
    looks = _looks(len(plan), config)
    folder = TrainingFolder(
        state_folder,
        fingerprint_of(
            asdict(config), digest_of(train), digest_of(dev), checkpoint.sha256, labels,
            accelerator.num_processes,
        ),
    )  # fmt: skip
    done, best = folder.load(model, optimizer)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    adversary: Adversary | None = None

    score = SCORES[config.problem_type]
    history = list(done.history)
    since_best = sum(row["step"] > done.best_step for row in history)
    saved_s = started_s = time.monotonic()
    texts = 0
    passes = _passes(len(plan), config)
    with progress.phase(f"{name}: train", sum(passes), done=sum(passes[: done.step])) as phase:
        for step in range(done.step, len(plan)):
            if since_best > config.patience:
                progress.say(f"{name}: no gain in {config.patience + 1} looks: stopped early")
                break
            wrapped.train()
            processes.seed_step(config.seed, step, accelerator.process_index)
            if passes[step] > 1 and not adversary:
                adversary = Adversary(model.encoder.embeddings, config.adversarial)
            rows = share_of(plan[step], accelerator.process_index, accelerator.num_processes)
            wanted = learned.targets[rows].to(accelerator.device)
            wanted = (wanted - mean) / deviation if deviation else wanted
            arrays = read.packed([learned.ids[row] for row in rows], accelerator.device)
            # Processes with unequal shares of the last batch: each text counts the same.
            share = len(rows) * accelerator.num_processes / len(plan[step])
            loss = loss_fn(wrapped(*arrays).float(), wanted)
            accelerator.backward(loss * share)
            if adversary:
                with adversary.perturbed(pad_index=arrays[2], unpad_index=arrays[3]):
                    adversarial_loss = loss_fn(wrapped(*arrays).float(), wanted)
                    accelerator.backward(adversarial_loss * share)
            accelerator.clip_grad_norm_(trainable(model), config.max_gradient_norm)
            set_rate(optimizer, warmup_then_decay(step, len(plan), config.warmup_fraction))
            optimizer.step()
            optimizer.zero_grad()
            texts += len(plan[step])
            shown_loss = done.smooth_loss(loss.item(), step)
            if step + 1 in looks:
                values = _rescaled(_logits(model, looked_at, read), mean, deviation)
                found = dev_scores(config.problem_type, values, looked_at.targets.numpy())
                history.append({"step": step + 1, "loss": shown_loss, **found})
                since_best += 1
                if done.best_score is None or found[score] > done.best_score:
                    best, since_best = snapshot(model), 0
                    done.best_score, done.best_step = found[score], step + 1
            shown = "" if done.best_score is None else f", dev {score} {history[-1][score]:.3f}"
            rate = texts / (time.monotonic() - started_s)
            note = f"loss {shown_loss:.3f}{shown}, {rate:,.0f} texts/s"
            phase.advance(note, steps=passes[step])
            due = time.monotonic() - saved_s >= save_every_s or step + 1 == len(plan)
            if accelerator.is_main_process and due:
                done.step, done.history = step + 1, tuple(history)
                folder.save(done, model, optimizer, best)
                saved_s = time.monotonic()
    if adversary:
        adversary.remove()
    processes.end_half_precision(accelerator, wrapped)
    assert best is not None
    model.load_state_dict(best)
    merge_lora(model.encoder)
    held_out = read([*dev, *unseen], labels)
    held_out_logits = _rescaled(_logits(model, held_out, read), mean, deviation)
    if deviation:
        _restore_scale(model, mean, deviation)
    best_look = next(row for row in history if row["step"] == done.best_step)
    metrics = {
        f"dev_{key}": value for key, value in best_look.items() if key not in ("loss", "step")
    }
    metrics |= {"dev_texts": len(dev), "train_texts": len(train), "best_step": done.best_step}
    return Finetuned(
        model.cpu().eval(), labels, metrics, tuple(history), held_out_logits, read.separator_id
    )


def _model(
    checkpoint: Checkpoint, labels: tuple[str, ...], config: FinetuneConfig
) -> ClassificationModel:
    encoder = checkpoint.encoder
    model = ClassificationModel(encoder, checkpoint.pooling, len(labels), dropout=config.dropout)
    if config.lora_rank:
        add_lora(encoder, config.lora_rank, config.lora_alpha)
        return model
    if config.freeze_embeddings:
        freeze([encoder.embeddings])
    freeze(list(encoder.blocks)[: config.frozen_blocks])
    return model


def _scale_of(rows: Rows, config: FinetuneConfig) -> tuple[float, float]:
    """Mean and deviation of the numbers to be learned: on any scale, they are learned as well."""
    if config.problem_type != "regression":
        return 0.0, 0.0
    return float(rows.targets.mean()), float(rows.targets.std())


def _rescaled(logits: FloatArray, mean: float, deviation: float) -> FloatArray:
    return logits * np.float32(deviation) + np.float32(mean) if deviation else logits


@torch.no_grad()
def _restore_scale(model: ClassificationModel, mean: float, deviation: float) -> None:
    """Let the head answer on the scale of the data."""
    model.classifier.weight.mul_(deviation)
    model.classifier.bias.mul_(deviation).add_(mean)


def _passes(steps: int, config: FinetuneConfig) -> list[int]:
    """How often each step is learned: once, in the second half with an adversary twice."""
    plain = steps // 2 if config.adversarial else steps
    return [1] * plain + [2] * (steps - plain)


def _looks(steps: int, config: FinetuneConfig) -> set[int]:
    """After how many steps the dev split is looked at; the last step among them."""
    count = config.epochs * config.evaluations_per_epoch
    return {round(steps * (index + 1) / count) for index in range(count)}


@torch.inference_mode()
def _logits(model: ClassificationModel, rows: Rows, read: Reader) -> FloatArray:
    """[n, labels] in the order of `rows`; neighbours in length run together."""
    model.eval()
    device = next(model.parameters()).device
    order = np.argsort(rows.lengths, kind="stable").tolist()
    batches = [order[at : at + EVALUATION_BATCH] for at in range(0, len(order), EVALUATION_BATCH)]
    logits = torch.cat([model(*read.packed([rows.ids[i] for i in b], device)) for b in batches])
    in_order: FloatArray = logits.float().cpu().numpy()[np.argsort(order)]
    return in_order
