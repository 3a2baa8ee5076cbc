"""The Open Inference Protocol v2, as KServe and Triton speak it: texts to vectors or labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, cast

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import Response

from service.answers import Answer
from service.api.dialects import OIP
from service.api.examples import INFER_REQUESTS, answers
from service.api.headers import answer_headers
from service.api.oip_requests import HEADER_LENGTH, OipRoute
from service.api.oip_schemas import (
    InferOutput,
    InferRequest,
    InferResponse,
    OipError,
    OipParameters,
)
from service.api.oip_tensors import bytes_tensor, read_texts, split_tail, top_k
from service.api.requests import parsed
from service.api.routing import (
    chosen,
    documented_responses,
    engines_of,
    options_of,
    settings_of,
)
from service.batching.queue import Priority
from service.engine import Engine
from service.errors import InvalidField
from service.inputs import Input
from service.options import Options, Overflow
from service.registry import EngineRegistry

router = APIRouter(route_class=OipRoute, tags=["Open Inference Protocol"])

INPUT = "text"
OUTPUTS = {"embedding": ("embedding",), "classification": ("scores", "label")}
MICROSECONDS = 1_000_000


@router.post(
    "/v2/models/{model}/infer",
    summary="Vectors or label scores of texts; .../versions/{version}/infer asks one version",
    response_model=InferResponse,
    responses=documented_responses(answers("/v2/models/{model}/infer"), OIP, OipError),
)
async def infer(
    model: str,
    body: Annotated[InferRequest, Body(openapi_examples=INFER_REQUESTS)],
    request: Request,
) -> Response:
    return await _infer(engines_of(request).get(model), body, request, by_version="@" in model)


@router.post("/v2/models/{model}/versions/{version}/infer", include_in_schema=False)
async def infer_version(
    model: str,
    version: str,
    body: InferRequest,
    request: Request,
) -> Response:
    engine = version_of(engines_of(request), model, version)
    return await _infer(engine, body, request, by_version=True)


def version_of(engines: EngineRegistry, model: str, version: str) -> Engine:
    """A version of a model that is meant by name or alias.

    Raises:
        UnknownModel: it is not loaded.
    """
    engine = engines.get(model)
    return engine if engine.version == version else engines.get(f"{engine.name}@{version}")


async def _infer(
    engine: Engine, body: InferRequest, request: Request, *, by_version: bool
) -> Response:
    parameters = parsed(OipParameters, body.parameters)
    engine = chosen(request, engine, parameters.expected_version, by_version=by_version)
    wanted = _wanted(engine, body)
    texts = _texts(body, request)
    options = _options(request, parameters)
    if engine.manifest.task == "embedding":
        answer = await engine.embed(
            texts, options, dimensions=parameters.dimensions, normalize=parameters.normalize
        )
    else:
        answer = await engine.classify(texts, options, raw_scores=parameters.raw_scores)
    tensors = [_output(output, engine, answer, parameters) for output in wanted]
    return _respond(body, engines_of(request).name_of(engine), engine, answer, tensors)


@dataclass(frozen=True)
class _Output:
    """A tensor that goes out. values: numbers [shape], or strings, row after row."""

    name: str
    shape: list[int]
    values: npt.NDArray[np.float32] | list[str]
    binary: bool

    @property
    def raw(self) -> bytes:
        if isinstance(self.values, list):
            return bytes_tensor(self.values)
        return self.values.astype("<f4", copy=False).tobytes()

    def described(self) -> dict[str, Any]:
        """Its entry in the JSON, without data that are sent behind it."""
        datatype = "BYTES" if isinstance(self.values, list) else "FP32"
        entry = {"name": self.name, "datatype": datatype, "shape": self.shape}
        if self.binary:
            return entry | {"parameters": {"binary_data_size": len(self.raw)}}
        flat = self.values if isinstance(self.values, list) else self.values.ravel()
        return entry | {"data": flat}


def _output(
    output: InferOutput, engine: Engine, answer: Answer, parameters: OipParameters
) -> _Output:
    binary = output.parameters.get("binary_data", parameters.binary_data_output) is True
    labels = engine.manifest.labels
    rows = np.ascontiguousarray(answer.rows)
    k = output.parameters.get("classification", 0)
    if type(k) is not int or k < 0:
        raise InvalidField("classification must be the number of labels wanted")
    if output.name == "label":
        winners = [labels[index] for index in rows.argmax(axis=1).tolist()]
        return _Output("label", [len(rows)], winners, binary)
    if k:
        found, shape = top_k(rows, labels, k)
        return _Output(output.name, shape, found, binary)
    return _Output(output.name, list(rows.shape), rows, binary)


def _respond(
    body: InferRequest, name: str, engine: Engine, answer: Answer, tensors: Sequence[_Output]
) -> Response:
    content: dict[str, Any] = {"model_name": name, "model_version": engine.version}
    if body.id is not None:
        content["id"] = body.id
    content["outputs"] = [tensor.described() for tensor in tensors]
    written = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = answer_headers(engine, answer)
    raw = b"".join(tensor.raw for tensor in tensors if tensor.binary)
    engine.metrics.written(answer.computed_at_s)
    if not any(tensor.binary for tensor in tensors):
        return Response(written, headers=headers, media_type="application/json")
    headers[HEADER_LENGTH] = str(len(written))
    return Response(written + raw, headers=headers, media_type="application/octet-stream")


def _wanted(engine: Engine, body: InferRequest) -> list[InferOutput]:
    known = OUTPUTS[engine.manifest.task]
    if not body.outputs:
        return [InferOutput(name=name) for name in known]
    for output in body.outputs:
        if output.name not in known:
            raise InvalidField(
                f"model {engine.name!r} has no such output: it has {', '.join(known)}"
            )
    return body.outputs


def _texts(body: InferRequest, request: Request) -> list[Input]:
    parts = split_tail(body.inputs, request.state.tail)
    if len(body.inputs) != 1 or body.inputs[0].name != INPUT:
        raise InvalidField(f"the model's one input is called {INPUT!r}")
    return read_texts(body.inputs[0], parts[0], settings_of(request).max_texts_per_request)


def _options(request: Request, parameters: OipParameters) -> Options:
    """The headers' options, under the protocol's own priority and timeout."""
    options = options_of(
        request,
        prompt_name=parameters.prompt_name,
        overflow=cast(Overflow, parameters.overflow),
    )
    if parameters.priority > 1:
        options = replace(options, priority=Priority.BULK)
    if parameters.timeout:
        timeout_s = parameters.timeout / MICROSECONDS
        options = replace(options, timeout_s=min(timeout_s, options.timeout_s or timeout_s))
    return options
