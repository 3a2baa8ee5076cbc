"""Operations: is the process alive, can it answer, and what has it counted."""

from typing import Any

from fastapi import APIRouter
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from service.api.routing import engines_of
from service.api.schemas import ErrorResponse, Readiness
from service.metrics import Metrics

router = APIRouter(tags=["Operations"])


@router.get("/livez", summary="The process runs")
async def livez() -> dict[str, bool]:
    return {"live": True}


@router.get(
    "/readyz",
    summary="Every model answered a warm-up and the server is not draining",
    response_model=Readiness,
    responses={
        503: {"model": Readiness, "description": "Not ready"},
        "default": {"model": ErrorResponse},
    },
)
async def readyz(request: Request, response: Response) -> dict[str, Any]:
    engines = engines_of(request)
    response.status_code = 200 if engines.ready else 503
    return {"ready": engines.ready, "models": {engine.name: engine.ready for engine in engines}}


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    collected: Metrics = request.app.state.metrics
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(collected.registry), headers={"Content-Type": content_type})
