"""The engines of this process by model name: loaded from the store, started and closed together."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from service.batching.batcher import Batcher
from service.batching.cache import RowCache
from service.batching.workers import WorkerPool
from service.engine import Engine, FloatArray
from service.errors import InvalidField, ModelCorrupt, ModelNotFound, UnknownModel, WrongTask
from service.metrics import Metrics
from service.runtime.cpus import available_cpus
from service.runtime.session import PackedEncoder, open_session
from service.runtime.tokenizer import Tokenizer
from service.settings import Settings
from service.store.manifest import TOKENIZER_FILE, Manifest, Task
from service.store.repository import ModelRepository, PublishedModel, verify

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


def load_engines(settings: Settings, metrics: Metrics) -> EngineRegistry:
    """Load every model of the store, or those that the settings name, in parallel.

    Raises:
        ModelNotFound: the store is empty or lacks a named model.
        ModelCorrupt, ManifestInvalid: published files are not what they should be.
    """
    repository = ModelRepository(settings.model_store)
    names = tuple(dict.fromkeys(settings.models)) or tuple(repository.names())
    if not names:
        raise ModelNotFound(
            f"no models in {settings.model_store}: make the default models with "
            "`encserve bootstrap`, or name another store with ENCSERVE_MODEL_STORE"
        )
    pool = WorkerPool(settings.workers or available_cpus())
    cache = RowCache(settings.cache_bytes, metrics) if settings.cache_bytes else None
    models = [repository.resolve(name) for name in names]
    with ThreadPoolExecutor() as threads:
        load = threads.map(lambda model: load_engine(model, pool, cache, settings, metrics), models)
        return EngineRegistry(list(load), pool)


def load_engine(
    model: PublishedModel,
    pool: WorkerPool,
    cache: RowCache | None,
    settings: Settings,
    metrics: Metrics,
) -> Engine:
    """Verify one published version, warm it up and build its engine, not yet started.

    Raises:
        ModelCorrupt: its files are not those of the manifest, or it fails its warm-up.
        ProviderUnavailable: onnxruntime cannot run it as the settings ask.
        InvalidField: the queue is too short for one of its longest texts, or it lacks the variant.
    """
    verify(model)
    manifest = model.manifest
    if settings.max_queue_tokens < manifest.max_tokens:
        raise InvalidField(
            f"ENCSERVE_MAX_QUEUE_TOKENS is {settings.max_queue_tokens}, less than the "
            f"{manifest.max_tokens} tokens of one long text of model {manifest.name!r}"
        )
    tokenizer = Tokenizer(model.file(TOKENIZER_FILE), manifest.max_tokens)
    variant = _variant(manifest, settings)
    session = open_session(
        model.file(manifest.file_of(variant)), settings.provider, settings.provider_options
    )
    encoder = PackedEncoder(session, manifest.output, manifest.width)
    _warm_up(encoder, tokenizer, manifest.max_tokens)
    batcher: Batcher[FloatArray] = Batcher(
        encoder,
        pool,
        metrics,
        cache.of_model(manifest.name, manifest.version, variant) if cache else None,
        model=manifest.name,
        max_batch_tokens=settings.max_batch_tokens,
        max_queue_tokens=settings.max_queue_tokens,
    )
    metrics.declare_model(manifest.name, manifest.version, manifest.task, variant, manifest.labels)
    return Engine(manifest, tokenizer, batcher, pool, metrics, settings)


def _variant(manifest: Manifest, settings: Settings) -> str:
    """The variant asked for, else the fastest on the CPU; int8 is made for no other provider."""
    if not settings.variant:
        return manifest.default_variant if settings.provider == "cpu" else "fp32"
    if settings.variant not in manifest.variants:
        raise InvalidField(
            f"model {manifest.name!r} has no variant {settings.variant!r} (ENCSERVE_VARIANT): "
            f"it has {', '.join(manifest.variants)}; leave it empty to serve the fastest"
        )
    return settings.variant


def _warm_up(encoder: PackedEncoder, tokenizer: Tokenizer, max_tokens: int) -> None:
    """Answer one short text and one of the longest, before anyone waits; a bad model fails here."""
    for text in tokenizer.encode(["warm up", "warm up " * max_tokens]):
        try:
            encoder([text.token_ids])
        except Exception as error:  # onnxruntime's own classes share no public base
            raise ModelCorrupt(
                f"the model failed on a warm-up of {len(text.token_ids)} tokens: "
                f"{type(error).__name__}"
            ) from error
