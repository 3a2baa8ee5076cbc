"""The folder that a version carries: whole, of itself only, and silent where it must be."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.offline.data import Example, ScoredPair
from service.offline.evaluation.evaluate import Evaluation, evaluate, evaluate_embedding
from service.offline.evaluation.fairness import FairnessPair
from service.offline.evaluation.report import write_report
from service.store.manifest import Calibration, FileEntry, Manifest, ManifestFields, Threshold
from tests.offline.scripted import MOODS, Scripted, fields_of

PNG = b"\x89PNG\r\n\x1a\n"
CLASSIFIER_FILES = {
    *{"metrics.json", "MODEL_CARD.md", "report.html"},
    *{"confusion.png", "reliability.png", "confidence.png", "length.png"},
}
NASTY = "<script>alert('$title')</script> & a | b"
CALIBRATION = Calibration(
    temperature=1.5,
    ece_before=0.08,
    ece_after=0.02,
    wanted_precision=0.9,
    thresholds={"positive": Threshold(score=0.7, precision=0.95, recall=0.6)},
)
TRAINING = {
    "settings": {"epochs": 3, "learning_rate": 1e-4},
    "texts": {"train": 700, "dev": 80, "test": 60},
    "dropped": {"blank": 2},
    "history": [{"step": 10, "loss": float("nan")}, {"step": 20, "loss": 0.3}],
}


def classified(fields: ManifestFields) -> Evaluation:
    rng = np.random.default_rng(0)
    texts = [f"{NASTY} {'word ' * int(rng.integers(1, 20))}{number}" for number in range(60)]
    answers = {text: rng.normal(0, 2, 3).tolist() for text in texts}
    examples = [Example(text, MOODS[int(rng.integers(3))]) for text in texts]
    fair = [FairnessPair(texts[0], texts[1], "man", "woman")]
    predictors = {name: Scripted(fields, answers) for name in ("fp32", "int8")}
    return evaluate(predictors, fields, examples, fairness=fair)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fields = fields_of(calibration=CALIBRATION)
    path = tmp_path_factory.mktemp("version") / "report"
    write_report(path, fields, "moods", classified(fields), TRAINING)
    return path


class Page(HTMLParser):
    """Collects the tags and what they refer to; a browser reads a page the same way."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.references: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_report_has_all_its_files(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == CLASSIFIER_FILES
    for picture in folder.glob("*.png"):
        assert picture.read_bytes().startswith(PNG)


