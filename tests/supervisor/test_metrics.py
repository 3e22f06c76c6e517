"""`/metrics` tells of all workers together, forgets nothing when one dies, and takes no label from strangers."""

import asyncio
import contextlib
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gateway import figures
from gateway.crypto import Keyring
from gateway.guard.ledger import LEASE
from gateway.model import Client
from gateway.store import Store
from gateway.supervisor.metrics import Counts
from tests.serving import PATIENCE, Gateway, free_ports, serving, until
from tests.supervisor.conftest import SlowUpstream
from tests.supervisor.test_rotation import SignedCaller
from tests.web.rig import PASSWORD_HASH, SCOPES, Browser, basic, code_fields, code_for, new_client

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(gateway: Gateway, accept: str = "") -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.admin_url}/metrics", headers={"Accept": accept}) as answer,
    ):
        assert answer.status == 200
        return await answer.text()


async def samples(gateway: Gateway) -> Samples:
    families = text_string_to_metric_families(await scraped(gateway))
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(found: Samples, name: str, /, **labels: str) -> float:
    """The sum over all that have these labels, and maybe others."""
    return sum(
        number for (given, all_labels), number in found.items() if given == name and labels.items() <= {*all_labels}
    )


async def call(gateway: Gateway, raw: bytes) -> bytes:
    """What a fresh connection gets for these bytes."""
    place = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        writer.write(raw)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), PATIENCE)
    finally:
        writer.close()


def get(path: str, token: str = "") -> bytes:
    shown = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{shown}Connection: close\r\n\r\n".encode()


