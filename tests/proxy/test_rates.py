"""Rates of calls: what one worker lets pass, what its answers say of it, and what counts for whom."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError, parse
from gateway.store import Store
from tests.proxy.rig import RawUpstream, Reply, Rig, rig
from tests.proxy.signing import Signer

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nRateLimit: "theirs";r=7;t=1\r\n\r\nok'
APP = "https://app.example.com"


def rate(by: str, limit: str = "2/h", **more: object) -> dict[str, Any]:
    return {"by": by, "limit": limit, **more}


# fmt: off
ROUTES: list[dict[str, Any]] = [
    {"name": "route", "path": "/route", "auth": "none", "rate": [rate("route")]},
    {"name": "address", "path": "/address", "auth": "none", "rate": [rate("address", "1/m", burst=3)]},
    {"name": "both", "path": "/both", "auth": "none", "rate": [rate("address", "3/h"), rate("route", "2/h")]},
    {"name": "free", "path": "/free", "auth": "none"},
    {"name": "client", "path": "/client", "auth": ["bearer", "mac"], "rate": [rate("client")]},
    {"name": "token", "path": "/token", "auth": ["bearer"], "rate": [rate("token"), rate("user", "3/h")]},
    {"name": "knock", "path": "/knock", "auth": ["bearer"], "rate": [rate("address"), rate("client", "5/h")]},
    {"name": "down", "path": "/down", "auth": "none", "rate": [rate("route")], "upstreams": ["http://127.0.0.1:9"]},
    {"name": "own", "path": "/own", "auth": "none", "rate": [rate("route")], "upstreams": [],
     "respond": {"status": 200, "body": "hi"}},
    {"name": "pages", "path": "/pages", "auth": "none", "rate": [rate("route")], "cors": {"origins": [APP]}},
]
# fmt: on


@pytest.fixture
async def running(tmp_path: Path, store: Store) -> AsyncIterator[Rig]:
    server = {"trusted_proxies": ["127.0.0.1"], "workers": 1}
    async with rig(tmp_path, store, routes=ROUTES, server=server, upstream=RawUpstream(ANSWER)) as made:
        yield made


def call(path: str, *fields: str, method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: gateway.test", *fields, "", "")).encode()


async def asked(running: Rig, path: str, *fields: str, times: int = 1, method: str = "GET") -> list[Reply]:
    return [await running.talk(call(path, *fields, method=method), method=method) for _ in range(times)]


async def statuses(running: Rig, path: str, *fields: str, times: int = 1) -> list[int]:
    return [reply.status for reply in await asked(running, path, *fields, times=times)]


async def test_answers_say_what_is_left_and_a_refusal_when_there_is_more(running: Rig) -> None:
    first, second, third = await asked(running, "/route", times=3)
    policy = '"route-per-hour";q=2;w=3600'  # draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4
    assert (first.status, first.one("ratelimit-policy")) == (200, policy)
    assert first.all("ratelimit") == ['"theirs";r=7;t=1', '"route-per-hour";r=1;t=1800']
    assert second.all("ratelimit")[1] == '"route-per-hour";r=0;t=1800'

    assert (third.status, third.one("ratelimit-policy")) == (429, policy)
    wait = int(third.one("retry-after"))  # RFC 6585, section 4
    assert 1790 <= wait <= 1800
    assert third.one("ratelimit") == f'"route-per-hour";r=0;t={wait}'
    assert b'"error": "too_many_requests"' in third.body
    assert f"Try again in {wait} seconds." in third.body.decode()
    assert len(running.upstream.requests) == 2


async def test_route_without_limits_says_nothing_of_any(running: Rig) -> None:
    [reply] = await asked(running, "/free")
    assert (reply.all("ratelimit-policy"), reply.all("ratelimit")) == ([], ['"theirs";r=7;t=1'])


async def test_address_is_who_called_and_with_ipv6_all_its_network(running: Rig) -> None:
    def by(address: str) -> str:
        return f"X-Forwarded-For: {address}"

    assert await statuses(running, "/address", by("192.0.2.1"), times=4) == [200, 200, 200, 429]
    assert await statuses(running, "/address", by("203.0.113.9, 192.0.2.1")) == [429]  # what the client says of itself
    assert await statuses(running, "/address", by("192.0.2.2")) == [200]
    neighbours = [await statuses(running, "/address", by(f"2001:db8:0:1::{number}")) for number in range(4)]
    assert neighbours == [[200], [200], [200], [429]]
    assert await statuses(running, "/address", by("2001:db8:0:2::1")) == [200]
    assert await statuses(running, "/address", by("::ffff:192.0.2.1")) == [429]


async def test_call_takes_of_all_limits_or_of_none(running: Rig) -> None:
    first, second, third = await asked(running, "/both", times=3)
    assert first.all("ratelimit")[1] == '"address-per-hour";r=2;t=1200,"route-per-hour";r=1;t=1800'
    assert first.one("ratelimit-policy") == '"address-per-hour";q=3;w=3600,"route-per-hour";q=2;w=3600'
    assert (second.status, third.status) == (200, 429)
    assert third.one("ratelimit").startswith('"route-per-hour";r=0;')


async def test_what_the_guard_refuses_takes_nothing_of_a_client(running: Rig, signer: Signer) -> None:
    def signed(path: str = "/client") -> str:
        return f"Authorization: {signer.authorization(None, target=path, method='GET')}"

    good = signed()
    for _ in range(5):
        assert await statuses(running, "/client") == [401]
        assert await statuses(running, "/client", "Authorization: Bearer nonsense") == [401]
        assert await statuses(running, "/client", signed("/other")) == [401]
    assert await statuses(running, "/client", good) == [200]
    assert await statuses(running, "/client", good, times=5) == [401] * 5  # replayed
    assert await statuses(running, "/client", signed()) == [200]
    assert await statuses(running, "/client", signed()) == [429]


async def test_address_that_knocks_too_often_is_refused_before_anybody_looks(running: Rig, signer: Signer) -> None:
    replies = await asked(running, "/knock", times=3)
    assert [reply.status for reply in replies] == [401, 401, 429]
    assert [reply.one("ratelimit").partition(";t=")[0] for reply in replies] == [
        '"address-per-hour";r=1', '"address-per-hour";r=0', '"address-per-hour";r=0',
    ]  # fmt: skip
    [reply] = await asked(running, "/knock", "Authorization: Bearer nonsense")
    assert (reply.status, reply.all("www-authenticate")) == (429, [])
    assert reply.one("ratelimit").startswith('"address-per-hour";r=0;')


async def test_tokens_of_one_person_count_apart_and_together(running: Rig, store: Store, signer: Signer) -> None:
    issue = store.tokens.issue
    issued = [await issue(signer.client_id, None, frozenset({"notes:write"}), 3600, "bearer") for _ in range(2)]
    one, other = [f"Authorization: Bearer {tokens.access_token}" for tokens in issued]
    assert await statuses(running, "/token", one, times=3) == [200, 200, 429]
    assert await statuses(running, "/token", other, times=2) == [200, 429]  # three by one user
    [reply] = await asked(running, "/token", other)
    assert reply.one("ratelimit").startswith('"user-per-hour";r=0;')


async def test_refusals_and_answers_of_the_gateways_own_say_it_too(running: Rig) -> None:
    down, own = await asked(running, "/down"), await asked(running, "/own")
    assert (down[0].status, down[0].one("ratelimit")) == (502, '"route-per-hour";r=1;t=1800')
    assert (own[0].status, own[0].one("ratelimit")) == (200, '"route-per-hour";r=1;t=1800')


async def test_pages_of_other_origins_can_read_when_to_come_back(running: Rig) -> None:
    preflight = call("/pages", f"Origin: {APP}", "Access-Control-Request-Method: GET", method="OPTIONS")
    assert [(await running.talk(preflight)).status for _ in range(4)] == [204] * 4  # which count for nothing
    replies = await asked(running, "/pages", f"Origin: {APP}", times=3)
    assert [reply.status for reply in replies] == [200, 200, 429]
    for reply in replies:
        assert {"RateLimit", "RateLimit-Policy"} <= set(reply.one("access-control-expose-headers").split(", "))
    assert "Retry-After" in replies[2].one("access-control-expose-headers")


async def test_explanation_names_the_limit_that_was_in_the_way(running: Rig) -> None:
    *_, route = await asked(running, "/route", times=3)
    *_, knock = await asked(running, "/knock", times=3)
    for reply, step, cause in (
        (route, "limit", "over the rate: 2/hour by route"),
        (knock, "address", "address over its rate: 2/hour by address"),
    ):
        calls = running.proxy.recall(reply.one("x-request-id"))["calls"]
        assert isinstance(calls, list)
        [told] = calls
        assert (told["status"], told["cause"]) == (429, cause)
        assert told["mend"]
        assert [one["step"] for one in told["steps"] if one["outcome"] == "refused"] == [step]


@pytest.mark.plain
async def test_many_addresses_are_held_within_bounds(running: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.guard.rates.MOST", 10)
    for number in range(40):
        assert await statuses(running, "/address", f"X-Forwarded-For: 198.51.100.{number}") == [200]
    limiting = running.proxy.guard._limiting
    assert limiting is not None
    rates = limiting._rates
    [meter] = rates._meters.values()
    assert (len(meter.own), len(rates._calm) + len(rates._tight)) == (10, 10)
    await rates.exchange()
    await asyncio.sleep(0)
    assert len(meter.own) + len(meter.shared) <= 20


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"auth": "none", "rate": [rate("client", "1/s")]}, "rate[0].by", "nobody knows which client calls"),
        ({"auth": "none", "rate": [rate("route", "1/s"), rate("token", "1/s")]}, "rate[1].by", "nobody knows which"),
        ({"rate": [rate("client", "1/s"), rate("client", "9/s")]}, "rate[1]", "counts by client for a second, as"),
        ({"rate": [rate("client", "0/s")]}, "rate[0].limit", "lets nothing pass"),
        ({"rate": [rate("client", "1000001/s")]}, "rate[0].limit", "up to 1,000,000"),
        ({"rate": [rate("client", "10/day")]}, "rate[0].limit", "must be calls a second, minute or hour"),
        ({"rate": [rate("client", "10")]}, "rate[0].limit", "must be calls a second, minute or hour"),
        ({"rate": [rate("client", "-1/s")]}, "rate[0].limit", "must be calls a second, minute or hour"),
        ({"rate": [rate("customer", "1/s")]}, "rate[0].by", 'must be "client", "user", "token", "address" or "route"'),
        ({"rate": [{"by": "client"}]}, "rate[0].limit", "must be set"),
        ({"rate": [rate("client", "1/s", burst=0)]}, "rate[0].burst", "must be at least 1"),
        ({"rate": [rate("client", "1/s", burst="many")]}, "rate[0].burst", "must be a whole number"),
        ({"rate": [rate("client", "1/s", per="day")]}, "rate[0].per", "is not a known key"),
        ({"rate": "100/s"}, "rate", "must be an array"),
    ],
)
def test_rate_that_could_not_count_is_a_fault(changes: dict[str, Any], path: str, message: str) -> None:
    route = {"name": "r", "path": "/a", "auth": ["bearer"], "upstreams": ["http://x"], **changes}
    with pytest.raises(ConfigError) as raised:
        parse({"server": {"public_url": "http://gateway.test"}, "routes": [route]})
    [fault] = raised.value.faults
    assert fault.path == f"routes[0].{path}"
    assert message in fault.message