def test_manifest_may_list_every_file_of_the_report(folder: Path) -> None:
    entry = FileEntry(bytes=1, sha256="0" * 64)
    names = [f"report/{path.name}" for path in folder.iterdir()]
    files = dict.fromkeys((*names, "fp32.onnx", "int8.onnx", "tokenizer.json"), entry)
    manifest = Manifest(
        **dict(fields_of()), name="moods", version="1", files=files,
        created_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    assert set(names) < manifest.files.keys()


def test_page_needs_nothing_but_itself(folder: Path) -> None:
    source = (folder / "report.html").read_text()
    page = Page(source)
    assert page.tags.isdisjoint({"script", "link", "iframe", "object", "base", "form"})
    assert len(page.references) == 4
    assert all(reference.startswith("data:image/png;base64,") for reference in page.references)
    assert page.handlers == []
    assert not re.search(r"url\(|@import|https?://", source)
    assert "color-scheme: light dark" in source


def test_texts_are_shown_as_they_are_and_never_run(folder: Path) -> None:
    page = Page((folder / "report.html").read_text())
    assert NASTY in page.text
    assert "script" not in page.tags


def test_texts_stand_in_the_page_only(folder: Path) -> None:
    for name in ("metrics.json", "MODEL_CARD.md"):
        assert "alert" not in (folder / name).read_text()


def test_numbers_are_strict_json(folder: Path) -> None:
    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is not JSON")

    found = json.loads((folder / "metrics.json").read_text(), parse_constant=refuse)
    assert found["measured"]["measures"]["texts"] == 60
    assert found["training"]["history"][0]["loss"] is None
    assert found["measured"]["fairness"]["groups"].keys() == {"man to woman"}


def test_card_says_all_that_is_known(folder: Path) -> None:
    card = (folder / "MODEL_CARD.md").read_text()
    for known in (
        *("# moods", "negative, neutral, positive", "0" * 64, "700", "rows dropped, blank"),
        *("accuracy", "divided by 1.500", "| positive | 0.700 | 0.950 | 0.600 |", "man to woman"),
        *("learning rate | 0.0001", "tokens per s", "curl localhost:8080/v1/classify", "Limits"),
        "60 rows that no step of training learned from",
        "took part in fitting the temperature",
    ):
        assert known in card, known


def test_rows_are_called_held_out_by_the_maker_only(tmp_path: Path) -> None:
    fields = fields_of()
    write_report(tmp_path, fields, "moods", classified(fields))
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "60 rows named for this measurement" in card
    assert "no step of training" not in card


def test_pairs_that_chose_the_weights_are_owned_up_to(tmp_path: Path) -> None:
    fields = fields_of(())
    vectors = {text: [1.0, place, 0, 0] for place, text in enumerate("abcd")}
    pairs = [ScoredPair("a", "b", 3.0), ScoredPair("a", "c", 2.0), ScoredPair("a", "d", 1.0)]
    found = evaluate_embedding({"fp32": Scripted(fields, vectors)}, fields, pairs)
    write_report(tmp_path, fields, "vectors", found, TRAINING)
    assert (
        "The same pairs chose which weights were kept" in (tmp_path / "MODEL_CARD.md").read_text()
    )


def test_pairs_that_belong_together_are_reported_by_who_finds_whom(tmp_path: Path) -> None:
    fields = fields_of(())
    vectors = {text: [1.0, place, 0, 0] for place, text in enumerate("abcd")}
    pairs = [ScoredPair("a", "b", 1.0), ScoredPair("c", "d", 1.0)]
    found = evaluate_embedding({"fp32": Scripted(fields, vectors)}, fields, pairs)
    write_report(tmp_path, fields, "vectors", found, TRAINING)
    card = (tmp_path / "MODEL_CARD.md").read_text()
    for known in ("2 pairs that belong together", "| recall at 1 | 1.000 [", "reciprocal rank |"):
        assert known in card, known
    assert "one side is constant" not in card
    assert not list(tmp_path.glob("*.png"))


def test_labels_cannot_break_the_card_or_a_picture(tmp_path: Path) -> None:
    labels = ("<b>|$x^", "a " * 30, "c")
    fields = fields_of(labels)
    examples = [Example("one", labels[0]), Example("two words", labels[1]), Example("three", "c")]
    answers = {"one": [1.0, 0, 0], "two words": [1.0, 0, 0], "three": [0, 0, 1.0]}
    found = evaluate({"fp32": Scripted(fields, answers)}, fields, examples)
    write_report(tmp_path, fields, "odd", found)
    assert r"| &lt;b>\|$x^ | 1 |" in (tmp_path / "MODEL_CARD.md").read_text()
    assert "b" not in Page((tmp_path / "report.html").read_text()).tags


def test_each_kind_of_problem_has_its_pictures(tmp_path: Path) -> None:
    many = fields_of(("late", "rude"), problem_type="multi_label")
    stars = fields_of(("stars",), problem_type="regression")
    texts = [f"text {number}" for number in range(12)]
    pairs = [ScoredPair(a, b, float(n)) for n, (a, b) in enumerate(pairwise(texts))]
    vectors = {text: [1.0, n, n * n, 1] for n, text in enumerate(texts)}
    found = {
        "many": evaluate(
            {"fp32": Scripted(many, {text: [1.0, -1.0] for text in texts})},
            many,
            [Example(text, ("late",)) for text in texts],
        ),
        "stars": evaluate(
            {"fp32": Scripted(stars, {text: [n / 2] for n, text in enumerate(texts)})},
            stars,
            [Example(text, float(n)) for n, text in enumerate(texts)],
        ),
        "vectors": evaluate_embedding(
            {"fp32": Scripted(fields_of(()), vectors)}, fields_of(()), pairs
        ),
    }
    for name, fields in (("many", many), ("stars", stars), ("vectors", fields_of(()))):
        write_report(tmp_path / name, fields, name, found[name])
    pictures = {name: {path.name for path in (tmp_path / name).glob("*.png")} for name in found}
    assert pictures == {
        "many": {"reliability.png", "confidence.png", "length.png"},
        "stars": {"scatter.png", "length.png"},
        "vectors": {"scatter.png"},
    }
    assert "11 scored pairs" in (tmp_path / "vectors" / "MODEL_CARD.md").read_text()
    assert "12 rows" in (tmp_path / "stars" / "MODEL_CARD.md").read_text()
