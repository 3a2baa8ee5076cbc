"""The ASGI application: collaborators in, routes and error handlers wired, nothing global."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from service import __version__
from service.access.gate import Gate
from service.api import (
    admin,
    analyze,
    bulk,
    classify,
    cohere,
    explain,
    feedback,
    oip,
    oip_facts,
    openai,
    ops,
    playground,
    tei,
    tei_root,
    tei_tools,
)
from service.api.access import RequireKeys
from service.api.body_room import BodyRoom, LimitBodies
from service.api.bulk_room import Rooms
from service.api.direct import DirectRoutes
from service.api.errors import install_error_handlers
from service.api.loop_lag import watch_loop
from service.api.loop_turns import LoopTurns
from service.api.observe import ObserveRequests
from service.api.pages import CrossOrigin, SecureAnswers
from service.api.unexpected import AnswerUnexpected
from service.feedback import Feedback
from service.live import LiveModels
from service.metrics import Metrics
from service.settings import Settings
from service.tracing import Tracing

DESCRIPTION = """
Text in, vectors and labels out. Every POST takes `Content-Type: application/json`.
Errors are `{"error": {"code", "message", "param", "type"}}`; the message names the limit and the
setting that moves it.
"""


def create_app(
    settings: Settings, models: LiveModels, metrics: Metrics, tracing: Tracing | None = None
) -> FastAPI:
    """The application around loaded engines; entering its lifespan starts their workers.

    Raises:
        KeysInvalid: keys of the settings are not as they should be.
    """
    metrics.on_batch = tracing.batch if tracing is not None else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models.start()
        lag = asyncio.create_task(watch_loop(metrics.event_loop_lag))
        try:
            yield
        finally:
            lag.cancel()
            await models.close()

    # The pages of /docs come with the package instead of a CDN: the service works without network.
    app = FastAPIOffline(
        title="encserve",
        version=__version__,
        description=DESCRIPTION,
        redoc_url=None,
        # A redirect would name the host that the caller claims, and lose the body.
        redirect_slashes=False,
        lifespan=lifespan,
        # Its own would hold messages of errors, and send them where a variable says.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.settings = settings
    app.state.models = models
    app.state.feedback = Feedback(settings.feedback_texts, settings.feedback_file, metrics)
    app.state.engines = models.engines
    app.state.metrics = metrics
    app.state.loop_turns = LoopTurns()
    app.state.bulk_rooms = Rooms(settings)
    # In this order a path is compared with the routes: those that are asked most come first.
    often = (openai, classify, oip, tei, cohere, tei_root)
    modules = (
        *often,
        *(analyze, explain, bulk, feedback, tei_tools, oip_facts, admin, playground, ops),
    )
    routes = [route for module in modules for route in module.router.routes]
    asked_often = [route for module in often for route in module.router.routes]
    # The last one is the outermost.
    app.add_middleware(DirectRoutes, routes=asked_often)
    app.add_middleware(LimitBodies, room=BodyRoom(settings.max_bodies_bytes, metrics.bodies_bytes))
    app.add_middleware(RequireKeys, gate=Gate(settings, metrics), routes=routes)
    app.add_middleware(AnswerUnexpected)
    app.add_middleware(SecureAnswers)
    if settings.cors_origins:
        app.add_middleware(CrossOrigin, origins=settings.cors_origins)
    app.add_middleware(
        ObserveRequests, metrics=metrics, on_request=models.note_request, tracing=tracing
    )
    install_error_handlers(app)
    for module in modules:
        app.include_router(module.router)
    return app
