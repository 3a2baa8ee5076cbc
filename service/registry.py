"""The engines of this process by model name, started and closed together."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from service.batching.workers import WorkerPool
from service.engine import Engine
from service.errors import UnknownModel, WrongTask
from service.store.manifest import Task

DEFAULT_MODELS: Mapping[Task, str] = {"embedding": "embedding", "classification": "sentiment"}


class EngineRegistry:
    """The engines of this process by model name, and the threads that they share."""

    def __init__(self, engines: Sequence[Engine], pool: WorkerPool) -> None:
        self._engines = {engine.name: engine for engine in engines}
        self._pool = pool
        self._draining = False

    def __iter__(self) -> Iterator[Engine]:
        return iter(self._engines.values())

    @property
    def ready(self) -> bool:
        """Every model has answered its warm-up, and no stop was asked for."""
        return not self._draining and all(engine.ready for engine in self)

    @property
    def broken(self) -> bool:
        """A worker has died; the process should be replaced."""
        return any(engine.broken for engine in self)

    def get(self, name: str) -> Engine:
        """The engine of model `name`.

        Raises:
            UnknownModel: no such model is loaded; the message lists those that are.
        """
        engine = self._engines.get(name)
        if engine is None:
            raise UnknownModel(f"no such model; loaded are {self._names()}", param="model")
        return engine

    def for_task(self, task: Task, name: str | None) -> Engine:
        """The model asked for; without a name the task's default, or its only model.

        Raises:
            UnknownModel: no such model, or no default among several.
            WrongTask: the model does something else.
        """
        if name is None:
            return self._default(task)
        engine = self.get(name)
        if engine.manifest.task != task:
            raise WrongTask(
                f"model {engine.name!r} does {engine.manifest.task}, this route needs {task}",
                param="model",
            )
        return engine

    def start(self) -> None:
        """Start the workers of every engine; needs a running event loop."""
        for engine in self:
            engine.start()

    def drain(self) -> None:
        """Report not ready from now on; requests are still answered, until `close`."""
        self._draining = True

    async def close(self, grace_s: float = 0) -> None:
        """Finish what was accepted within `grace_s`, fail the rest; may be called again."""
        self._draining = True
        await asyncio.gather(*(engine.close(grace_s) for engine in self))
        self._pool.close()

    def _default(self, task: Task) -> Engine:
        engines = [engine for engine in self if engine.manifest.task == task]
        named = [engine for engine in engines if engine.name == DEFAULT_MODELS[task]]
        if len(named or engines) != 1:
            raise UnknownModel(f"name a {task} model; loaded are {self._names()}", param="model")
        return (named or engines)[0]

    def _names(self) -> str:
        return ", ".join(self._engines) or "none"
