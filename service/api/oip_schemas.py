"""Bodies of the Open Inference Protocol v2; unknown fields are passed over, as it asks."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class OipError(BaseModel):
    error: str


class _Body(BaseModel):
    model_config = ConfigDict(
        extra="ignore", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class InferInput(_Body):
    """data: flat or nested, row after row; behind the JSON if `binary_data_size` is among the
    parameters."""

    name: str
    shape: list[int] = Field(max_length=8)
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = None


class InferOutput(_Body):
    """parameters: `binary_data`, and `classification`, the number of labels wanted."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(_Body):
    """parameters: of the protocol `timeout` (microseconds), `priority` (1 is the highest) and
    `binary_data_output`; ours are `dimensions`, `normalize`, `prompt_name`, `overflow`,
    `raw_scores` and `expected_version`."""

    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[InferInput] = Field(min_length=1, max_length=8)
    outputs: list[InferOutput] | None = Field(None, max_length=8)


class Tensor(_Body):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class InferResponse(_Body):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]


class OipParameters(_Body):
    """What the request's parameters may say; others are passed over."""

    timeout: int | None = Field(None, ge=0, description="microseconds; 0: none")
    priority: int = Field(0, ge=0, description="0 and 1: at once; others: bulk")
    binary_data_output: bool = False
    dimensions: int | None = Field(None, ge=1)
    normalize: bool = True
    prompt_name: str | None = None
    overflow: str = Field("truncate", pattern="^(truncate|error|windows)$")
    raw_scores: bool = False
    expected_version: str | None = None


class TensorMetadata(_Body):
    name: str
    datatype: str
    shape: list[int] = Field(description="-1: any number")


class ModelMetadata(_Body):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(_Body):
    name: str
    version: str
    extensions: list[str]


class Live(_Body):
    live: bool


class Ready(_Body):
    ready: bool


class ModelReady(_Body):
    name: str
    ready: bool


class IndexEntry(_Body):
    name: str
    version: str
    state: str
    reason: str


class IndexRequest(_Body):
    ready: bool = False
