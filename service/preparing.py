"""From what a caller sent to token ids that fit the model: checked, prompted, cut or spread."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from service.batching.workers import WorkerPool
from service.errors import (
    BlankText,
    EmptyInput,
    InvalidField,
    InvalidRequest,
    TextTooLong,
    TokenIdsNotAccepted,
    TooManyTexts,
    TooManyTokens,
    WrongTask,
)
from service.inputs import (
    Input,
    OwnIds,
    Pair,
    TokenIds,
    about_tokens,
    characters,
    portions,
)
from service.metrics import ModelMetrics
from service.options import Options
from service.runtime.tokenizer import Tokenized, Tokenizer
from service.settings import Settings
from service.store.manifest import Manifest

# Tokenizing about this much text takes a millisecond, the most the event loop is held for.
INLINE_TOKENIZE_CHARS = 2_000
# Longer requests are tokenized in portions, so that they take turns and end when callers leave.
TOKENIZE_PORTION_CHARS = 16_000

# Of a request with at least so many tokens, and about so many: keeps a place in the queue for it.
# Raises if its work would be in vain; yields what does so later.
TakePlace = Callable[[int, int], AbstractContextManager[Callable[[], object]]]


@dataclass(slots=True)
class Prepared:
    """What the model is to run for n inputs, and what became of those that it cannot run.

    spans: [n], the token ids of each input: one list, or several where it is spread over windows;
        none where it failed.
    full_tokens: [n], of each whole input, special tokens included.
    errors: by index.
    """

    spans: list[list[list[int]]]
    full_tokens: list[int]
    errors: dict[int, InvalidRequest] = field(default_factory=dict)

    def check_vectors(self, most: int) -> None:
        """Raise if all spans together have more tokens than may have a vector each.

        Raises:
            TooManyTokens: they have.
        """
        if sum(len(span) for spans in self.spans for span in spans) > most:
            raise TooManyTokens(
                f"the texts have more than {most} tokens together, each with a vector: send fewer "
                "at a time, or raise ENCSERVE_MAX_TOKEN_VECTORS",
                param="input",
            )


class Preparer:
    """Prepares inputs for one model; safe for concurrent requests of one event loop."""

    def __init__(
        self,
        manifest: Manifest,
        tokenizer: Tokenizer,
        pool: WorkerPool,
        metrics: ModelMetrics,
        settings: Settings,
    ) -> None:
        self._manifest = manifest
        self._tokenizer = tokenizer
        self._pool = pool
        self._metrics = metrics
        self._settings = settings
        self._reads_pairs = manifest.pair_separator_id is not None
        self._prompts = {name: self._prompt(text) for name, text in manifest.prompts.items()}
        self._no_prompt = self._prompt("")

    async def prepare(
        self, inputs: Sequence[Input], options: Options, take_place: TakePlace
    ) -> Prepared:
        """The inputs as token ids, in their order.

        Args:
            take_place: asked before anything is tokenized; it is kept until all is.

        Raises:
            WrongTask: the model reads pairs and these are single texts, or the reverse.
            InvalidRequest: there are no inputs or too many, or, unless `partial`, one is at fault.
        """
        prompt = self._named_prompt(options.prompt_name)
        self._check_count(inputs)
        about = sum(self._about_tokens(text, options) for text in inputs)
        options.account.expect(len(inputs), about)
        prepared = Prepared([[] for _ in inputs], [0] * len(inputs))

        def refuse(index: int, error: InvalidRequest) -> None:
            if not options.partial:
                raise error
            prepared.errors[index] = error

        # Every input has a token at least. A full queue is seen before any work, not after.
        with take_place(len(inputs), about) as check:
            for index, text in enumerate(inputs):
                if (fault := self._fault(text, index)) is not None:
                    refuse(index, fault)
            sound = [index for index in range(len(inputs)) if index not in prepared.errors]
            tokenized = await self._tokenize([inputs[index] for index in sound], prompt, check)
        for index, ids in zip(sound, tokenized, strict=True):
            prepared.full_tokens[index] = ids.full_tokens
            try:
                own = isinstance(inputs[index], OwnIds)
                fitting = [ids.token_ids] if own else self._fit(ids, index, prompt, options)
                prepared.spans[index] = fitting
            except InvalidRequest as error:
                refuse(index, error)
        return prepared

    def _fit(
        self, text: Tokenized, index: int, prompt: "_Prompt", options: Options
    ) -> list[list[int]]:
        """The spans of a tokenized input."""
        if text.blank or text.token_ids == prompt.token_ids:
            raise BlankText(
                "the text has nothing that the model's tokenizer keeps", param=_param(index)
            )
        if text.full_tokens <= self._manifest.max_tokens:
            return [text.token_ids]
        if options.overflow == "error":
            raise TextTooLong(
                f"the text has {text.full_tokens} tokens, model {self._manifest.name!r} reads "
                f"{self._manifest.max_tokens}: shorten it, or let it be truncated",
                param=_param(index),
            )
        if options.overflow == "windows":
            if self._reads_pairs:
                raise InvalidField(
                    "pairs cannot be spread over windows: let them be truncated", param="overflow"
                )
            return self._tokenizer.windows(text, prompt.tokens)
        if text.truncated:
            return [text.token_ids]  # a pair, which is cut while it is joined
        return [self._tokenizer.truncate(text, options.truncation_side, prompt.tokens).token_ids]

    async def _tokenize(
        self, inputs: Sequence[Input], prompt: "_Prompt", check: Callable[[], object]
    ) -> list[Tokenized]:
        with self._metrics.tokenize_duration.time():
            if sum(map(characters, inputs)) <= INLINE_TOKENIZE_CHARS:
                return self._encode(inputs, prompt)
            tokenized: list[Tokenized] = []
            for portion in portions(inputs, characters, TOKENIZE_PORTION_CHARS):
                check()
                tokenized += await self._pool.run_aside(self._encode, portion, prompt)
            return tokenized

    def _about_tokens(self, text: Input, options: Options) -> int:
        about = about_tokens(text)
        return about if options.overflow == "windows" else min(about, self._manifest.max_tokens)

    def _encode(self, inputs: Sequence[Input], prompt: "_Prompt") -> list[Tokenized]:
        """In the order of `inputs`."""
        pairs = [pair for pair in inputs if isinstance(pair, Pair)]
        texts = [prompt.text + text for text in inputs if isinstance(text, str)]
        encoded = iter(
            self._tokenizer.encode_pairs(pairs) if pairs else self._tokenizer.encode_whole(texts)
        )
        return [
            Tokenized(list(text), len(text), blank=False)
            if isinstance(text, TokenIds)
            else next(encoded)
            for text in inputs
        ]

    def _prompt(self, text: str) -> "_Prompt":
        (alone,) = self._tokenizer.encode_whole([text])
        (nothing,) = self._tokenizer.encode_whole([""])
        return _Prompt(text, alone.token_ids, alone.full_tokens - nothing.full_tokens)

    def prompt_text(self, name: str | None) -> str:
        """What is put before a text: the prompt that is named, or the default one, or nothing.

        Raises:
            InvalidField: the model has no such prompt.
        """
        return self._named_prompt(name).text

    def _named_prompt(self, name: str | None) -> "_Prompt":
        name = self._manifest.default_prompt if name is None else name
        if name is None:
            return self._no_prompt
        if name not in self._prompts:
            raise InvalidField(
                f"model {self._manifest.name!r} has no such prompt: it has "
                f"{', '.join(self._prompts) or 'none'}",
                param="prompt_name",
            )
        return self._prompts[name]

    def _check_count(self, inputs: Sequence[Input]) -> None:
        if not inputs:
            raise EmptyInput("input is empty: send at least one text", param="input")
        most = self._settings.max_texts_per_request
        if len(inputs) > most:
            raise TooManyTexts(len(inputs), most)

    def _fault(self, text: Input, index: int) -> InvalidRequest | None:
        """What is wrong with an input before it is tokenized."""
        if isinstance(text, OwnIds):
            return None
        if self._reads_pairs is not isinstance(text, Pair):
            wanted = "two texts together" if self._reads_pairs else "single texts, not pairs"
            raise WrongTask(
                f"model {self._manifest.name!r} judges {wanted}: send those, or ask another model",
                param="model",
            )
        if isinstance(text, TokenIds):
            return self._fault_of_ids(text, index)
        for part in text if isinstance(text, Pair) else (text,):
            if not part or part.isspace():
                return BlankText("the text is empty or blank", param=_param(index))
            if (fault := too_many_chars(part, self._settings.max_text_chars, index)) is not None:
                return fault
        return None

    def _fault_of_ids(self, ids: TokenIds, index: int) -> InvalidRequest | None:
        most = self._tokenizer.vocabulary_size - 1
        if not ids:
            return BlankText("the list of token ids is empty", param=_param(index))
        if len(ids) > self._settings.max_text_chars:
            return TextTooLong(
                f"the input has {len(ids)} token ids, the limit is "
                f"{self._settings.max_text_chars} (ENCSERVE_MAX_TEXT_CHARS)",
                param=_param(index),
            )
        if not all(0 <= token_id <= most for token_id in ids):
            return TokenIdsNotAccepted(
                f"the ids of model {self._manifest.name!r} go from 0 to {most}: these are of "
                "another tokenizer",
                param=_param(index),
            )
        return None


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A text that is put before others; token_ids: of it alone; tokens: without special ones."""

    text: str
    token_ids: list[int]
    tokens: int


def too_many_chars(text: str, most: int, index: int) -> TextTooLong | None:
    """What is wrong with a text of more than `most` characters, the input number `index`."""
    if len(text) <= most:
        return None
    return TextTooLong(
        f"the text has {len(text)} characters, the limit is {most}: shorten it, or raise "
        "ENCSERVE_MAX_TEXT_CHARS",
        param=_param(index),
    )


def _param(index: int) -> str:
    return f"input[{index}]"
