"""Traces: a call's place in a trace (W3C Trace Context), which goes on to the upstream, and its spans by OpenTelemetry.

    traceparent came, and is to be recorded    a span below the caller's; the upstream gets ours as its parent
    traceparent came, and is not               it passes as it came
    none came, or a malformed one              a trace begins here; whether it is recorded, the upstream is told

Who may say that a trace is recorded: a trusted proxy. Of other traces it is the share `sample`, by the trace's own
identifier, so that all who go by it decide alike; strangers could have everything recorded otherwise.

A call has two spans, one of the call and within it one of the upstream's part. They are made when it has ended, by its
event, so that a call under way costs two identifiers. This module is loaded only where traces are wanted, and
OpenTelemetry's packages with it (the extra `traces`).
"""

import re
import secrets
import time
from typing import Final

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

import gateway
from gateway.http1 import RequestHead
from gateway.proxy.dispatch import Peer
from gateway.proxy.finished import Finished
from gateway.proxy.traced import Trace

_LAST: Final = 2000  # milliseconds for the last spans at the end
_LONGEST: Final = 300  # characters of an attribute
_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT"))


class Traces:
    """Gives calls their places in traces, and tells of those that are recorded to `exporter`."""

    def __init__(self, exporter: SpanExporter, sample: float) -> None:
        self._below = int(sample * 2**64)
        self._ids = _Given()
        resource = Resource.create({SERVICE_NAME: "gateway", SERVICE_VERSION: gateway.__version__})
        limits = SpanLimits(max_attribute_length=_LONGEST)
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, span_limits=limits)
        self._processor = BatchSpanProcessor(exporter)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("gateway", gateway.__version__)

    def begin(self, head: RequestHead, peer: Peer) -> Trace | None:
        """The place of a call; None where its traceparent passes as it came."""
        values = head.fields.values(b"traceparent")
        found = _TRACEPARENT.fullmatch(values[0]) if len(values) == 1 else None
        if found is None or not int(found[1], 16) or not int(found[2], 16):
            trace_id = secrets.token_hex(16)
            return self._placed(trace_id, "", recorded=self._is_sampled(trace_id))
        trace_id = found[1].decode()
        if not (self._is_sampled(trace_id) or (peer.trusted and int(found[3], 16) & 1)):
            return None
        return self._placed(trace_id, found[2].decode(), recorded=True)

    def _is_sampled(self, trace_id: str) -> bool:
        return int(trace_id[16:], 16) < self._below

    def _placed(self, trace_id: str, parent: str, *, recorded: bool) -> Trace:
        return Trace(trace_id, parent, secrets.token_hex(8), secrets.token_hex(8), recorded)

    def hear(self, finished: Finished) -> None:
        """Make the spans of a call that has ended, if it is recorded."""
        head, traced = finished.head, finished.trace
        if traced is None and finished.refused is not None and head is not None and not finished.seconds:
            traced = self.begin(head, finished.peer)  # refused as soon as it was read
        if traced is None or not traced.recorded or head is None:
            return
        ended = time.time_ns()
        began = ended - _nanoseconds(finished.seconds)
        method, route = _method(head), finished.route
        name = method if route is None else f"{method} {route.name}"
        self._ids.give(traced.trace_id, traced.span_id)
        context, attributes = _below(traced.trace_id, traced.parent_id), _attributes(finished, head)
        span = self._tracer.start_span(name, context, SpanKind.SERVER, attributes, start_time=began)
        if finished.upstream and finished.connected:
            self._ids.give(traced.trace_id, traced.upstream_id)
            asked = self._tracer.start_span(
                method,
                _below(traced.trace_id, traced.span_id),
                SpanKind.CLIENT,
                {"server.address": finished.upstream, "http.request.method": method},
                start_time=began + _nanoseconds(finished.connected),
            )
            asked.end(began + _nanoseconds(finished.answered or finished.seconds))
        if finished.status >= 500 or finished.refused is not None:
            refused = finished.refused
            failed = finished.status >= 500 or not finished.complete
            cause = "" if refused is None else refused.why
            span.set_status(Status(StatusCode.ERROR, cause) if failed else Status(StatusCode.UNSET))
        span.end(ended)

    def close(self) -> None:
        """Tell of the last spans, for some moments at most."""
        self._processor.force_flush(_LAST)
        self._provider.shutdown()


class _Given(IdGenerator):
    """The identifiers that a span is to have, since its place was told before it is made."""

    def __init__(self) -> None:
        self._trace_id = self._span_id = 0

    def give(self, trace_id: str, span_id: str) -> None:
        self._trace_id, self._span_id = int(trace_id, 16), int(span_id, 16)

    def generate_trace_id(self) -> int:
        return self._trace_id

    def generate_span_id(self) -> int:
        return self._span_id


def _below(trace_id: str, parent: str) -> Context:
    """The context of a span with this parent; of a trace that begins with it, where that is empty."""
    if not parent:
        return Context()
    place = SpanContext(int(trace_id, 16), int(parent, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return api.set_span_in_context(NonRecordingSpan(place), Context())


def _attributes(finished: Finished, head: RequestHead) -> dict[str, AttributeValue]:
    """By OpenTelemetry's conventions for HTTP; nothing that strangers wrote but the method, if it is a known one."""
    found: dict[str, AttributeValue | None] = {
        "http.request.method": _method(head),
        "http.response.status_code": finished.status or None,
        "http.route": None if finished.route is None else finished.route.path.decode("latin-1"),
        "client.address": finished.client,
        "network.protocol.version": f"1.{head.minor_version}",
        "http.request.body.size": finished.received,
        "http.response.body.size": finished.sent,
        "gateway.request_id": finished.request_id.decode(),
        "gateway.route": None if finished.route is None else finished.route.name,
        "gateway.judged": finished.judged,
        "gateway.client_id": None if finished.allowed is None else finished.allowed.client_id,
        "gateway.cause": None if finished.refused is None else finished.refused.why,
        "gateway.complete": finished.complete,
    }
    return {name: value for name, value in found.items() if value is not None}


def _method(head: RequestHead) -> str:
    return head.method.decode() if head.method in _METHODS else "_OTHER"


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
