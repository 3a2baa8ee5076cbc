"""What a bulk job sends to the nodes of a cluster, what is done there, and how it fails; no Ray."""

import errno
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from pydantic import SecretStr

from service.bulk.actor import PartEncoder, Task, ours, task_of, unreachable
from service.bulk.encoding import Advance
from service.bulk.job import Job, Options, Part, alone_in
from service.bulk.run import Asked, begin, run_job
from service.errors import DatasetInvalid, StoreUnwritable
from service.loading import plan
from service.settings import Settings, load_settings
from service.store.repository import ModelRepository
from service.store.signing import make_key, sign
from tests.conftest import SENTENCES
from tests.unit.bulk_jobs import unseen

SECRETS = [
    name
    for name, field in Settings.model_fields.items()
    if isinstance(field.get_default(), SecretStr)
]


def asked_of(settings: Settings, given: str = "in.tsv", out: str = "out") -> Asked:
    chosen = plan(ModelRepository(settings.model_store).resolve("embedding"), settings)
    return Asked(given, Path(out), chosen, None, Options(part_rows=3))


def test_no_secret_of_the_settings_leaves_the_machine(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"admin_key", "api_keys", "metrics_key"} <= set(SECRETS)
    for name in SECRETS:
        monkeypatch.setenv(f"ENCSERVE_{name.upper()}", "hush")
    settings = load_settings(
        model_store=tiny_store,
        sources="sentiment=https://me:hush@models.example/s?sig=hush",
        otlp_endpoint="https://me:hush@collector",
        probe_timeout_s=7.0,
        provider_options={"device_id": "1"},
    )
    sent = pickle.dumps(task_of(asked_of(settings), settings))
    assert b"hush" not in sent
    arrived = pickle.loads(sent).settings
    assert (arrived.probe_timeout_s, arrived.provider_options) == (7.0, {"device_id": "1"})


def test_actor_has_one_thread_however_the_machine_that_asks_was_tuned(tiny_store: Path) -> None:
    settings = load_settings(model_store=tiny_store, workers=3, run_threads=2)
    asked = asked_of(settings)
    assert (asked.plan.shape.workers, asked.plan.shape.threads) == (3, 2)
    shape = task_of(asked, settings).plan.shape
    assert (shape.workers, shape.threads) == (1, 1)
    assert shape.max_batch_tokens == asked.plan.shape.max_batch_tokens


@pytest.fixture
def configured(tmp_path: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A signed store, its key and the input below `tmp_path / "here"`, all named from there."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    here = tmp_path / "here"
    shutil.copytree(tiny_store, here / "store")
    monkeypatch.chdir(here)
    make_key(Path("key"))
    sign(ModelRepository(Path("store")).resolve("embedding"), Path("key"))
    texts = [f"{SENTENCES[number % 4]} {number}" for number in range(10)]
    Path("in.tsv").write_text("".join(f"{line}\n" for line in ["text", *texts]))
    return load_settings(
        model_store="store", signatures="require", trusted_keys="key.pub", probe=False, workers=1
    )


def test_actor_in_another_folder_finds_job_model_and_trusted_keys_and_writes_the_same_bytes(
    configured: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_node(
        asked: Asked, job: Job, parts: Sequence[Part], settings: Settings, advance: Advance
    ) -> float:
        sent = pickle.dumps(task_of(asked, settings))
        with monkeypatch.context() as there:
            there.chdir(tmp_path)
            actor = PartEncoder(pickle.loads(sent))
            rows = [actor({"id": part.number})["rows"] for part in parts]
        assert sum(rows) == job.rows
        # A part that is begun again after its node was lost is found finished.
        assert actor({"id": 0}) == {"rows": 3}
        return 1.0

    run_job(asked_of(configured, out="alone"), configured, unseen)
    summary = run_job(asked_of(configured), configured, unseen, on_a_node)
    assert (summary.rows_out, summary.parts) == (10, 4)
    for path in sorted(Path("alone").glob("*.parquet")):
        assert (Path("out") / path.name).read_bytes() == path.read_bytes()


def test_full_disk_of_a_node_is_said_as_one_of_ours(
    configured: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_of(configured)
    with alone_in(asked.out):
        begin(asked, configured, unseen)
    actor = PartEncoder(task_of(asked, configured))

    def full(table: Any, path: Path, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(parquet, "write_table", full)
    with pytest.raises(StoreUnwritable, match="No space left"):
        actor({"id": 0})


def test_node_that_does_not_see_the_job_says_what_has_to_be_shared(
    configured: Settings, tmp_path: Path
) -> None:
    asked = asked_of(configured)
    task = task_of(asked, configured)
    with pytest.raises(DatasetInvalid, match="all nodes share"):
        PartEncoder(Task(tmp_path / "nowhere", task.plan, task.settings))


class TaskFailed(Exception):
    """As Ray wraps what an actor raised."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__("secret")
        self.cause = cause


def raised(error: Exception, cause: BaseException) -> Exception:
    """`error` as it is after `raise error from cause`."""
    error.__cause__ = cause
    return error


def test_error_of_ours_comes_back_from_a_node_as_it_was() -> None:
    own = DatasetInvalid("in.csv has changed")
    assert ours(TaskFailed(raised(RuntimeError("secret"), own))) is own


def test_failure_of_a_cluster_names_what_led_to_it_and_quotes_nothing() -> None:
    full = OSError(23, "Too many open files in system", "/secret")
    message = ours(TaskFailed(raised(ValueError("secret"), full))).message
    assert "TaskFailed because of ValueError because of OSError: Too many open files" in message
    assert "secret" not in message


def test_cluster_that_is_not_there_is_told_from_one_that_does_not_fit() -> None:
    assert "no Ray cluster answers" in unreachable("auto", ConnectionError("x")).message
    other = unreachable("auto", RuntimeError("Version mismatch: 2.60 and 2.59\nand so on"))
    assert "no Ray cluster" not in other.message
    assert other.message.endswith("RuntimeError: Version mismatch: 2.60 and 2.59")
