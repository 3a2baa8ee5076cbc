"""Administration: what is loaded, what else could be, and changes of it.

`access.py` lets in nobody without the key.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from service.api.requests import StrictRoute
from service.api.routing import documented_responses, engines_of
from service.api.schemas import StrictBody
from service.canary import REQUEST_ID
from service.engine import Engine
from service.errors import EncserveError
from service.live import LiveModels
from service.shadow import Bar
from service.store.manifest import VERSION


class AdminRoute(StrictRoute):
    """Who runs the server is heard under any load."""

    urgent = True


router = APIRouter(prefix="/admin", route_class=AdminRoute, tags=["Administration"])
audit = logging.getLogger("service.audit")

RESPONSES = documented_responses()


class VersionRequest(StrictBody):
    version: str | None = Field(
        None, pattern=VERSION.pattern, description="default: the store's current one"
    )


class CurrentRequest(StrictBody):
    version: str = Field(pattern=VERSION.pattern)


class NothingRequest(StrictBody):
    pass


class CanaryRequest(StrictBody):
    version: str = Field(pattern=VERSION.pattern)
    share: float = Field(ge=0, le=1, description="of the requests that name no version")
    header: str = Field(
        REQUEST_ID,
        min_length=1,
        max_length=100,
        description="requests with the same value of this header go the same way",
    )


class ShadowRequest(StrictBody):
    version: str | None = Field(None, pattern=VERSION.pattern, description="null ends it")


class PromoteRequest(StrictBody):
    """What the comparison must reach."""

    min_texts: int = Field(100, ge=1)
    max_disagreement: float = Field(0.02, ge=0, le=1, description="share of other labels")
    max_score_difference: float = Field(0.05, ge=0)
    min_cosine: float = Field(0.98, ge=-1, le=1)
    max_slowdown: float = Field(1.5, gt=0, description="times the time that serves")


@router.get("/models", summary="What is loaded, and what the store holds", responses=RESPONSES)
async def list_models(request: Request) -> dict[str, Any]:
    models, engines = _models(request), engines_of(request)
    loaded = [
        {
            "name": engine.name,
            "version": engine.version,
            "variant": engine.variant,
            "digest": f"sha256:{engine.digest}",
            "ready": engine.ready,
            "serves": engines.served(engine.name) is engine,
        }
        for engine in engines
    ]
    store = [
        {
            "name": name,
            "current": models.repository.current(name),
            "versions": models.repository.versions(name),
        }
        for name in models.repository.names()
    ]
    compared = {
        name: {
            "version": shadow.engine.version,
            "texts": shadow.found.texts,
            "means": shadow.found.means(),
        }
        for name, shadow in models.shadows.items()
    }
    canaries = {
        name: {"version": canary.engine.version, "share": canary.share}
        for name, canary in engines.canaries.items()
    }
    return {"loaded": loaded, "store": store, "canaries": canaries, "shadows": compared}


@router.post(
    "/models/{name}/load", summary="Load a version beside those that serve", responses=RESPONSES
)
async def load(
    name: str,
    body: Annotated[VersionRequest, Body()],
    request: Request,
) -> Response:
    return await _changed(
        request, "load", name, body.version, lambda models: models.load(name, body.version)
    )


@router.post("/models/{name}/unload", summary="Serve a version no more", responses=RESPONSES)
async def unload(
    name: str,
    body: Annotated[VersionRequest, Body()],
    request: Request,
) -> Response:
    return await _changed(
        request, "unload", name, body.version, lambda models: models.unload(name, body.version)
    )


@router.post(
    "/models/{name}/current",
    summary="Serve a version, and make it the store's current",
    responses=RESPONSES,
)
async def set_current(
    name: str, body: Annotated[CurrentRequest, Body()], request: Request
) -> Response:
    return await _changed(
        request,
        "current",
        name,
        body.version,
        lambda models: models.set_current(name, body.version),
    )


@router.post(
    "/models/{name}/rollback",
    summary="Serve the version before the current one",
    responses=RESPONSES,
)
async def roll_back(
    name: str, body: Annotated[NothingRequest, Body()], request: Request
) -> Response:
    return await _changed(
        request, "rollback", name, None, lambda models: models.set_current(name, None)
    )


@router.post(
    "/models/{name}/canary",
    summary="Give a share of the requests to another version; a share of 0 ends it",
    responses=RESPONSES,
)
async def set_canary(
    name: str, body: Annotated[CanaryRequest, Body()], request: Request
) -> Response:
    return await _changed(
        request,
        "canary",
        name,
        body.version,
        lambda models: models.set_canary(name, body.version, body.share, body.header.lower()),
    )


@router.post(
    "/models/{name}/shadow",
    summary="Ask another version all that the serving one is asked, and compare",
    responses=RESPONSES,
)
async def set_shadow(
    name: str, body: Annotated[ShadowRequest, Body()], request: Request
) -> Response:
    return await _changed(
        request, "shadow", name, body.version, lambda models: models.set_shadow(name, body.version)
    )


@router.post(
    "/models/{name}/promote",
    summary="Serve the shadow version, if the comparison reaches the bar",
    responses=RESPONSES,
)
async def promote(name: str, body: Annotated[PromoteRequest, Body()], request: Request) -> Response:
    bar = Bar(**body.model_dump())
    return await _changed(request, "promote", name, None, lambda models: models.promote(name, bar))


async def _changed(
    request: Request,
    action: str,
    name: str,
    version: str | None,
    change: Callable[[LiveModels], Awaitable[Engine | None]],
) -> Response:
    """Make the change, write it into the audit log whatever becomes of it, and say what serves."""
    outcome = "internal_error"
    try:
        engine = await change(_models(request))
        outcome = "ok"
    except EncserveError as error:
        outcome = error.code
        raise
    finally:
        # The name came with the path, and may be anything.
        known = name if name in _models(request).repository.names() else "(not in the store)"
        audit.info("admin %s of model %s version %s: %s", action, known, version, outcome)
    served = engines_of(request).served(name)
    content = {
        "model": name,
        "version": engine.version if engine is not None else version,
        "serves": served.version if served is not None else None,
    }
    return Response(orjson.dumps(content), media_type="application/json")


def _models(request: Request) -> LiveModels:
    models: LiveModels = request.app.state.models
    return models
