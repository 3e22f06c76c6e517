"""A real Prometheus scrapes a gateway, and what `ops/` has for it asks only for what there is."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.figures import FIGURES
from tests.serving import ROOT, free_ports, serving, until
from tests.supervisor.conftest import SlowUpstream

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="prometheus is not installed: install the package prometheus"
)
RULES = ROOT / "ops" / "prometheus"
DASHBOARD = ROOT / "ops" / "grafana" / "gateway.json"
SUFFIXES = {"counter": ["_total"], "gauge": [""], "oldest": [""], "histogram": ["_bucket", "_count", "_sum"]}


def expressions() -> Iterator[str]:
    """What the dashboard asks for, with its variables as some values."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")


def test_dashboard_and_alerts_ask_for_figures_that_there_are() -> None:
    there = {figure.name + suffix for figure in FIGURES.values() for suffix in SUFFIXES[figure.kind]}
    alerts = (RULES / "alerts.yml").read_text()
    asked = {name for text in (*expressions(), alerts) for name in re.findall(r"\bgateway_[a-z_]+", text)}
    assert asked <= there | {"gateway_configured_timestamp_seconds"}, asked - there
    shown = {name for name in asked if name in there}
    assert {figure.name for figure in FIGURES.values() if not any(name.startswith(figure.name) for name in shown)} <= {
        "gateway_build_info",
        "gateway_configured_timestamp_seconds",
        "gateway_reloads",
        "gateway_start_timestamp_seconds",
    }


@needs_prometheus
def test_alerts_fire_on_their_faults_and_not_on_a_healthy_gateway() -> None:
    for command in (
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts_test.yml"),
    ):
        done = subprocess.run([cast("str", PROMTOOL), *command], cwd=RULES, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[str]:
    """A Prometheus that scrapes the target each second, by its URL."""
    (port,) = free_ports(1)
    config = folder / "prometheus.yml"
    text = (RULES / "prometheus.yml").read_text()
    config.write_text(
        text.replace("127.0.0.1:9901", target).replace("15s", "1s").replace("alerts.yml", str(RULES / "alerts.yml"))
    )
    with (folder / "prometheus.log").open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            cast("str", PROMETHEUS),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=out,
            stderr=out,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@needs_prometheus
async def test_prometheus_scrapes_all_workers_and_answers_what_the_dashboard_asks(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    async with (
        serving(tmp_path, dsn=database, routes=[upstream.route()]) as gateway,
        prometheus(tmp_path, urlsplit(gateway.admin_url).netloc) as url,
        aiohttp.ClientSession() as session,
    ):
        for _ in range(20):
            assert await gateway.status("/") == 200

        async def answer(expression: str) -> list[dict[str, Any]]:
            async with session.get(f"{url}/api/v1/query", params={"query": expression}) as response:
                found = await response.json()
                assert found["status"] == "success", found
                return cast("list[dict[str, Any]]", found["data"]["result"])

        async def scraped() -> bool:
            try:
                found = await answer('sum(gateway_call_seconds_count{route="slow",status="2xx"})')
            except aiohttp.ClientError:
                return False  # it starts
            return bool(found) and found[0]["value"][1] == "20"

        await until(scraped)
        for expression in expressions():
            await answer(expression)
        assert await answer("gateway_build_info")
        assert await answer('up{job="gateway"} == 1')
        async with session.get(f"{url}/api/v1/rules") as response:
            groups = (await response.json())["data"]["groups"]
        assert len(groups[0]["rules"]) == 15
