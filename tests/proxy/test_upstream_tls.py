"""Upstreams by TLS, with real certificates: who is believed, what is shown to them; and how long they may take."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway import config
from gateway.config import ConfigError
from gateway.config.rules import warnings
from gateway.proxy import Limits
from gateway.store import Store
from tests.certificates import Authority, key_written
from tests.proxy.rig import RawUpstream, Reply, Rig, rig

GET = b"GET /x HTTP/1.1\r\nHost: gateway.test\r\n\r\n"


def serving_with(chain: Path, key: Path, *, demands: Path | None = None) -> ssl.SSLContext:
    """What an upstream shows, and whose certificates it demands of callers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    if demands is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(demands)
    return context


@asynccontextmanager
async def upstream_by(context: ssl.SSLContext, folder: Path, store: Store, **route: Any) -> AsyncIterator[Rig]:
    async with RawUpstream(tls=context).serving() as inner:
        shared = {"name": "r", "path": "/", "auth": "none", "upstreams": [f"https://localhost:{inner.port}"]}
        async with rig(folder, store, routes=[{**shared, **route}]) as made:
            made.upstream = inner
            yield made


def cause_of(made: Rig, reply: Reply) -> str:
    [told] = json.loads(json.dumps(made.proxy.recall(reply.one("x-request-id"))))["calls"]
    return str(told["cause"])


@pytest.mark.parametrize(
    ("issued", "tls", "cause"),
    [
        ({"hosts": ["localhost"]}, {"ca": "ours"}, None),
        ({"hosts": ["internal.test"]}, {"ca": "ours", "server_name": "internal.test"}, None),
        ({"hosts": ["internal.test"]}, {"ca": "ours"}, "Hostname mismatch"),
        ({"hosts": ["localhost"]}, {"ca": "ours", "server_name": "internal.test"}, "Hostname mismatch"),
        ({"hosts": ["localhost"], "age": 90.0, "days": 89.0}, {"ca": "ours"}, "certificate has expired"),
        ({"hosts": ["localhost"], "age": -1.0}, {"ca": "ours"}, "not yet valid"),
        ({"hosts": ["localhost"]}, {"ca": "theirs"}, "unable to get local issuer certificate"),
        ({"hosts": ["localhost"]}, {}, "unable to get local issuer certificate"),
        ({"hosts": ["internal.test"], "age": 90.0, "days": 89.0}, {"verify": False}, None),
    ],
)
async def test_upstream_must_prove_who_it_is(
    tmp_path: Path, no_database: Store, issued: dict[str, Any], tls: dict[str, Any], cause: str | None
) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    hosts = issued.pop("hosts")
    context = serving_with(*ours.issue("upstream", *hosts, **issued))
    if "ca" in tls:
        tls = {**tls, "ca": str({"ours": ours, "theirs": theirs}[tls["ca"]].ca)}
    async with upstream_by(context, tmp_path, no_database, upstream_tls=tls) as made:
        reply = await made.talk(GET)
        if cause is None:
            assert (reply.status, reply.body) == (200, b"ok")
            assert made.upstream.requests[0].one("host") == "gateway.test"
        else:
            assert reply.status == 502
            assert cause in cause_of(made, reply)
            assert made.upstream.requests == []


async def test_upstream_that_asks_who_calls_is_shown_a_certificate(tmp_path: Path, no_database: Store) -> None:
    ours, callers = Authority(tmp_path / "ours"), Authority(tmp_path / "callers")
    context = serving_with(*ours.issue("localhost"), demands=callers.ca)
    certificate, key = callers.issue("gateway")
    shown = {"ca": str(ours.ca), "certificate": str(certificate), "key": str(key)}
    async with upstream_by(context, tmp_path, no_database, upstream_tls=shown) as made:
        assert (await made.talk(GET)).status == 200
    stranger, its_key = Authority(tmp_path / "strangers").issue("stranger")
    wrong: tuple[dict[str, str], ...] = ({}, {"certificate": str(stranger), "key": str(its_key)})
    for wrongly in wrong:
        secured = {"ca": str(ours.ca), **wrongly}
        async with upstream_by(context, tmp_path, no_database, upstream_tls=secured) as made:
            reply = await made.talk(GET)
            assert (reply.status, made.upstream.requests) == (502, [])


async def test_routes_with_other_terms_share_no_connection(tmp_path: Path, no_database: Store) -> None:
    ours = Authority(tmp_path / "ours")
    async with RawUpstream(tls=serving_with(*ours.issue("localhost"))).serving() as inner:
        place = f"https://localhost:{inner.port}"
        routes: list[dict[str, Any]] = [
            {"name": "lax", "path": "/lax", "auth": "none", "upstreams": [place], "upstream_tls": {"verify": False}},
            {"name": "strict", "path": "/strict", "auth": "none", "upstreams": [place]},
        ]
        async with rig(tmp_path, no_database, routes=routes) as made:
            assert (await made.talk(GET.replace(b"/x", b"/lax"))).status == 200
            assert (await made.talk(GET.replace(b"/x", b"/strict"))).status == 502


