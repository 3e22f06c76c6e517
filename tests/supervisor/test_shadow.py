"""`gateway reload --shadow`: live calls are judged by both configurations, and only the one in force decides."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from gateway.app.shadow import Comparison, Decided, Judge, judges_of
from gateway.config import Settings, parse
from gateway.guard.quotas import Account
from gateway.http1 import RequestHead, RequestReader
from gateway.proxy.mirror import CallCopy
from gateway.routing.limits import Limit
from gateway.store import Store
from gateway.store.limits import Taking
from gateway.supervisor.channel import Channel, Compared, Differs
from tests.guard.conftest import new_client
from tests.proxy.rig import KEYRING
from tests.serving import PATIENCE, PROGRAM, ROOT, Gateway, command_line, serving, until
from tests.store.rig import fetch
from tests.supervisor.conftest import SlowUpstream
from tests.supervisor.test_handover import OFTEN, Caller
from tests.supervisor.test_rotation import SignedCaller

SECONDS = 600  # more than any test takes: a shadow ends by another end


# The gateway with Ctrl-C as at a terminal, also where whoever runs the tests has it ignored.
BEGIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from gateway.__main__ import main; "
AT_A_TERMINAL = (sys.executable, "-c", f"{BEGIN}main()")


@asynccontextmanager
async def shadow(
    gateway: Gateway, *options: str, seconds: int = SECONDS, program: Sequence[str] = PROGRAM
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command, once the shadow is told of calls."""
    begun = len(events(gateway, "shadow"))
    process = await asyncio.create_subprocess_exec(
        *(*program, "reload", "--config", str(gateway.config), "--shadow", f"{seconds}s", *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        await until(lambda: process.returncode is not None or len(events(gateway, "shadow")) > begun)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def events(gateway: Gateway, event: str) -> list[dict[str, Any]]:
    return [line for line in gateway.logs if line["event"] == event]


def shadow_of(gateway: Gateway) -> psutil.Process:
    [found] = shadows(gateway)
    return found


def shadows(gateway: Gateway) -> list[psutil.Process]:
    return [child for child in gateway.children if {"worker", "shadow"} <= {*command_line(child)}]


def rewrite(gateway: Gateway, *changes: tuple[str, str]) -> None:
    text = gateway.config.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    gateway.config.write_text(text)


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode()


async def rest_of(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def called(gateway: Gateway, token: str) -> AsyncIterator[Caller]:
    caller = Caller(gateway.url, token)
    await caller.connect()
    try:
        yield caller
    finally:
        caller.close()


async def test_a_shadow_reports_each_kind_of_call_that_would_be_decided_otherwise_and_changes_nothing(
    tmp_path: Path, store: Store, database: str, upstream: SlowUpstream
) -> None:
    client, _ = await store.clients.create(new_client())
    bearer = await store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, None)
    mac = await store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, "mac")
    good = {**upstream.route(), "auth": ["bearer", "mac"], "path": "/x", "scopes": ["read"]}
    async with serving(tmp_path, dsn=database, routes=[good, {**upstream.route(), "name": "other"}]) as gateway:
        before = gateway.config.read_text()
        rewrite(gateway, ('"scopes" = ["read"]', '"scopes" = { GET = ["read"], "*" = ["write"] }\n"max_body" = "10B"'))
        signed = SignedCaller(gateway.url, mac)
        async with shadow(gateway) as process, called(gateway, bearer.access_token) as caller:
            await signed.connect()  # no sooner: who opens a connection and says nothing is cut off
            assert await gateway.status("/y") == 200  # by the other route, and so it stays
            for body in (0, 5, 5):
                caller.send(caller.request(body))
                await caller.answered()
            said = await line_of(process)
            assert f"POST: passes, by route slow to {upstream.url[7:]} → 403 lacks write, by route slow to" in said
            assert "first /x, request " in said
            for _ in range(3):
                signed.send(signed.request())
                await signed.answered()
            gateway.config.write_text(before)
            gateway.process.send_signal(signal.SIGHUP)  # with another configuration, the shadow ends
            code, out, err = await rest_of(process)
            assert (code, err) == (0, "")
            assert "ended early: another configuration was taken over" in out
            assert "7 calls compared, 2 would be decided otherwise\n" in out
            assert "  2 times POST: passes" in out
            assert "nothing has changed" in out
            caller.send(caller.request(5))
            await caller.answered()
        signed.close()
        await until(lambda: not shadows(gateway))
        [spent] = await fetch(database, "select count(*) from nonces")
        assert spent[0] == 3  # by the gateway that decides, each once
        assert not [line for line in gateway.logs if line["level"] in ("error", "critical")]


async def test_a_shadow_of_which_the_configuration_is_faulty_reports_every_fault(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    async with serving(tmp_path, dsn=database, workers=1, routes=[upstream.route()]) as gateway:
        rewrite(gateway, ('"auth" = "none"', '"auht" = "none"'))
        async with shadow(gateway) as process:
            code, out, err = await rest_of(process)
        assert (code, out) == (1, "")
        assert "routes[0].auth" in err
        assert "routes[0].auht" in err
        assert "nothing has changed" in err
        assert await gateway.status("/") == 200
        for option, said in (("0s", "must be a duration"), ("2d", "at most 24h"), ("soon", "must be a duration")):
            refused = await asyncio.create_subprocess_exec(
                *(*PROGRAM, "reload", "--config", str(gateway.config), "--shadow", option),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=ROOT,
            )
            code, _, err = await rest_of(refused)
            assert code == 1
            assert said in err


async def test_a_shadow_that_is_killed_or_left_touches_no_call(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    async with serving(tmp_path, dsn=database, workers=2, routes=[upstream.route()]) as gateway:
        ends = asyncio.Event()
        async with called(gateway, "x") as caller, called(gateway, "x") as other:
            calls = [asyncio.create_task(one.call_until(ends, 3000, pause=OFTEN)) for one in (caller, other)]
            async with shadow(gateway) as process:  # it dies
                shadow_of(gateway).kill()
                code, _, err = await rest_of(process)
                assert code == 1
                assert "the shadow ended (SIGKILL)" in err
            async with shadow(gateway) as process:  # whoever asked goes
                process.kill()
                await until(lambda: not shadows(gateway))
            await until(lambda: not shadows(gateway))
            ends.set()
            assert all(await asyncio.wait_for(asyncio.gather(*calls), PATIENCE))


async def test_a_shadow_ends_by_its_own_time_and_by_ctrl_c_and_reports_what_it_saw(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    async with serving(tmp_path, dsn=database, workers=1, routes=[upstream.route()]) as gateway:
        rewrite(gateway, ('"path" = "/"', '"path" = "/elsewhere"'))
        for interrupted in (False, True):
            seconds = SECONDS if interrupted else 2
            async with shadow(gateway, seconds=seconds, program=AT_A_TERMINAL) as process:
                assert await gateway.status("/x") == 200
                if interrupted:
                    assert "→ 404" in await line_of(process)
                    process.send_signal(signal.SIGINT)
                code, out, err = await rest_of(process)
            assert (code, err) == (0, "")
            assert ("ended early: by Ctrl-C\n" in out, "ended early" in out) == (interrupted, interrupted)
            assert "1 calls compared, 1 would be decided otherwise\n  1 times GET: passes" in out
            assert "nothing has changed" in out
            await until(lambda: not shadows(gateway))
        assert not [line for line in gateway.logs if line["level"] in ("error", "critical")]


# Told to, a process of the gateway's loops.
LOOPS = """\
import signal

def loop(*_):
    while True:
        pass

signal.signal(signal.SIGUSR2, loop)
"""


@pytest.mark.long
async def test_a_shadow_that_loops_touches_no_call_and_is_ended(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    (tmp_path / "sitecustomize.py").write_text(LOOPS)
    looping, routes = {"PYTHONPATH": str(tmp_path)}, [upstream.route()]
    async with serving(tmp_path, dsn=database, workers=2, routes=routes, environment=looping) as gateway:
        ends = asyncio.Event()
        async with called(gateway, "x") as caller, shadow(gateway, seconds=1) as process:
            calls = asyncio.create_task(caller.call_until(ends, 3000, pause=OFTEN))
            spinning = shadow_of(gateway)
            before = spinning.cpu_times().user
            spinning.send_signal(signal.SIGUSR2)
            await until(lambda: spinning.cpu_times().user > before + 2)
            code, _, err = await rest_of(process)  # when it has been silent for long
            assert (code, "the shadow hangs" in err) == (1, True)
            await until(lambda: not shadows(gateway))
            ends.set()
            assert await asyncio.wait_for(calls, PATIENCE)
        assert await gateway.status("/x") == 200


@pytest.mark.long
async def test_a_shadow_that_hangs_touches_no_call_and_is_ended(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    async with serving(tmp_path, dsn=database, workers=2, routes=[upstream.route()]) as gateway:
        ends = asyncio.Event()
        async with called(gateway, "x") as caller:
            calls = asyncio.create_task(caller.call_until(ends, 3000, pause=OFTEN))
            # It takes nothing any more: what waits for it is bounded.
            async with shadow(gateway) as process, called(gateway, "x") as many:
                shadow_of(gateway).suspend()
                for _ in range(1500):
                    many.send(many.request(3000))
                    await many.answered()
                async with shadow(gateway) as another:
                    code, _, err = await rest_of(another)
                    assert code == 1
                    assert "another `gateway reload --shadow` is under way" in err
                code, _, err = await rest_of(process)  # when it has been silent for long
                assert code == 1
                assert "the shadow hangs" in err
            await until(lambda: not shadows(gateway))
            ends.set()
            assert await asyncio.wait_for(calls, PATIENCE)


async def test_a_shadow_ends_with_its_gateway_and_tells_what_it_has(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    async with serving(tmp_path, dsn=database, workers=1, routes=[upstream.route()]) as gateway:
        rewrite(gateway, ('"path" = "/"', '"path" = "/elsewhere"'))
        async with shadow(gateway, "--json") as process:
            for path in ("/a", "/b?token=secret", "/elsewhere"):
                assert await gateway.status(path) == 200
            gateway.process.terminate()
            code, out, _ = await rest_of(process)
        assert code == 0
        told = json.loads(out)
        [kind] = told["kinds"]
        assert (told["early"], told["changed"]) == ("the gateway is stopping", ["routes: slow.path: / → /elsewhere"])
        assert (told["calls"], told["different"], told["missed"]) == (3, 2, 0)
        assert kind["after"] == "404 Nothing is served at this path."
        assert (kind["count"], kind["path"]) == (2, "/a")
        assert "secret" not in out


async def test_networks_preflights_and_routes_that_answer_are_judged_too(tmp_path: Path) -> None:
    public, nobody = {"path": "/x", "auth": "none"}, Store.over("postgresql://nobody@127.0.0.1:1/x", KEYRING)
    one, other = (
        judged_by(tmp_path, {"name": "r", **public, **route})
        for route in (
            {"upstreams": ["http://127.0.0.1:9"], "cors": {"origins": ["https://app.test"]}},
            {"upstreams": [], "respond": {"status": 503}, "deny": ["192.0.2.0/24"]},
        )
    )
    before, after = judges_of(one, other, nobody, nobody)
    head = _head_of(b"GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
    call = told(b"", peer="10.0.0.1")
    assert (await before.decide(head, call)).words == "passes, by route r to 127.0.0.1:9"
    assert (await after.decide(head, call)).words == (
        "403 This address may not call this service., by route r, which answers by itself"
    )
    assert (
        await after.decide(head, call._replace(peer="10.0.0.2"))
    ).words == "passes, by route r, which answers by itself"
    asks = b"Origin: https://app.test\r\nAccess-Control-Request-Method: GET\r\n\r\n"
    head = _head_of(b"OPTIONS /x HTTP/1.1\r\nHost: a\r\n" + asks)
    assert (await before.decide(head, call)).words == "a preflight that is answered, by route r to 127.0.0.1:9"


class Kinds:
    """The channel of a comparison, as far as it tells of kinds."""

    def __init__(self) -> None:
        self.found = list[Differs]()

    def send(self, kind: Differs) -> None:
        self.found.append(kind)


def comparison_of(
    folder: Path, before: dict[str, Any], after: dict[str, Any], store: Store | None = None
) -> Comparison:
    """That of two configurations of one public route."""
    route = {"name": "r", "path": "/x", "auth": "none", "upstreams": ["http://127.0.0.1:9"]}
    store = store or Store.over("postgresql://nobody@127.0.0.1:1/x", KEYRING)
    one, other = (judged_by(folder, {**route, **own}) for own in (before, after))
    return Comparison(*judges_of(one, other, store, store), cast("Channel", Kinds()))


def told(head: bytes = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", **more: Any) -> CallCopy:
    usual: dict[str, Any] = {"head": head, "peer": "127.0.0.1", "request_id": b"a", "received": 0, "lost": 0}
    return CallCopy(**(usual | {"began": 1.0, "ended": 1.0} | more))


async def compared(
    folder: Path, before: dict[str, Any], after: dict[str, Any], *heads: bytes, store: Store | None = None
) -> list[Differs]:
    """What comes of these calls, one after the other, each kind that differs with its count."""
    comparison = comparison_of(folder, before, after, store)
    for number, head in enumerate(heads):
        await comparison.judge(told(head, began=1e9 if number else 1.0))
    report = comparison.report()
    assert report.calls == len(heads)
    return list(report.kinds)


GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
PASSES = "passes, by route r to 127.0.0.1:9"
KEY = Account("r", Limit("address", 6, "day")).key("127.0.0.1")


async def test_rates_of_both_configurations_are_kept_and_where_one_refuses_is_told(tmp_path: Path) -> None:
    few, many = ({"rate": [{"by": "address", "limit": f"{most}/h"}]} for most in (2, 4))
    over = "429 over the rate by address, by route r to 127.0.0.1:9"
    [kind] = await compared(tmp_path, many, few, *[GET] * 6)
    assert (kind.before, kind.after, kind.count) == (PASSES, over, 2)  # of six, two are over both
    [kind] = await compared(tmp_path, {}, few, *[GET] * 6)
    assert (kind.before, kind.after, kind.count) == (PASSES, over, 4)
    [kind] = await compared(tmp_path, few, {}, *[GET] * 3)
    assert (kind.before, kind.after, kind.count) == (over, PASSES, 1)
    assert await compared(tmp_path, few, few, *[GET] * 6) == []


@pytest.mark.parametrize(
    ("before", "after", "others"),
    [
        ({}, {"request_headers": {"set": {"X-Tenant": "secret-1"}}}, "X-Tenant to the upstream"),
        (
            {"request_headers": {"set": {"X-Tenant": "secret-1"}, "remove": ["X-Debug"]}},
            {"request_headers": {"set": {"X-Tenant": "secret-2"}}},
            "X-Debug to the upstream, X-Tenant to the upstream",
        ),
        ({"response_headers": {"remove": ["Server"]}}, {}, "Server to the client"),
        ({}, {"cors": {"origins": ["https://app.test"]}}, "the fields of CORS to the client"),
    ],
)
async def test_what_is_said_otherwise_of_a_route_is_named_and_no_value_shown(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any], others: str
) -> None:
    [kind] = await compared(tmp_path, before, after, GET, GET)
    assert (kind.before, kind.after, kind.count) == (PASSES, f"{PASSES}, with other {others}", 2)
    assert await compared(tmp_path, after, after, GET) == []


async def test_quotas_of_both_configurations_go_on_from_what_is_really_spent_and_spend_nothing(
    tmp_path: Path, store: Store, database: str
) -> None:
    few, many = ({"quota": [{"by": "address", "limit": f"{most}/day"}]} for most in (4, 6))
    over = "429 over the quota by address, by route r to 127.0.0.1:9"
    for spent, again in ((0, 2), (3, 2)):
        if spent:  # the calls are told of when they have been counted, the first of them with these
            await store.limits.take([Taking(KEY, 6, spent, grows=True)], block=1, part=0.0)
        [kind] = await compared(tmp_path, many, few, *[GET] * 7, store=store)
        assert (kind.before, kind.after, kind.count) == (PASSES, over, again)
        [kind] = await compared(tmp_path, {}, few, *[GET] * 7, store=store)
        assert (kind.after, kind.count) == (over, 3 + spent)
        assert await compared(tmp_path, few, few, *[GET] * 7, store=store) == []
    rows = await fetch(database, "select taken from quotas")
    assert [row["taken"] for row in rows] == [3]


async def test_a_burst_that_the_database_has_counted_before_it_is_asked_counts_with_quotas_once(
    tmp_path: Path, store: Store
) -> None:
    few, many = ({"quota": [{"by": "address", "limit": f"{most}/day"}]} for most in (5, 30))
    await store.limits.take([Taking(KEY, 30, 2, grows=True)], block=1, part=0.0)  # before the shadow
    await store.limits.take([Taking(KEY, 30, 28, grows=True)], block=1, part=0.0)
    comparison = comparison_of(tmp_path, many, few, store)
    for number in reversed(range(40)):  # told of in whatever order they ended
        await comparison.judge(told(began=1.0 + number / 100, passed=number < 28))
    report = comparison.report()
    [kind] = report.kinds
    assert (report.calls, kind.before, kind.count) == (40, PASSES, 25)  # of 28 that pass, 3 do by either


async def test_quotas_that_nobody_can_be_asked_for_are_missed_and_blame_no_configuration(tmp_path: Path) -> None:
    comparison = comparison_of(tmp_path, {}, {"quota": [{"by": "address", "limit": "1/day"}]})
    await comparison.judge(told())
    assert comparison.report() == Compared(missed=1)


CROWDED = "503 over the concurrency, by route r to 127.0.0.1:9"


async def test_calls_under_way_are_counted_by_when_they_began_and_ended_in_whatever_order_they_are_told_of(
    tmp_path: Path,
) -> None:
    comparison = comparison_of(tmp_path, {}, {"concurrency": 2})
    for began, ended in ((2.0, 2.5), (2.1, 2.4), (2.2, 2.3), (2.6, 2.7), (1.0, 3.0)):
        await comparison.judge(told(began=began, ended=ended))
    report = comparison.report()
    [kind] = report.kinds
    assert report.calls == 5
    assert (kind.before, kind.after, kind.count) == (PASSES, CROWDED, 2)  # those of 2.1 and 2.2


async def test_a_call_that_goes_on_has_its_place_until_it_ends_or_its_worker_does(tmp_path: Path) -> None:
    comparison, stays, leaves = comparison_of(tmp_path, {"concurrency": 1}, {"concurrency": 2}), object(), object()
    await comparison.judge(told(began=1.0, ended=0.0, key=7), stays)
    await comparison.judge(told(began=1.1, ended=0.0, key=8), stays)
    await comparison.judge(told(began=101.0, ended=101.5), stays)
    comparison.advance(200.0)
    assert comparison.report() == Compared(calls=1)  # over either, and of the others nothing is known yet
    await comparison.judge(told(b"", began=1.1, ended=201.0, key=8), stays)
    await comparison.judge(told(began=202.0, ended=202.5), stays)
    await comparison.judge(told(began=203.0, ended=0.0, key=7), leaves)
    report = comparison.report()
    assert (report.calls, report.different) == (3, 2)
    assert [(kind.before, kind.after, kind.count) for kind in report.kinds] == [(CROWDED, PASSES, 2)]
    comparison.left(leaves)
    await comparison.judge(told(b"", began=1.0, ended=204.0, key=7), stays)
    await comparison.judge(told(began=1e9, ended=1e9), stays)
    report = comparison.report()
    assert (report.calls, report.different, report.missed) == (5, 2, 1)


async def test_a_call_is_counted_when_those_before_it_are_known_and_its_body_when_it_has_come(tmp_path: Path) -> None:
    comparison, worker = comparison_of(tmp_path, {}, {"concurrency": 1}), object()
    await comparison.judge(told(began=10.0, ended=10.1))
    comparison.advance(10.2)
    await comparison.judge(told(began=9.0, ended=0.0, key=1), worker)  # which nobody knew of
    comparison.advance(20.0)
    [kind] = comparison.report().kinds
    assert (kind.before, kind.after, kind.count) == (PASSES, CROWDED, 1)
    await comparison.judge(told(began=9.0, ended=21.0, key=1, received=2**40), worker)
    report = comparison.report()
    assert (report.calls, report.different) == (2, 1)  # too long by either


def judged_by(folder: Path, route: dict[str, Any]) -> Settings:
    server = {"public_url": "http://gateway.test", "trusted_proxies": ["10.0.0.1"]}
    return Settings(parse({"server": server, "routes": [route]}), folder / "config.toml", None, KEYRING, ())


def _head_of(data: bytes) -> RequestHead:
    reader = RequestReader()
    reader.receive(data)
    return cast("RequestHead", reader.next_event())


async def test_a_call_that_a_shadow_cannot_judge_counts_as_missed_whatever_is_wrong() -> None:
    class Faulty:
        async def decide(self, head: RequestHead, copy: CallCopy) -> Decided:
            raise RecursionError(head.target)

    judge = cast("Judge", Faulty())
    comparison = Comparison(judge, judge, cast("Channel", None))
    heads = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x00\r\n\r\n", b"GET /", b""
    for head in heads:
        await comparison.judge(told(head, lost=1))
    assert comparison.report() == Compared(missed=2 * len(heads))
