"""Training an encoder's vectors on pairs of texts, in packed batches.

The objectives are those of `pair_losses`, each also for the vector cut short, if Matryoshka
dimensions are named (Kusupati et al., 2022, arXiv:2205.13147). What is kept lies between the
weights before and after, where the dev pairs like it best (WiSE-FT; Wortsman et al., 2022,
arXiv:2109.01903).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional

from service.errors import DatasetInvalid
from service.offline.checkpoints import Checkpoint
from service.offline.data import ScoredPair
from service.offline.evaluation.retrieval import never_wrong, ranks, recall_at_1
from service.offline.heads import EmbeddingModel
from service.offline.progress import Progress
from service.offline.training import processes
from service.offline.training.batches import packed_tensors, plan_epoch, share_of
from service.offline.training.optimization import (
    adamw,
    freeze,
    set_rate,
    trainable,
    warmup_then_decay,
)
from service.offline.training.pair_losses import LOSSES, Objective, right_answers
from service.offline.training.state import TrainingFolder, fingerprint_of, snapshot
from service.runtime.tokenizer import Tokenizer

Weights = Mapping[str, Tensor]

EVALUATION_BATCH = 32
# Shares of the weights before training that are tried in the end.
BASE_SHARES = (0.15, 0.3, 0.5)


@dataclass(frozen=True)
class EmbeddingConfig:
    """How to train vectors.

    scale: what cosines are multiplied by before a softmax: 1 / temperature.
    matryoshka_dimensions: sizes to which the vectors may later be cut.
    """

    objective: Objective = "ranking"
    epochs: int = 4
    batch_size: int = 128
    learning_rate: float = 3e-4
    layer_decay: float = 1.0
    warmup_fraction: float = 0.1
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    freeze_embeddings: bool = False
    scale: float = 20.0
    matryoshka_dimensions: tuple[int, ...] = ()
    seed: int = 13


@dataclass(frozen=True)
class TrainedEmbedding:
    """The trained encoder and how its dev pairs went."""

    model: EmbeddingModel
    metrics: dict[str, float]
    history: tuple[dict[str, float], ...]


@dataclass(frozen=True)
class _Pairs:
    """Tokenized pairs and their scores from 0 to 1."""

    firsts: list[list[int]]
    seconds: list[list[int]]
    scores: Tensor

    @property
    def lengths(self) -> list[int]:
        return [max(map(len, pair)) for pair in zip(self.firsts, self.seconds, strict=True)]

    @property
    def measure(self) -> str:
        """Where all scores are one, the texts belong together and are looked for."""
        return "recall_at_1" if self.scores.max() == self.scores.min() else "spearman"

    def right(self, rows: Sequence[int]) -> Tensor:
        """Among the pairs `rows`, [n, n]; texts are equal if their token ids are."""
        sides = (self.firsts, self.seconds)
        return right_answers(*([tuple(side[row]) for row in rows] for side in sides))


def train_embedding(
    checkpoint: Checkpoint,
    train: Sequence[ScoredPair],
    dev: Sequence[ScoredPair],
    config: EmbeddingConfig,
    progress: Progress,
    name: str,
    *,
    state_folder: Path | None = None,
    save_every_s: float = 60.0,
) -> TrainedEmbedding:
    """Train the encoder of `checkpoint` in place; the best weights by the dev pairs are kept.

    `contrastive` takes each pair for one of two texts that belong together, whatever its score.
    As in `finetune`, a killed run goes on from `state_folder`, and several processes share a step.

    Raises:
        DatasetInvalid: all pairs have one score, or a Matryoshka dimension is none of the vector's.
    """
    torch.manual_seed(config.seed)
    accelerator = processes.start_accelerator()
    processes.say_where(accelerator, progress, name)
    model = EmbeddingModel(
        checkpoint.encoder,
        checkpoint.pooling,
        normalize=checkpoint.normalize,
        projection=checkpoint.projection,
    )
    _check(config, model.width, train)
    if config.freeze_embeddings:
        freeze([model.encoder.embeddings])
    read = _Reader(checkpoint, train)
    learned, looked_at = read(train), read(dev)
    optimizer = adamw(
        model,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        layer_decay=config.layer_decay,
    )
    before = snapshot(model)
    plan: list[list[int]] = []
    looks: set[int] = set()
    for epoch in range(config.epochs):
        plan += plan_epoch(
            learned.lengths, seed=config.seed, epoch=epoch, batch_size=config.batch_size, mixed=True
        )
        looks.add(len(plan))
    folder = TrainingFolder(
        state_folder,
        # A state whose looks were measured otherwise cannot be gone on with.
        fingerprint_of(
            asdict(config) | {"measure": looked_at.measure},
            train,
            dev,
            checkpoint.sha256,
            accelerator.num_processes,
        ),
    )
    done, best = folder.load(model, optimizer)
    wrapped, optimizer = accelerator.prepare(model, optimizer)

    history = list(done.history)
    saved_s = started_s = time.monotonic()
    pairs = 0
    with progress.phase(f"{name}: train", len(plan), done=done.step) as phase:
        for step in range(done.step, len(plan)):
            wrapped.train()
            processes.seed_step(config.seed, step, accelerator.process_index)
            rows = share_of(plan[step], accelerator.process_index, accelerator.num_processes)
            texts = [learned.firsts[row] for row in rows] + [learned.seconds[row] for row in rows]
            vectors = wrapped(*packed_tensors(texts, None, accelerator.device)).float()
            right = learned.right(rows) if config.objective == "contrastive" else None
            loss = pair_loss(vectors, learned.scores[rows], config, right)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(trainable(model), config.max_gradient_norm)
            set_rate(optimizer, warmup_then_decay(step, len(plan), config.warmup_fraction))
            optimizer.step()
            optimizer.zero_grad()
            pairs += len(plan[step])
            shown_loss = done.smooth_loss(loss.item(), step)
            if step + 1 in looks:
                found = _measure(model, looked_at)
                history.append({"step": step + 1, "loss": shown_loss, looked_at.measure: found})
                if done.best_score is None or found > done.best_score:
                    best, done.best_score, done.best_step = snapshot(model), found, step + 1
            shown = "" if done.best_score is None else f", dev {history[-1][looked_at.measure]:.4f}"
            rate = pairs / (time.monotonic() - started_s)
            phase.advance(f"loss {shown_loss:.3f}{shown}, {rate:,.0f} pairs/s")
            due = time.monotonic() - saved_s >= save_every_s or step + 1 == len(plan)
            if accelerator.is_main_process and due:
                done.step, done.history = step + 1, tuple(history)
                folder.save(done, model, optimizer, best)
                saved_s = time.monotonic()
    processes.end_half_precision(accelerator, wrapped)
    assert best is not None
    assert done.best_score is not None
    base_share, score = _move_towards(model, best, before, looked_at)
    metrics = {
        f"dev_{looked_at.measure}": score,
        "base_share": base_share,
        "dev_pairs": len(dev),
        "train_pairs": len(train),
        "best_step": done.best_step,
    }
    return TrainedEmbedding(model.cpu().eval(), metrics, tuple(history))


def pair_loss(
    vectors: Tensor, scores: Tensor, config: EmbeddingConfig, right: Tensor | None = None
) -> Tensor:
    """The mean loss over the full vector and each Matryoshka dimension.

    Args:
        vectors: [2 n, d]: first texts, then second ones. scores: [n], from 0 to 1.
        right: [n, n], which second texts are no wrong answers to which first ones.
    """
    scores = scores.to(vectors.device)
    right = None if right is None else right.to(vectors.device)
    sizes = {vectors.shape[1], *config.matryoshka_dimensions}
    losses = []
    for size in sorted(sizes):
        firsts, seconds = functional.normalize(vectors[:, :size], dim=1).chunk(2)
        losses.append(LOSSES[config.objective](firsts, seconds, scores, config.scale, right))
    return torch.stack(losses).mean()


def _move_towards(
    model: EmbeddingModel, trained: Weights, before: Weights, dev: _Pairs
) -> tuple[float, float]:
    """Give the model the weights on the line between both that do best on `dev`.

    Returns the share of `before` in them, and their score.
    """
    found = {}
    for share in (0.0, *BASE_SHARES):
        model.load_state_dict(_between(trained, before, share))
        found[share] = _measure(model, dev)
    best = max(found, key=lambda share: found[share])
    model.load_state_dict(_between(trained, before, best))
    return best, found[best]


def _between(trained: Weights, before: Weights, share: float) -> dict[str, Tensor]:
    return {name: torch.lerp(tensor, before[name], share) for name, tensor in trained.items()}


def _check(config: EmbeddingConfig, width: int, train: Sequence[ScoredPair]) -> None:
    if wrong := [size for size in config.matryoshka_dimensions if not 1 <= size <= width]:
        raise DatasetInvalid(f"Matryoshka dimensions {wrong} are not from 1 to {width}")
    if config.objective != "contrastive" and len({pair.score for pair in train}) < 2:
        raise DatasetInvalid(
            "all pairs have the same score: learn from pairs that belong together with "
            "--objective contrastive"
        )


class _Reader:
    """Pairs to scores and token ids, with the prompt that the served model puts before texts."""

    def __init__(self, checkpoint: Checkpoint, train: Sequence[ScoredPair]) -> None:
        self._tokenizer = Tokenizer(checkpoint.tokenizer_file, checkpoint.max_tokens)
        default = checkpoint.default_prompt
        self._prompt = "" if default is None else checkpoint.prompts[default]
        scores = [pair.score for pair in train]
        self._low, self._high = min(scores), max(scores)

    def __call__(self, pairs: Sequence[ScoredPair]) -> _Pairs:
        scores = torch.tensor([pair.score for pair in pairs], dtype=torch.float32)
        return _Pairs(
            self._ids([pair.first for pair in pairs]),
            self._ids([pair.second for pair in pairs]),
            (scores - self._low) / (self._high - self._low or 1.0),
        )

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [
            entry.token_ids
            for entry in self._tokenizer.encode([self._prompt + text for text in texts])
        ]


@torch.inference_mode()
def _measure(model: EmbeddingModel, pairs: _Pairs) -> float:
    """Spearman of cosine and score; where all scores are one, the share of firsts whose own second
    is nearer than all that are wrong."""
    model.eval()
    firsts, seconds = (_vectors(model, texts) for texts in (pairs.firsts, pairs.seconds))
    if pairs.measure == "recall_at_1":
        right = never_wrong(*(list(map(tuple, side)) for side in (pairs.firsts, pairs.seconds)))
        return recall_at_1(ranks(firsts.numpy(), seconds.numpy(), right))
    return float(spearmanr((firsts * seconds).sum(dim=1).numpy(), pairs.scores.numpy()).statistic)


def _vectors(model: EmbeddingModel, texts: Sequence[Sequence[int]]) -> Tensor:
    device = next(model.parameters()).device
    order = np.argsort([len(text) for text in texts], kind="stable").tolist()
    batches = [order[at : at + EVALUATION_BATCH] for at in range(0, len(order), EVALUATION_BATCH)]
    rows = [model(*packed_tensors([texts[i] for i in batch], None, device)) for batch in batches]
    vectors = torch.cat(rows).float().cpu()[np.argsort(order)]
    return functional.normalize(vectors, dim=1)
