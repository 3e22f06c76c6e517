"""`gateway serve` sends the spans of its calls to a collector, and says what is missing where it could not."""

from pathlib import Path

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway import config
from gateway.errors import OperatorError
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


def test_missing_packages_are_named_with_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _, _ = write_config(tmp_path, tmp_path, dsn="postgresql://h/d", traces={"endpoint": "http://127.0.0.1:4318"})
    settings = config.load(path)
    telling.require_traces(settings)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(OperatorError, match=r"pip install '.*\[traces\]'"):
        telling.require_traces(settings)
