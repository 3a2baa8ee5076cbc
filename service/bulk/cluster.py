"""The same job on a cluster: parts are tasks of an actor pool of Ray Data, an actor a core.

An actor writes its parts itself, as a run in one process does, to the folder that all nodes share:
what goes through Ray is numbers of parts. A part whose node was lost is begun again elsewhere; one
that was finished there is found finished.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from service.bulk.actor import PartEncoder, Task, ours, task_of, unreachable
from service.bulk.encoding import Advance
from service.bulk.job import Job, Part
from service.bulk.run import Asked
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
class Cluster:
    """Encodes parts on the cluster at `address`: host:port, `auto` for the one of this machine, or
    `local` for one that is begun here and ends with the job.
    """

    address: str

    def __call__(
        self, asked: Asked, job: Job, parts: Sequence[Part], settings: Settings, advance: Advance
    ) -> float:
        """As `run.encode_here`. Raises also WorkshopError if there is no cluster."""
        task = task_of(asked, settings)
        with _connected(self.address):
            started_s = time.perf_counter()
            try:
                for row in _dataset(task, parts).iter_rows():
                    advance(int(row["rows"]))
            except ray.exceptions.RayError as error:
                raise ours(error) from error
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
        raise unreachable(address, error) from error
    try:
        yield
    finally:
        ray.shutdown()
