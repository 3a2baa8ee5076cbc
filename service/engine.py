"""One loaded model version: texts -> tokens -> batcher -> answers; and the registry of engines."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.batching.batcher import Batcher
from service.batching.workers import WorkerPool
from service.errors import (
    BlankText,
    DeadlineExceeded,
    EmptyInput,
    InvalidDimensions,
    ModelNotFound,
    TextTooLong,
    TooManyTexts,
    UnknownModel,
    WrongTask,
)
from service.metrics import Metrics
from service.runtime.cpus import available_cpus
from service.runtime.outputs import softmax, truncate_dimensions
from service.runtime.session import PackedEncoder, open_session
from service.runtime.tokenizer import Tokenized, Tokenizer
from service.settings import Settings
from service.store.manifest import TOKENIZER_FILE, Manifest, Task
from service.store.repository import ModelRepository, PublishedModel, verify

FloatArray = npt.NDArray[np.float32]

# Tokenizing about this much text takes a millisecond, the most the event loop is held for.
INLINE_TOKENIZE_CHARS = 2_000

DEFAULT_MODELS: Mapping[Task, str] = {"embedding": "embedding", "classification": "sentiment"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows in the order of the texts, [n, width] float32, and what each text cost.

    tokens: [n], after truncation, special tokens included. truncated: [n].
    """

    rows: FloatArray
    tokens: list[int]
    truncated: list[bool]


class Engine:
    """Answers for one model version; the collaborators are its own, the pool may be shared."""

    def __init__(
        self,
        manifest: Manifest,
        tokenizer: Tokenizer,
        batcher: Batcher[FloatArray],
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        self.manifest = manifest
        self._tokenizer = tokenizer
        self._batcher = batcher
        self._metrics = metrics
        self._settings = settings

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def ready(self) -> bool:
        """True from the start of the workers until they stop; the warm-up came before."""
        return self._batcher.serving

    async def embed(self, texts: Sequence[str], dimensions: int | None = None) -> Answer:
        """One vector a text, [n, dimensions or width] float32.

        Raises:
            InvalidDimensions: more dimensions than the model has.
            InvalidRequest: a text is blank or too long, or there are none or too many.
            Overloaded, DeadlineExceeded, ShuttingDown: try again later.
            InferenceFailed: the model failed on a text.
        """
        if dimensions is not None and dimensions > self.manifest.width:
            raise InvalidDimensions(
                f"dimensions must be from 1 to {self.manifest.width} for model {self.name!r}",
                param="dimensions",
            )
        answer = await self._encode(texts)
        if dimensions is None:
            return answer
        return Answer(truncate_dimensions(answer.rows, dimensions), answer.tokens, answer.truncated)

    async def classify(self, texts: Sequence[str]) -> Answer:
        """One probability a label, [n, labels] float32; each row sums to 1. Raises as `embed`."""
        answer = await self._encode(texts)
        scores = softmax(answer.rows)
        for winner in scores.argmax(axis=-1).tolist():
            self._metrics.predictions.labels(self.name, self.manifest.labels[winner]).inc()
        return Answer(scores, answer.tokens, answer.truncated)

    def start(self) -> None:
        """Start the workers; needs a running event loop."""
        self._batcher.start()

    async def close(self) -> None:
        await self._batcher.close(self._settings.shutdown_grace_s)

    async def _encode(self, texts: Sequence[str]) -> Answer:
        self._check(texts)
        timeout_s = self._settings.request_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                tokenized = await self._tokenize(texts)
                rows = await self._batcher.submit([text.token_ids for text in tokenized])
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"no answer within {timeout_s:g} s (ENCSERVE_REQUEST_TIMEOUT_S): "
                "send fewer texts at a time, or send the request again later"
            ) from error
        truncated = [text.truncated for text in tokenized]
        self._metrics.truncated_texts.labels(self.name).inc(sum(truncated))
        return Answer(np.stack(rows), [len(text.token_ids) for text in tokenized], truncated)

    async def _tokenize(self, texts: Sequence[str]) -> list[Tokenized]:
        with self._metrics.stage(self.name, "tokenize"):
            if sum(map(len, texts)) <= INLINE_TOKENIZE_CHARS:
                return self._tokenizer.encode(texts)
            return await asyncio.to_thread(self._tokenizer.encode, texts)

    def _check(self, texts: Sequence[str]) -> None:
        if not texts:
            raise EmptyInput("input is empty: send at least one text", param="input")
        most = self._settings.max_texts_per_request
        if len(texts) > most:
            raise TooManyTexts(
                f"the request has {len(texts)} texts, the limit is {most}: "
                "send fewer at a time, or raise ENCSERVE_MAX_TEXTS_PER_REQUEST",
                param="input",
            )
        for index, text in enumerate(texts):
            if not text or text.isspace():
                raise BlankText("the text is empty or blank", param=f"input[{index}]")
            if len(text) > self._settings.max_text_chars:
                raise TextTooLong(
                    f"the text has {len(text)} characters, the limit is "
                    f"{self._settings.max_text_chars}: "
                    "shorten it, or raise ENCSERVE_MAX_TEXT_CHARS",
                    param=f"input[{index}]",
                )


class EngineRegistry:
    """The engines of this process by model name, and the threads that they share."""

    def __init__(self, engines: Sequence[Engine], pool: WorkerPool) -> None:
        self._engines = {engine.name: engine for engine in engines}
        self._pool = pool

    def __iter__(self) -> Iterator[Engine]:
        return iter(self._engines.values())

    @property
    def ready(self) -> bool:
        return all(engine.ready for engine in self)

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

    async def close(self) -> None:
        await asyncio.gather(*(engine.close() for engine in self))
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
    names = settings.models or tuple(repository.names())
    if not names:
        raise ModelNotFound(
            f"no models in {settings.model_store}: make the default models with "
            "`encserve bootstrap`, or name another store with ENCSERVE_MODEL_STORE"
        )
    pool = WorkerPool(settings.workers or available_cpus())
    models = [repository.resolve(name) for name in names]
    with ThreadPoolExecutor() as threads:
        engines = list(threads.map(lambda m: load_engine(m, pool, settings, metrics), models))
    return EngineRegistry(engines, pool)


def load_engine(
    model: PublishedModel, pool: WorkerPool, settings: Settings, metrics: Metrics
) -> Engine:
    """Verify one published version, warm it up and build its engine, not yet started."""
    verify(model)
    manifest = model.manifest
    tokenizer = Tokenizer(model.file(TOKENIZER_FILE), manifest.max_tokens)
    encoder = PackedEncoder(
        open_session(model.file(manifest.default_file)), manifest.output, manifest.width
    )
    _warm_up(encoder, tokenizer, manifest.max_tokens)
    batcher: Batcher[FloatArray] = Batcher(
        encoder,
        pool,
        metrics,
        model=manifest.name,
        max_batch_tokens=settings.max_batch_tokens,
        max_queue_tokens=settings.max_queue_tokens,
    )
    metrics.declare_model(
        manifest.name, manifest.version, manifest.task, manifest.default_variant, manifest.labels
    )
    return Engine(manifest, tokenizer, batcher, metrics, settings)


def _warm_up(encoder: PackedEncoder, tokenizer: Tokenizer, max_tokens: int) -> None:
    """Answer one short text and one of the longest, before anyone waits; a bad model fails here."""
    for text in tokenizer.encode(["warm up", "warm up " * max_tokens]):
        encoder([text.token_ids])
