"""What is measured of a model, against scikit-learn, scipy and numbers worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from typer.testing import CliRunner

from service import cli
from service.errors import DatasetInvalid, EncserveError
from service.offline.data import Example
from service.offline.evaluation.classification import many_labels, one_label
from service.offline.evaluation.correlation import numbers
from service.offline.evaluation.evaluate import Evaluation, evaluate, evaluate_embedding
from service.offline.evaluation.intervals import share_interval
from tests.offline.scripted import MOODS, Scripted, fields_of, logits_of

RNG = np.random.default_rng(5)


def test_share_has_wilsons_interval() -> None:
    for hits, of in ((8, 10), (0, 7), (7, 7), (431, 450)):
        wanted = stats.binomtest(hits, of).proportion_ci(method="wilson")
        assert share_interval(hits, of) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    assert share_interval(0, 0) == (0, 1)


def test_one_label_is_measured_as_scikit_learn_does() -> None:
    truth, given = RNG.integers(3, size=(2, 200))
    found = one_label(truth, given, MOODS)
    assert found["accuracy"] == metrics.accuracy_score(truth, given)
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(truth, given, average="macro"))
    assert found["confusion"] == metrics.confusion_matrix(truth, given).tolist()
    wanted = metrics.precision_recall_fscore_support(truth, given)
    for kind, values in zip(("precision", "recall", "f1", "texts"), wanted, strict=True):
        assert [found["labels"][mood][kind] for mood in MOODS] == pytest.approx(values)


def test_bootstrap_finds_the_spread_that_one_draw_at_a_time_finds() -> None:
    truth = RNG.integers(3, size=300)
    given = np.where(RNG.random(300) < 0.8, truth, RNG.integers(3, size=300))
    draws = [RNG.integers(300, size=300) for _ in range(500)]
    values = [metrics.f1_score(truth[rows], given[rows], average="macro") for rows in draws]
    found = one_label(truth, given, MOODS)
    assert found["macro_f1_interval"] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.02)
    for row in found["labels"].values():
        assert row["f1_interval"][0] < row["f1"] < row["f1_interval"][1]
    assert one_label(truth, given, MOODS) == found


def test_label_that_nobody_has_or_gives_does_not_count() -> None:
    truth, given = np.array([0, 0, 2, 2]), np.array([0, 2, 2, 2])
    found = one_label(truth, given, MOODS)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found["labels"]["neutral"]["f1"] == 0
    assert found["labels"]["neutral"]["f1_interval"] == (0, 1)


@pytest.mark.parametrize("labels", [1, 4])
def test_many_labels_are_measured_as_scikit_learn_does(labels: int) -> None:
    truth, given = RNG.integers(2, size=(2, 150, labels))
    names = [f"label {place}" for place in range(labels)]
    found = many_labels(truth, given, names)
    places = list(range(labels))
    counts = metrics.multilabel_confusion_matrix(
        # A lone column would be taken for two classes.
        np.hstack([truth, truth]), np.hstack([given, given])
    )[:labels]  # fmt: skip
    f1 = [2 * c[1, 1] / (2 * c[1, 1] + c[0, 1] + c[1, 0]) for c in counts]
    hits, wrong = counts[:, 1, 1].sum(), counts[:, 0, 1].sum() + counts[:, 1, 0].sum()
    assert [found["labels"][names[place]]["f1"] for place in places] == pytest.approx(f1)
    assert [found["labels"][name]["texts"] for name in names] == truth.sum(axis=0).tolist()
    assert found["macro_f1"] == pytest.approx(np.mean(f1))
    assert found["micro_f1"] == pytest.approx(2 * hits / (2 * hits + wrong))
    assert found["exact"] == (truth == given).all(axis=1).mean()
    for name in ("macro_f1", "micro_f1", "exact"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high


def test_numbers_are_measured_as_scipy_does() -> None:
    truth = np.round(RNG.normal(size=120), 1)
    given = truth + RNG.normal(size=120)
    found = numbers(truth, given)
    assert found["spearman"] == pytest.approx(stats.spearmanr(truth, given).statistic)
    assert found["pearson"] == pytest.approx(stats.pearsonr(truth, given).statistic)
    assert found["mean_absolute_error"] == pytest.approx(np.abs(truth - given).mean())
    assert found["root_mean_squared_error"] ** 2 == pytest.approx(((truth - given) ** 2).mean())
    for name in ("spearman", "pearson", "mean_absolute_error", "root_mean_squared_error"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high


def test_constant_has_no_correlation_and_raises_no_warning() -> None:
    found = numbers(np.array([1.0, 2, 3]), np.full(3, 0.1))
    assert np.isnan([found["spearman"], found["pearson"], *found["spearman_interval"]]).all()
    assert found["mean_absolute_error"] == pytest.approx(1.9)


SURE = {
    "fine": logits_of(0.1, 0.1, 0.8),
    "awful": logits_of(0.7, 0.2, 0.1),
    "late again": logits_of(0.05, 0.05, 0.9),
    "so kind of them": logits_of(0.6, 0.3, 0.1),
    "at nine": logits_of(0.3, 0.4, 0.3),
}
TRUTH = [
    Example(text, label)
    for text, label in zip(
        SURE, ("positive", "negative", "negative", "positive", "neutral"), strict=True
    )
]


def measured(examples: list[Example] = TRUTH) -> Evaluation:
    fields = fields_of()
    return evaluate({"fp32": Scripted(fields, SURE)}, fields, examples)


def test_worst_mistakes_come_first_and_stay_out_of_the_numbers() -> None:
    found = measured()
    assert [(m.text, m.truth, m.given) for m in found.mistakes] == [
        ("late again", "negative", "positive"),
        ("so kind of them", "positive", "negative"),
    ]
    assert found.mistakes[0].size == pytest.approx(0.9)
    assert found.measures["accuracy"] == 0.6
    assert not any(text in json.dumps(found.as_json()) for text in SURE)


@pytest.mark.parametrize(("negative", "positive"), [("0", "1"), ("neg", "pos")])
def test_two_classes_are_compared_with_the_likelier_of_negative_and_positive(
    negative: str, positive: str
) -> None:
    # Of the three moods the last text is neutral, of two it is neither more than the other.
    binary = [Example("awful", negative), Example("fine", positive), Example("at nine", negative)]
    found = measured(binary)
    assert list(found.measures["labels"]) == ["negative", "positive"]
    assert found.measures["accuracy"] == 1


def test_sure_third_label_leaves_two_classes_comparable() -> None:
    fields = fields_of()
    predict = Scripted(fields, {"it is ten": [-200.0, 200, -200]})
    found = evaluate({"fp32": predict}, fields, [Example("it is ten", "0")])
    assert found.measures["accuracy"] == 1


def test_label_that_the_model_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(DatasetInvalid, match="negative, neutral, positive"):
        measured([Example("fine", "great"), Example("awful", "negative")])


def test_texts_for_pairs_and_no_rows_at_all_are_refused() -> None:
    reads_pairs = fields_of(pair_separator_id=3)
    with pytest.raises(DatasetInvalid, match="--pair-column"):
        evaluate({"fp32": Scripted(reads_pairs, SURE)}, reads_pairs, TRUTH)
    with pytest.raises(DatasetInvalid, match="no rows"):
        measured([])
    with pytest.raises(DatasetInvalid, match="no rows"):
        evaluate_embedding({"fp32": Scripted(fields_of(()), {})}, fields_of(()), [])


def test_files_are_compared_with_the_one_that_is_served() -> None:
    fields = fields_of()
    other = SURE | {"fine": logits_of(0.5, 0.1, 0.4)}
    found = evaluate(
        {"fp32": Scripted(fields, SURE), "int8": Scripted(fields, other)}, fields, TRUTH
    )
    fp32, int8 = found.variants["fp32"], found.variants["int8"]
    assert (fp32["accuracy"], int8["accuracy"]) == (0.6, 0.4)
    assert (fp32["same_label_as_served"], int8["same_label_as_served"]) == (1, 0.8)
    assert int8["largest_difference_of_score"] == pytest.approx(0.4)
    assert int8["mean_cosine_with_served"] < fp32["mean_cosine_with_served"] == pytest.approx(1)
    assert min(fp32[name] for name in ("tokens_per_s", "texts_per_s", "p50_ms_of_a_text_alone")) > 0


def test_any_number_of_labels_is_right_at_one_half() -> None:
    fields = fields_of(("rude", "late"), problem_type="multi_label")
    answers = {"a": [2.0, -2], "b b": [-1.0, -1], "c c c": [3.0, 0.5]}
    examples = [
        Example("a", ("rude",)),
        Example("b b", ("late",)),
        Example("c c c", ("late", "rude")),
    ]
    found = evaluate({"fp32": Scripted(fields, answers)}, fields, examples)
    assert found.measures["exact"] == pytest.approx(2 / 3)
    assert found.measures["micro_f1"] == pytest.approx(2 * 3 / (3 + 4))
    assert found.answers.is_right == [1, 0, 1]
    assert found.measures["by_length"][0]["right"] == 1


def test_numbers_of_a_constant_model_become_null() -> None:
    fields = fields_of(("stars",), problem_type="regression")
    answers = {"a": [3.0], "b": [3.0], "c": [3.0]}
    examples = [Example("a", 1.0), Example("b", 2.0), Example("c", 3.0)]
    found = evaluate({"fp32": Scripted(fields, answers)}, fields, examples)
    written = json.dumps(found.as_json(), allow_nan=False)
    assert json.loads(written)["measures"]["spearman"] is None
    assert found.measures["mean_absolute_error"] == 1


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    file = tmp_path / "mine.csv"
    rows = ["the food is good,positive", "a bad train,negative", "at nine,neutral", "the a,neutral"]
    file.write_text("\n".join(["review,mood", *rows]))
    return file


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_published_model_is_measured_by_one_command(
    tiny_store: Path, labelled: Path, tmp_path: Path
) -> None:
    fairness = tmp_path / "fair.csv"
    fairness.write_text("text_a,text_b,group_a,group_b\nhe is good,she is good,man,woman\n")
    output = run(
        *["evaluate", "sentiment", "--data", labelled, "--model-store", tiny_store],
        *["--text-column", "review", "--label-column", "mood", "--fairness", fairness],
        *["--report", tmp_path / "report"],
    )
    assert "accuracy" in output
    assert "man to woman" in output
    assert (tmp_path / "report" / "report.html").is_file()
    assert "the food is good" not in output


def test_measures_are_printed_as_json_and_a_version_may_be_named(
    tiny_store: Path, labelled: Path
) -> None:
    columns = ["--text-column", "review", "--label-column", "mood", "--model-store", tiny_store]
    command = ["evaluate", "sentiment", "--data", labelled, "--json", "--variant", "fp32", *columns]
    found = json.loads(run(*command, "--version", "1"))
    assert (found["model"], found["version"], found["variant"]) == ("sentiment", "1", "fp32")
    assert found["measures"]["texts"] == 4
    with pytest.raises(EncserveError, match="no published model"):
        run(*command, "--version", "9")


def test_embedding_is_measured_on_scored_pairs_by_one_command(
    tiny_store: Path, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.csv"
    rows = ["the food,the food,5", "a bad train,the leaves,1", "at nine,nine,4"]
    pairs.write_text("\n".join(["sentence1,sentence2,score", *rows]))
    command = ["evaluate", "embedding", "--data", pairs, "--json", "--model-store", tiny_store]
    found = json.loads(run(*command))
    assert -1 <= found["measures"]["spearman"] <= 1
    result = CliRunner().invoke(cli.app, [*map(str, command), "--fairness", str(pairs)])
    assert result.exit_code == 2
