"""Turns: who floods waits for himself."""

import asyncio
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Client
from gateway.store.clients import Clients
from gateway.web.plane import PLANE
from gateway.web.turns import Allowance, Fetches, Turns
from tests.serving import until
from tests.web.conftest import Registered
from tests.web.rig import Answer, Browser, Plane, authorize_path, basic, row_counts

FORM = b"grant_type=client_credentials"


async def served(at_once: int, asked: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """In which order those who ask while all turns are taken are served."""
    turns, order, release = Turns(at_once), list[tuple[str, str]](), asyncio.Event()

    async def hold() -> None:
        async with turns.turn("holder", ""):
            await release.wait()

    async def ask(place: str, name: str) -> None:
        async with turns.turn(place, name):
            order.append((place, name))
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(hold()) for _ in range(at_once)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(ask(*one)) for one in asked]
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*tasks)
    assert turns._free == at_once
    assert not turns._waiting
    return order


async def test_places_and_then_names_take_turns() -> None:
    flood, same_place, elsewhere = ("a", "x"), ("a", "y"), ("b", "x")
    order = await served(1, [*[flood] * 5, same_place, elsewhere, elsewhere])
    assert order == [flood, elsewhere, same_place, elsewhere, *[flood] * 4]


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=30))
def test_everybody_is_served_once(at_once: int, asked: list[tuple[str, str]]) -> None:
    assert sorted(asyncio.run(served(at_once, asked))) == sorted(asked)


@pytest.mark.parametrize("served_first", [False, True])
async def test_who_gives_up_takes_no_turn_along(served_first: bool) -> None:
    turns = Turns(1)
    async with turns.turn("a", "x"):
        waiting = asyncio.create_task(turns._wait("a", "x"))
        await asyncio.sleep(0)
        if not served_first:
            waiting.cancel()
    if served_first:  # the turn has come, and the task has not heard of it yet
        waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(5), turns.turn("b", "y"):
        pass


async def test_a_flood_for_one_client_makes_no_other_wait(
    plane: Plane, browser: Browser, stranger: Browser, register: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, right = await register(name="Victim")
    other, secret = await register(name="Other")
    turns, release, looked = plane.app[PLANE].authentications, asyncio.Event(), list[str]()
    look = Clients.authenticate

    async def slowly(clients: Clients, client_id: str, given: str) -> object:
        looked.append(client_id)
        await release.wait()
        return await look(clients, client_id, given)

    monkeypatch.setattr(Clients, "authenticate", slowly)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    def ask(one: Browser, client_id: str, given: str, address: str = "192.0.2.1") -> asyncio.Task[object]:
        fields = {**headers, **basic(client_id, given), "X-Forwarded-For": address}
        return asyncio.create_task(one.send("POST", "/oauth2/token", FORM, fields))

    flood = [ask(browser, victim.client_id, "gws_wrong") for _ in range(30)]
    await until(lambda: sum(map(len, turns._waiting.get("192.0.2.1", {}).values())) == 26)
    others = [ask(stranger, other.client_id, secret), ask(stranger, victim.client_id, right, "192.0.2.2")]
    await until(lambda: sum(len(names) for names in turns._waiting.values()) == 3)
    release.set()
    assert [answer.status for answer in await asyncio.gather(*others)] == [200, 200]  # type: ignore[attr-defined]
    await asyncio.gather(*flood)
    assert other.client_id in looked[:7], "it had the next turn but one"


@pytest.mark.parametrize("path", ["par", "device_authorization"])
async def test_strangers_leave_so_many_requests_for_people_and_no_more(
    plane: Plane,
    browser: Browser,
    register: Registered,
    public: Client,
    database: str,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RFC 9126, section 2.3: by address, whichever client they name; who proves to be an operator's is not counted."""
    other, _ = await register(confidential=False)
    client, secret = await register()
    table = {"par": "pushed_requests", "device_authorization": "device_codes"}[path]

    async def ask(of: Client, headers: dict[str, str] | None = None) -> Answer:
        fields = parse_qsl(urlsplit(authorize_path(of)).query) if path == "par" else [("client_id", of.client_id)]
        return await browser.send("POST", f"/oauth2/{path}", fields, headers or {})

    monkeypatch.setattr(plane.app[PLANE].requests, "_by_place", 3)
    answers = [await ask(of) for of in (public, other, public, other, public)]
    assert [answer.status // 100 for answer in answers] == [2, 2, 2, 4, 4]
    late = answers[-1]
    assert (late.status, late.json["error"]) == (429, "temporarily_unavailable")
    assert late.headers["Retry-After"] == "60"
    assert (await row_counts(database))[table] == 3
    assert (await ask(client, basic(client.client_id, secret))).status // 100 == 2


def test_an_allowance_is_for_a_minute_by_place_and_by_name() -> None:
    now = 1000.0
    allowance = Allowance(lambda: now, by_place=2, by_name=3)
    assert [allowance.take("a", "x") for _ in range(3)] == [True, True, False]
    assert [allowance.take("b", "x"), allowance.take("c", "x")] == [True, False]
    assert allowance.take("c", "y")
    now += 59
    assert not allowance.take("a", "x")
    now += 1
    assert allowance.take("a", "x")


def test_a_site_of_ipv6_comes_to_no_bound_that_is_everybodys() -> None:
    """It has as many networks of 64 bits as it likes (RFC 6177)."""
    allowance = Allowance(lambda: 0.0, by_place=2, by_site=5, by_name=8)
    networks = [f"2001:db8:0:{number:x}::/64" for number in range(256)]
    assert sum(allowance.take(network, "x") for network in networks) == 5
    assert [allowance.take("192.0.2.1", "x") for _ in range(3)] == [True, True, False]
    assert allowance.take("2001:db8:1::/64", "x")


def test_what_strangers_use_up_at_a_host_takes_nothing_from_whom_we_know() -> None:
    fetches = Fetches(lambda: 0.0)
    assert sum(fetches.take("stranger", "host", None) for _ in range(100)) == 30
    assert fetches.take("somebody", "host", None)
    places = [f"192.0.2.{number}" for number in range(50)]
    assert sum(fetches.take(place, "host", None) for place in places for _ in range(30)) == 600 - 31
    assert not fetches.take("client", "host", None)
    assert sum(fetches.take("stranger", "host", "client") for _ in range(100)) == 20
    assert fetches.take("stranger", "host", "another")
