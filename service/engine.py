"""One loaded model version: texts -> tokens -> batcher -> answers."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.batching.batcher import Batcher
from service.batching.queue import Priority
from service.batching.workers import WorkerPool
from service.errors import (
    BlankText,
    DeadlineExceeded,
    EmptyInput,
    InvalidDimensions,
    TextTooLong,
    TooManyTexts,
    WrongTask,
)
from service.metrics import Metrics
from service.runtime.outputs import label_scores, truncate_dimensions
from service.runtime.tokenizer import Tokenized, Tokenizer
from service.settings import Settings
from service.store.manifest import Manifest

FloatArray = npt.NDArray[np.float32]

# Tokenizing about this much text takes a millisecond, the most the event loop is held for.
INLINE_TOKENIZE_CHARS = 2_000
# Longer requests are tokenized in portions, so that they take turns and end when callers leave.
TOKENIZE_PORTION_CHARS = 16_000


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
        pool: WorkerPool,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        self.manifest = manifest
        self._tokenizer = tokenizer
        self._batcher = batcher
        self._pool = pool
        self._metrics = metrics
        self._settings = settings
        self._prompt = manifest.prompt
        (alone,) = tokenizer.encode([self._prompt])
        self._prompt_ids = alone.token_ids

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def ready(self) -> bool:
        """True from the start of the workers until they stop; the warm-up came before."""
        return self._batcher.serving and not self.broken

    @property
    def broken(self) -> bool:
        """True once a worker has died: only a new process helps."""
        return self._batcher.broken

    async def embed(
        self,
        texts: Sequence[str],
        dimensions: int | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Answer:
        """One vector a text, [n, dimensions or width] float32.

        The manifest's default prompt, if it has one, is put before each text, as
        sentence-transformers does; its tokens count.

        Raises:
            InvalidDimensions: more dimensions than the model has.
            InvalidRequest: a text is blank or too long, or there are none or too many.
            WrongTask: the model reads pairs of texts.
            Overloaded, DeadlineExceeded, ShuttingDown: try again later.
            InferenceFailed: the model failed on a text.
        """
        if dimensions is not None and dimensions > self.manifest.width:
            raise InvalidDimensions(
                f"dimensions must be from 1 to {self.manifest.width} for model {self.name!r}",
                param="dimensions",
            )
        answer = await self._encode(texts, priority)
        if dimensions is None:
            return answer
        return Answer(truncate_dimensions(answer.rows, dimensions), answer.tokens, answer.truncated)

    async def classify(
        self, texts: Sequence[str], priority: Priority = Priority.INTERACTIVE
    ) -> Answer:
        """One score a label, [n, labels] float32, as `label_scores` says. Raises as `embed`."""
        answer = await self._encode(texts, priority)
        scores = label_scores(answer.rows, self.manifest.problem_type)
        if self.manifest.problem_type == "single_label":
            for winner in scores.argmax(axis=-1).tolist():
                self._metrics.predictions.labels(self.name, self.manifest.labels[winner]).inc()
        return Answer(scores, answer.tokens, answer.truncated)

    def start(self) -> None:
        """Start the workers; needs a running event loop."""
        self._batcher.start()

    async def close(self, grace_s: float) -> None:
        """Finish what was accepted within `grace_s`; whoever still waits then gets ShuttingDown."""
        await self._batcher.close(grace_s)

    async def _encode(self, texts: Sequence[str], priority: Priority) -> Answer:
        self._check(texts)
        texts = [self._prompt + text for text in texts] if self._prompt else texts
        timeout_s = self._settings.request_timeout_s
        deadline_s = time.perf_counter() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                tokenized = await self._tokenize(texts)
                rows = await self._batcher.submit(
                    [text.token_ids for text in tokenized], priority=priority, deadline_s=deadline_s
                )
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"no answer within {timeout_s:g} s (ENCSERVE_REQUEST_TIMEOUT_S): "
                "send fewer texts at a time, or send the request again later"
            ) from error
        truncated = [text.truncated for text in tokenized]
        self._metrics.truncated_texts.labels(self.name).inc(sum(truncated))
        return Answer(np.stack(rows), [len(text.token_ids) for text in tokenized], truncated)

    async def _tokenize(self, texts: Sequence[str]) -> list[Tokenized]:
        tokenized: list[Tokenized] = []
        with self._metrics.stage(self.name, "tokenize"):
            # A full queue, or a stop, is seen before the work of tokenizing, not after.
            self._batcher.admit(len(texts))
            if sum(map(len, texts)) <= INLINE_TOKENIZE_CHARS:
                tokenized = self._tokenizer.encode(texts)
            else:
                for portion in _portions(texts, TOKENIZE_PORTION_CHARS):
                    self._batcher.admit(len(texts))
                    tokenized += await self._pool.run_aside(self._tokenizer.encode, portion)
        for index, text in enumerate(tokenized):
            if text.blank or text.token_ids == self._prompt_ids:
                raise BlankText(
                    "the text has nothing that the model's tokenizer keeps", param=f"input[{index}]"
                )
        return tokenized

    def _check(self, texts: Sequence[str]) -> None:
        if self.manifest.pair_separator_id is not None:
            raise WrongTask(
                f"model {self.name!r} judges two texts together, and this route takes single "
                "texts: ask another model",
                param="model",
            )
        if not texts:
            raise EmptyInput("input is empty: send at least one text", param="input")
        most = self._settings.max_texts_per_request
        if len(texts) > most:
            raise TooManyTexts(len(texts), most)
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


def _portions(texts: Sequence[str], max_chars: int) -> Iterator[list[str]]:
    """The texts in their order, in lists of at most `max_chars` or one longer text."""
    portion: list[str] = []
    chars = 0
    for text in texts:
        if portion and chars + len(text) > max_chars:
            yield portion
            portion, chars = [], 0
        portion.append(text)
        chars += len(text)
    yield portion
