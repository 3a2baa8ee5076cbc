"""Fine-tuning of every kind of problem, and that it can be trusted: killed, shared, cut short."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from service.offline.checkpoints import Checkpoint
from service.offline.data import Example
from service.offline.finetune import FinetuneConfig, Finetuned, finetune
from service.offline.progress import Progress
from tests.conftest import tiny_checkpoint
from tests.offline.answers import rows_of

WORDS = ("the", "a", "train", "food", "nine", "leaves", "at")
FAST = FinetuneConfig(epochs=30, batch_size=16, learning_rate=3e-3, freeze_embeddings=False)


def phrases(*ends: str) -> list[str]:
    return [f"{first} {second} {end}" for first in WORDS for second in WORDS for end in ends]


MOODS = [Example(text, text.split()[-1]) for text in phrases("good", "bad")]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return tiny_checkpoint(tmp_path)


def learn(
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    labels: tuple[str, ...],
    config: FinetuneConfig,
    quiet: Progress,
) -> Finetuned:
    dev = examples[::5]
    train = [example for index, example in enumerate(examples) if index % 5]
    return finetune(checkpoint, train, dev, labels, config, quiet, "toy")


def test_one_label_of_many_is_learned(checkpoint: Checkpoint, quiet: Progress) -> None:
    tuned = learn(checkpoint, MOODS, ("bad", "good"), FAST, quiet)
    assert tuned.metrics["dev_accuracy"] == 1
    assert tuned.held_out_logits.shape == (len(MOODS[::5]), 2)
    assert not tuned.model.training


def test_any_number_of_labels_is_learned(checkpoint: Checkpoint, quiet: Progress) -> None:
    examples = [
        Example(text, tuple(word for word in ("bad", "good") if word in text))
        for text in phrases("good", "bad", "good bad", "not")
    ]
    config = replace(FAST, problem_type="multi_label")
    tuned = learn(checkpoint, examples, ("bad", "good"), config, quiet)
    assert tuned.metrics["dev_micro_f1"] > 0.95


def test_numbers_are_learned_on_their_own_scale(checkpoint: Checkpoint, quiet: Progress) -> None:
    examples = [
        Example(text, 5000 + 1000 * text.count("good") - 1000 * text.count("bad"))
        for text in phrases("good", "bad", "good good", "bad bad")
    ]
    config = replace(FAST, problem_type="regression")
    tuned = learn(checkpoint, examples, ("score",), config, quiet)
    assert tuned.metrics["dev_spearman"] > 0.9
    truth = np.array([example.label for example in examples[::5]], dtype=np.float32)
    assert np.abs(tuned.held_out_logits[:, 0] - truth).mean() < 500
    np.testing.assert_allclose(rows_of(tuned, examples[::5]), tuned.held_out_logits, rtol=1e-4)


def test_what_two_texts_have_to_do_with_each_other_is_learned(
    checkpoint: Checkpoint, quiet: Progress
) -> None:
    """The label needs both texts: neither alone tells it."""
    examples = [
        Example(f"{word} {first}", "same" if first == second else "other", f"{second} {other}")
        for word in WORDS
        for other in WORDS
        for first in ("good", "bad")
        for second in ("good", "bad")
    ]
    config = replace(FAST, epochs=80, patience=80)
    tuned = learn(checkpoint, examples, ("other", "same"), config, quiet)
    assert tuned.metrics["dev_accuracy"] > 0.9
    assert tuned.separator_id == 3


def test_frozen_parts_stay_as_they_were(checkpoint: Checkpoint, quiet: Progress) -> None:
    before = {name: value.clone() for name, value in checkpoint.encoder.state_dict().items()}
    config = replace(FAST, epochs=1, freeze_embeddings=True, frozen_blocks=1)
    learn(checkpoint, MOODS, ("bad", "good"), config, quiet)
    changed = {
        name.split(".")[1] if name.startswith("blocks") else "embeddings"
        for name, value in checkpoint.encoder.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"1"}


def test_hardest_texts_are_learned_in_the_second_half(
    checkpoint: Checkpoint, quiet: Progress
) -> None:
    """Told by the tokens of each pass in training: the passes of a step have the same."""
    passes: list[int] = []
    checkpoint.encoder.embeddings.norm.register_forward_hook(
        lambda module, given, output: passes.append(len(output)) if module.training else None
    )
    learn(checkpoint, MOODS, ("bad", "good"), replace(FAST, epochs=2, adversarial=0.03), quiet)
    steps = 2 * math.ceil(len([row for row in range(len(MOODS)) if row % 5]) / FAST.batch_size)
    first, second = passes[: steps // 2], passes[steps // 2 :]
    assert len(second) == steps
    assert second[0::2] == second[1::2]
    assert sum(first) == sum(second[0::2])


def test_adversary_that_goes_further_leads_to_other_weights(
    tmp_path: Path, quiet: Progress
) -> None:
    none, near, far = (
        learn(
            tiny_checkpoint(tmp_path),
            MOODS,
            ("bad", "good"),
            replace(FAST, epochs=1, adversarial=size),
            quiet,
        ).model.classifier.weight
        for size in (0.0, 0.03, 0.1)
    )
    assert not torch.equal(none, near)
    assert not torch.equal(near, far)


def test_lora_learns_and_leaves_an_encoder_of_the_same_form(
    checkpoint: Checkpoint, quiet: Progress
) -> None:
    names = list(checkpoint.encoder.state_dict())
    config = replace(FAST, lora_rank=4, learning_rate=1e-2, patience=30)
    tuned = learn(checkpoint, MOODS, ("bad", "good"), config, quiet)
    assert tuned.metrics["dev_accuracy"] > 0.9
    assert list(tuned.model.encoder.state_dict()) == names


def test_training_that_gains_nothing_ends_early_with_the_best_weights(
    checkpoint: Checkpoint, quiet: Progress
) -> None:
    """It learns the opposite of what the dev split says, and so does worse with each look."""
    config = replace(FAST, epochs=50, patience=10)
    opposite = {"good": "bad", "bad": "good"}
    dev = [replace(example, label=opposite[str(example.label)]) for example in MOODS[::5]]
    train = [example for index, example in enumerate(MOODS) if index % 5]
    tuned = finetune(checkpoint, train, dev, ("bad", "good"), config, quiet, "toy")
    assert len(tuned.history) < 50
    best = max(look["accuracy"] for look in tuned.history)
    assert tuned.history[-1]["accuracy"] < best == tuned.metrics["dev_accuracy"]
    given = [("bad", "good")[place] for place in rows_of(tuned, dev).argmax(axis=1)]
    right = [label == example.label for label, example in zip(given, dev, strict=True)]
    assert np.mean(right) == pytest.approx(best)


def test_same_seed_gives_the_same_weights_and_another_seed_others(
    tmp_path: Path, quiet: Progress
) -> None:
    first, again, other = (
        learn(
            tiny_checkpoint(tmp_path),
            MOODS,
            ("bad", "good"),
            replace(FAST, epochs=1, seed=s),
            quiet,
        ).model.classifier.weight
        for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
