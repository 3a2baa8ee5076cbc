"""Rules that hold for the whole tree. `make contracts` checks the imports in detail."""

import ast
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from service import errors
from service.api.dialects import OIP, OWN, TEI, Dialect
from service.errors import EncserveError

SERVICE = Path(errors.__file__).parent

IMPORT_THE_SERVER = """
import sys
import service.cli, service.api.server, service.engine
heavy = {"torch", "transformers", "onnx", "sklearn", "safetensors", "huggingface_hub"}
heavy |= {"opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf", "requests"}
print(sorted(heavy & set(sys.modules)))
"""


def test_server_imports_neither_torch_nor_what_makes_traces() -> None:
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_THE_SERVER], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


DIALECTS = (OWN, TEI, OIP)


def all_errors(root: type[EncserveError]) -> set[type[EncserveError]]:
    return {root}.union(*(all_errors(child) for child in root.__subclasses__()))


def test_every_error_has_a_status_and_a_code_of_its_own() -> None:
    classes = all_errors(EncserveError)
    for dialect in DIALECTS:
        assert {cls for cls in classes if not 400 <= dialect.status_of(cls) < 600} == set()
    assert len({cls.code for cls in classes}) == len(classes)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_callers_faults_are_4xx_and_only_theirs(dialect: Dialect) -> None:
    faults = all_errors(errors.InvalidRequest)
    faults |= {errors.VersionMismatch, errors.ModelNotFound} | all_errors(errors.Overloaded)
    # text-embeddings-inference has a 4xx of its own for a model that fails.
    faults |= all_errors(errors.InferenceFailed) if dialect is TEI else set()
    assert {cls for cls in all_errors(EncserveError) if dialect.status_of(cls) < 500} == faults


@pytest.mark.parametrize("dialect", DIALECTS)
def test_table_has_no_row_that_nothing_uses(dialect: Dialect) -> None:
    """A row that says what the nearest ancestor's says changes nothing."""
    for row in dialect.statuses.keys() - {EncserveError}:
        without = {cls: status for cls, status in dialect.statuses.items() if cls is not row}
        assert replace(dialect, statuses=without).status_of(row) != dialect.status_of(row), row


@pytest.mark.parametrize("path", sorted(SERVICE.rglob("*.py")), ids=lambda path: path.name)
def test_environment_is_read_in_settings_only(path: Path) -> None:
    # Two libraries have a switch that is a variable and nothing else: those are set, not read.
    source = re.sub(r'^ *os\.environ\["\w+"\] = "\w+"$', "", path.read_text(), flags=re.MULTILINE)
    named = {
        getattr(node, "attr", getattr(node, "name", None)) for node in ast.walk(ast.parse(source))
    }
    assert path.name == "settings.py" or not named & {"environ", "environb", "getenv", "getenvb"}


@pytest.mark.parametrize("path", sorted(SERVICE.rglob("*.py")), ids=lambda path: path.name)
def test_modules_say_what_they_own_and_stay_small(path: Path) -> None:
    source = path.read_text()
    assert source.startswith('"""')
    assert len(source.splitlines()) <= 300


@pytest.mark.parametrize("path", sorted(SERVICE.rglob("*.py")), ids=lambda path: path.name)
def test_onnxruntime_is_taken_from_the_module_that_keeps_it_from_reporting(path: Path) -> None:
    imported = re.search(r"^\s*(import|from) onnxruntime\b", path.read_text(), re.MULTILINE)
    assert (imported is not None) is (path == SERVICE / "runtime" / "session.py")
