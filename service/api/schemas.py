"""Request and response bodies of all routes; their examples stand in `examples.py`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.errors import InvalidField, TokenIdsNotAccepted


def _strings_only(value: Any) -> Any:
    """Say precisely what is wrong; a union of types would say it twice and vaguely."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise InvalidField("input must be a string or a list of strings", param="input")
    for index, text in enumerate(value):
        if isinstance(text, int | list) and not isinstance(text, bool):
            raise TokenIdsNotAccepted(
                "input holds token ids, which another tokenizer made: send text "
                "(langchain-openai: check_embedding_ctx_length=False)",
                param="input",
            )
        if not isinstance(text, str):
            raise InvalidField("each input must be a string", param=f"input[{index}]")
    return value


Texts = Annotated[
    str | list[str],
    BeforeValidator(_strings_only),
    Field(description="one text, or a list of texts; answers come in the same order"),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class EmbeddingsRequest(_Request):
    input: Texts
    model: str | None = Field(None, description="default: the store's embedding model")
    encoding_format: Literal["float", "base64"] | None = Field(
        "float", description="base64: little-endian float32, as OpenAI's clients ask for"
    )
    dimensions: int | None = Field(
        None, ge=1, description="keep this many dimensions, then scale to unit length again"
    )
    user: str | None = Field(None, description="accepted for compatibility, not used")


class ClassifyRequest(_Request):
    input: Texts
    model: str | None = Field(None, description="default: the store's sentiment model")


class Usage(BaseModel):
    """Tokens that the model read, special tokens included."""

    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsResponse(BaseModel):
    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: Usage


class Classification(BaseModel):
    """The likeliest label, its probability, and the probability of each label."""

    index: int
    label: str
    score: float
    scores: dict[str, float]
    truncated: bool = Field(description="the text was longer than the model reads")


class Sentiment(Classification):
    """As a classification, and one number for the mood."""

    compound: float = Field(description="positive minus negative probability, from -1 to 1")


class _ClassifyResponse(BaseModel):
    object: Literal["list"]
    model: str
    version: str
    usage: Usage


class ClassifyResponse(_ClassifyResponse):
    data: list[Classification]


class SentimentResponse(_ClassifyResponse):
    data: list[Sentiment]


class ModelCard(BaseModel):
    """A served model; the fields after `owned_by` are ours, OpenAI's clients pass over them."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    version: str
    task: str
    max_tokens: int
    dimensions: int | None
    labels: list[str]


class ModelsResponse(BaseModel):
    object: Literal["list"]
    data: list[ModelCard]


class Liveness(BaseModel):
    live: bool


class Readiness(BaseModel):
    ready: bool
    models: dict[str, bool] = Field(description="each model: did it answer its warm-up")


class ErrorDetail(BaseModel):
    code: str = Field(description="stable word for programs")
    message: str = Field(description="sentence for people: the limit and the remedy")
    param: str | None = Field(description="the part of the request that is at fault")
    type: str = Field(description="OpenAI's class of the error")


class ErrorResponse(BaseModel):
    error: ErrorDetail