async def test_files_are_judged_with_the_configuration(tmp_path: Path) -> None:
    ours = Authority(tmp_path / "ours")
    certificate, key = ours.issue("gateway")
    expired, its_key = ours.issue("old", age=90.0, days=89.0)
    locked = key_written(ec.generate_private_key(ec.SECP256R1()), tmp_path / "locked.key", b"passphrase")
    open_to_all = tmp_path / "open.key"
    open_to_all.write_bytes(key.read_bytes())
    open_to_all.chmod(0o644)
    (tmp_path / "text").write_text("text")
    (tmp_path / "text").chmod(0o600)
    master = tmp_path / "master.key"
    master.touch(mode=0o600)
    master.write_text("b2J2aW91c2x5LWEtZmFrZS1rZXktZm9yLXRlc3RzISE=")
    for tls, path, message in (
        ({"ca": "absent.pem"}, "ca", f"{tmp_path}/absent.pem cannot be read (No such file"),
        ({"ca": "text"}, "ca", "holds no certificate in PEM"),
        ({"certificate": str(certificate), "key": str(its_key)}, "key", "is the key of another certificate"),
        ({"certificate": str(certificate), "key": "text"}, "key", "holds no private key in PEM"),
        ({"certificate": str(certificate), "key": str(locked)}, "key", "is encrypted"),
        ({"certificate": str(certificate), "key": str(open_to_all)}, "key", "accessible to users other than its owner"),
        ({"certificate": str(expired), "key": str(its_key)}, "certificate", "expired at"),
        ({"certificate": str(certificate)}, "key", "must be set where certificate is"),
        ({"ca": str(ours.ca), "verify": False}, "verify", "leave out either"),
    ):
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in tls.items())
        file = tmp_path / "config.toml"
        file.write_text(
            f'[server]\npublic_url = "http://gateway.test"\n[database]\nurl = "postgresql://db/x"\n'
            f'[keys]\nmaster = {{ file = "{master}" }}\n[[routes]]\nname = "r"\npath = "/"\nauth = "none"\n'
            f'upstreams = ["https://localhost"]\n[routes.upstream_tls]\n{text}'
        )
        with pytest.raises(ConfigError) as raised:
            config.load(file)
        [fault] = raised.value.faults
        assert fault.path == f"routes[0].upstream_tls.{path}"
        assert message in fault.message


def test_tls_for_upstreams_without_is_a_fault_and_trust_in_anybody_a_warning() -> None:
    route = {"name": "r", "path": "/", "auth": "none", "upstreams": ["http://x"], "upstream_tls": {"verify": False}}
    server = {"public_url": "http://gateway.test"}
    with pytest.raises(ConfigError, match="no upstream is https"):
        config.parse({"server": server, "routes": [route]})
    parsed = config.parse({"server": server, "routes": [{**route, "upstreams": ["https://x"]}]})
    told = [*warnings(parsed)]
    assert any(one.startswith("routes[0].upstream_tls.verify: is false") for one in told)


# -- how long it may take --------------------------------------------------------------------------------------------

QUICK = Limits(tick=0.05)


async def test_upstream_that_takes_no_connection_is_given_up_by_the_routes_time(
    tmp_path: Path, no_database: Store
) -> None:
    async def deaf(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()  # and never answers the handshake

    async with RawUpstream(handler=deaf).serving() as upstream:
        place = f"https://localhost:{upstream.port}"
        route = {"name": "r", "path": "/", "auth": "none", "upstreams": [place], "connect_timeout": "1s"}
        async with rig(tmp_path, no_database, routes=[route], limits=Limits(tick=0.05, connect=60.0)) as made:
            reply = await made.talk(GET)
            assert reply.status == 504
            assert cause_of(made, reply) == f"localhost:{upstream.port} did not take the connection"


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await RawUpstream().read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(600):
        writer.write(b"1\r\nx\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def pausing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await RawUpstream().read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    await writer.drain()
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("handler", "limit", "said"),
    [(dripping, "total_timeout", "was not done"), (pausing, "idle_timeout", "sent no more")],
)
async def test_answer_that_takes_too_long_is_cut(
    tmp_path: Path, no_database: Store, handler: Any, limit: str, said: str
) -> None:
    route = {"name": "r", "path": "/", "auth": "none", limit: "1s"}
    async with rig(tmp_path, no_database, routes=[route], limits=QUICK, upstream=RawUpstream(handler=handler)) as made:
        reply = await made.talk(GET)
        assert (reply.status, reply.complete) == (200, False)
        cause = cause_of(made, reply)
        assert said in cause
        assert f"{limit} of route r" in cause


async def test_whole_time_counts_while_the_database_is_asked_who_calls(
    tmp_path: Path, database: str, store: Store
) -> None:
    route = {"name": "r", "path": "/", "auth": ["bearer"], "total_timeout": "1s"}
    locking = await asyncpg.connect(database)
    async with rig(tmp_path, store, routes=[route], limits=QUICK) as made, locking.transaction():
        await locking.execute("lock table access_tokens in access exclusive mode")
        reply = await made.talk(GET.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer imported\r\n\r\n"))
        assert reply.status == 503
        assert "total_timeout of route r" in cause_of(made, reply)
    await locking.close()


async def test_whole_time_counts_before_the_answer_too(tmp_path: Path, no_database: Store) -> None:
    async def silent(*_: object) -> None:
        await asyncio.Event().wait()

    route = {"name": "r", "path": "/", "auth": "none", "timeout": "60s", "total_timeout": "1s"}
    async with rig(tmp_path, no_database, routes=[route], limits=QUICK, upstream=RawUpstream(handler=silent)) as made:
        reply = await made.talk(GET)
        assert reply.status == 504
        connection = await made.connect()  # a body that never comes to its end
        await connection.send(b"POST /x HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert (await connection.reply("POST")).status == 408
        connection.close()
