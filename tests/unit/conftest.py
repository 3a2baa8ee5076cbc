"""Parts that several files of unit tests ask for by name."""

from pathlib import Path
from typing import Any

import pytest

from service.bulk.job import Options
from service.bulk.run import Asked, run_job
from service.bulk.summary import Summary
from service.loading import plan
from service.settings import load_settings
from service.store.repository import ModelRepository
from tests.unit.bulk_jobs import SETTINGS, Job, unseen


@pytest.fixture
def job(tmp_path: Path, tiny_store: Path) -> Job:
    """Runs a job of the tiny store; the output goes to `tmp_path / "out"`."""

    def start(
        given: Path | str,
        model: str = "embedding",
        *,
        out: Path = tmp_path / "out",
        column: str | None = None,
        settings: dict[str, Any] = SETTINGS,
        **options: Any,
    ) -> Summary:
        configured = load_settings(model_store=tiny_store, **settings)
        chosen = plan(ModelRepository(tiny_store).resolve(model), configured)
        asked = Asked(str(given), out, chosen, column, Options(**options))
        return run_job(asked, configured, unseen)

    return start
