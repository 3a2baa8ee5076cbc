"""OpenAI's dialect: embeddings and the list of models."""

import base64
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import Response

from service.api.examples import EMBEDDINGS_REQUESTS, EMBEDDINGS_RESPONSES
from service.api.requests import StrictRoute
from service.api.routing import (
    PriorityHeader,
    as_list,
    documented_responses,
    engines_of,
    json_response,
    priority_of,
    select_engine,
    usage,
)
from service.api.schemas import EmbeddingsRequest, EmbeddingsResponse, ModelCard, ModelsResponse
from service.engine import Engine, FloatArray

router = APIRouter(route_class=StrictRoute, tags=["OpenAI"])


@router.post(
    "/v1/embeddings",
    summary="Vectors of texts",
    response_model=EmbeddingsResponse,
    responses=documented_responses(EMBEDDINGS_RESPONSES),
)
async def create_embeddings(
    body: Annotated[EmbeddingsRequest, Body(openapi_examples=EMBEDDINGS_REQUESTS)],
    request: Request,
    priority: PriorityHeader = "interactive",
) -> Response:
    engine = select_engine(request, "embedding", body.model)
    answer = await engine.embed(as_list(body.input), body.dimensions, priority_of(priority))
    encode = _base64 if body.encoding_format == "base64" else _identity
    return json_response(
        {
            "object": "list",
            "model": engine.name,
            "data": [
                {"object": "embedding", "index": index, "embedding": encode(row)}
                for index, row in enumerate(answer.rows)
            ],
            "usage": usage(answer),
        },
        answer,
    )


@router.get("/v1/models", summary="Models that are served", response_model=ModelsResponse)
async def list_models(request: Request) -> dict[str, Any]:
    return {"object": "list", "data": [model_card(engine) for engine in engines_of(request)]}


@router.get(
    "/v1/models/{model}",
    summary="One served model",
    response_model=ModelCard,
    responses=documented_responses(),
)
async def get_model(model: str, request: Request) -> dict[str, Any]:
    return model_card(engines_of(request).get(model))


def model_card(engine: Engine) -> dict[str, Any]:
    manifest = engine.manifest
    return {
        "id": manifest.name,
        "object": "model",
        "created": int(manifest.created_at.timestamp()),
        "owned_by": "encserve",
        "version": manifest.version,
        "task": manifest.task,
        "max_tokens": manifest.max_tokens,
        "dimensions": manifest.width if manifest.task == "embedding" else None,
        "labels": list(manifest.labels),
    }


def _base64(row: FloatArray) -> str:
    return base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode("ascii")


def _identity(row: FloatArray) -> FloatArray:
    return np.ascontiguousarray(row)
