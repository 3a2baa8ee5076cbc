"""Bodies of text-embeddings-inference's dialect; unknown fields are passed over, as it does."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.errors import EmptyInput, InvalidField, TokenIdsNotAccepted
from service.inputs import Input, Pair, TokenIds


class TeiError(BaseModel):
    error: str
    error_type: str


class TeiBody(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    model: str | None = Field(
        None, description="ours: name, name@version or alias; without it the task's default"
    )


class Truncation(TeiBody):
    truncate: bool | None = Field(None, description="false: refuse what is too long; else cut it")
    truncation_direction: Literal["Left", "Right", "left", "right"] = "Right"
    prompt_name: str | None = None


def embed_inputs(value: Any) -> Any:
    """A string, a list of strings, ids, or a list of lists of ids and strings."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise InvalidField("inputs must be a string, a list of strings, or token ids")
    if not value:
        raise EmptyInput("inputs cannot be empty")
    if all(type(one) is int for one in value):
        return value
    for index, one in enumerate(value):
        ids = isinstance(one, list) and bool(one) and all(type(part) is int for part in one)
        if not (isinstance(one, str) or ids):
            raise InvalidField(f"inputs[{index}] must be a string, or a list of token ids")
    return value


def predict_inputs(value: Any) -> Any:
    """A string, a list of one string, a list of two that are a pair, or a list of such lists."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise InvalidField("inputs must be a string, a pair of strings, or a list of such lists")
    if not value:
        raise EmptyInput("inputs cannot be empty")
    lists = value if all(isinstance(one, list) for one in value) else [value]
    for index, one in enumerate(lists):
        if len(one) not in (1, 2) or not all(isinstance(text, str) for text in one):
            raise InvalidField(
                f"inputs[{index}] must hold one text or two: several texts are written "
                '[["one"], ["another"]]'
            )
    return value


def _texts(value: Any) -> Any:
    if not isinstance(value, list):
        raise InvalidField("a list of strings is needed")
    if not value:
        raise EmptyInput("the list of texts cannot be empty")
    for index, text in enumerate(value):
        if not isinstance(text, str):
            raise InvalidField(f"text {index} must be a string")
    return value


def _strings(value: Any) -> Any:
    return value if isinstance(value, str) else _texts(value)


TextList = Annotated[list[str], BeforeValidator(_texts)]


class EmbedAllRequest(Truncation):
    inputs: Annotated[str | list[int] | list[str | list[int]], BeforeValidator(embed_inputs)] = (
        Field(description="one text or several; or ids, if token_ids_of says whose")
    )
    token_ids_of: str | None = Field(
        None, description="ours: inputs holds ids of this model's tokenizer, special ones included"
    )

    def texts(self) -> list[Input]:
        """The inputs as the engine takes them.

        Raises:
            TokenIdsNotAccepted: there are ids, and it is not said whose.
        """
        given = self.inputs
        whole = isinstance(given, str) or all(isinstance(one, int) for one in given)
        listed: list[Any] = [given] if whole else list(given)
        if self.token_ids_of is None and any(isinstance(one, list) for one in listed):
            raise TokenIdsNotAccepted(
                "inputs holds token ids, which another tokenizer may have made: send text, or say "
                "with token_ids_of that they are this model's"
            )
        return [one if isinstance(one, str) else TokenIds(one) for one in listed]


class EmbedRequest(EmbedAllRequest):
    normalize: bool = Field(True, description="false: the vector as it was pooled")
    dimensions: int | None = Field(None, ge=1, description="cut, then scaled to unit length")


class PredictRequest(Truncation):
    inputs: Annotated[str | list[str] | list[list[str]], BeforeValidator(predict_inputs)] = Field(
        description='"a", ["a"], the pair ["a", "b"], or a list of such lists'
    )
    raw_scores: bool = False

    @property
    def single(self) -> bool:
        """One text or pair, whose answer is not a list of answers."""
        return isinstance(self.inputs, str) or isinstance(self.inputs[0], str)

    def texts(self) -> list[Input]:
        """The inputs as the engine takes them."""
        given: list[Any] = [self.inputs] if self.single else list(self.inputs)
        return [_text_or_pair([one] if isinstance(one, str) else one) for one in given]


def _text_or_pair(texts: list[str]) -> Input:
    return texts[0] if len(texts) == 1 else Pair(*texts)


class SimilarityInputs(TeiBody):
    source_sentence: str
    sentences: TextList


class SimilarityRequest(TeiBody):
    inputs: SimilarityInputs
    parameters: Truncation | None = None


class RerankRequest(Truncation):
    query: str
    texts: TextList
    raw_scores: bool = False
    return_text: bool = False


class TokenizeRequest(TeiBody):
    inputs: Annotated[str | list[str], BeforeValidator(_strings)]
    add_special_tokens: bool = True
    prompt_name: str | None = None


def _ids(value: Any) -> Any:
    if not isinstance(value, list):
        raise InvalidField("ids must be a list of token ids, or a list of such lists")
    if not value:
        raise EmptyInput("ids cannot be empty")
    return value


class DecodeRequest(TeiBody):
    ids: Annotated[list[int] | list[list[int]], BeforeValidator(_ids)]
    skip_special_tokens: bool = True


class HubParameters(Truncation):
    """What huggingface_hub's client puts beside the inputs, for any of its tasks."""

    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None
    top_k: int | None = Field(None, ge=1)
    candidate_labels: Annotated[list[str], Field(min_length=1)] | None = None
    multi_label: bool = False
    hypothesis_template: str = "This text is about {}."


class HubRequest(TeiBody):
    inputs: Annotated[str | list[str], BeforeValidator(_strings)]
    parameters: HubParameters


class RootRequest(BaseModel):
    """Whatever the model's task takes: the shape says which."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    inputs: Any = None
    parameters: Any = None


class Prediction(BaseModel):
    score: float
    label: str


class Rank(BaseModel):
    index: int
    score: float
    text: str | None = None


class SimpleToken(BaseModel):
    """start, stop: in characters, null for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class Info(BaseModel):
    """What text-embeddings-inference says of its one model, of our default one; then of all."""

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    model_sha: str
    model_dtype: str
    served_model_name: str
    model_type: dict[str, Any]
    max_concurrent_requests: int | None
    max_input_length: int
    max_batch_tokens: int | None
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None
    models: list[str]
    rerank: str = Field(description="how /rerank judges: cross-encoder or cosine, and which model")
