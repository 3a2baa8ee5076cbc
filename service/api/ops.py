"""Operations: is the process alive, can it answer, and what has it counted."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from service.api.answer_schemas import ErrorResponse, Liveness, Readiness
from service.api.routing import engines_of
from service.metrics import Metrics

router = APIRouter(tags=["Operations"])

Handler = Callable[..., Coroutine[Any, Any, Any]]


def probe(path: str, **documentation: Any) -> Callable[[Handler], Handler]:
    """GET, and HEAD as uptime checkers and balancers ask."""

    def add(handler: Handler) -> Handler:
        router.head(path, include_in_schema=False)(handler)
        return router.get(path, **documentation)(handler)

    return add


@probe(
    "/livez",
    summary="The process runs; 503 if only a new one helps",
    response_model=Liveness,
    responses={503: {"model": Liveness, "description": "A worker has died"}},
)
async def livez(request: Request, response: Response) -> dict[str, bool]:
    live = not engines_of(request).broken
    response.status_code = 200 if live else 503
    if not live:
        request.state.outcome = "not_live"
    return {"live": live}


@probe(
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
    if not engines.ready:
        request.state.outcome = "not_ready"
    return {
        "ready": engines.ready,
        "models": {engines.name_of(engine): engine.ready for engine in engines},
    }


@probe("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    collected: Metrics = request.app.state.metrics
    encode, content_type = _encoder_for(request.headers.get("accept", ""))
    return Response(encode(collected.registry), headers={"Content-Type": content_type})


def _encoder_for(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """The format asked for; the plain one where the library cannot make sense of the header."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):
        return choose_encoder("")
