"""`encserve finetune` as a command: killed, shared among processes, published as it was judged."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from service import cli
from service.errors import DatasetInvalid
from service.offline.checkpoints import load_checkpoint
from service.offline.data import Example
from service.offline.evaluation.fairness import FairnessPair
from service.offline.finetune import defaults_for
from service.offline.making import Holding, make_classifier
from service.offline.predict import Predictor
from service.offline.progress import Progress
from service.offline.training.state import BEST_FILE
from service.runtime.outputs import ProblemType
from service.store.repository import ModelRepository, PublishedModel
from tests.offline.killing import first_step_told, kill_on_its_way, saved_step
from tests.offline.test_finetune import MOODS, WORDS, phrases
from tests.offline.test_workshop import save_checkpoint


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
    """Without dropout, which each process draws for itself, they take the very same steps."""
    processes = "--num_processes" if launcher[0].startswith("accelerate") else "--nproc_per_node"
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


@pytest.mark.parametrize("problem_type", ["single_label", "multi_label", "regression"])
def test_adversary_is_the_default_where_it_is_known_to_help(problem_type: ProblemType) -> None:
    config = defaults_for(problem_type)
    assert config.problem_type == problem_type
    assert (config.adversarial > 0) == (problem_type == "single_label")


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
