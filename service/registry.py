"""The engines of this process by model name and version, started and closed together."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from uuid import uuid4

from service.batching.workers import WorkerPool
from service.canary import Canary
from service.engine import Engine
from service.errors import InvalidField, UnknownModel, WrongTask
from service.store.manifest import Task

DEFAULT_MODELS: Mapping[Task, str] = {"embedding": "embedding", "classification": "sentiment"}
NO_ALIASES: Mapping[str, str] = MappingProxyType({})


class EngineRegistry:
    """The engines of this process, and the threads that they share.

    Args:
        engines: of several versions of a model, the first answers to the name alone.
        aliases: other names, each for a model or for one version of it.

    Raises:
        InvalidField: an alias means a model that is not there, or is the name of one that is.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        pool: WorkerPool,
        aliases: Mapping[str, str] = NO_ALIASES,
    ) -> None:
        self.canaries: dict[str, Canary] = {}
        self._served: dict[str, Engine] = {}
        self._versions: dict[str, Engine] = {}
        for engine in engines:
            self.add(engine)
        self._aliases = dict(aliases)
        self._pool = pool
        self._leaving = self._draining = False
        for alias, model in self._aliases.items():
            if alias in self._served or self._find(model) is None or model in self._aliases:
                raise InvalidField(
                    f"alias {alias!r} of {model!r} (ENCSERVE_ALIASES): an alias is no loaded "
                    f"model's name, and means one; loaded are {self._names()}"
                )

    def __iter__(self) -> Iterator[Engine]:
        return iter(list(self._versions.values()))

    @property
    def ready(self) -> bool:
        """Every model has answered its warm-up, no stop was asked for, and no run is stuck."""
        return self._takes_requests and all(engine.ready for engine in self)

    def can_answer(self, engine: Engine) -> bool:
        """The same of one model; a stop and a stuck run concern all."""
        return self._takes_requests and engine.ready

    @property
    def _takes_requests(self) -> bool:
        return not (self._leaving or self._pool.stuck)

    @property
    def draining(self) -> bool:
        """The stop is under way: streams without an end should come to one."""
        return self._draining

    @property
    def broken(self) -> bool:
        """A worker has died; the process should be replaced."""
        return any(engine.broken for engine in self)

    def served(self, name: str) -> Engine | None:
        """The engine that answers to a model's name alone."""
        return self._served.get(name)

    def holds(self, engine: Engine) -> bool:
        """The engine can still be found."""
        return self._versions.get(_key(engine)) is engine

    def serve(self, engine: Engine) -> Engine | None:
        """Let `engine` answer to its name from now on; returns the one that did so before."""
        before = self._served.get(engine.name)
        self._served[engine.name] = engine
        self._versions[_key(engine)] = engine
        return before if before is not engine else None

    def add(self, engine: Engine) -> None:
        """Let `engine` answer to name@version, and to its name if no other does."""
        self._versions[_key(engine)] = engine
        self._served.setdefault(engine.name, engine)

    def drop(self, engine: Engine) -> None:
        """New requests do not find `engine` any more; those that have it go on."""
        if self._versions.get(_key(engine)) is engine:
            del self._versions[_key(engine)]
        if self._served.get(engine.name) is engine:
            del self._served[engine.name]

    def name_of(self, engine: Engine) -> str:
        """What to ask for to get this engine: its name, or name@version beside another version."""
        serves = self._served.get(engine.name) is engine
        return engine.name if serves else f"{engine.name}@{engine.version}"

    def aliases_of(self, engine: Engine) -> list[str]:
        """The other names of an engine."""
        return [alias for alias in self._aliases if self._find(alias) is engine]

    def get(self, name: str) -> Engine:
        """The engine of a model by name, name@version or alias.

        Raises:
            UnknownModel: no such model is loaded; the message lists those that are.
        """
        engine = self._find(name)
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

    def default(self, task: Task) -> Engine | None:
        """The model of a task that needs no name, if there is one."""
        engines = [engine for engine in self._served.values() if engine.manifest.task == task]
        named = [engine for engine in engines if engine.name == DEFAULT_MODELS[task]]
        return (named or engines)[0] if len(named or engines) == 1 else None

    def canary_for(self, engine: Engine, headers: Mapping[str, str]) -> Engine:
        """The engine that answers a request to `engine`: a canary of it may take a share."""
        canary = self.canaries.get(engine.name)
        if canary is None or self._served.get(engine.name) is not engine:
            return engine
        # Without the header chance decides, request by request.
        key = headers.get(canary.header) or uuid4().hex
        return canary.engine if canary.takes(key) else engine

    def start(self) -> None:
        """Start the workers of every engine; needs a running event loop."""
        for engine in self:
            engine.start()

    def leave(self) -> None:
        """Report not ready from now on; everything is still answered, until `drain`."""
        self._leaving = True

    def drain(self) -> None:
        """Let streams come to their end; requests are still answered, until `close`."""
        self._leaving = self._draining = True

    async def close(self, grace_s: float = 0) -> None:
        """Finish what was accepted within `grace_s`, fail the rest; may be called again."""
        self.drain()
        await asyncio.gather(*(engine.close(grace_s) for engine in self))
        self._pool.close()

    def _find(self, name: str) -> Engine | None:
        name = self._aliases.get(name, name)
        return self._served.get(name) or self._versions.get(name)

    def _default(self, task: Task) -> Engine:
        engine = self.default(task)
        if engine is None:
            raise UnknownModel(f"name a {task} model; loaded are {self._names()}", param="model")
        return engine

    def _names(self) -> str:
        return ", ".join(map(self.name_of, self)) or "none"


def _key(engine: Engine) -> str:
    return f"{engine.name}@{engine.version}"
