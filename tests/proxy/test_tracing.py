"""A call's place in a trace goes on to the upstream, and what OpenTelemetry's SDK is told of it fits."""

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from gateway.proxy.tracing import Traces
from gateway.store import Store
from tests.proxy.rig import Rig, rig

ROUTES: list[dict[str, Any]] = [
    {"name": "open", "path": "/open", "auth": "none"},
    {"name": "shut", "path": "/shut", "auth": ["bearer"]},
]
LOW, HIGH = "00000000000000010000000000000001", "0000000000000001ffffffffffffffff"  # at a half, one is recorded
CALLER = "00f067aa0ba902b7"


def get(path: str = "/open", **fields: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: gateway.test", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


class Traced:
    """A gateway whose spans are kept."""

    def __init__(self, running: Rig, sample: float) -> None:
        self.rig, self._exporter = running, InMemorySpanExporter()
        self.traces = Traces(self._exporter, sample)
        running.proxy.begin_trace = self.traces.begin
        running.proxy.listeners.append(self.traces.hear)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        self.traces.close()
        return self._exporter.get_finished_spans()

    @property
    def sent(self) -> list[str]:
        """The traceparent fields that the upstream got last."""
        return self.rig.upstream.requests[-1].all("traceparent")


@pytest.fixture(params=[[], ["127.0.0.1"]], ids=["stranger", "trusted"])
async def traced(request: pytest.FixtureRequest, tmp_path: Path, no_database: Store) -> AsyncIterator[Traced]:
    async with rig(tmp_path, no_database, routes=ROUTES, server={"trusted_proxies": request.param}) as running:
        yield Traced(running, 0.5)


async def test_recorded_trace_goes_on_with_a_span_for_the_call_and_one_for_the_upstream(traced: Traced) -> None:
    reply = await traced.rig.talk(get("/open?secret=1", traceparent=f"00-{LOW}-{CALLER}-01", tracestate="a=b"))
    asked, call = traced.spans
    assert asked.context is not None
    assert call.context is not None
    assert traced.sent == [f"00-{LOW}-{asked.context.span_id:016x}-01"]
    assert traced.rig.upstream.requests[-1].one("tracestate") == "a=b"
    assert call.parent is not None
    assert asked.parent is not None
    assert (call.parent.span_id, asked.parent.span_id) == (int(CALLER, 16), call.context.span_id)
    assert {call.context.trace_id, asked.context.trace_id} == {int(LOW, 16)}
    assert (call.kind, asked.kind, call.name) == (SpanKind.SERVER, SpanKind.CLIENT, "GET open")
    assert call.attributes is not None
    assert call.attributes["http.response.status_code"] == 200
    assert call.attributes["gateway.request_id"] == reply.one("x-request-id")
    assert "secret" not in str(dict(call.attributes))
    times = [call.start_time, asked.start_time, asked.end_time, call.end_time]
    assert times == sorted(time or 0 for time in times)


async def test_trace_that_is_not_recorded_passes_as_it_came_unless_a_trusted_proxy_says_it_is(traced: Traced) -> None:
    trusted = bool(traced.rig.proxy.dispatcher.peer("127.0.0.1").trusted)
    for flags in ("00", "01"):
        given = f"00-{HIGH}-{CALLER}-{flags}"
        await traced.rig.talk(get(traceparent=given))
        assert (traced.sent == [given]) == (flags == "00" or not trusted)
    assert len(traced.spans) == (2 if trusted else 0)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"traceparent": ""},
        {"traceparent": f"ff-{LOW}-{CALLER}-01"},
        {"traceparent": f"00-{'0' * 32}-{CALLER}-01"},
        {"traceparent": f"00-{LOW}-{'0' * 16}-01"},
        {"traceparent": f"00-{LOW.upper().replace('0', 'A')}-{CALLER}-01"},
        {"traceparent": f"00-{LOW}-{CALLER}"},
        {"traceparent": f"00-{LOW}-{CALLER}-01", "Traceparent": f"00-{LOW}-{CALLER}-00"},
        {"traceparent": "x" * 2000},
    ],
)
async def test_trace_begins_here_where_none_came_or_none_that_can_be_read(
    traced: Traced, given: dict[str, str]
) -> None:
    await traced.rig.talk(get(tracestate="of=another", **given))
    (sent,) = traced.sent
    found = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(00|01)", sent)
    assert found is not None
    assert found[1] != LOW
    assert traced.rig.upstream.requests[-1].all("tracestate") == []
    spans = traced.spans
    assert len(spans) == (2 if found[3] == "01" else 0)
    assert all(span.context is not None and span.context.trace_id == int(found[1], 16) for span in spans)


async def test_refusals_and_failures_are_told_with_their_causes(traced: Traced) -> None:
    traceparent = f"00-{LOW}-{CALLER}-01"
    await traced.rig.talk(get("/shut", traceparent=traceparent))
    traced.rig.upstream.answer = b"nonsense\r\n\r\n"
    await traced.rig.talk(get(traceparent=traceparent))
    refused, asked, failed = traced.spans
    assert refused.attributes is not None
    assert (refused.attributes["gateway.cause"], refused.status.status_code) == ("no credential", StatusCode.UNSET)
    assert (failed.status.status_code, asked.kind) == (StatusCode.ERROR, SpanKind.CLIENT)


async def test_no_byte_of_a_traceparent_harms(traced: Traced) -> None:
    for number in set(range(256)) - {0, 10, 13}:
        await traced.rig.talk(b"GET /open HTTP/1.1\r\nHost: a\r\ntraceparent: 00-%b\r\n\r\n" % bytes([number]))
    assert not traced.rig.upstream.faults


async def test_without_traces_the_field_passes_as_it_came(tmp_path: Path, no_database: Store) -> None:
    async with rig(tmp_path, no_database, routes=ROUTES) as running:
        await running.talk(get(traceparent="anything"))
        await running.talk(get())
        assert [request.all("traceparent") for request in running.upstream.requests] == [["anything"], []]
