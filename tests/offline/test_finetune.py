"""Fine-tuning of every kind of problem, and that it can be trusted: killed, shared, cut short."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from typer.testing import CliRunner

from service import cli
from service.errors import DatasetInvalid
from service.offline.checkpoints import Checkpoint, load_checkpoint
from service.offline.data import Example
from service.offline.evaluation.fairness import FairnessPair
from service.offline.finetune import FinetuneConfig, Finetuned, finetune
from service.offline.making import Holding, make_classifier
from service.offline.predict import Predictor
from service.offline.progress import Progress
from service.offline.training.state import BEST_FILE
from service.store.repository import ModelRepository, PublishedModel
from tests.conftest import tiny_checkpoint
from tests.offline.answers import rows_of
from tests.offline.killing import first_step_told, kill_on_its_way, saved_step
from tests.offline.test_workshop import save_checkpoint

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


def test_hardest_texts_are_learned_too_unless_that_is_switched_off(
    tmp_path: Path, quiet: Progress
) -> None:
    weights = [
        learn(
            tiny_checkpoint(tmp_path),
            MOODS,
            ("bad", "good"),
            replace(FAST, epochs=1, adversarial=size),
            quiet,
        ).model.classifier.weight
        for size in (0.0, 0.0, 0.03, 0.1)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[2], weights[3])


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


def command(folder: Path, store: str, *more: str) -> list[str]:
    base, data = folder / "base", folder / "moods.jsonl"
    if not base.exists():
        base.mkdir()
        save_checkpoint(base)
        rows = [{"text": example.text, "label": example.label} for example in MOODS]
        data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return [
        *["finetune", "moods", "--data", str(data), "--base", str(base), "--batch-size", "4"],
        *["--epochs", "4", "--learning-rate", "0.003", "--model-store", str(folder / store), *more],
    ]


def published(folder: Path, store: str) -> PublishedModel:
    return ModelRepository(folder / store).resolve("moods")


def weights_digest(model: PublishedModel) -> str:
    return model.manifest.files["model.onnx"].sha256


def test_killed_fine_tuning_goes_on_to_the_same_model(tmp_path: Path) -> None:
    runner, more = CliRunner(), ("--adversarial", "0.03")
    whole = runner.invoke(cli.app, command(tmp_path, "whole", *more), catch_exceptions=False)
    assert whole.exit_code == 0, whole.output
    kill_on_its_way(command(tmp_path, "killed", "--save-every-s", "0", *more))
    state = tmp_path / "killed" / ".training" / "moods"
    step = saved_step(state)
    # What was best by then is not lost either.
    assert (state / BEST_FILE).exists()
    again = runner.invoke(cli.app, command(tmp_path, "killed", *more), catch_exceptions=False)
    assert again.exit_code == 0, again.output
    assert first_step_told(again.output) > step
    assert weights_digest(published(tmp_path, "killed")) == weights_digest(
        published(tmp_path, "whole")
    )
    assert not state.exists()


@pytest.mark.parametrize(
    ("launcher", "adversarial"),
    [(["accelerate.commands.launch", "--cpu"], "0"), (["torch.distributed.run"], "0.03")],
)
def test_two_processes_learn_what_one_learns_and_publish_once(
    tmp_path: Path, launcher: list[str], adversarial: str
) -> None:
    processes = "--num_processes" if launcher[0].startswith("accelerate") else "--nproc_per_node"
    """Without dropout, which each process draws for itself, they take the very same steps."""
    more = ("--epochs", "6", "--dropout", "0", "--adversarial", adversarial)
    arguments = command(tmp_path, "two", *more)
    config = tmp_path / "base" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_dropout_prob": 0.0}))
    alone = CliRunner().invoke(cli.app, command(tmp_path, "one", *more), catch_exceptions=False)
    assert alone.exit_code == 0, alone.output
    result = subprocess.run(
        [
            *[sys.executable, "-m", *launcher, processes, "2", *port_options(launcher)],
            *["--module", "service.cli", *arguments],
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    model = published(tmp_path, "two")
    assert model.manifest.version == "1"
    first, second = (
        Predictor(one.path, one.manifest, "fp32").rows(["the food good", "a train bad"])
        for one in (published(tmp_path, "one"), model)
    )
    np.testing.assert_allclose(first, second, atol=1e-3)


def port_options(launcher: list[str]) -> list[str]:
    """A free port for the processes to meet at."""
    if launcher[0].startswith("accelerate"):
        return ["--main_process_port", "0"]
    return ["--standalone"]


def test_published_model_scores_as_it_was_calibrated(tmp_path: Path) -> None:
    arguments = command(tmp_path, "store", "--epochs", "20")
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    model = published(tmp_path, "store")
    assert model.manifest.calibration is not None
    (divisor,) = (
        numpy_helper.to_array(one)
        for one in onnx.load(model.file("model.onnx")).graph.initializer
        if one.name == "temperature"
    )
    assert divisor == pytest.approx(model.manifest.calibration.temperature)
    assert divisor != 1
    scores = Predictor(model.path, model.manifest, "fp32").scores(["the food good"])
    assert scores.sum() == pytest.approx(1)
    assert {"metrics.json", "MODEL_CARD.md", "report.html"} <= {
        path.name for path in (model.path / "report").iterdir()
    }


def test_fairness_of_pairs_is_refused_before_anything_is_trained(
    quiet: Progress, tmp_path: Path
) -> None:
    examples = [Example(text, text.split()[-1], "another") for text in phrases("good", "bad")]
    holding = Holding(fairness=[FairnessPair("he is good", "she is good")])
    with pytest.raises(DatasetInvalid, match="leave --fairness out"):
        make_classifier(
            ModelRepository(tmp_path), "pairs", quiet, examples=examples, holding=holding
        )
    assert list(tmp_path.iterdir()) == []


def test_pairs_are_published_as_a_model_that_reads_pairs(tmp_path: Path) -> None:
    command(tmp_path, "store")
    data = tmp_path / "pairs.tsv"
    rows = [f"{a}\t{b}\t{float(a == b)}" for a in WORDS for b in WORDS]
    data.write_text("\n".join(["first\tsecond\tscore", *rows]), encoding="utf-8")
    arguments = [
        *["finetune", "moods", "--data", str(data), "--base", str(tmp_path / "base")],
        *["--text-column", "first", "--pair-column", "second", "--label-column", "score"],
        *["--problem-type", "regression", "--epochs", "2"],
        *["--model-store", str(tmp_path / "store")],
    ]
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    model = published(tmp_path, "store")
    assert model.manifest.pair_separator_id == 3
    assert "token_type_ids" in model.manifest.inputs
    predict = Predictor(model.path, model.manifest, "fp32")
    swapped = predict.rows([("the food", "a train"), ("a train", "the food")])
    assert swapped[0, 0] != swapped[1, 0]
    assert load_checkpoint(str(tmp_path / "base")).encoder.config.segments == 2
