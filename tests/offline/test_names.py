"""A name that leads elsewhere is refused before any work is done, whoever makes the model."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from service import cli
from service.errors import InvalidField
from service.offline.any_model import export_model
from service.offline.data import Example, ScoredPair
from service.offline.importing import import_folder
from service.offline.making import make_classifier, make_trained_embedding
from service.offline.progress import Progress
from service.store.repository import ModelRepository

# What is made of it would lie beside the models: its state, whose saving clears the folder.
NAME = "../sentiment"
NOWHERE = "no-such-base"


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    published = tmp_path / "sentiment" / "1"
    published.mkdir(parents=True)
    return ModelRepository(tmp_path)


def test_classifier_of_such_a_name_is_refused(repository: ModelRepository, quiet: Progress) -> None:
    with pytest.raises(InvalidField, match="a model's name"):
        make_classifier(repository, NAME, quiet, examples=[Example("fine", "good")], base=NOWHERE)


def test_embedding_of_such_a_name_is_refused(repository: ModelRepository, quiet: Progress) -> None:
    pairs = [ScoredPair("a", "b", 1.0)]
    with pytest.raises(InvalidField, match="a model's name"):
        make_trained_embedding(repository, NAME, quiet, train=pairs, dev=pairs, base=NOWHERE)


def test_export_and_import_of_such_a_name_are_refused(
    repository: ModelRepository, quiet: Progress, tmp_path: Path
) -> None:
    with pytest.raises(InvalidField, match="a model's name"):
        export_model(repository, NAME, quiet, base=NOWHERE)
    with pytest.raises(InvalidField, match="a model's name"):
        import_folder(repository, NAME, tmp_path / NOWHERE, quiet)


def test_encoder_of_such_a_name_is_refused(repository: ModelRepository, tmp_path: Path) -> None:
    arguments = ["pretrain", NAME, "--data", "none.txt", "--output", str(tmp_path)]
    with pytest.raises(InvalidField, match="a model's name"):
        CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert [path.name for path in tmp_path.iterdir()] == ["sentiment"]
