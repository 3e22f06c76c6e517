"""`gateway serve` sends the spans of its calls to a collector, and says what is missing where it could not."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway import config
from gateway.faults import OperatorError
from gateway.supervisor import telling
from tests.serving import serving, until, write_config
from tests.supervisor.conftest import SlowUpstream


async def test_collector_gets_the_spans_by_the_end_of_the_gateway(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    names = list[str]()

    async def collect(request: web.Request) -> web.Response:
        assert request.path == "/v1/traces"
        told = ExportTraceServiceRequest.FromString(await request.read())
        names.extend(span.name for each in told.resource_spans for scope in each.scope_spans for span in scope.spans)
        return web.Response()

    app = web.Application()
    app.router.add_post("/{path:.*}", collect)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with serving(
        tmp_path, dsn=database, workers=1, routes=[upstream.route()], traces={"endpoint": endpoint}
    ) as gateway:
        assert await gateway.status("/") == 200
        assert await gateway.stop() == 0
    await until(lambda: sorted(names) == ["GET", "GET slow"])
    await runner.cleanup()


@pytest.mark.parametrize("wanted", [False, True])
async def test_worker_loads_nothing_for_traces_unless_they_are_wanted(
    tmp_path: Path, database: str, upstream: SlowUpstream, *, wanted: bool
) -> None:
    tables: dict[str, Any] = {"traces": {"endpoint": "http://127.0.0.1:9"}} if wanted else {}
    told = {"PYTHONPROFILEIMPORTTIME": "1"}  # a line on stderr for each module that is loaded
    async with serving(
        tmp_path, dsn=database, workers=1, routes=[upstream.route()], environment=told, **tables
    ) as gateway:
        async with aiohttp.ClientSession() as session:
            fields = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
            async with session.get(f"{gateway.url}/", headers=fields) as answer:
                assert answer.status == 200
        assert await gateway.stop() == 0
        imported = {line.rpartition("|")[2].strip() for line in gateway.log_text.splitlines() if "|" in line}
    assert {"gateway.app.access", "gateway.proxy.access_log"} <= imported
    for package in ("opentelemetry", "google.protobuf", "gateway.proxy.otlp"):
        assert any(name.startswith(package) for name in imported) == wanted, package


def test_missing_packages_are_named_with_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _, _ = write_config(tmp_path, tmp_path, dsn="postgresql://h/d", traces={"endpoint": "http://127.0.0.1:4318"})
    settings = config.load(path)
    telling.require_traces(settings)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(OperatorError, match=r"pip install '.*\[traces\]'"):
        telling.require_traces(settings)
