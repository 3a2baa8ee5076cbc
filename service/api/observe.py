"""Counts and times every request at the outermost layer, so that no path can miss or double it."""

import time

from starlette.types import ASGIApp, Receive, Scope, Send

from service.metrics import Metrics


class ObserveRequests:
    """Pure ASGI middleware; routes note model and outcome in the request's state."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        started_s = time.perf_counter()
        try:
            await self._app(scope, receive, send)
        except Exception:
            state["outcome"] = "internal_error"
            raise
        finally:
            self._observe(scope, time.perf_counter() - started_s)

    def _observe(self, scope: Scope, duration_s: float) -> None:
        # A path that matched no route is not a label: anyone could invent thousands.
        endpoint = getattr(scope.get("route"), "path", "other")
        model = scope["state"].get("model", "")
        outcome = scope["state"].get("outcome", "ok")
        self._metrics.requests.labels(endpoint, model, outcome).inc()
        self._metrics.request_duration.labels(endpoint, model).observe(duration_s)
