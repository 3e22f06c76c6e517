"""Quotas of a day: exact, told in every answer, and asked of the database in blocks."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError, parse
from gateway.store import Store
from tests.proxy.rig import RawUpstream, Rig, rig
from tests.proxy.signing import Signer
from tests.proxy.test_rates import asked, call, rate, statuses
from tests.store.rig import fetch


def quota(by: str, limit: str) -> dict[str, Any]:
    return {"by": by, "limit": limit}


# fmt: off
ROUTES: list[dict[str, Any]] = [
    {"name": "small", "path": "/small", "auth": "none", "quota": [quota("route", "3/day")]},
    {"name": "large", "path": "/large", "auth": "none", "quota": [quota("route", "10000/day")]},
    {"name": "address", "path": "/address", "auth": "none", "quota": [quota("address", "2/day")]},
    {"name": "both", "path": "/both", "auth": "none", "rate": [rate("route", "100/s")],
     "quota": [quota("address", "3/day"), quota("route", "5/day")]},
    {"name": "mixed", "path": "/mixed", "auth": "none", "rate": [rate("route", "3/h")],
     "quota": [quota("address", "1/day")]},
    {"name": "client", "path": "/client", "auth": ["mac"], "quota": [quota("client", "2/day")]},
]
# fmt: on


@pytest.fixture
async def running(tmp_path: Path, store: Store) -> AsyncIterator[Rig]:
    server = {"trusted_proxies": ["127.0.0.1"], "workers": 1}
    async with rig(tmp_path, store, routes=ROUTES, server=server, upstream=RawUpstream()) as made:
        yield made


async def test_no_more_pass_in_a_day_and_answers_say_what_is_left(running: Rig) -> None:
    replies = await asked(running, "/small", times=5)
    assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
    assert replies[0].one("ratelimit-policy") == '"route-per-day";q=3;w=86400'
    left = [re.fullmatch(r'"route-per-day";r=(\d+);t=(\d+)', reply.one("ratelimit")) for reply in replies]
    assert [None if found is None else int(found[1]) for found in left] == [2, 1, 0, 0, 0]
    wait = int(replies[3].one("retry-after"))  # until midnight in UTC
    assert 0 < wait <= 86400
    assert b"Too many calls: 3 a day" in replies[3].body
    assert len(running.upstream.requests) == 3


async def test_most_calls_ask_nobody(running: Rig, database: str) -> None:
    assert await statuses(running, "/large", times=50) == [200] * 50
    [row] = await fetch(database, "select taken, most from quotas")
    assert (row["taken"], row["most"]) == (200, 10_000)


async def test_calls_at_once_wait_together_and_exactly_the_quota_passes(running: Rig) -> None:
    replies = await asyncio.gather(*(running.talk(call("/small")) for _ in range(20)))
    assert Counter(reply.status for reply in replies) == {200: 3, 429: 17}


async def test_address_with_ipv6_is_its_network(running: Rig) -> None:
    found = [await statuses(running, "/address", f"X-Forwarded-For: 2001:db8::{number}") for number in range(3)]
    assert found == [[200], [200], [429]]
    assert await statuses(running, "/address", "X-Forwarded-For: 192.0.2.1") == [200]


async def test_call_takes_of_all_quotas_or_of_none(running: Rig) -> None:
    first, second = "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"
    assert await statuses(running, "/both", first, times=6) == [200, 200, 200, 429, 429, 429]
    assert await statuses(running, "/both", second, times=3) == [200, 200, 429]
    [reply] = await asked(running, "/both", second)
    assert reply.one("ratelimit").startswith('"route-per-day";r=0;')


async def test_call_over_its_quota_takes_nothing_of_a_rate(running: Rig) -> None:
    first, second = "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"
    assert await statuses(running, "/mixed", first, times=6) == [200, 429, 429, 429, 429, 429]
    [reply] = await asked(running, "/mixed", second)
    assert (reply.status, reply.one("ratelimit").partition(";t=")[0]) == (200, '"route-per-hour";r=1')


async def test_what_the_guard_refuses_takes_nothing(running: Rig, signer: Signer) -> None:
    def signed() -> str:
        return f"Authorization: {signer.authorization(None, target='/client', method='GET')}"

    good = signed()
    assert await statuses(running, "/client", times=3) == [401] * 3
    assert await statuses(running, "/client", good, times=4) == [200, 401, 401, 401]
    assert [await statuses(running, "/client", signed()) for _ in range(2)] == [[200], [429]]


async def test_quota_outlives_its_worker_and_a_changed_limit(tmp_path: Path, store: Store) -> None:
    for limit, expected in (("3/day", [200, 200]), ("3/day", [200, 429]), ("5/day", [200, 200, 429]), ("2/day", [429])):
        routes = [{**ROUTES[0], "quota": [quota("route", limit)]}]
        (place := tmp_path / str(len(list(tmp_path.iterdir())))).mkdir()
        async with rig(place, store, routes=routes, server={"workers": 1}) as made:
            assert await statuses(made, "/small", times=len(expected)) == expected
            await made.proxy.guard.close()


async def test_unused_calls_are_given_back(running: Rig, database: str) -> None:
    assert await statuses(running, "/large", times=7) == [200] * 7
    await running.proxy.guard.close()
    [row] = await fetch(database, "select taken from quotas")
    assert row["taken"] == 7


async def test_yesterdays_calls_are_nobodys_today(running: Rig, database: str) -> None:
    assert await statuses(running, "/small", times=4) == [200, 200, 200, 429]
    await fetch(database, "update quotas set day = day - 1")
    limiting = running.proxy.guard._limiting
    assert limiting is not None
    for account in limiting._quotas._accounts.values():
        account.held.clear()
    assert await statuses(running, "/small", times=4) == [200, 200, 200, 429]


async def test_without_the_database_what_was_given_passes_and_then_none(tmp_path: Path, no_database: Store) -> None:
    async with rig(tmp_path, no_database, routes=ROUTES, server={"workers": 1}) as made:
        [reply] = await asked(made, "/small")
        assert (reply.status, len(made.upstream.requests)) == (503, 0)


async def test_addresses_past_the_bound_of_rows_are_refused_and_those_known_pass(running: Rig) -> None:
    assert await statuses(running, "/address", "X-Forwarded-For: 192.0.2.1") == [200]
    limiting = running.proxy.guard._limiting
    assert limiting is not None
    limiting._quotas._full = True
    [reply] = await asked(running, "/address", "X-Forwarded-For: 192.0.2.2")
    assert (reply.status, reply.one("retry-after")) == (429, "60")
    assert await statuses(running, "/address", "X-Forwarded-For: 192.0.2.1") == [200]
    assert await statuses(running, "/small") == [200]


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"auth": "none", "quota": [quota("client", "1/day")]}, "quota[0].by", "nobody knows which client calls"),
        ({"quota": [quota("client", "1/day"), quota("client", "2/day")]}, "quota[1]", "counts by client for a day, as"),
        ({"quota": [quota("client", "1/s")]}, "quota[0].limit", "must be calls a day"),
        ({"quota": [quota("client", "0/day")]}, "quota[0].limit", "lets nothing pass"),
        ({"quota": [quota("client", "10000000000000/day")]}, "quota[0].limit", "must be calls a day"),
        ({"quota": [{**quota("client", "1/day"), "burst": 2}]}, "quota[0].burst", "is not a known key"),
    ],
)
def test_quota_that_could_not_count_is_a_fault(changes: dict[str, Any], path: str, message: str) -> None:
    route = {"name": "r", "path": "/a", "auth": ["bearer"], "upstreams": ["http://x"], **changes}
    with pytest.raises(ConfigError) as raised:
        parse({"server": {"public_url": "http://gateway.test"}, "routes": [route]})
    [fault] = raised.value.faults
    assert fault.path == f"routes[0].{path}"
    assert message in fault.message
