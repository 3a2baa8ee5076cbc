"""A collector of traces in this process: takes what the exporter sends, and keeps the spans."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.integration.conftest import until


@dataclass
class Collector:
    """bodies: as they came. spans: of all of them. service: the name that sent them."""

    url: str
    paths: set[str] = field(default_factory=set)
    bodies: list[bytes] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    service: str = ""

    def take(self, path: str, body: bytes) -> None:
        self.paths.add(path)
        self.bodies.append(body)
        for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {one.key: one.value.string_value for one in sent.resource.attributes}
            self.service = names["service.name"]
            for scope in sent.scope_spans:
                self.spans += scope.spans

    def named(self, name: str) -> list[Span]:
        return [span for span in list(self.spans) if span.name == name]

    def trace(self, trace_id: str) -> dict[str, Span]:
        """The spans of a trace by name, once that of the request is there, which ends last."""
        wanted = bytes.fromhex(trace_id)

        def found() -> dict[str, Span]:
            return {span.name: span for span in list(self.spans) if span.trace_id == wanted}

        until(lambda: any(name.startswith(("POST ", "GET ")) for name in found()))
        return found()


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of the loopback address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def attributes(span: Span) -> dict[str, object]:
    return {one.key: one.value.int_value or one.value.string_value for one in span.attributes}
