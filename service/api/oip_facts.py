"""What the Open Inference Protocol tells of the server and its models, without asking a model."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service import __version__
from service.api.dialects import OIP
from service.api.oip import INPUT, OUTPUTS, version_of
from service.api.oip_requests import OipRoute
from service.api.oip_schemas import (
    IndexEntry,
    IndexRequest,
    Live,
    ModelMetadata,
    ModelReady,
    OipError,
    Ready,
    ServerMetadata,
)
from service.api.requests import parse_json, parsed, read_body
from service.api.routing import documented_responses, engines_of, settings_of
from service.engine import Engine
from service.metrics import Metrics
from service.registry import EngineRegistry

NOT_READY = "shutting down, or a worker has died or hangs"

router = APIRouter(route_class=OipRoute, tags=["Open Inference Protocol"])

PLATFORM = "onnx_onnxv1"
EXTENSIONS = [
    *("binary_tensor_data", "classification", "model_configuration", "schedule_policy"),
    *("statistics", "model_repository"),
]
TYPES = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}
MODEL_ERRORS = documented_responses(dialect=OIP, model=OipError)
NANOSECONDS = 1_000_000_000


@router.get("/v2", summary="Name, version and extensions", response_model=ServerMetadata)
async def server_metadata() -> dict[str, Any]:
    return {"name": "encserve", "version": __version__, "extensions": EXTENSIONS}


@router.get("/v2/health/live", summary="The process runs", response_model=Live)
async def live(request: Request, response: Response) -> dict[str, bool]:
    alive = not engines_of(request).broken
    response.status_code = 200 if alive else 503
    return {"live": alive}


@router.get("/v2/health/ready", summary="All models can answer", response_model=Ready)
async def ready(request: Request, response: Response) -> dict[str, bool]:
    is_ready = engines_of(request).ready
    response.status_code = 200 if is_ready else 503
    return {"ready": is_ready}


@router.get("/v2/models/stats", summary="Counts and times of all models")
async def all_statistics(request: Request) -> dict[str, Any]:
    return _statistics(request, list(engines_of(request)))


@router.get(
    "/v2/models/{model}",
    summary="Tensors of a model",
    response_model=ModelMetadata,
    responses=MODEL_ERRORS,
)
async def metadata(model: str, request: Request) -> dict[str, Any]:
    return _metadata(engines_of(request).get(model), engines_of(request))


@router.get("/v2/models/{model}/versions/{version}", include_in_schema=False)
async def version_metadata(model: str, version: str, request: Request) -> dict[str, Any]:
    return _metadata(version_of(engines_of(request), model, version), engines_of(request))


@router.get(
    "/v2/models/{model}/ready",
    summary="The model can answer",
    response_model=ModelReady,
    responses=MODEL_ERRORS,
)
async def model_ready(model: str, request: Request, response: Response) -> dict[str, Any]:
    engines = engines_of(request)
    return _model_ready(engines.get(model), engines, response)


@router.get("/v2/models/{model}/versions/{version}/ready", include_in_schema=False)
async def version_ready(
    model: str, version: str, request: Request, response: Response
) -> dict[str, Any]:
    engines = engines_of(request)
    return _model_ready(version_of(engines, model, version), engines, response)


@router.get(
    "/v2/models/{model}/config", summary="Triton's description of a model", responses=MODEL_ERRORS
)
async def config(model: str, request: Request) -> dict[str, Any]:
    return _config(engines_of(request).get(model), engines_of(request))


@router.get("/v2/models/{model}/versions/{version}/config", include_in_schema=False)
async def version_config(model: str, version: str, request: Request) -> dict[str, Any]:
    return _config(version_of(engines_of(request), model, version), engines_of(request))


@router.get(
    "/v2/models/{model}/stats", summary="Counts and times of a model", responses=MODEL_ERRORS
)
async def statistics(model: str, request: Request) -> dict[str, Any]:
    return _statistics(request, [engines_of(request).get(model)])


@router.get("/v2/models/{model}/versions/{version}/stats", include_in_schema=False)
async def version_statistics(model: str, version: str, request: Request) -> dict[str, Any]:
    return _statistics(request, [version_of(engines_of(request), model, version)])


@router.post(
    "/v2/repository/index",
    summary="The loaded models; the body may be empty, or ask for ready ones",
    response_model=list[IndexEntry],
    openapi_extra={
        "requestBody": {
            "content": {"application/json": {"schema": {"type": "object"}}},
            "required": False,
        }
    },
)
async def index(request: Request) -> list[dict[str, str]]:
    body = await read_body(request, settings_of(request))
    wanted = parsed(IndexRequest, parse_json(body) if body else {})
    engines = engines_of(request)
    return [
        {
            "name": engine.name,
            "version": engine.version,
            "state": "READY" if engines.can_answer(engine) else "UNAVAILABLE",
            "reason": "" if engines.can_answer(engine) else NOT_READY,
        }
        for engine in engines
        if engines.can_answer(engine) or not wanted.ready
    ]


def _metadata(engine: Engine, engines: EngineRegistry) -> dict[str, Any]:
    versions = [one.version for one in engines if one.name == engine.name]
    return {
        "name": engine.name,
        "versions": sorted(versions, key=int),
        "platform": PLATFORM,
        "inputs": [
            {"name": INPUT, "datatype": "BYTES", "shape": [-1, 2] if engine.reads_pairs else [-1]}
        ],
        "outputs": [
            {
                "name": name,
                "datatype": "BYTES" if name == "label" else "FP32",
                "shape": [-1] if name == "label" else [-1, engine.manifest.width],
            }
            for name in OUTPUTS[engine.manifest.task]
        ],
    }


def _model_ready(engine: Engine, engines: EngineRegistry, response: Response) -> dict[str, Any]:
    ready = engines.can_answer(engine)
    response.status_code = 200 if ready else 503
    return {"name": engine.name, "ready": ready}


def _config(engine: Engine, engines: EngineRegistry) -> dict[str, Any]:
    described = _metadata(engine, engines)
    return {
        "name": engine.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": [int(v) for v in described["versions"]]}},
        # Triton's 0 says that the shapes below are whole; requests are batched all the same.
        "max_batch_size": 0,
        "input": [_configured(tensor) for tensor in described["inputs"]],
        "output": [_configured(tensor) for tensor in described["outputs"]],
    }


def _configured(tensor: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": tensor["name"],
        "data_type": TYPES[tensor["datatype"]],
        "dims": tensor["shape"],
    }


def _statistics(request: Request, engines: list[Engine]) -> dict[str, Any]:
    metrics: Metrics = request.app.state.metrics
    return {"model_stats": [_counts(engine, metrics) for engine in engines]}


def _counts(engine: Engine, metrics: Metrics) -> dict[str, Any]:
    """Triton's names for what the metrics have counted: times in nanoseconds, of texts or runs."""
    labels = {"model": engine.name, "version": engine.version}

    def sample(name: str, **more: str) -> float:
        return metrics.registry.get_sample_value(name, labels | more) or 0

    def stage(name: str) -> dict[str, int]:
        series = "encserve_stage_duration_seconds"
        return {
            "count": int(sample(f"{series}_count", stage=name)),
            "ns": int(sample(f"{series}_sum", stage=name) * NANOSECONDS),
        }

    return {
        "name": engine.name,
        "version": engine.version,
        "inference_count": int(sample("encserve_batch_texts_sum")),
        "execution_count": int(sample("encserve_batch_texts_count")),
        "inference_stats": {
            "queue": stage("queue"),
            "compute_input": stage("tokenize"),
            "compute_infer": stage("infer"),
            "cache_hit": {"count": int(sample("encserve_texts_total", source="cached")), "ns": 0},
        },
    }
