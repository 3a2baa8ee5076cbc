"""From raw texts to an encoder: masked language modelling, or a denoising autoencoder.

Both hide tokens and learn to name them. `mlm` (Devlin et al., 2019, arXiv:1810.04805) reads the
answer off the hidden token's own vector. `autoencoder` adds a decoder of one block that sees the
text with most tokens hidden and, in place of its first token, nothing but the encoder's one pooled
vector (Xiao et al., 2022, arXiv:2205.12035): what the vector does not say cannot be rebuilt.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast, get_args

import torch
from accelerate import Accelerator
from torch import Tensor

from service.errors import DatasetInvalid, InvalidField
from service.offline.encoder import Encoder, EncoderConfig
from service.offline.heads import Pooling, pool
from service.offline.masked_model import NOT_HIDDEN, Objective, PretrainingModel
from service.offline.progress import Progress
from service.offline.training import processes
from service.offline.training.batches import packed_tensors, plan_epoch, share_of
from service.offline.training.optimization import adamw, set_rate, trainable, warmup_then_decay
from service.offline.training.state import TrainingFolder, fingerprint_of
from service.runtime.packing import TokenIds

# Of the tokens to be named, this many are shown as the mask and as a random token; the rest as is.
SHOWN_AS_MASK, SHOWN_AS_RANDOM = 0.8, 0.1
MEASURE_TEXTS = 512


@dataclass(frozen=True)
class PretrainConfig:
    """How to train from random weights.

    masked: share of the tokens that the encoder does not see. decoder_masked: of the decoder's.
    batch_tokens: tokens a step.
    """

    objective: Objective = "mlm"
    pooling: Pooling = "mean"
    epochs: int = 8
    batch_tokens: int = 4096
    learning_rate: float = 1e-3
    warmup_fraction: float = 0.05
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    masked: float = 0.25
    decoder_masked: float = 0.7
    dev_fraction: float = 0.02
    seed: int = 13


@dataclass(frozen=True)
class Pretrained:
    """The encoder, and what was measured on texts held out of training."""

    encoder: Encoder
    metrics: dict[str, float]


def read_choices(objective: str, pooling: str) -> tuple[Objective, Pooling]:
    """The two words of the command line.

    Raises:
        InvalidField: one of them is unknown.
    """
    if objective not in get_args(Objective):
        raise InvalidField("objective is mlm or autoencoder", param="objective")
    if pooling not in get_args(Pooling):
        raise InvalidField("pooling is mean or cls", param="pooling")
    return cast(Objective, objective), cast(Pooling, pooling)


def pretrain(
    texts: Sequence[TokenIds],
    size: EncoderConfig,
    config: PretrainConfig,
    progress: Progress,
    name: str,
    *,
    mask_id: int,
    special_ids: Sequence[int],
    state_folder: Path | None = None,
    save_every_s: float = 60.0,
) -> Pretrained:
    """Train an encoder of `size` from random weights on token ids.

    The same seed on the same machine gives the same weights, also if the run was killed and started
    again with the same `state_folder`.

    Args:
        mask_id: what stands for a hidden token. special_ids: tokens that are never hidden; texts of
            nothing else are left out.

    Raises:
        DatasetInvalid: no two texts have another token.
    """
    torch.manual_seed(config.seed)
    accelerator = processes.start_accelerator()
    processes.say_where(accelerator, progress, name)
    model = PretrainingModel(Encoder(size), config.objective, config.pooling)
    optimizer = adamw(model, learning_rate=config.learning_rate, weight_decay=config.weight_decay)
    train, dev = _hold_out(_with_words(texts, special_ids), config)
    lengths = [len(text) for text in train]
    epochs = range(config.epochs)
    plan = [
        rows
        for epoch in epochs
        for rows in plan_epoch(
            lengths, seed=config.seed, epoch=epoch, batch_tokens=config.batch_tokens
        )
    ]
    folder = TrainingFolder(
        state_folder, fingerprint_of(asdict(config), asdict(size), train, accelerator.num_processes)
    )
    done, _ = folder.load(model, optimizer)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    hide = _Hide(mask_id, special_ids, size.vocabulary_size, config)

    wrapped.train()
    saved_s = started_s = time.monotonic()
    tokens = 0
    with progress.phase(f"{name}: pretrain", len(plan), done=done.step) as phase:
        for step in range(done.step, len(plan)):
            processes.seed_step(config.seed, step, accelerator.process_index)
            rows = share_of(plan[step], accelerator.process_index, accelerator.num_processes)
            loss, right = wrapped(*hide([train[row] for row in rows], accelerator.device))
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(trainable(model), config.max_gradient_norm)
            set_rate(optimizer, warmup_then_decay(step, len(plan), config.warmup_fraction))
            optimizer.step()
            optimizer.zero_grad()
            tokens += sum(lengths[row] for row in plan[step])
            rate = tokens / (time.monotonic() - started_s)
            phase.advance(
                f"loss {done.smooth_loss(loss.item(), step):.3f}, {right.item():.2f} right, "
                f"{rate:,.0f} tokens/s"
            )
            due = time.monotonic() - saved_s >= save_every_s or step + 1 == len(plan)
            if accelerator.is_main_process and due:
                done.step = step + 1
                folder.save(done, model, optimizer)
                saved_s = time.monotonic()
    processes.end_half_precision(accelerator, wrapped)
    model.eval()
    metrics = _measure(model, dev, hide, accelerator)
    return Pretrained(model.encoder.cpu(), metrics)


def _with_words(texts: Sequence[TokenIds], special_ids: Sequence[int]) -> list[TokenIds]:
    """In a batch of the other texts there is nothing to name."""
    special = frozenset(special_ids)
    found = [text for text in texts if not special.issuperset(text)]
    if len(found) < 2:
        raise DatasetInvalid(
            f"{len(texts)} texts are to be learned from, and the tokenizer knows a word in "
            f"{len(found)} of them: name another, or leave --tokenizer out to learn one from them"
        )
    return found


def _hold_out(
    texts: Sequence[TokenIds], config: PretrainConfig
) -> tuple[list[TokenIds], list[TokenIds]]:
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(config.seed))
    held_out = max(1, min(MEASURE_TEXTS, round(config.dev_fraction * len(texts))))
    rows = order.tolist()
    return [texts[row] for row in rows[held_out:]], [texts[row] for row in rows[:held_out]]


class _Hide:
    """Chooses which tokens are hidden, from torch's generator, and packs the batch."""

    def __init__(
        self, mask_id: int, special_ids: Sequence[int], vocabulary: int, config: PretrainConfig
    ) -> None:
        self._mask_id = mask_id
        self._special_ids = torch.tensor(sorted(special_ids))
        self._vocabulary = vocabulary
        self._config = config

    def __call__(self, texts: Sequence[TokenIds], device: torch.device) -> tuple[Tensor, ...]:
        """The arguments of `PretrainingModel.forward`."""
        ids, position_ids, pad_index, unpad_index = packed_tensors(texts)
        seen, targets = self._hidden(ids, self._config.masked)
        decoder_seen, decoder_targets = self._hidden(ids, self._config.decoder_masked)
        tensors = (seen, targets, decoder_seen, decoder_targets, position_ids, pad_index)
        return tuple(tensor.to(device) for tensor in (*tensors, unpad_index))

    def _hidden(self, ids: Tensor, share: float) -> tuple[Tensor, Tensor]:
        chance = torch.rand(len(ids))
        chance[torch.isin(ids, self._special_ids)] = torch.inf
        # A batch without a hidden token has nothing to learn from.
        chosen = chance < max(share, chance.min().item() + 1e-6)
        targets = torch.where(chosen, ids, NOT_HIDDEN)
        fate = torch.rand(len(ids))
        masked = torch.where(chosen & (fate < SHOWN_AS_MASK), self._mask_id, ids)
        other = chosen & (fate >= SHOWN_AS_MASK) & (fate < SHOWN_AS_MASK + SHOWN_AS_RANDOM)
        return torch.where(other, torch.randint(self._vocabulary, ids.shape), masked), targets


