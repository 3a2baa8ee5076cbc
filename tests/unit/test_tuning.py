"""Shapes of runs: what is tried, which is chosen, where it is kept, and that the server uses it."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service import cli, tuning
from service.errors import ModelCorrupt
from service.loading import plan
from service.runtime.cpus import available_cpus
from service.settings import load_settings
from service.store.repository import ModelRepository, PublishedModel
from service.tuning import BUDGETS, Measured, Shape, best, read_shape, shapes, write_shape


@pytest.fixture
def model(tmp_path: Path, tiny_store: Path) -> PublishedModel:
    """The tiny embedding model in a store of its own."""
    (tmp_path / "embedding").mkdir()
    (tmp_path / "embedding" / "1").symlink_to(tiny_store / "embedding" / "1")
    (tmp_path / "embedding" / "current").write_text("1")
    return ModelRepository(tmp_path).resolve("embedding")


def measured(tokens_per_s: float, workers: int, threads: int, budget: int) -> Measured:
    shape = Shape(workers=workers, threads=threads, max_batch_tokens=budget)
    return Measured(shape, tokens_per_s)


@pytest.mark.parametrize("cpus", [1, 2, 6, 16])
def test_every_shape_uses_all_cores_and_none_comes_twice(cpus: int) -> None:
    tried = list(shapes(cpus))
    assert {shape.workers * shape.threads for shape in tried} == {cpus}
    assert len(set(tried)) == len(tried)
    assert {shape.max_batch_tokens for shape in tried} == set(BUDGETS)
    assert {shape.threads for shape in tried} >= {1, cpus}


def test_fastest_shape_is_chosen_and_of_equals_the_one_with_the_shortest_runs() -> None:
    assert best([measured(100, 2, 1, 64), measured(140, 1, 2, 512)]).shape.threads == 2
    near = [measured(100, 2, 1, 512), measured(98, 2, 1, 128), measured(90, 2, 1, 64)]
    assert best(near).shape.max_batch_tokens == 128


def test_server_uses_what_was_found_unless_the_settings_say_otherwise(
    model: PublishedModel,
) -> None:
    assert read_shape(model, "fp32") is None
    untuned = plan(model, load_settings()).shape
    assert untuned == Shape(workers=available_cpus(), threads=1, max_batch_tokens=128)
    found = measured(1000, 1, 2, 64)
    write_shape(model, "fp32", found)
    assert plan(model, load_settings()).shape == found.shape
    settings = load_settings(workers=3, run_threads=1, max_batch_tokens=32)
    assert plan(model, settings).shape == Shape(workers=3, threads=1, max_batch_tokens=32)


def test_what_was_found_elsewhere_or_for_another_variant_is_kept_and_not_used(
    model: PublishedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = measured(1000, 2, 1, 64)
    write_shape(model, "int8", here)
    assert read_shape(model, "fp32") is None
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(tuning, "processor", lambda: "another processor")
        assert read_shape(model, "int8") is None
        write_shape(model, "int8", measured(500, 1, 1, 256))
    assert read_shape(model, "int8") == tuning.Found(
        workers=2, threads=1, max_batch_tokens=64, tokens_per_s=1000
    )


def test_queue_bounds_the_budget_that_was_found(model: PublishedModel) -> None:
    write_shape(model, "fp32", measured(1000, 2, 1, 512))
    assert plan(model, load_settings(max_queue_tokens=100)).shape.max_batch_tokens == 100


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"workers": 0}}', "\udcff"])
def test_file_that_is_not_ours_is_named(model: PublishedModel, content: str) -> None:
    path = model.path.parent / tuning.TUNING_FILE
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ModelCorrupt, match=r"tuning\.json.*tune again"):
        read_shape(model, "fp32")


def test_server_starts_without_a_tuning_that_it_cannot_read(
    model: PublishedModel, caplog: pytest.LogCaptureFixture
) -> None:
    (model.path.parent / tuning.TUNING_FILE).write_text("{")
    assert plan(model, load_settings()).shape.max_batch_tokens == 128
    assert "tune again" in caplog.text


def test_threads_that_were_set_bring_their_own_share_of_workers(model: PublishedModel) -> None:
    cpus = available_cpus()
    write_shape(model, "fp32", measured(1000, 1, cpus, 64))
    shape = plan(model, load_settings(run_threads=1)).shape
    assert shape == Shape(workers=cpus, threads=1, max_batch_tokens=64)


def test_what_was_found_for_the_cpu_is_not_for_a_gpu(model: PublishedModel) -> None:
    write_shape(model, "fp32", measured(1000, 1, 2, 64))
    assert plan(model, load_settings(provider="cuda")).shape.max_batch_tokens == 128
    result = CliRunner().invoke(cli.app, ["tune"], env={"ENCSERVE_PROVIDER": "cuda"})
    assert result.exit_code == 2


def test_command_writes_the_shape_that_was_fastest(
    model: PublishedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [measured(1000, 2, 1, 64), measured(3000, 1, 2, 128), measured(2000, 2, 1, 256)]
    monkeypatch.setattr(tuning, "measure", lambda *_, **__: found)
    command = ["tune", "--model-store", str(model.path.parent.parent)]
    result = CliRunner().invoke(cli.app, command, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    (kept,) = json.loads((model.path.parent / "tuning.json").read_text()).values()
    assert (kept["workers"], kept["threads"], kept["max_batch_tokens"]) == (1, 2, 128)
    (line,) = (line for line in result.output.splitlines() if "chosen" in line)
    assert "3000" in line


def test_command_measures_every_shape_and_writes_the_best(model: PublishedModel) -> None:
    store = model.path.parent.parent
    command = ["tune", "--model-store", str(store), "--seconds", "1"]
    result = CliRunner().invoke(cli.app, command, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    (found,) = json.loads((store / "embedding" / "tuning.json").read_text()).values()
    assert found["workers"] * found["threads"] == available_cpus()
    assert found["tokens_per_s"] > 0
    assert result.output.count("chosen") == 1
    rows = re.findall(r"^│ (\d+) +│ (\d+) +│ (\d+) +│", result.output, re.MULTILINE)
    keys = ("workers", "threads", "max_batch_tokens")
    tried = [Shape(**dict(zip(keys, map(int, row), strict=True))) for row in rows]
    assert tried == list(shapes(available_cpus()))
    chosen = plan(model, load_settings(model_store=store)).shape
    assert chosen.max_batch_tokens == found["max_batch_tokens"]
