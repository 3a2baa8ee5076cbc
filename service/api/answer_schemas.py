"""Response bodies of our own and OpenAI's routes, and of operations."""

from typing import Literal

from pydantic import BaseModel, Field


class Usage(BaseModel):
    """Tokens that the model read, special tokens included."""

    prompt_tokens: int
    total_tokens: int


class TextError(BaseModel):
    """What was wrong with one text of a partial answer."""

    code: str
    message: str
    param: str | None


class _Entry(BaseModel):
    """What is said of every text; `error` stands alone with `index`, in a partial answer."""

    index: int
    truncated: bool = Field(False, description="the model did not read the end, or the beginning")
    full_tokens: int = Field(0, description="of the whole text, special tokens included")
    error: TextError | None = None


class Embedding(_Entry):
    object: Literal["embedding"]
    embedding: list[float] | str | None


class EmbeddingsResponse(BaseModel):
    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: Usage


class Classification(_Entry):
    """The likeliest label, its score, and the score of each label."""

    label: str | None = Field(None, description="null where no score reaches the threshold")
    score: float | None = None
    scores: dict[str, float] = {}


class Sentiment(Classification):
    """As a classification, and one number for the mood."""

    compound: float | None = Field(
        None, description="positive minus negative probability, from -1 to 1"
    )


class _ClassifyResponse(BaseModel):
    object: Literal["list"]
    model: str
    version: str
    usage: Usage


class ClassifyResponse(_ClassifyResponse):
    data: list[Classification]


class SentimentResponse(_ClassifyResponse):
    data: list[Sentiment]


class Words(BaseModel):
    """One word or several. start, end: in characters (code points) of the text."""

    text: str
    start: int
    end: int
    part: int | None = Field(None, description="of a pair: 0 in its first text, 1 in its second")


class WeighedWords(Words):
    weight: float = Field(description="by how much the score falls when they are left out")


class WeighedPhrase(WeighedWords):
    interaction: float = Field(description="what they move more than each of them alone")


class Completeness(BaseModel):
    """How well the parts add up: no gap where words move the score independently."""

    total: float = Field(description="from none of the words to all of them")
    sum_of_weights: float
    gap: float


class ChangingDeletion(BaseModel):
    """The fewest words found whose deletion changes the label, and the label without them."""

    removed: list[Words]
    label: str
    score: float


class ExplainedText(BaseModel):
    index: int
    label: str
    score: float
    scores: dict[str, float]
    words: list[WeighedWords]
    phrases: list[WeighedPhrase]
    completeness: Completeness
    deletion: ChangingDeletion | None
    runs: float = Field(description="tokens that this has cost, in times the text's own")
    truncated: bool
    full_tokens: int


class ExplainResponse(_ClassifyResponse):
    unit: Literal["log_odds", "value"] = Field(
        description="of weights: log-odds of the label, or regression's own unit"
    )
    data: list[ExplainedText]


class AnalyzedText(BaseModel):
    """A text's mood and its vector."""

    index: int
    sentiment: Sentiment
    embedding: Embedding


class ServedVersion(BaseModel):
    model: str
    version: str
    digest: str


class AnalyzeResponse(BaseModel):
    object: Literal["list"]
    sentiment: ServedVersion
    embedding: ServedVersion
    data: list[AnalyzedText]
    usage: Usage


class ModelCard(BaseModel):
    """A served model; the fields after `owned_by` are ours, OpenAI's clients pass over them."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    version: str
    digest: str
    aliases: list[str]
    task: str
    problem_type: str | None
    reads_pairs: bool
    max_tokens: int
    dimensions: int | None
    matryoshka_dimensions: list[int]
    prompts: list[str]
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