@torch.no_grad()
def _measure(
    model: PretrainingModel, dev: Sequence[TokenIds], hide: _Hide, accelerator: Accelerator
) -> dict[str, float]:
    """Loss and share named right on held-out texts; of the autoencoder, also by others' vectors.

    A decoder that rebuilds as much from another text's vector learned nothing from the vector.
    """
    processes.seed_step(0, 0, 0)
    batches = [hide(dev[at : at + 32], accelerator.device) for at in range(0, len(dev), 32)]
    results = [model(*batch) for batch in batches]
    metrics = {
        "dev_loss": _mean([loss for loss, _ in results]),
        "dev_right": _mean([right for _, right in results]),
    }
    if model.decoder is not None:
        others = [
            _right_with_vectors_of_others(model, batch) for batch in batches if len(batch[5]) > 1
        ]
        metrics["dev_right_with_vectors_of_others"] = _mean(others)
    return metrics


def _right_with_vectors_of_others(model: PretrainingModel, batch: tuple[Tensor, ...]) -> Tensor:
    seen, _, decoder_seen, decoder_targets, position_ids, pad_index, unpad_index = batch
    hidden = model.encoder(seen, position_ids, pad_index, unpad_index)
    vectors = pool(hidden, model.pooling, pad_index).roll(1, dims=0)
    rebuilt = model.rebuild(vectors, decoder_seen, position_ids, pad_index, unpad_index)
    return model.name(rebuilt, decoder_targets)[1]


def _mean(values: Sequence[Tensor]) -> float:
    return float(torch.stack(list(values)).mean()) if values else 0.0
