"""How many bytes of request bodies are held at a time, whoever sends them."""

from prometheus_client import Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Overloaded

RETRY_AFTER_S = 1.0


class BodyRoom:
    """Room for the bodies of all requests together.

    Only what has arrived counts: a length that is merely declared takes nobody's room.
    """

    def __init__(self, max_bytes: int, held: Gauge) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        held.set_function(lambda: self._bytes)

    def take(self, more: int) -> None:
        """Raise Overloaded unless `more` bytes fit."""
        if self._bytes + more > self._max_bytes:
            raise Overloaded(
                f"the requests under way fill the room for bodies ({self._max_bytes} bytes, "
                "ENCSERVE_MAX_BODIES_BYTES): send the request again later",
                retry_after_s=RETRY_AFTER_S,
            )
        self._bytes += more

    def give_back(self, taken: int) -> None:
        self._bytes -= taken


class HeldBody:
    """What one request holds of the room."""

    def __init__(self, room: BodyRoom) -> None:
        self._room = room
        self._bytes = 0

    def take(self, more: int) -> None:
        """Hold more until the request has ended. Raises Overloaded."""
        self._room.take(more)
        self._bytes += more

    def give_back(self) -> None:
        self._room.give_back(self._bytes)
        self._bytes = 0


class LimitBodies:
    """Pure ASGI middleware: a body is held from its first byte to the end of the answer.

    What is read once the answer has begun is a stream, whose reader holds a part at a time.
    Routes that make more of a body than was sent take that from the state's `held_body`.
    """

    def __init__(self, app: ASGIApp, room: BodyRoom) -> None:
        self._app = app
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held = scope.setdefault("state", {})["held_body"] = HeldBody(self._room)
        answering = False

        async def receive_holding() -> Message:
            message = await receive()
            if not answering:
                held.take(len(message.get("body", b"")))
            return message

        async def send_noting(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self._app(scope, receive_holding, send_noting)
        finally:
            held.give_back()
