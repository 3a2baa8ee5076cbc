"""What the tests of exports share."""

from pathlib import Path

import pytest

from tests.offline.folders import skip_int8


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a model that is to be exported; no time is spent on int8."""
    skip_int8(monkeypatch)
    return tmp_path / "base"
