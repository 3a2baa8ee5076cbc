"""Numbers of the command line that no training can have are refused before anything is read."""

import pytest
from typer.testing import CliRunner

from service import cli
from service.errors import InvalidField

PRETRAIN = ["pretrain", "mine", "--data", "none.txt"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--evaluations-per-epoch", "0"),
        ("--patience", "-1"),
        ("--dropout", "2"),
        ("--label-smoothing", "2"),
        ("--lora-rank", "-1"),
        ("--frozen-blocks", "-1"),
        ("--max-tokens", "0"),
        ("--learning-rate", "-1"),
        ("--layer-decay", "-1"),
    ],
)
def test_number_that_fine_tuning_cannot_have_is_refused(option: str, value: str) -> None:
    result = CliRunner().invoke(cli.app, ["finetune", "mine", "--data", "none.csv", option, value])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--hidden-size", "0"),
        ("--feed-forward-size", "-1"),
        ("--masked", "2"),
        ("--decoder-masked", "-1"),
    ],
)
def test_number_that_pretraining_cannot_have_is_refused(option: str, value: str) -> None:
    result = CliRunner().invoke(cli.app, [*PRETRAIN, option, value])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output


def test_heads_that_do_not_share_the_vector_equally_are_refused() -> None:
    with pytest.raises(InvalidField, match="hidden-size 256 is no multiple of heads 6"):
        CliRunner().invoke(cli.app, [*PRETRAIN, "--heads", "6"], catch_exceptions=False)


def test_sizes_that_are_no_numbers_are_refused() -> None:
    arguments = ["train-embedding", "mine", "--data", "none.csv", "--matryoshka", "64,a"]
    with pytest.raises(InvalidField, match="such as 64,128,256"):
        CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
