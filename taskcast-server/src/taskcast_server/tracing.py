"""Traces by OpenTelemetry's API, where it is installed and somebody has set a provider; else nothing at all.

Exporters, sampling and propagators are the operator's. Spans carry names, ids, counts and kinds of errors; never
payloads, queries, headers or messages of errors.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from taskcast_core.config import option
from taskcast_core.values import frozen

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer as ApiTracer

    from taskcast_server.calls import Call

HEADER = b"traceparent"
_NAMED_PROVIDER = "OTEL_PYTHON_TRACER_PROVIDER"
_VALID = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").fullmatch


@frozen
class TracingOptions:
    """The section ``tracing``."""

    enabled: bool = option(default=True, help="record spans where an OpenTelemetry provider is set")


def find_tracer(options: TracingOptions | None = None) -> Tracer | None:
    """A tracer, if somebody wants spans: the API is installed, and a provider set (by code, or by OpenTelemetry's own
    environment variables). Whoever sets one later has to start the server again.
    """
    is_switched_off = options is not None and not options.enabled
    # Nobody has set a provider without importing the API, which takes longer than a whole command may.
    if is_switched_off or not ("opentelemetry.trace" in sys.modules or os.environ.get(_NAMED_PROVIDER)):
        return None
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return Tracer(provider.get_tracer("taskcast_server"))


def valid_traceparent(call: Call) -> str | None:
    """The header that a caller sent along, if it is one by W3C Trace Context: goes with a task also where this
    process records nothing itself.
    """
    given = call.header(HEADER)
    return given if given is not None and _VALID(given) else None


class Span:
    """One span; see `taskcast_core.instruments.Span`. A link is also made from what it is a part of."""

    def __init__(self, span: OtelSpan, parent: OtelSpan | None) -> None:
        self._span, self._parent = span, parent

    def link(self, traceparent: str | None) -> None:
        """See the protocol."""
        context = _context_of(traceparent)
        if context is None or context.span_id == self._span.get_span_context().span_id:
            return
        for span in (self._span, self._parent):
            if span is not None and span.is_recording() and span.get_span_context().span_id != context.span_id:
                span.add_link(context)

    def note(self, **facts: str | int | bool) -> None:
        """See the protocol."""
        self._span.set_attributes(_attributes(facts))


class Tracer:
    """Records spans; see `taskcast_core.instruments.Tracer`."""

    def __init__(self, tracer: ApiTracer) -> None:
        self._tracer = tracer

    @contextmanager
    def span(self, name: str, **facts: str | int | bool) -> Iterator[Span]:
        """See the protocol. Of an error only its class is told: its message may hold what is nobody's business."""
        from opentelemetry import trace

        parent = trace.get_current_span()
        with self._tracer.start_as_current_span(
            name, attributes=_attributes(facts), record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield Span(span, parent)
            except Exception as error:
                _mark_failed(span, error)
                raise

    @contextmanager
    def request(self, call: Call) -> Iterator[RequestSpan]:
        """Record a request, as a part of what its caller is recorded to do."""
        from opentelemetry import propagate, trace

        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in call.scope["headers"]}
        route = call.route.path or "(none)"
        method = call.scope.get("method", "GET")
        facts: dict[str, Any] = {
            "http.request.method": method,
            "http.route": route,
            "url.scheme": call.scope.get("scheme", "http"),
            "taskcast.request_id": call.request_id.decode("latin-1"),
        }
        if call.route.names_task:
            facts["taskcast.task_id"] = call.params["taskId"]
        with self._tracer.start_as_current_span(
            f"{method} {route}",
            propagate.extract(carrier),
            kind=trace.SpanKind.SERVER,
            attributes=facts,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield RequestSpan(span)

    @property
    def traceparent(self) -> str | None:
        """See the protocol."""
        from opentelemetry import trace

        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def link(self, traceparent: str | None) -> None:
        """Relate what this coroutine is recorded to do to another trace."""
        from opentelemetry import trace

        Span(trace.get_current_span(), None).link(traceparent)


class RequestSpan:
    """The span of a request."""

    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    def answered(self, status: int) -> None:
        """Note how it ended."""
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))


def _attributes(facts: Mapping[str, str | int | bool]) -> dict[str, str | int | bool]:
    return {f"taskcast.{name}": value for name, value in facts.items()}


def _mark_failed(span: OtelSpan, error: Exception) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR))


def _context_of(traceparent: str | None) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags

    if traceparent is None or not _VALID(traceparent):
        return None
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
