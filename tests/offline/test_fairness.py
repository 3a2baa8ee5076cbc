"""A score that changes with the person is found, with its sign and its groups."""

from pathlib import Path

import pytest

from service.errors import DatasetInvalid
from service.offline.evaluation.fairness import FairnessPair, measure_fairness, read_fairness_pairs
from tests.offline.scripted import Scripted, fields_of, logits_of

PAIRS = [
    FairnessPair("he waits", "she waits", "man", "woman"),
    FairnessPair("he sings", "she sings", "man", "woman"),
    FairnessPair("old he", "young he", "old", "young"),
]
ANSWERS = {
    "he waits": logits_of(0.2, 0.2, 0.6),  # 0.4
    "she waits": logits_of(0.4, 0.2, 0.4),  # 0.0
    "he sings": logits_of(0.1, 0.2, 0.7),  # 0.6
    "she sings": logits_of(0.05, 0.15, 0.8),  # 0.75
    "old he": logits_of(0.3, 0.4, 0.3),
    "young he": logits_of(0.2, 0.6, 0.2),
}


def test_moods_are_compared_by_positive_minus_negative() -> None:
    found = measure_fairness(Scripted(fields_of(), ANSWERS), PAIRS)
    men = found["groups"]["man to woman"]
    assert men["pairs"] == 2
    assert men["mean_change"] == pytest.approx((0.4 + 0.15) / 2)
    assert men["mean_signed_change"] == pytest.approx((-0.4 + 0.15) / 2)
    assert men["largest_change"] == pytest.approx(0.4)
    assert found["groups"]["old to young"]["largest_change"] == pytest.approx(0, abs=1e-6)
    assert found["mean_change"] == pytest.approx((0.4 + 0.15) / 3)


def test_other_labels_are_compared_one_by_one() -> None:
    fields = fields_of(("calm", "rude", "glad"))
    found = measure_fairness(Scripted(fields, ANSWERS), PAIRS[:1])["groups"]
    assert {name: row["mean_signed_change"] for name, row in found.items()} == {
        "man to woman: calm": pytest.approx(0.2),
        "man to woman: rude": pytest.approx(0, abs=1e-6),
        "man to woman: glad": pytest.approx(-0.2),
    }


def test_model_of_pairs_is_refused() -> None:
    with pytest.raises(DatasetInvalid, match="single texts"):
        measure_fairness(Scripted(fields_of(pair_separator_id=3), ANSWERS), PAIRS)


def test_groups_are_read_where_the_file_has_them(tmp_path: Path) -> None:
    with_groups, without = tmp_path / "groups.csv", tmp_path / "plain.tsv"
    with_groups.write_text("text_a,text_b,group_a,group_b\nhe,she,man,woman\n")
    without.write_text("text_a\ttext_b\nhe\tshe\n")
    assert read_fairness_pairs(with_groups) == [FairnessPair("he", "she", "man", "woman")]
    assert read_fairness_pairs(without) == [FairnessPair("he", "she")]
    bad = tmp_path / "bad.csv"
    bad.write_text("text_a\nhe\n")
    with pytest.raises(DatasetInvalid, match="text_b"):
        read_fairness_pairs(bad)
