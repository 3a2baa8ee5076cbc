"""What browsers are told: which pages of others may ask, and what pages of ours may do."""

import base64
import hashlib
import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.access import RATE_HEADERS
from service.api.headers import DIGEST, MODEL, TRUNCATED, VERSION

# What a page of another origin may read of an answer, beside its body.
EXPOSED = ("X-Request-Id", "Retry-After", MODEL, VERSION, DIGEST, TRUNCATED, *RATE_HEADERS)
PREFLIGHT_S = 600

_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


class CrossOrigin(CORSMiddleware):
    """The library's, without cookies; a preflight is counted as answered whatever it says."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            expose_headers=EXPOSED,
            max_age=PREFLIGHT_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            scope["state"]["outcome"] = "ok"
        await super().__call__(scope, receive, send)


class SecureAnswers:
    """Pure ASGI middleware: no answer is taken for what it does not say, and no page of ours runs
    or frames what it should not. Pages that bring a policy of their own keep it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held: Message | None = None

        async def send_secured(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message["headers"]))
                headers.setdefault("X-Content-Type-Options", "nosniff")
                message["headers"] = headers.raw
                if _needs_policy(headers):
                    held = message
                    return
            if held is not None:
                start, held = held, None
                start["headers"] = _with_policy(start["headers"], message.get("body", b""))
                await send(start)
            await send(message)

        await self._app(scope, receive, send_secured)


def _needs_policy(headers: Headers) -> bool:
    html = headers.get("content-type", "").startswith("text/html")
    return html and "content-security-policy" not in headers


def _with_policy(headers: list[tuple[bytes, bytes]], page: bytes) -> list[tuple[bytes, bytes]]:
    """Of /docs: its one script stands in the page, and may run as it stands there and not else."""
    digests = (hashlib.sha256(script).digest() for script in _INLINE_SCRIPT.findall(page))
    scripts = " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in digests)
    told = MutableHeaders(raw=headers)
    told["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    told["Referrer-Policy"] = "no-referrer"
    return told.raw
