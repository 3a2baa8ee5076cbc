"""Models of a server that runs: another version is loaded beside the old one, then takes its place.

Nothing that is asked meanwhile is lost: who has found the old engine gets its answer from it.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Coroutine
from typing import Any

from service.batching.watchdog import Watchdog
from service.canary import FAULTS, Canary
from service.engine import Engine
from service.errors import EncserveError, InvalidField, UnknownModel
from service.loading import Loader, load_all
from service.metrics import Metrics
from service.registry import EngineRegistry
from service.settings import Settings
from service.shadow import Bar, Shadow

logger = logging.getLogger(__name__)

# An engine that nobody can find any more, and that was idle for so long, is asked by nobody.
IDLE_S = 0.5
LOOK_S = 0.1


class LiveModels:
    """The engines of a server, and how they change; one change at a time.

    Every failure leaves what serves as it is, is counted, and is one line in the log.
    """

    def __init__(
        self, engines: EngineRegistry, loader: Loader, settings: Settings, metrics: Metrics
    ) -> None:
        self.engines = engines
        self.repository = loader.repository
        self._loader = loader
        self._settings = settings
        self._metrics = metrics
        self._watchdog = Watchdog(
            loader.pool,
            metrics.workers_stuck,
            stuck_run_s=settings.stuck_run_s,
            stuck_exit_s=settings.stuck_exit_s,
        )
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.shadows: dict[str, Shadow] = {}
        self._refused: dict[str, str | None] = {}
        # Versions that were asked for by number stay when the current one moves on.
        self._pinned = {name for name in settings.models if "@" in name}

    @property
    def workers(self) -> int:
        """Runs that may go side by side."""
        return self._loader.pool.size

    def start(self) -> None:
        """Start the engines and, if the settings say so, the watch; needs a running event loop."""
        self.engines.start()
        self._watchdog.start()
        if self._settings.watch_s:
            self._spawn(self._watch(self._settings.watch_s))

    async def close(self) -> None:
        """Stop watching, and close the engines at once."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Closing waits for runs until the watchdog says that they are stuck.
        await self.engines.close()
        self._watchdog.stop()

    async def load(self, name: str, version: str | None = None) -> Engine:
        """Load a version, without moving the name to it unless it is the first of its name.

        Raises:
            StoreError: it is missing, not what was published, or does not answer as it should.
        """
        async with self._changing:
            engine = await self._loaded(name, version)
            self._pinned.add(f"{engine.name}@{engine.version}")
            self.engines.add(engine)
            return engine

    async def serve(self, name: str, version: str | None = None) -> Engine:
        """Let a version, or the store's current one, answer to its name. Raises as `load`."""
        async with self._changing:
            engine = await self._loaded(name, version)
            before = self.engines.serve(engine)
            if before is not None:
                self._metrics.model_swaps.labels(name).inc()
                logger.info("model %s: version %s serves now", name, engine.version)
                if f"{name}@{before.version}" not in self._pinned:
                    self._retire(before)
            return engine

    async def set_current(self, name: str, version: str | None) -> Engine:
        """Serve `version`, or the one before the current, and move the store's pointer to it.

        The pointer moves once the version serves: one that cannot is never the current one.
        """
        if version is None:
            version = self.repository.version_before(name)
        engine = await self.serve(name, version)
        await asyncio.to_thread(self.repository.set_current, name, version)
        return engine

    async def unload(self, name: str, version: str | None = None) -> None:
        """Serve a version no more.

        Raises:
            UnknownModel: it is not loaded.
            InvalidField: it is the last one, without which the server would be of no use.
        """
        async with self._changing:
            engine = self.engines.get(name if version is None else f"{name}@{version}")
            if len(list(self.engines)) == 1:
                raise InvalidField(
                    "the only model cannot be unloaded: load another first, or stop the server"
                )
            self._pinned.discard(f"{engine.name}@{engine.version}")
            self._retire(engine)

    async def set_canary(self, name: str, version: str, share: float, header: str) -> Engine:
        """Give a share of the requests to a version; 0 ends it. Raises as `load`, and UnknownModel.

        The version's own requests and those of the one that serves are watched from then on.
        """
        if share == 0:
            self._end_canary(name)
            return self.engines.get(name)
        engine = await self.load(name, version)
        self.engines.canaries[name] = Canary(engine, share, header)
        self._metrics.canary_share.labels(name, version).set(share)
        for fault in FAULTS:
            self._metrics.canary_taken_back.labels(name, fault)
        return engine

    def note_request(self, model: str, version: str, outcome: str, duration_s: float) -> None:
        """A request was answered; a canary that does worse than what serves is taken back."""
        canary = self.engines.canaries.get(model)
        if canary is None:
            return
        canary.note(version, outcome, duration_s)
        if (fault := canary.fault()) is not None:
            logger.error(
                "model %s: canary version %s is taken back, its %s are worse than those of what "
                "serves",
                model,
                canary.engine.version,
                fault,
            )
            self._metrics.canary_taken_back.labels(model, fault).inc()
            self._end_canary(model)

    async def set_shadow(self, name: str, version: str | None) -> Engine:
        """Ask `version` all that the serving one is asked, and compare; None ends it."""
        served = self.engines.get(name)
        served.on_answer = None
        self.shadows.pop(name, None)
        if version is None:
            return served
        engine = await self.load(name, version)
        shadow = self.shadows[name] = Shadow(engine, self._metrics)
        served.on_answer = shadow
        return engine

    async def promote(self, name: str, bar: Bar) -> Engine:
        """Serve the shadow version, if what was compared reaches the bar.

        Raises:
            InvalidField: there is no shadow, or it falls short.
        """
        shadow = self.shadows.get(name)
        if shadow is None:
            raise InvalidField("the model has no shadow to compare with")
        await shadow.settle()
        bar.require(shadow.found, shadow.engine.manifest.task)
        engine = await self.set_current(name, shadow.engine.version)
        self.shadows.pop(name, None)
        return engine

    def _end_canary(self, name: str) -> None:
        canary = self.engines.canaries.pop(name, None)
        if canary is None:
            return
        key = (name, canary.engine.version)
        self._metrics.canary_share.labels(*key).set(0)
        if self.engines.served(name) is not canary.engine:
            self._pinned.discard(f"{key[0]}@{key[1]}")
            self._retire(canary.engine)

    async def follow_store(self) -> None:
        """Serve the current version of every model that is served; failures are logged."""
        for name in {engine.name for engine in self.engines}:
            served = self.engines.served(name)
            if served is None or f"{name}@{served.version}" in self._pinned:
                continue
            current = None
            try:
                current = self.repository.current(name)
                if current not in (served.version, self._refused.get(name)):
                    await self.serve(name, current)
            except EncserveError as error:
                # Told once: the watch comes by again and again.
                self._refused[name] = current
                logger.error(
                    "model %s stays at version %s: %s", name, served.version, error.message
                )

    async def _loaded(self, name: str, version: str | None) -> Engine:
        """The engine of a version, which may be there already; call with the lock held."""
        try:
            plan = await asyncio.to_thread(self._loader.plan, name, version)
            try:
                return self.engines.get(f"{name}@{plan.model.manifest.version}")
            except UnknownModel:
                engine = await asyncio.to_thread(self._loader.load, plan)
        except EncserveError as error:
            self._metrics.load_ended(self._known(name), error.code)
            raise
        self._metrics.load_ended(name, "ok")
        engine.start()
        return engine

    def _known(self, name: str) -> str:
        """The name as a label: whoever may ask for a load may ask for any name."""
        served = {engine.name for engine in self.engines}
        return name if name in served or name in self.repository.names() else "other"

    def _retire(self, engine: Engine) -> None:
        self.engines.drop(engine)
        self._spawn(self._close_when_idle(engine))

    async def _close_when_idle(self, engine: Engine) -> None:
        """Wait for those who have found the engine, then free it."""
        give_up_s = time.monotonic() + self._settings.request_timeout_s
        idle_since_s = time.monotonic()
        while time.monotonic() < min(give_up_s, idle_since_s + IDLE_S):
            await asyncio.sleep(LOOK_S)
            if engine.in_flight:
                idle_since_s = time.monotonic()
        await engine.close(grace_s=0)
        async with self._changing:
            # The version may have come back meanwhile, with the same series.
            gone = (engine.name, engine.version)
            if gone not in {(one.name, one.version) for one in self.engines}:
                self._metrics.forget(*gone)
        del engine
        # Sessions are part of cycles: without this they would stay until the next full collection.
        gc.collect()

    async def _watch(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await self.follow_store()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def load_models(settings: Settings, metrics: Metrics) -> LiveModels:
    """Load what the settings say. Raises as `load_all`."""
    engines, loader = load_all(settings, metrics)
    metrics.watch_workers(loader.pool.size, lambda: loader.pool.busy)
    return LiveModels(engines, loader, settings, metrics)
