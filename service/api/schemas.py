"""Request bodies of our own and OpenAI's routes; examples stand in `examples.py`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.api.vectors import EncodingFormat
from service.errors import InvalidField, TokenIdsNotAccepted


def text_or_texts(value: Any) -> Any:
    """Say precisely what is wrong; a union of types would say it twice and vaguely."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise InvalidField("input must be a string or a list of strings", param="input")
    for index, text in enumerate(value):
        if isinstance(text, int | list) and not isinstance(text, bool):
            raise TokenIdsNotAccepted(
                "input holds token ids, which another tokenizer may have made: send text "
                "(langchain-openai: check_embedding_ctx_length=False)",
                param="input",
            )
        if not isinstance(text, str):
            raise InvalidField("each input must be a string", param=f"input[{index}]")
    return value


def text_list(value: Any) -> Any:
    """A list of strings, and nothing else."""
    if not isinstance(value, list):
        raise InvalidField("texts must be a list of strings", param="texts")
    for index, text in enumerate(value):
        if not isinstance(text, str):
            raise InvalidField("each text must be a string", param=f"texts[{index}]")
    return value


def texts_or_token_ids(value: Any) -> Any:
    """As `text_or_texts`; lists of whole numbers pass, one list of them or several."""
    if _are_ids(value) or (isinstance(value, list) and value and all(map(_are_ids, value))):
        return value
    return text_or_texts(value)


def texts_or_pairs(value: Any) -> Any:
    """As `text_or_texts`; lists of two strings pass, if all are such."""
    if isinstance(value, list) and value and all(map(_is_pair, value)):
        return value
    return text_or_texts(value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(one) is str for one in value)


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(one) is int for one in value)


Texts = Annotated[
    str | list[str],
    BeforeValidator(text_or_texts),
    Field(description="one text, or a list of texts; answers come in the same order"),
]

TextsOrTokenIds = Annotated[
    str | list[str] | list[int] | list[list[int]],
    BeforeValidator(texts_or_token_ids),
    Field(description="one text or several; or token ids, if token_ids_of says whose"),
]

TextsOrPairs = Annotated[
    str | list[str] | list[list[str]],
    BeforeValidator(texts_or_pairs),
    Field(description="one text or several; or pairs of texts, for a model that judges pairs"),
]

ExpectedVersion = Annotated[
    str | None,
    Field(description="answer 409 unless this version (or digest) of the model serves"),
]


class StrictBody(BaseModel):
    """A request body without fields that nobody knows and numbers that are none."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class LengthOptions(StrictBody):
    """What is to become of texts that are too long, or at fault."""

    overflow: Literal["truncate", "error", "windows"] = Field(
        "truncate",
        description="a text longer than the model reads is cut, refused, or spread over "
        "overlapping windows whose answers are put together",
    )
    truncation_direction: Literal["right", "left"] = Field(
        "right", description="the side that is cut"
    )
    on_error: Literal["fail", "partial"] = Field(
        "fail", description="partial: a text at fault gets an error of its own in the answer"
    )


class TextOptions(LengthOptions):
    """What every route of ours understands that asks one model."""

    expected_version: ExpectedVersion = None
    prompt_name: str | None = Field(
        None, description="one of the model's prompts, put before each text"
    )


class EmbeddingsRequest(TextOptions):
    input: TextsOrTokenIds
    model: str | None = Field(None, description="default: the store's embedding model")
    encoding_format: EncodingFormat | None = Field(
        "float",
        description="base64: little-endian float32, as OpenAI's clients ask for; int8 and uint8: "
        "scaled to the vector's largest number; binary and ubinary: a bit a number, 8 to a byte. "
        "With `Accept: application/octet-stream` or `application/x-npy` the bare array is sent",
    )
    dimensions: int | None = Field(
        None, ge=1, description="keep this many dimensions, then scale to unit length again"
    )
    token_ids_of: str | None = Field(
        None, description="input holds ids of this model's tokenizer, special tokens included"
    )
    user: str | None = Field(None, description="accepted for compatibility, not used")


class ClassifyOptions(TextOptions):
    windows: Literal["mean", "max"] = Field(
        "mean", description="how the scores of windows are put together"
    )
    top_k: int | None = Field(None, ge=1, description="only so many labels, the likeliest first")
    threshold: float | Literal["calibrated"] | None = Field(
        None,
        description="only labels whose score is at least this; calibrated: what the model's "
        "makers measured to be precise enough. The label is null where none is left",
    )
    raw_scores: bool = Field(False, description="the model's logits instead of probabilities")


class SentimentRequest(ClassifyOptions):
    input: Texts
    model: str | None = Field(None, description="default: the store's sentiment model")


class ClassifyRequest(ClassifyOptions):
    input: TextsOrPairs
    model: str | None = Field(
        None, description="default: the store's sentiment model; with candidate_labels, embedding"
    )
    candidate_labels: list[str] | None = Field(
        None, min_length=1, description="labels in your own words, judged by an embedding model"
    )
    hypothesis_template: str = Field("This text is about {}.", description="{} takes a label")
    multi_label: bool = Field(False, description="each label by itself: scores need not sum to 1")


class ExplainRequest(StrictBody):
    input: TextsOrPairs
    model: str | None = Field(None, description="default: the store's sentiment model")
    label: str | None = Field(None, description="the label to explain; default: the likeliest")
    expected_version: ExpectedVersion = None
    prompt_name: str | None = Field(None, description="as in /v1/classify")


class AnalyzeRequest(LengthOptions):
    input: Texts
    expected_version: ExpectedVersion = None
    sentiment_model: str | None = Field(None, description="default: the store's sentiment model")
    embedding_model: str | None = Field(None, description="default: the store's embedding model")
    encoding_format: EncodingFormat = Field("float", description="as in /v1/embeddings")
    dimensions: int | None = Field(None, ge=1, description="as in /v1/embeddings")
