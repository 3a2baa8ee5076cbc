"""A sound request to every route of the interface, from which wrong ones are made.

The worked examples of the OpenAPI page are taken; a route that has none stands in `OTHERS`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from service.api.examples import PATH_PARTS

ADMIN_KEY = "key-of-the-tests"
VERSION = {"version": "1"}
OTHERS: dict[str, Any] = {
    "/v1/feedback": {"request_id": "none", "label": "positive", "text": "the food"},
    "/v2/repository/index": {"ready": True},
    "/admin/models/{name}/load": VERSION,
    "/admin/models/{name}/unload": VERSION,
    "/admin/models/{name}/current": VERSION,
    "/admin/models/{name}/rollback": {},
    "/admin/models/{name}/canary": VERSION | {"share": 0.1, "header": "X-Request-ID"},
    "/admin/models/{name}/shadow": VERSION,
    "/admin/models/{name}/promote": {"min_texts": 1},
}
LINES = b'"the food"\n{"input":"the train","id":"a"}\n'


@dataclass(frozen=True)
class Asked:
    """route: the path as it is declared. body: JSON; None where `content` is sent as it is."""

    method: str
    route: str
    path: str
    body: Any = None
    content: bytes = b""
    media_type: str = "application/json"

    @property
    def sent(self) -> bytes:
        return self.content if self.body is None else json.dumps(self.body).encode()

    @property
    def headers(self) -> dict[str, str]:
        key = {"Authorization": f"Bearer {ADMIN_KEY}"} if self.route.startswith("/admin") else {}
        return ({"Content-Type": self.media_type} if self.method == "POST" else {}) | key

    def with_body(self, body: Any) -> "Asked":
        return replace(self, body=body)

    def with_content(self, content: bytes) -> "Asked":
        return replace(self, body=None, content=content)

    def raw(self) -> bytes:
        """As it goes over the wire; the connection is closed after the answer."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: x", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.method == "POST":
            lines.append(f"Content-Length: {len(self.sent)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.sent


def sound_requests(document: dict[str, Any]) -> list[Asked]:
    """At least one for each operation of the OpenAPI document.

    Raises:
        AssertionError: an operation has neither an example there nor a place here.
    """
    found: list[Asked] = []
    for route, methods in document["paths"].items():
        for method, operation in methods.items():
            of_operation = list(_of_operation(method.upper(), route, operation))
            assert of_operation, f"{method} {route}: give it an example, or a place in OTHERS"
            found += of_operation
    return found


def _of_operation(method: str, route: str, operation: dict[str, Any]) -> Iterator[Asked]:
    # No change of what is served must succeed.
    path = route.format(**PATH_PARTS, name="nothing")
    if method == "GET":
        yield Asked(method, route, path)
        return
    content = operation.get("requestBody", {}).get("content", {})
    if route == "/v1/bulk":
        yield Asked(method, route, path, content=LINES, media_type=next(iter(content)))
    elif route in OTHERS:
        yield Asked(method, route, path, OTHERS[route])
    for example in content.get("application/json", {}).get("examples", {}).values():
        yield Asked(method, route, path, example["value"])


def checked_error(route: str, content_type: str, body: bytes, most_bytes: int = 4096) -> str:
    """The code (or what the route's dialect has for it) of an answer that is an error."""
    assert content_type.startswith("application/json"), (route, content_type)
    assert len(body) < most_bytes, route
    error = json.loads(body)
    told = error["error"]
    code = told["code"] if isinstance(told, dict) else error.get("error_type", told)
    assert isinstance(code, str), route
    assert code, route
    return code
