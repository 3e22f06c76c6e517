"""What a doctor says of limits, groups of upstreams, slow clients and streams: what is wrong, with its mend, and
nothing of what is well."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from gateway.doctor import Finding, examine
from tests.doctor.conftest import OK, Installation
from tests.doctor.rig import upstream
from tests.streams import accepting

EVERYTHING: dict[str, Any] = {
    "rate": [{"by": "client", "limit": "100/s", "burst": 200}, {"by": "user", "limit": "6/m"}],
    "quota": [{"by": "client", "limit": "10000/day"}],
    "concurrency": 100,
    "hold": "64KiB",
    "drain": "5m",
}
BY_ADDRESS = [{"by": "address", "limit": "100/s"}]


async def findings_of(installation: Installation) -> list[Finding]:
    return (await examine(installation.write())).findings


async def test_what_is_meant_so_has_no_finding(installation: Installation) -> None:
    async with upstream(OK) as one, upstream(OK) as two:
        installation.route |= EVERYTHING | {
            "upstreams": [f"http://127.0.0.1:{one}", f"http://127.0.0.1:{two}"],
            "health": {"path": "/healthz"},
        }
        assert await findings_of(installation) == []
        installation.route |= {"rate": BY_ADDRESS, "allow": ["192.0.2.0/24"]}
        installation.tables["server"]["trusted_proxies"] = ["127.0.0.1"]  # and it goes by addresses that are clients'
        del installation.route["quota"]
        assert await findings_of(installation) == []


FAULTY: dict[str, tuple[dict[str, Any], str, str, str, str]] = {  # keys; the key that is named, level, what, mend
    "a rate by the address of a proxy": ({"rate": BY_ADDRESS}, "rate", "fault", "goes by addresses", "trusted_proxies"),
    "a quota by it": (
        {"quota": [{"by": "address", "limit": "500/day"}]}, "quota", "fault", "goes by addresses", "X-Forwarded-For",
    ),
    "a list of addresses": ({"allow": ["192.0.2.0/24"]}, "allow", "fault", "goes by addresses", "trusted_proxies"),
    "a burst of one": (
        {"rate": [{"by": "client", "limit": "100/s", "burst": 1}]},
        "rate", "warning", "of 100/second by client, 1 may come at once", "burst = 10 or more",
    ),
    "a burst below a tenth of a second by the minute": (
        {"rate": [{"by": "client", "limit": "60000/m", "burst": 99}]}, "rate", "warning", "99 may come", "100 or",
    ),
    "a quota that one burst uses up": (
        {"rate": [{"by": "client", "limit": "100/s", "burst": 2000}], "quota": [{"by": "client", "limit": "1000/day"}]},
        "quota", "warning", "1000 calls a day by client, and 2000 may come at once", "smaller burst",
    ),
    "a quota that is never reached": (
        {"rate": [{"by": "client", "limit": "1/m"}], "quota": [{"by": "client", "limit": "10000/day"}]},
        "quota", "warning", "more than the rate 1/minute by client lets pass", "leave it out",
    ),
    "more calls than connections": (
        {"concurrency": 300, "connections": 20},
        "concurrency", "warning", "300 calls may be under way, and its upstreams have 20", "connections = 300",
    ),
    "streams that stay for ever": ({"drain": "30d"}, "drain", "warning", "go on for 30 days", '"10m"'),
}  # fmt: skip


@pytest.mark.parametrize("seed", FAULTY)
async def test_what_works_otherwise_than_it_reads_is_named_with_its_mend(installation: Installation, seed: str) -> None:
    keys, key, level, what, mend = FAULTY[seed]
    installation.route |= keys
    [finding] = [one for one in await findings_of(installation) if one.about != "routes[0].upstreams[0] (route notes)"]
    assert (finding.about, finding.level) == (f"routes[0].{key} (route notes)", level)
    assert what in finding.what
    assert mend in finding.mend


async def test_what_is_for_upstreams_has_no_effect_where_there_are_none(installation: Installation) -> None:
    del installation.route["upstreams"]
    installation.route |= {"respond": {"status": 503}, "hold": "64KiB", "drain": "1m"}
    found = await findings_of(installation)
    assert [finding.about for finding in found] == ["routes[0].hold (route notes)", "routes[0].drain (route notes)"]
    assert {finding.mend for finding in found} == {"leave it out"}


async def test_bodies_that_are_held_must_find_room(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**18}  # one GiB
    monkeypatch.setattr(os, "sysconf", machine.__getitem__)
    async with upstream(OK) as port:
        installation.route |= {"upstreams": [f"http://127.0.0.1:{port}"], "hold": "1MiB"}
        found = [one for one in await findings_of(installation) if ".hold" in one.about]
        assert [finding.about for finding in found] == ["routes[0].hold (route notes)"]
        assert "2.0 GiB may be held, and this machine has 1.0" in found[0].what


# -- several upstreams -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def group(installation: Installation, *answers: bytes) -> AsyncIterator[list[int]]:
    """The route leads to servers that answer so."""
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(upstream(answer)) for answer in answers]
        installation.route["upstreams"] = [f"http://127.0.0.1:{port}" for port in ports]
        yield ports


async def test_one_of_several_that_is_down_is_a_warning_and_all_of_them_a_fault(installation: Installation) -> None:
    async with group(installation, OK):
        installation.route["upstreams"].append("http://127.0.0.1:9")
        [finding] = await findings_of(installation)
        assert (finding.about, finding.level) == ("routes[0].upstreams[1] (route notes)", "warning")
        assert "nothing listens there" in finding.what
        assert "the others" in finding.why
    installation.route["upstreams"] = ["http://127.0.0.1:9", "http://127.0.0.1:10"]
    *each, of_all = sorted(
        await findings_of(installation), key=lambda one: one.about == "routes[0].upstreams (route notes)"
    )
    assert [finding.level for finding in each] == ["fault", "fault"]
    assert (of_all.about, of_all.level) == ("routes[0].upstreams (route notes)", "fault")
    assert of_all.what == "none of the 2 answers"
    assert "have in common" in of_all.mend


async def test_health_of_each_of_several_is_asked_for(installation: Installation) -> None:
    installation.route["health"] = {"path": "/healthz"}
    async with group(installation, OK, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n") as ports:
        [finding] = await findings_of(installation)
    assert finding.about == "routes[0].upstreams[1] (route notes)"
    assert finding.what == f"127.0.0.1:{ports[1]} answers 404 to the health check GET /healthz"
    assert "health.path" in finding.mend


async def test_health_that_comes_too_late_is_named(installation: Installation) -> None:
    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            await asyncio.sleep(1.1)
        writer.write(OK)
        await writer.drain()

    async with accepting(late) as port:
        installation.route |= {"upstreams": [f"http://127.0.0.1:{port}"], "health": {"path": "/h", "timeout": "1s"}}
        [finding] = await findings_of(installation)
    assert f"127.0.0.1:{port} takes 1." in finding.what
    assert "health.timeout" in finding.mend


async def test_two_that_are_one_and_the_same_are_no_group(installation: Installation) -> None:
    async with group(installation, OK) as [port]:
        installation.route["upstreams"].append(f"http://localhost:{port}")
        [finding] = await findings_of(installation)
    assert (finding.about, finding.level) == ("routes[0].upstreams (route notes)", "warning")
    assert finding.what == f"127.0.0.1:{port} and localhost:{port} are one and the same"
