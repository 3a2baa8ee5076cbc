"""What a node of a cluster gets and does, and what comes back of its errors; without Ray itself."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.bulk.job import read_job
from service.bulk.reading import Reader
from service.bulk.run import Asked, encode_parts, open_encoder
from service.bulk.writing import PartWriter, is_done
from service.errors import DatasetInvalid, EncserveError, WorkshopError
from service.loading import Plan
from service.settings import Settings
from service.store.locks import writing

# All that opening a model asks the settings for. Nothing else leaves this machine: not keys, nor
# addresses that may hold a password, nor whatever is added to the settings one day.
SETTINGS_SENT = frozenset(
    {
        "provider",
        "provider_options",
        "signatures",
        "trusted_keys",
        "probe",
        "probe_memory_bytes",
        "probe_timeout_s",
    }
)


@dataclass(frozen=True)
class Task:
    """What every actor needs; the job lies in the folder `out`."""

    out: Path
    plan: Plan
    settings: Settings


def task_of(asked: Asked, settings: Settings) -> Task:
    """With paths that mean the same in a folder elsewhere, and one thread: an actor has a core."""
    plan = asked.plan
    return Task(
        asked.out.resolve(),
        replace(
            plan,
            model=replace(plan.model, path=plan.model.path.resolve()),
            shape=plan.shape.model_copy(update={"workers": 1, "threads": 1}),
        ),
        _sent(settings),
    )


def _sent(settings: Settings) -> Settings:
    defaults = {
        name: field.get_default(call_default_factory=True, validated_data={})
        for name, field in type(settings).model_fields.items()
        if name not in SETTINGS_SENT
    }
    keys = tuple(path.resolve() for path in settings.trusted_keys)
    return settings.model_copy(update={**defaults, "trusted_keys": keys})


class PartEncoder:
    """An actor: one model, one thread, part after part.

    Raises:
        DatasetInvalid: the node does not see the folder of the job.
        StoreError: it does not see the model, or not as it was published.
    """

    def __init__(self, task: Task) -> None:
        job = read_job(task.out)
        if job is None:
            raise DatasetInvalid(
                f"a node of the cluster does not see {task.out}: input, output and model store "
                "have to lie on a file system that all nodes share, under the same path"
            )
        # The tokenizer's library would take every core; the other cores have actors of their own.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self._job = job
        self._out = task.out
        self._reader = Reader(job.inputs, job.options.column)
        self._writer = PartWriter(task.out, job, task.plan.model.manifest)
        self._open = ExitStack()
        workers = task.plan.shape.workers
        self._encoder = self._open.enter_context(
            open_encoder(task.plan, job, task.settings, workers)
        )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Encode the part of the number `row["id"]`, if nobody has; returns its `rows`.

        Raises:
            DatasetInvalid: an input is not what it was.
            StoreUnwritable: the disk is full.
        """
        part = self._job.parts[row["id"]]
        if not is_done(self._out, self._job, part):
            with writing(self._out):
                encode_parts([part], self._encoder, self._reader, self._writer, lambda rows: None)
        return {"rows": part.rows}


def unreachable(address: str, error: Exception) -> WorkshopError:
    """Why there is no cluster: nobody answers, or Ray's own reason, such as another version."""
    if isinstance(error, ConnectionError):
        return WorkshopError(
            f"no Ray cluster answers at {address!r}: begin one with `ray start --head`, or have "
            "one begun for this job with --ray local"
        )
    reason = str(error).strip().partition("\n")[0]
    return WorkshopError(
        f"Ray cannot work with the cluster at {address!r}: {type(error).__name__}: {reason}"
    )


def ours(error: BaseException) -> EncserveError:
    """What we raised in an actor, or that the cluster failed and which kinds of errors led to it.

    Messages that are not ours are left out: they may quote a row.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, EncserveError):
            return cause
    kinds = " because of ".join(dict.fromkeys(map(_kind, causes)))
    return WorkshopError(f"the cluster failed ({kinds}): run the command again, and it goes on")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, outermost first. Ray keeps the actor's own in `cause`."""
    seen: set[int] = set()
    cause: object = error
    while isinstance(cause, BaseException) and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        before = None if cause.__suppress_context__ else cause.__context__
        cause = getattr(cause, "cause", None) or cause.__cause__ or before


def _kind(error: BaseException) -> str:
    name = type(error).__name__
    strerror = error.strerror if isinstance(error, OSError) else None
    return f"{name}: {strerror}" if strerror else name
