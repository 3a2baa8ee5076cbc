"""Traces by OpenTelemetry: spans of requests, of their stages, and of the batches that they share.

Nothing of OpenTelemetry's SDK is imported before `open_tracing` finds that traces are wanted. What
a span holds are ids, names, counts and times: never a text, a path, an error's message.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from service import __version__
from service.errors import TracingUnavailable
from service.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span, Tracer

SERVICE_NAME = "encserve"
# W3C's header for answers.
TRACE_RESPONSE = b"traceresponse"
CONTEXT_HEADERS = (b"traceparent", b"tracestate")
TRACES_PATH = "/v1/traces"
# A collector that is away holds up the end of the process by no more than this.
EXPORT_TIMEOUT_S = 2.0


def open_tracing(settings: Settings) -> "Tracing | None":
    """None if no endpoint is named.

    Raises:
        TracingUnavailable: OpenTelemetry's SDK and exporter are not installed.
    """
    if not settings.otlp_endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingUnavailable(
            "ENCSERVE_OTLP_ENDPOINT asks for traces, which need the extra 'otel' "
            f"({error.name} is not installed): pip install 'encserve[otel]'"
        ) from None
    exporter = OTLPSpanExporter(traces_url(settings.otlp_endpoint), timeout=EXPORT_TIMEOUT_S)
    return Tracing(BatchSpanProcessor(exporter), settings.trace_sample_ratio)


def traces_url(endpoint: str) -> str:
    """Where traces are sent: an endpoint without a path of its own has the usual one."""
    scheme, _, rest = endpoint.partition("://")
    host, _, path = rest.partition("/")
    return endpoint if path else f"{scheme}://{host}{TRACES_PATH}"


class Tracing:
    """Makes spans and hands them to `processor`.

    A caller that says whether its request is sampled is followed; of the others a share is. A batch
    is traced if one of its requests is.
    """

    def __init__(self, processor: "SpanProcessor", sample_ratio: float) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBasedTraceIdRatio, Sampler
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({"service.name": SERVICE_NAME, "service.version": __version__})

        def tracer(sampler: Sampler) -> "Tracer":
            provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
            provider.add_span_processor(processor)
            return provider.get_tracer(SERVICE_NAME, __version__)

        self._requests = tracer(ParentBasedTraceIdRatio(sample_ratio))
        self._batches = tracer(ALWAYS_ON)
        self._extract = TraceContextTextMapPropagator().extract
        self._processor = processor

    def start(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> "RequestTrace":
        """The trace of a request that begins now, part of its caller's if that has one."""
        return RequestTrace(self._requests, method, self._extract(_context_of(headers)))

    def batch(
        self,
        model: str,
        version: str,
        lengths: Sequence[int],
        failed: int,
        started_s: float,
        ended_s: float,
        spans: Sequence[object],
    ) -> object:
        """A batch that was run, linked to the spans of its requests; see `OnBatch`."""
        from opentelemetry.context import Context

        at_zero_ns = _at_zero_ns()
        span = self._batches.start_span(
            "batch",
            context=Context(),
            links=_links(spans),
            attributes={
                "encserve.model": model,
                "encserve.version": version,
                "encserve.texts": len(lengths),
                "encserve.tokens": sum(lengths),
                "encserve.longest_tokens": max(lengths),
                "encserve.failed_texts": failed,
            },
            start_time=at_zero_ns + _ns(started_s),
        )
        span.end(at_zero_ns + _ns(ended_s))
        return span

    def close(self) -> None:
        """Send what is left; may take the time of an export or two."""
        self._processor.shutdown()


class RequestTrace:
    """The span of a request, and those of its stages; times are of `time.perf_counter`.

    span: what a batch links to. trace_id: 32 hexadecimal digits. sampled: the trace is kept.
    response: the value of the header that tells the caller.
    """

    def __init__(self, tracer: "Tracer", method: str, parent: Any) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        self._at_zero_ns = _at_zero_ns()
        self._tracer = tracer
        self.span = tracer.start_span(method, parent, SpanKind.SERVER)
        context = self.span.get_span_context()
        self._inside = set_span_in_context(self.span)
        self.trace_id = f"{context.trace_id:032x}"
        self.sampled = context.trace_flags.sampled
        self.response = (
            f"00-{self.trace_id}-{context.span_id:016x}-{context.trace_flags:02x}"
        ).encode()

    def stage(
        self,
        name: str,
        start_s: float,
        end_s: float,
        attributes: Mapping[str, str | int] | None = None,
        links: Sequence[object] = (),
    ) -> None:
        """A stage that is over.

        Args:
            links: spans of batches.
        """
        span = self._tracer.start_span(
            name,
            self._inside,
            attributes=attributes,
            links=_links(links),
            start_time=self._at_zero_ns + _ns(start_s),
        )
        span.end(self._at_zero_ns + _ns(end_s))

    def note(self, attributes: Mapping[str, str | int]) -> None:
        """What there is to know of the request."""
        self.span.set_attributes(attributes)

    def end(self, name: str, ended_s: float, failed: str | None = None) -> None:
        """The request is over.

        Args:
            name: what was asked for, by the route.
            failed: the code of an error of ours.
        """
        from opentelemetry.trace import Status, StatusCode

        self.span.update_name(name)
        if failed is not None:
            self.span.set_attribute("error.type", failed)
            self.span.set_status(Status(StatusCode.ERROR))
        self.span.end(self._at_zero_ns + _ns(ended_s))


def _context_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {
        name.decode(): value.decode("latin-1") for name, value in headers if name in CONTEXT_HEADERS
    }


def _links(spans: Sequence[object]) -> Any:
    from opentelemetry.trace import Link

    return [Link(cast("Span", span).get_span_context()) for span in spans]


def _at_zero_ns() -> int:
    """What the calendar says where `time.perf_counter` is zero; asked anew, as the two drift."""
    return time.time_ns() - time.perf_counter_ns()


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
