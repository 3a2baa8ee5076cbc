"""The same job on a cluster: parts are tasks of an actor pool of Ray Data, an actor a core.

An actor writes its parts itself, as a run in one process does, to the folder that all nodes share:
what goes through Ray is numbers of parts. A part whose node was lost is begun again elsewhere; one
that was finished there is found finished.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from service.bulk.encoding import Advance
from service.bulk.job import Job, Part, read_job
from service.bulk.reading import Reader
from service.bulk.run import Asked, encode_parts, open_encoder
from service.bulk.writing import PartWriter, is_done
from service.errors import DatasetInvalid, EncserveError, WorkshopError
from service.loading import Plan
from service.settings import Settings

# Ray reports to its makers unless this says no; it is read when a cluster is begun.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
import ray.data

# A job of more parts has several in a task of Ray's own.
MOST_TASKS = 10_000
# Of a core, which an actor then has: half of the nodes can be lost, and the actors that were there
# still find room on the others.
CORES_ASKED = 0.5


@dataclass(frozen=True)
class Task:
    """What every actor needs; the job lies in the folder `out`."""

    out: Path
    plan: Plan
    settings: Settings


class PartEncoder:
    """An actor: one model, one thread, part after part.

    Raises:
        DatasetInvalid: the node does not see the folder of the job.
    """

    def __init__(self, task: Task) -> None:
        job = read_job(task.out)
        if job is None:
            raise DatasetInvalid(
                f"a node of the cluster does not see {task.out}: input, output and model store "
                "have to lie on a file system that all nodes share, under the same path"
            )
        self._job = job
        self._out = task.out
        self._reader = Reader(job.inputs, job.options.column)
        self._writer = PartWriter(task.out, job, task.plan.model.manifest)
        self._open = ExitStack()
        self._encoder = self._open.enter_context(open_encoder(task.plan, job, task.settings, 1))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        part = self._job.parts[row["id"]]
        if not is_done(self._out, self._job, part):
            encode_parts([part], self._encoder, self._reader, self._writer, lambda rows: None)
        return {"rows": part.rows}


@dataclass(frozen=True)
class Cluster:
    """Encodes parts on the cluster at `address`: host:port, `auto` for the one of this machine, or
    `local` for one that is begun here and ends with the job.
    """

    address: str

    def __call__(
        self, asked: Asked, job: Job, parts: Sequence[Part], settings: Settings, advance: Advance
    ) -> float:
        """As `run.encode_here`. Raises also WorkshopError if there is no cluster."""
        task = Task(asked.out.resolve(), _absolute(asked.plan), _without_secrets(settings))
        with _connected(self.address):
            started_s = time.perf_counter()
            try:
                for row in _dataset(task, parts).iter_rows():
                    advance(int(row["rows"]))
            except ray.exceptions.RayError as error:
                raise _ours(error) from error
            return time.perf_counter() - started_s


def _dataset(task: Task, parts: Sequence[Part]) -> Any:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    actors = max(1, int(ray.cluster_resources().get("CPU", 1)))
    numbers = [{"id": part.number} for part in parts]
    return ray.data.from_items(numbers, override_num_blocks=min(len(numbers), MOST_TASKS)).map(
        PartEncoder,
        fn_constructor_args=(task,),
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=actors, initial_size=actors, max_tasks_in_flight_per_actor=2
        ),
        num_cpus=CORES_ASKED,
        scheduling_strategy="SPREAD",
    )


@contextmanager
def _connected(address: str) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise WorkshopError(
            f"no Ray cluster answers at {address!r}: begin one with `ray start --head`, or have "
            "one begun for this job with --ray local"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _absolute(plan: Plan) -> Plan:
    """With paths that other processes understand."""
    return replace(plan, model=replace(plan.model, path=plan.model.path.resolve()))


def _without_secrets(settings: Settings) -> Settings:
    return settings.model_copy(update={"admin_key": SecretStr("")})


def _ours(error: BaseException) -> EncserveError:
    """What an actor raised, or that the cluster itself failed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, EncserveError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    return WorkshopError(
        f"the cluster failed ({type(error).__name__}): run the command again, and it goes on"
    )
