"""Asks every request for its key before anything of it is read, and says what the key has left."""

import math
from collections.abc import Iterable

from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.accounts import Allowance
from service.access.gate import Gate
from service.access.purchases import UNLIMITED, Purchase
from service.api.errors import error_response
from service.api.probes import PROBES
from service.errors import AdminDisabled, Unauthorized

METRICS = "/metrics"
# Whether the server is well, and the pages that carry no answers of models.
OPEN_PATHS = PROBES - {METRICS} | {"/openapi.json", "/docs", "/docs/oauth2-redirect"}
OPEN_BELOW = ("/health/", "/v2/health/", "/playground/", "/static-offline-docs/")
PAGE = "/"
ADMIN = "/admin"

# A caller who leaves has had the work done.
PAID = ("ok", "cancelled")
RATE_HEADERS = (
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
)


class RequireKeys:
    """Pure ASGI middleware; the request's state gets its `account`, and the key's name as `key`."""

    def __init__(self, app: ASGIApp, gate: Gate, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._gate = gate
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._admit(scope)
        except (Unauthorized, AdminDisabled) as error:
            # The error is told in the dialect of the route, which is not found yet.
            _note_route(scope, self._routes)
            await error_response(Request(scope), error)(scope, receive, send)
            return
        purchase = scope["state"].get("account")
        if not isinstance(purchase, Purchase):
            await self._app(scope, receive, send)
            return

        async def send_settling(message: Message) -> None:
            if message["type"] == "http.response.start":
                if scope["state"].get("outcome", "ok") not in PAID:
                    purchase.void()
                message["headers"] = [*message.get("headers", ()), *_left(purchase.key.allowance)]
            await send(message)

        with purchase:
            await self._app(scope, receive, send_settling)

    def _admit(self, scope: Scope) -> None:
        path: str = scope["path"]
        state = scope.setdefault("state", {})
        if path == ADMIN or path.startswith(f"{ADMIN}/"):
            self._gate.require_admin(sent_key(scope))
        elif path == METRICS:
            self._gate.require_metrics(sent_key(scope))
        elif not _is_open(scope["method"], path):
            account = self._gate.account_of(sent_key(scope))
            state["account"] = UNLIMITED if account is None else Purchase(account)
            if account is not None:
                state["key"] = account.name


def sent_key(scope: Scope) -> bytes:
    """The key of a request: its bearer token, else its `x-api-key`; empty where it has neither."""
    sent = b""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return bytes(token.strip())
        elif name == b"x-api-key":
            sent = bytes(value)
    return sent


def _is_open(method: str, path: str) -> bool:
    if path == PAGE:
        return method in ("GET", "HEAD")
    return path in OPEN_PATHS or path.startswith(OPEN_BELOW)


def _note_route(scope: Scope, routes: Iterable[BaseRoute]) -> None:
    for route in routes:
        match, child = route.matches(scope)
        if match is Match.FULL:
            scope["route"] = child.get("route", route)
            return


def _left(allowance: Allowance | None) -> list[tuple[bytes, bytes]]:
    """Headers that OpenAI's clients know: limit, what is left, in how long it is full."""
    if allowance is None:
        return []
    values = (
        str(allowance.tokens_per_minute),
        str(max(0, allowance.left)),
        f"{math.ceil(allowance.full_in_s * 1000)}ms",
    )
    return [
        (name.encode(), value.encode()) for name, value in zip(RATE_HEADERS, values, strict=True)
    ]
