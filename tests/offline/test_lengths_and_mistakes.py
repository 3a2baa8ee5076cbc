"""Whether long texts are harder, and which texts a model gets most wrong, for each kind of task."""

import json
from pathlib import Path

import numpy as np
import pytest

from service.offline.data import Example
from service.offline.evaluation.evaluate import Evaluation, evaluate
from service.offline.evaluation.lengths import error_by_length, right_by_length
from service.offline.evaluation.report import write_report
from tests.offline.scripted import Scripted, fields_of

STARS = {"a": [1.5], "b b": [1.0], "c c c": [2.0]}
RATED = [Example("a", 1.0), Example("b b", 4.0), Example("c c c", 2.0)]
FAULTS = {"a": [2.0, -2.0], "b b": [3.0, -1.0], "c c c": [-0.5, -0.5]}
MARKED = [Example("a", ("rude",)), Example("b b", ("late",)), Example("c c c", ("rude",))]


def test_texts_of_one_length_share_a_bin() -> None:
    found = right_by_length([5] * 20 + [9] * 4 + [30], np.array([1.0] * 10 + [0] * 10 + [1] * 5))
    spans = [(row["least_tokens"], row["most_tokens"]) for row in found]
    assert spans == [(5, 5), (9, 9), (30, 30)]
    assert [row["right"] for row in found] == [0.5, 1, 1]
    assert sum(row["texts"] for row in found) == 25


def test_errors_of_numbers_are_told_by_length_with_an_interval() -> None:
    errors = np.array([0.0, 1.0] * 10 + [3.0] * 10)
    short, long = error_by_length([4] * 20 + [40] * 10, errors)
    assert short["mean_absolute_error"] == 0.5
    low, high = short["mean_absolute_error_interval"]
    assert 0 < low < 0.5 < high < 1
    assert long["mean_absolute_error"] == 3
    assert long["mean_absolute_error_interval"] == (3, 3)


def rated() -> Evaluation:
    fields = fields_of(("stars",), problem_type="regression")
    return evaluate({"fp32": Scripted(fields, STARS)}, fields, RATED)


def test_number_that_is_farthest_off_is_the_worst_mistake() -> None:
    found = rated()
    assert [(m.text, m.truth, m.given, m.size) for m in found.mistakes] == [
        ("b b", "4", "1", 3.0),
        ("a", "1", "1.5", 0.5),
    ]
    assert sum(row["texts"] for row in found.measures["error_by_length"]) == 3
    assert "by_length" not in found.measures


def test_text_with_the_surest_wrong_label_is_the_worst_mistake() -> None:
    fields = fields_of(("rude", "late"), problem_type="multi_label")
    found = evaluate({"fp32": Scripted(fields, FAULTS)}, fields, MARKED)
    assert [(m.text, m.truth, m.given) for m in found.mistakes] == [
        ("b b", "late", "rude"),
        ("c c c", "rude", "none"),
    ]
    # rude was given by a logit of 3; what was missed had -0.5.
    sizes = [1 / (1 + np.exp(-3.0)), 1 / (1 + np.exp(-0.5))]
    assert [m.size for m in found.mistakes] == pytest.approx(sizes)


def test_report_shows_how_far_numbers_are_off_and_where(tmp_path: Path) -> None:
    fields = fields_of(("stars",), problem_type="regression")
    write_report(tmp_path, fields, "stars", rated())
    page = (tmp_path / "report.html").read_text()
    assert "<th>off by</th>" in page
    assert "<td>b b</td>" in page
    assert (tmp_path / "length.png").read_bytes().startswith(b"\x89PNG")
    measured = json.loads((tmp_path / "metrics.json").read_text())["measured"]
    assert "b b" not in json.dumps(measured)