async def test_all_workers_are_told_of_together_and_one_that_is_killed_leaves_its_counts(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    shut = {"name": "shut", "path": "/shut", "upstreams": [upstream.url], "auth": ["bearer"]}
    async with serving(tmp_path, dsn=database, routes=[upstream.route(), shut]) as gateway:
        count, workers = 0, set[bytes]()
        while count < 30 or len(workers) < 2:
            said = (await call(gateway, get("/"))).lower()
            workers.add(said.partition(b"x-request-id: ")[2][:16])
            await call(gateway, get("/shut"))
            count += 1
        answered = {"route": "slow", "method": "GET", "status": "2xx"}
        for worker in gateway.workers:
            worker.send_signal(signal.SIGKILL)
            await gateway.replaced(worker)
            found = await samples(gateway)
            assert value(found, "gateway_call_seconds_count", **answered) == count
            assert value(found, "gateway_call_seconds_bucket", **answered, le="+Inf") == count
            assert value(found, "gateway_refusals_total", route="shut", cause="no credential") == count
        assert value(found, "gateway_worker_ends_total", plane="access") == 2
        assert value(found, "gateway_upstream_connects_total", upstream=urlsplit(upstream.url).netloc) >= 2
        assert value(found, "gateway_workers", plane="access", state="ready") == 2
        assert value(found, "gateway_reload_refused") == 0

        with gateway.config.open("a") as config:
            config.write("\n[nonsense]\n")
        gateway.process.send_signal(signal.SIGHUP)

        async def refused() -> bool:
            return value(await samples(gateway), "gateway_reloads_total", outcome="refused") == 1

        await until(refused)
        found = await samples(gateway)
        assert value(found, "gateway_reload_refused") == 1
        assert value(found, "gateway_call_seconds_count", **answered) == count


async def test_each_figure_counts_what_was_done_and_nothing_else(
    tmp_path: Path, database: str, store: Store, keyring: Keyring, upstream: SlowUpstream
) -> None:
    (dead,) = free_ports(1)  # where nobody listens
    routes: list[dict[str, Any]] = [
        {**upstream.route(), "auth": ["bearer", "mac"]},
        {"name": "dead", "path": "/dead", "upstreams": [f"http://127.0.0.1:{dead}"], "auth": "none"},
    ]
    client, secret = await new_client(store)
    await store.users.create("ada", None, None, PASSWORD_HASH)
    bearer = await store.tokens.issue(client.client_id, None, frozenset(), 3600, "bearer")
    signing = await store.tokens.issue(client.client_id, None, frozenset(), 3600, "mac")
    async with serving(tmp_path, dsn=database, workers=1, routes=routes, scopes=SCOPES) as gateway:
        before: Samples = {}

        async def log_is_read() -> bool:  # before that no token is held
            nonlocal before
            before = await samples(gateway)
            return 0 < value(before, "gateway_change_log_age_seconds") < LEASE

        await until(log_is_read)
        for _ in range(5):
            assert await status(gateway, get("/x", bearer.access_token)) == 200
        signed = SignedCaller(gateway.url, signing)
        for _ in range(4):
            assert await status(gateway, signed.request().replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")) == 200
        for _ in range(3):
            assert await status(gateway, get("/x", keyring.new_token("gwa_")[:-1] + "~")) == 401
        for _ in range(2):
            assert await status(gateway, get("/dead")) == 502
        await ask_for_tokens(gateway, client, secret)
        expected = [
            # figure, labels, by how much
            ("token_lookups_total", {"found": "asked"}, 2),  # the first call with each
            ("token_lookups_total", {"found": "held"}, 4 + 3),
            ("token_lookups_total", {"found": "invented"}, 3),
            ("token_lookups_total", {}, 12),
            ("tokens_held", {}, 2),
            ("nonce_batch_count", {}, 4),  # one call after the other
            ("nonce_batch_sum", {}, 4),
            ("nonce_batch_bucket", {"le": "1"}, 4),
            ("nonce_batch_seconds_count", {}, 4),
            ("nonce_batch_seconds_bucket", {"le": "+Inf"}, 4),
            ("upstream_failures_total", {"upstream": f"127.0.0.1:{dead}", "how": "failed"}, 2),
            ("upstream_failures_total", {}, 2),
            ("upstream_connections", {"upstream": urlsplit(upstream.url).netloc, "state": "idle"}, 1),
            ("sign_ins_total", {"outcome": "right"}, 1),
            ("sign_ins_total", {"outcome": "wrong"}, 2),
            ("sign_ins_total", {}, 3),
            ("tokens_issued_total", {"grant_type": "client_credentials"}, 3),
            ("tokens_issued_total", {"grant_type": "authorization_code"}, 1),
            ("tokens_issued_total", {"grant_type": "refresh_token"}, 2),
            ("tokens_issued_total", {}, 6),
        ]
        after: Samples = {}

        async def moved() -> bool:
            nonlocal after
            after = await samples(gateway)
            return all(risen(before, after, name, **labels) == by for name, labels, by in expected)

        with contextlib.suppress(TimeoutError):  # the workers say a few times a second what there is
            await until(moved, 15)
        found = [(name, labels, risen(before, after, name, **labels)) for name, labels, _ in expected]
        assert found == expected
        assert risen(before, after, "tokens_held_bytes") > 100
        assert risen(before, after, "nonce_batch_seconds_sum") > 0
        assert risen(before, after, "database_seconds_count") > 2 + 4 + 3 + 6
        assert risen(before, after, "database_seconds_sum") > 0
        assert 0 < value(after, "gateway_change_log_age_seconds") < LEASE


def risen(before: Samples, after: Samples, name: str, /, **labels: str) -> float:
    return value(after, f"gateway_{name}", **labels) - value(before, f"gateway_{name}", **labels)


async def status(gateway: Gateway, raw: bytes) -> int:
    return int((await call(gateway, raw)).split(b" ", 2)[1])


async def ask_for_tokens(gateway: Gateway, client: Client, secret: str) -> None:
    """Three for the client itself; one by a sign-in, after two that failed, which is refreshed twice. One more is
    refused."""
    browser, credentials = Browser(gateway.url), basic(client.client_id, secret)
    try:
        for _ in range(3):
            answer = await browser.send("POST", "/oauth2/token", [("grant_type", "client_credentials")], credentials)
            assert answer.status == 200
        for password in ("wrong", "wrong too"):
            assert (await browser.sign_in(password=password)).status == 400
        assert (await browser.sign_in()).status == 303
        code = await code_for(browser, client, sorted(SCOPES))
        answer = await browser.send("POST", "/oauth2/token", code_fields(code, client), credentials)
        for _ in range(2):
            fields = [("grant_type", "refresh_token"), ("refresh_token", answer.json["refresh_token"])]
            answer = await browser.send("POST", "/oauth2/token", fields, credentials)
            assert answer.status == 200
        answer = await browser.send("POST", "/oauth2/token", code_fields("invented", client), credentials)
        assert answer.status == 400
    finally:
        await browser.close()


async def test_connections_are_told_as_they_are_now(
    tmp_path: Path, database: str, store: Store, upstream: SlowUpstream
) -> None:
    client, _ = await new_client(store)
    token = (await store.tokens.issue(client.client_id, None, frozenset(), 3600, "bearer")).access_token
    shut = {"name": "shut", "path": "/shut", "upstreams": [upstream.url], "auth": ["bearer"]}
    place = urlsplit(upstream.url).netloc
    async with serving(tmp_path, dsn=database, workers=1, routes=[upstream.route(), shut]) as gateway:

        async def are(name: str, number: int, **labels: str) -> None:
            async def told() -> bool:
                return value(await samples(gateway), f"gateway_{name}", **labels) == number

            await until(told)

        await are("client_connections", 0)
        calls = [asyncio.create_task(call(gateway, get("/slow"))) for _ in range(3)]
        await until(lambda: upstream.more_than(2))
        await are("client_connections", 3)
        await are("upstream_connections", 3, upstream=place, state="used")
        await are("upstream_connections", 0, upstream=place, state="idle")
        upstream.release.set()
        assert all(said.startswith(b"HTTP/1.1 200 ") for said in await asyncio.gather(*calls))
        await are("client_connections", 0)
        await are("upstream_connections", 0, upstream=place, state="used")
        await are("upstream_connections", 3, upstream=place, state="idle")

        await are("database_connections", 0, state="used")
        idle = value(await samples(gateway), "gateway_database_connections", state="idle")
        assert idle > 0
        locking = await asyncpg.connect(database)
        try:
            async with locking.transaction():
                await locking.execute("lock table access_tokens in access exclusive mode")
                waiting = asyncio.create_task(call(gateway, get("/shut", token)))
                await are("database_connections", 1, state="used")
        finally:
            await locking.close()
        await waiting
        await are("database_connections", 0, state="used")


def hostile(byte: bytes) -> Iterator[bytes]:
    """Requests with this byte in the method, the target, the host, a field's name, and the user agent."""
    template = b"GE%bT /p%b HTTP/1.1\r\nHost: h%b\r\nN%b: v\r\nUser-Agent: u%b\r\nConnection: close\r\n\r\n"
    for place in range(5):
        yield template % tuple(byte if place == each else b"" for each in range(5))


async def test_no_label_is_what_strangers_sent_and_no_page_of_a_browser_is_answered(
    tmp_path: Path, database: str, upstream: SlowUpstream
) -> None:
    async with serving(tmp_path, dsn=database, workers=1, routes=[upstream.route()]) as gateway:
        before = {name for name, _ in await samples(gateway)}
        for byte in range(256):
            await asyncio.gather(*(call(gateway, raw) for raw in hostile(bytes([byte]))))
        text = await scraped(gateway)
        labels = set(re.findall(r'(?<=[{,])(route|method|status|cause|upstream)="([^"]*)"', text))
        assert {value for name, value in labels if name == "method"} <= {"", "GET", "other"}
        assert {value for name, value in labels if name == "route"} <= {"", "slow"}
        assert {value for name, value in labels if name == "status"} <= {"2xx", "4xx", "5xx", "gone"}
        assert all(re.fullmatch(r"[a-z_ ,]*", value) for name, value in labels if name == "cause")
        assert len(labels) < 30
        assert text.count("\n") < 500
        assert before <= {name for name, _ in await samples(gateway)}
        await _refuse_pages(gateway)


async def _refuse_pages(gateway: Gateway) -> None:
    for fields, status in (
        ({}, 200),
        ({"Host": "localhost:9901"}, 200),
        ({"Host": "gateway"}, 200),
        ({"Host": "[::1]:9901"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Host": "rebound.example.com:9901"}, 421),
        ({"Host": "rebound.example.com."}, 421),
        ({"Host": "127.0.0.1.example.com"}, 421),
        ({"Host": "127.0.0.1@example.com"}, 421),
        ({"Origin": "https://example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 403),
    ):
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{gateway.admin_url}/metrics", headers=fields) as answer:
                assert answer.status == status, fields
                assert "Access-Control-Allow-Origin" not in answer.headers
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
                assert (b"gateway_" in await answer.read()) == (status == 200)
            async with session.get(f"{gateway.admin_url}/healthz", headers=fields) as answer:
                assert answer.status == 200


def test_every_kind_of_figure_is_told_in_both_formats() -> None:
    counts = Counts()
    counts.begin()
    with counts.of_one() as memory:
        before = figures.read(memory)
        assert list(before) == []
    figures.REFUSALS.add(3.0, 'quote " backslash \\ line \n', "lacks")
    figures.NONCE_BATCH.observe(3.0)
    figures.CHANGE_LOG_AGE.set(float("inf"))
    parsers: dict[str, Callable[[str], Iterable[Metric]]] = {
        "": text_string_to_metric_families,
        "application/openmetrics-text; version=1.0.0": openmetrics.text_string_to_metric_families,
    }
    for accept, parse in parsers.items():
        body, content_type = counts.exposed(accept)
        assert content_type.startswith(accept.partition(";")[0] or "text/plain")
        found = {sample.name: sample for family in parse(body.decode()) for sample in family.samples}
        assert found["gateway_refusals_total"].value == 3.0
        assert found["gateway_refusals_total"].labels["route"] == 'quote " backslash \\ line \n'
        assert found["gateway_nonce_batch_sum"].value == 3.0
        assert found["gateway_change_log_age_seconds"].value == float("inf")
