"""Pairs to train vectors on: cleaned, told, and never those that judge."""

from pathlib import Path

import pytest
from rich.console import Console

from service.errors import DatasetInvalid
from service.offline.embedding_training import EmbeddingConfig
from service.offline.pairs import read_pairs_to_learn
from service.offline.progress import Progress

SCORED = EmbeddingConfig(objective="cosine")
BELONGING = EmbeddingConfig(objective="contrastive")


def written(folder: Path, *rows: str, name: str = "pairs.tsv") -> str:
    file = folder / name
    file.write_text("\n".join(["sentence1\tsentence2\tscore", *rows]) + "\n")
    return str(file)


def listening(capsys: pytest.CaptureFixture[str]) -> Progress:
    return Progress(Console(stderr=True, width=300, force_terminal=False))


def test_pairs_are_mended_and_those_that_say_nothing_dropped_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"the food {number}\tat nine {number}\t{number % 5}" for number in range(30)]
    odd = [
        "fish &amp; chips\ta train\t3",
        " \ta train\t1",
        "A  Train\tleaves\t2",
        "a train\tleaves\t4",
    ]
    train, dev = read_pairs_to_learn(
        written(tmp_path, *rows, *odd), None, SCORED, listening(capsys)
    )
    found = {(pair.first, pair.second): pair.score for pair in [*train, *dev]}
    assert len(found) == len(train) + len(dev) == 32
    assert found["fish & chips", "a train"] == 3
    # Of two people who differ, the mean.
    assert found["A Train", "leaves"] == 3
    told = capsys.readouterr().err
    assert "dropped 2 of 34 rows: 1 empty, 1 duplicates" in told
    assert "1 with HTML entities" in told


@pytest.mark.parametrize("config", [SCORED, BELONGING])
def test_pair_that_judges_is_not_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: EmbeddingConfig
) -> None:
    data = written(tmp_path, "a train\tleaves\t4", "the food\tis good\t5", "at\tnine\t1")
    dev_data = written(tmp_path, "THE food\tis  good\t5", name="dev.tsv")
    train, dev = read_pairs_to_learn(data, dev_data, config, listening(capsys))
    assert [pair.first for pair in train] == ["a train", "at"]
    assert [pair.second for pair in dev] == ["is good"]
    assert "left 1 of 3 out: they are in --dev-data" in capsys.readouterr().err


def test_name_of_a_file_is_told_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["a train\tleaves\t4", " \tleaves\t4", *(f"the food\tat {n}\t1" for n in range(12))]
    data = written(tmp_path, *rows, name="pairs [red].tsv")
    read_pairs_to_learn(data, None, SCORED, listening(capsys))
    assert "pairs [red].tsv: dropped 1 of 14 rows: 1 empty" in capsys.readouterr().err


def test_nothing_left_of_a_file_is_an_error_that_names_it(tmp_path: Path, quiet: Progress) -> None:
    good = written(tmp_path, "a train\tleaves\t4")
    blank = written(tmp_path, " \tleaves\t4", name="blank.tsv")
    with pytest.raises(DatasetInvalid, match=r"blank\.tsv has no pair to use"):
        read_pairs_to_learn(good, blank, SCORED, quiet)
    with pytest.raises(DatasetInvalid, match="all of the data is in --dev-data"):
        read_pairs_to_learn(good, good, SCORED, quiet)
