"""Better, worse or chance: two models on the same texts."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper
from scipy.stats import binomtest
from typer.testing import CliRunner

from service import cli
from service.errors import DatasetInvalid
from service.offline.data import Example, ScoredPair
from service.offline.evaluation.compare import (
    Comparison,
    compare_classifiers,
    compare_embeddings,
)
from service.offline.predict import Predictor
from service.store.repository import ModelRepository
from tests.integration.test_canary import TEXTS as PHRASES
from tests.integration.test_canary import publish_changed, tensor
from tests.offline.scripted import MOODS, Scripted, fields_of
from tests.offline.test_evaluation import run

TEXTS = [f"text {number}" for number in range(60)]
LABELS = [MOODS[number % 3] for number in range(60)]
EXAMPLES = [Example(text, label) for text, label in zip(TEXTS, LABELS, strict=True)]


def right_on(texts: Sequence[str], labels: Sequence[str] = MOODS) -> Scripted:
    """A model that knows these texts and gives the others the label after the true one."""
    answers = {}
    for text, label in zip(TEXTS, LABELS, strict=True):
        given = label if text in texts else MOODS[(MOODS.index(label) + 1) % 3]
        answers[text] = [float(name == given) for name in labels]
    return Scripted(fields_of(labels), answers)


def by_name(found: list[Comparison]) -> dict[str, Comparison]:
    return {one.measure: one for one in found}


def test_clearly_better_model_is_named() -> None:
    found = by_name(compare_classifiers(right_on(TEXTS[:30]), right_on(TEXTS[:55]), EXAMPLES))
    assert found["accuracy"].first == 0.5
    assert found["accuracy"].second == pytest.approx(55 / 60)
    assert found["accuracy"].verdict() == found["macro_f1"].verdict() == "B is better"
    assert found["accuracy"].interval[0] > 0
    swapped = by_name(compare_classifiers(right_on(TEXTS[:55]), right_on(TEXTS[:30]), EXAMPLES))
    assert swapped["macro_f1"].verdict("old", "new") == "old is better"


def test_accuracy_is_tested_by_mcnemars_exact_test() -> None:
    # Of the texts on which they differ, 12 are the second's and 3 the first's.
    first, second = right_on(TEXTS[:40]), right_on([*TEXTS[3:40], *TEXTS[40:52]])
    found = by_name(compare_classifiers(first, second, EXAMPLES))["accuracy"]
    assert found.p_value == pytest.approx(binomtest(3, 15).pvalue)
    assert found.verdict() == "B is better"


def test_few_differences_prove_nothing() -> None:
    found = compare_classifiers(right_on(TEXTS[:50]), right_on(TEXTS[:52]), EXAMPLES)
    assert [one.verdict() for one in found] == ["no significant difference at 0.05"] * 2
    same = compare_classifiers(right_on(TEXTS), right_on(TEXTS), EXAMPLES)
    assert [one.p_value for one in same] == [1, 1]


def test_models_may_have_their_labels_in_another_order() -> None:
    found = compare_classifiers(right_on(TEXTS), right_on(TEXTS, MOODS[::-1]), EXAMPLES)
    assert [(one.first, one.second) for one in found] == [(1, 1), (1, 1)]


def test_model_of_zero_and_one_is_compared_with_one_of_moods() -> None:
    examples = [Example("bad", "0"), Example("good", "1")]
    moods = Scripted(fields_of(), {"bad": [2, 0, 1], "good": [0, 3, 2]})
    binary = Scripted(fields_of(("1", "0")), {"bad": [0, 1], "good": [1, 0]})
    for first, second in ((moods, binary), (binary, moods)):
        found = compare_classifiers(first, second, examples)
        assert [(one.first, one.second) for one in found] == [(1, 1), (1, 1)]


def test_of_many_labels_all_must_be_right_whatever_their_order() -> None:
    examples = [Example("a", ("late", "rude")), Example("b", ("late",)), Example("c", ())]
    ours = fields_of(("late", "rude"), problem_type="multi_label")
    theirs = fields_of(("rude", "late"), problem_type="multi_label")
    first = Scripted(ours, {"a": [1, 1], "b": [1, -1], "c": [-1, -1]})
    second = Scripted(theirs, {"a": [1, 1], "b": [-1, 1], "c": [1, -1]})
    found = by_name(compare_classifiers(first, second, examples))
    assert found["exact"].first == 1
    assert found["exact"].second == pytest.approx(2 / 3)
    assert found["macro_f1"].second == pytest.approx((1 + 2 / 3) / 2)


def test_constant_model_proves_no_difference() -> None:
    pairs = [ScoredPair(f"a {place}", f"b {place}", float(place)) for place in range(20)]
    constant = {text: [1.0, 0, 0, 0] for pair in pairs for text in (pair.first, pair.second)}
    angles = {
        f"b {place}": [np.cos(2 - place / 10), np.sin(2 - place / 10), 0, 0] for place in range(20)
    }
    found = compare_embeddings(
        Scripted(fields_of(()), constant), Scripted(fields_of(()), constant | angles), pairs
    )
    assert np.isnan(found[0].first)
    assert found[0].second == pytest.approx(1)
    assert found[0].verdict() == "no significant difference at 0.05"


def test_better_order_of_pairs_and_of_numbers_is_found() -> None:
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=80)
    examples = [Example(f"t {place}", float(number)) for place, number in enumerate(numbers)]
    stars = fields_of(("stars",), problem_type="regression")
    near, far = (
        Scripted(
            stars, {f"t {place}": [n + rng.normal(0, noise)] for place, n in enumerate(numbers)}
        )
        for noise in (0.2, 3.0)
    )
    assert compare_classifiers(far, near, examples)[0].verdict() == "B is better"
    assert compare_classifiers(near, far, examples)[0].verdict() == "A is better"


def test_pairs_that_belong_together_are_compared_by_who_finds_whom() -> None:
    """Of 30 first texts one model finds each, the other only the first ten."""
    pairs = [ScoredPair(f"q {place}", f"a {place}", 1.0) for place in range(30)]
    unit = np.eye(30)
    knows = {f"{side} {place}": unit[place].tolist() for side in "qa" for place in range(30)}
    forgot = knows | {f"q {place}": unit[0].tolist() for place in range(10, 30)}
    fields = fields_of((), width=30)
    better, worse = Scripted(fields, knows), Scripted(fields, forgot)
    found = by_name(compare_embeddings(worse, better, pairs))
    assert list(found) == ["recall_at_1", "mean_reciprocal_rank"]
    assert found["recall_at_1"].first == pytest.approx(1 / 3)
    assert found["recall_at_1"].second == 1
    assert found["recall_at_1"].p_value == pytest.approx(binomtest(0, 20).pvalue)
    assert [one.verdict() for one in found.values()] == ["B is better"] * 2
    assert [one.verdict() for one in compare_embeddings(worse, worse, pairs)] == [
        "no significant difference at 0.05"
    ] * 2


def test_texts_for_a_model_of_pairs_and_unknown_labels_are_refused() -> None:
    reads_pairs = Scripted(fields_of(pair_separator_id=3), {})
    with pytest.raises(DatasetInvalid, match="--pair-column"):
        compare_classifiers(right_on(TEXTS), reads_pairs, EXAMPLES)
    with pytest.raises(DatasetInvalid, match="negative, neutral, positive"):
        compare_classifiers(right_on(TEXTS), right_on(TEXTS), [Example("text 0", "great")])


def test_versions_are_compared_by_one_command(tiny_store: Path, tmp_path: Path) -> None:
    data = tmp_path / "mine.csv"
    data.write_text(
        "text,label\nthe food is good,positive\na bad train,negative\nat nine,neutral\n"
    )
    options = ["--data", data, "--model-store", tiny_store]
    output = run("compare", "sentiment@1", "sentiment", *options)
    assert "dropped" not in output
    assert "accuracy: no significant difference at 0.05" in output


def turn_round(graph: ModelProto) -> None:
    for name in ("classifier.weight", "classifier.bias"):
        head = tensor(graph, name)
        head.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(head), head.name))


def test_each_side_of_the_comparison_is_the_version_that_was_named(
    tiny_store: Path, tmp_path: Path
) -> None:
    """The second version says the opposite of the first, which is always right."""
    store = tmp_path / "store"
    shutil.copytree(tiny_store, store)
    publish_changed(store, "sentiment", turn_round)
    model = ModelRepository(store).resolve("sentiment", "1")
    scores = Predictor(model.path, model.manifest, "fp32").scores(PHRASES)
    labels = [model.manifest.labels[place] for place in scores.argmax(axis=1)]
    data = tmp_path / "mine.csv"
    rows = [f"{text},{label}" for text, label in zip(PHRASES, labels, strict=True)]
    data.write_text("\n".join(["text,label", *rows]))
    options = ["--data", data, "--model-store", store]
    for first, second, better in (
        ("sentiment@1", "sentiment@2", "sentiment@1"),
        ("sentiment@2", "sentiment@1", "sentiment@1"),
        ("sentiment@2", "sentiment", "sentiment"),
    ):
        output = run("compare", first, second, *options)
        assert f"accuracy: {better} is better" in output


@pytest.mark.parametrize(
    "command", [["evaluate", "sentiment"], ["compare", "sentiment@1", "sentiment"]]
)
def test_rows_that_cannot_be_measured_are_dropped_and_told(
    tiny_store: Path, tmp_path: Path, command: list[str]
) -> None:
    data = tmp_path / "mine.csv"
    data.write_text("text,label\nthe food,positive\na train,negative\nat nine,\n  ,neutral\n")
    options = ["--data", str(data), "--model-store", str(tiny_store)]
    result = CliRunner().invoke(cli.app, [*command, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    told = " ".join(result.stderr.split())
    assert "dropped 2 of 4 rows: 1 without a label, 1 empty" in told
