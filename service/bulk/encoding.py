"""Texts of a part through the model: sorted by length, in batches that depend on the part alone."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np

from service.bulk.job import Options
from service.bulk.lines import Fault
from service.errors import EncserveError, InferenceFailed, InvalidDimensions, InvalidField
from service.runtime.outputs import FloatArray, label_scores, truncate_dimensions, unit_length
from service.runtime.session import Encoder
from service.runtime.tokenizer import Tokenized, Tokenizer
from service.store.manifest import Manifest

logger = logging.getLogger(__name__)

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of the sound texts; at: where each stands among all. faults: by place, of others.

    truncated: how many texts went on.
    """

    ids: list[list[int]]
    at: list[int]
    faults: dict[int, Fault]
    truncated: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """rows: [n, width] float32, what callers are given; the rest as in `Tokens`."""

    rows: FloatArray
    at: list[int]
    faults: dict[int, Fault]
    tokens: int
    truncated: int


class TextEncoder:
    """One model variant for a job; threads run side by side on one session.

    Raises:
        InvalidField, InvalidDimensions: the options are not for this model.
    """

    def __init__(
        self,
        manifest: Manifest,
        tokenizer: Tokenizer,
        encoder: Encoder,
        options: Options,
        *,
        workers: int,
        max_batch_tokens: int,
        max_text_chars: int,
    ) -> None:
        self._manifest = manifest
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._options = options
        self._max_batch_tokens = max_batch_tokens
        self._max_text_chars = max_text_chars
        self._prompt = prompt_text(manifest, options.prompt_name)
        check_options(manifest, options)
        alone, nothing = tokenizer.encode_whole([self._prompt, ""])
        self._prompt_ids = alone.token_ids
        self._kept = alone.full_tokens - nothing.full_tokens
        self._threads = ThreadPoolExecutor(workers, "encserve-bulk")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def tokenize(self, texts: Sequence[object]) -> Tokens:
        """What the model is to read of each text, cut or refused where it is too long."""
        faults = {at: fault for at, text in enumerate(texts) if (fault := self._fault(text))}
        at = [place for place in range(len(texts)) if place not in faults]
        whole = self._tokenizer.encode_whole([f"{self._prompt}{texts[place]}" for place in at])
        for place, text in zip(at, whole, strict=True):
            if fault := self._fault_of_tokens(text):
                faults[place] = fault
        sound = {
            place: self._tokenizer.truncate(text, kept=self._kept)
            for place, text in zip(at, whole, strict=True)
            if place not in faults
        }
        return Tokens(
            [text.token_ids for text in sound.values()],
            list(sound),
            faults,
            sum(text.truncated for text in sound.values()),
        )

    def encode(self, tokens: Tokens, advance: Advance) -> Encoded:
        """Rows of those that the model can answer.

        Args:
            advance: told how many texts each batch had, from several threads.
        """
        lengths = [len(ids) for ids in tokens.ids]
        rows = np.zeros((len(lengths), self._manifest.width), np.float32)
        faults = dict(tokens.faults)

        def run(batch: list[int]) -> None:
            for index, outcome in zip(batch, self._outcomes(tokens.ids, batch), strict=True):
                if isinstance(outcome, EncserveError):
                    faults[tokens.at[index]] = Fault(outcome.code, outcome.message)
                else:
                    rows[index] = outcome
            advance(len(batch))

        padded = self._manifest.layout == "padded"
        for _ in self._threads.map(run, batches(lengths, self._max_batch_tokens, padded=padded)):
            pass
        kept = [index for index, place in enumerate(tokens.at) if place not in faults]
        return Encoded(
            self._finish(rows[kept]),
            [tokens.at[index] for index in kept],
            faults,
            sum(lengths),
            tokens.truncated,
        )

    def _outcomes(
        self, ids: Sequence[list[int]], batch: list[int]
    ) -> Sequence[FloatArray | EncserveError]:
        """A failing batch is run again text by text: only the text at fault fails."""
        try:
            return list(self._encoder([ids[index] for index in batch]))
        except Exception as error:
            if len(batch) == 1:
                return [_as_ours(error)]
        return [self._outcomes(ids, [index])[0] for index in batch]

    def _finish(self, rows: FloatArray) -> FloatArray:
        if self._manifest.task == "classification":
            return label_scores(rows, self._manifest.problem_type)
        if self._options.dimensions is not None:
            return truncate_dimensions(rows, self._options.dimensions)
        return unit_length(rows) if self._manifest.normalized else rows

    def _fault(self, text: object) -> Fault | None:
        if not isinstance(text, str):
            return Fault("not_a_text", "the column holds no text here")
        if not text or text.isspace():
            return Fault("blank_text", "the text is empty or blank")
        if len(text) > self._max_text_chars:
            return Fault(
                "text_too_long",
                f"the text has {len(text)} characters, the limit is {self._max_text_chars}: "
                "shorten it, or raise ENCSERVE_MAX_TEXT_CHARS",
            )
        return None

    def _fault_of_tokens(self, text: Tokenized) -> Fault | None:
        if text.blank or text.token_ids == self._prompt_ids:
            return Fault("blank_text", "the text has nothing that the model's tokenizer keeps")
        most = self._manifest.max_tokens
        if self._options.too_long == "refuse" and text.full_tokens > most:
            return Fault(
                "text_too_long",
                f"the text has {text.full_tokens} tokens, the model reads {most}: shorten it, or "
                "let it be cut (--too-long cut)",
            )
        return None


def prompt_text(manifest: Manifest, name: str | None) -> str:
    """What is put before each text. Raises InvalidField if the model has no such prompt."""
    if name is None:
        return manifest.prompt
    if name not in manifest.prompts:
        raise InvalidField(
            f"model {manifest.name!r} has no such prompt: it has "
            f"{', '.join(manifest.prompts) or 'none'}",
            param="prompt",
        )
    return manifest.prompts[name]


def check_options(manifest: Manifest, options: Options) -> None:
    """Raises InvalidField or InvalidDimensions if the model cannot do what is asked."""
    if manifest.pair_separator_id is not None:
        raise InvalidField(
            f"model {manifest.name!r} judges two texts together, and a job has one column of "
            "texts: ask it over HTTP (/v1/bulk)",
            param="model",
        )
    if options.dimensions is None:
        return
    if manifest.task != "embedding" or not 1 <= options.dimensions <= manifest.width:
        raise InvalidDimensions(
            f"dimensions must be from 1 to {manifest.width}, of an embedding model",
            param="dimensions",
        )


def batches(lengths: Sequence[int], budget: int, *, padded: bool) -> Iterator[list[int]]:
    """Indices of texts that run together: the longest first, at most `budget` tokens or one text.

    Long ones first, so that no core is left with a long run when the others have nothing to do.

    Args:
        padded: a text counts as long as the longest of its batch.
    """
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        tokens_with = lengths[batch[0]] * (len(batch) + 1) if padded and batch else None
        tokens_with = tokens_with or tokens + lengths[index]
        if batch and tokens_with > budget:
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch


def _as_ours(error: Exception) -> EncserveError:
    if isinstance(error, EncserveError):
        return error
    # Only the kind is logged: a message of the runtime may quote what it was fed.
    logger.error("a model run failed: %s", type(error).__name__)
    return InferenceFailed("the model could not answer for this text")
