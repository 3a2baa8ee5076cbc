"""One loaded model version: texts -> tokens -> batcher -> answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np

from service.answers import Answer, Computed
from service.batching.batcher import Batcher
from service.batching.workers import WorkerPool
from service.drift import Drift
from service.errors import (
    EncserveError,
    InvalidDimensions,
    InvalidField,
    WrongTask,
)
from service.inputs import Input
from service.metrics import ModelMetrics
from service.options import DEFAULT, Options
from service.preparing import Preparer
from service.runtime.outputs import (
    FloatArray,
    Pooling,
    label_scores,
    pool_spans,
    truncate_dimensions,
    unit_length,
)
from service.runtime.tokenizer import Tokenizer
from service.settings import Settings
from service.store.manifest import Manifest
from service.time_limit import time_limit

P = ParamSpec("P")
T = TypeVar("T")

# Told of each answer, and how to ask another engine the same.
Again = Callable[["Engine", Options], Awaitable[Answer]]
OnAnswer = Callable[[Again, Options, Answer], None]


class Engine:
    """Answers for one model version; the collaborators are its own.

    token_batcher: of the model's vectors a token; None where the model has none.
    digest: sha256 of the ONNX file that is served. in_flight: requests that wait for an answer.
    """

    def __init__(
        self,
        manifest: Manifest,
        variant: str,
        tokenizer: Tokenizer,
        preparer: Preparer,
        batcher: Batcher[FloatArray],
        pool: WorkerPool,
        metrics: ModelMetrics,
        settings: Settings,
        token_batcher: Batcher[FloatArray] | None = None,
        drift: Drift | None = None,
    ) -> None:
        self.manifest = manifest
        self.variant = variant
        self.tokenizer = tokenizer
        self.digest = manifest.files[manifest.file_of(variant)].sha256
        self._preparer = preparer
        self._batcher = batcher
        self._pool = pool
        self._token_batcher = token_batcher
        self.metrics = metrics
        self._settings = settings
        self.in_flight = 0
        self.on_answer: OnAnswer | None = None
        self.drift = drift

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def reads_pairs(self) -> bool:
        """The model judges two texts together."""
        return self.manifest.pair_separator_id is not None

    @property
    def max_batch_tokens(self) -> int:
        """Budget of one run."""
        return self._batcher.max_batch_tokens

    @property
    def ready(self) -> bool:
        """True from the start of the workers until they stop; the warm-up came before."""
        return self._batcher.serving and not self.broken

    @property
    def broken(self) -> bool:
        """True once a worker has died: only a new process helps."""
        return any(batcher.broken for batcher in self._batchers())

    async def embed(
        self,
        inputs: Sequence[Input],
        options: Options = DEFAULT,
        *,
        dimensions: int | None = None,
        normalize: bool = True,
    ) -> Answer:
        """One vector an input, [n, dimensions or width] float32.

        A prompt, the manifest's default or the one that is named, is put before each text, as
        sentence-transformers does; its tokens count. A text over several windows has the mean of
        their vectors, each weighted by its tokens.

        Args:
            normalize: scale to unit length, if the model is made for that.

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
        if not normalize and self.manifest.normalized and self.manifest.scaled_in_graph:
            raise InvalidField(
                f"the graph of model {self.name!r} scales its vectors: publish it again from its "
                "checkpoint to have them unscaled",
                param="normalize",
            )
        answer = await self._answer(inputs, options, _unchanged, "mean")
        if dimensions is not None:
            answer = replace(answer, rows=truncate_dimensions(answer.rows, dimensions))
        elif normalize and self.manifest.normalized:
            answer = replace(answer, rows=unit_length(answer.rows))
        if self.on_answer is not None:
            self.on_answer(
                lambda engine, options: engine.embed(
                    inputs, options, dimensions=dimensions, normalize=normalize
                ),
                options,
                answer,
            )
        return answer

    async def classify(
        self, inputs: Sequence[Input], options: Options = DEFAULT, *, raw_scores: bool = False
    ) -> Answer:
        """One score a label, [n, labels] float32, as `label_scores` says. Raises as `embed`.

        Args:
            raw_scores: the logits as they stand; calibrated, if the model is.
        """
        problem = self.manifest.problem_type
        scores = _unchanged if raw_scores else partial(label_scores, problem_type=problem)
        answer = await self._answer(inputs, options, scores, options.windows)
        if problem == "single_label":
            for index, winner in enumerate(answer.rows.argmax(axis=-1).tolist()):
                if index not in answer.errors:
                    probability = None if raw_scores else float(answer.rows[index, winner])
                    self.metrics.predicted(self.manifest.labels[winner], probability)
        if self.on_answer is not None:
            self.on_answer(
                lambda engine, options: engine.classify(inputs, options, raw_scores=raw_scores),
                options,
                answer,
            )
        return answer

    async def embed_tokens(
        self, inputs: Sequence[Input], options: Options = DEFAULT
    ) -> tuple[list[FloatArray], Answer]:
        """One vector a token, special tokens included: [tokens of the input, width] an input.

        The answer says what it cost; its rows are empty. Raises as `embed`, and

        Raises:
            WrongTask: the model has no vectors of tokens.
        """
        if self._token_batcher is None:
            raise WrongTask(
                f"model {self.name!r} has no vectors of tokens in its variant {self.variant}: "
                "serve another (ENCSERVE_VARIANT), or publish it again from its checkpoint",
                param="model",
            )
        if options.overflow == "windows" or options.partial:
            raise ValueError("vectors of tokens are neither spread over windows nor partial")
        most = self._settings.max_token_vectors
        computed = await self.compute(inputs, options, self._token_batcher, most)
        vectors = [row for row in computed.rows if not isinstance(row, EncserveError)]
        return vectors, self._counted(computed, np.empty((len(inputs), 0), np.float32))

    def with_prompt(self, texts: Sequence[str], name: str | None) -> list[str]:
        """The texts as the model reads them, behind the prompt that `Options` would name."""
        prompt = self._preparer.prompt_text(name)
        return [prompt + text for text in texts]

    async def run_aside(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what takes long off the event loop, after what others put aside before."""
        return await self._pool.run_aside(function, *args, **kwargs)

    def start(self) -> None:
        """Start the workers; needs a running event loop."""
        for batcher in self._batchers():
            batcher.start()

    async def close(self, grace_s: float) -> None:
        """Finish what was accepted within `grace_s`; whoever still waits then gets ShuttingDown."""
        await asyncio.gather(*(batcher.close(grace_s) for batcher in self._batchers()))

    async def _answer(
        self,
        inputs: Sequence[Input],
        options: Options,
        finish: Callable[[FloatArray], FloatArray],
        pooling: Pooling,
    ) -> Answer:
        """The model's rows, each through `finish`, put together where an input has several."""
        computed = await self.compute(inputs, options)
        nothing = np.zeros(self.manifest.width, np.float32)
        found = [nothing if isinstance(row, EncserveError) else row for row in computed.rows]
        rows = finish(np.stack(found)) if found else np.empty((0, self.manifest.width), np.float32)
        if computed.owners == list(range(len(inputs))):
            return self._counted(computed, rows)
        tokens = [len(span) for spans in computed.prepared.spans for span in spans]
        pooled = pool_spans(rows, computed.owners, tokens, len(inputs), pooling)
        return self._counted(computed, pooled)

    async def compute(
        self,
        inputs: Sequence[Input],
        options: Options,
        batcher: Batcher[FloatArray] | None = None,
        max_tokens: int | None = None,
    ) -> Computed:
        """Rows of the model as they stand, counted in no statistics of answers. Raises as `embed`.

        Args:
            batcher: of what is wanted of the model; without it what it is made for.
            max_tokens: most of all inputs together.
        """
        batcher = batcher or self._batcher
        most_s = self._settings.request_timeout_s
        timeout_s = min(most_s, options.timeout_s or most_s)
        started_s = time.perf_counter()
        deadline_s = started_s + timeout_s
        self.in_flight += 1
        try:
            async with time_limit(timeout_s, timeout_s):
                take_place = partial(batcher.place, options.priority, deadline_s)
                prepared = await self._preparer.prepare(inputs, options, take_place)
            computed = Computed(prepared, time.perf_counter() - started_s)
            spans = [span for spans in prepared.spans for span in spans]
            computed.tell(options.work, started_s)
            if max_tokens is not None:
                prepared.check_vectors(max_tokens)
            if spans:
                submit = batcher.submit_each if options.partial else batcher.submit
                # The limit lies inside: what ends at it costs nothing.
                with options.account.spending(sum(map(len, spans))):
                    async with time_limit(timeout_s, deadline_s - time.perf_counter()):
                        computed.rows = await submit(
                            spans,
                            priority=options.priority,
                            deadline_s=deadline_s,
                            timing=computed.timing,
                        )
            computed.computed_at_s = time.perf_counter()
            return computed
        finally:
            self.in_flight -= 1

    def _counted(self, computed: Computed, rows: FloatArray) -> Answer:
        answer = computed.answer(rows)
        if self.drift is not None and rows.shape[1] and not answer.errors:
            self.drift.note([spans[0] for spans in computed.prepared.spans], rows)
        if truncated := sum(answer.truncated):
            self.metrics.truncated_texts.inc(truncated)
        return answer

    def _batchers(self) -> list[Batcher[FloatArray]]:
        return [self._batcher, *([self._token_batcher] if self._token_batcher else [])]


def _unchanged(rows: FloatArray) -> FloatArray:
    return rows
