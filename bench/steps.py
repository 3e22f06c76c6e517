"""What each step of a call costs a worker, in microseconds of CPU, and how that grows: `python -m bench.steps`.

Heads are lifelike and no two are alike; nothing is sent anywhere: the connections are stand-ins that take what is
written. So the sockets and the loop are not in it, which take as long again.
"""

import argparse
import asyncio
import logging
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import structlog

from bench.lifelike import answer, head, target
from gateway import config
from gateway.config import Settings
from gateway.crypto import Keyring, digest
from gateway.guard import Allowed, Guard
from gateway.guard.verdict import Voucher
from gateway.http1 import RequestHead, RequestReader, ResponseReader
from gateway.model import AccessToken, Identity, SigningAlgorithm
from gateway.oauth import jwk, signing
from gateway.oauth.foreign import Claimed
from gateway.proxy import Proxy
from gateway.proxy.dispatch import Destination
from gateway.proxy.forwarding import client_head, upstream_head
from gateway.proxy.front import Front
from gateway.proxy.upstream import Pool, UpstreamConnection
from gateway.store import Store
from gateway.store.clock import Clock

_HEADS: Final = 2000
_ROUNDS: Final = 7
_BEARER: Final = re.compile(rb"Bearer [^\r]+\r\n")


class _Wire:
    """A transport that takes everything at once."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.written += sum(map(len, parts))

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 1) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None: ...
    def is_closing(self) -> bool:
        return False

    def abort(self) -> None: ...
    def close(self) -> None: ...


class _Nobody:
    """A store that is never asked: every token is in the cache."""

    access_tokens: Final = SimpleNamespace(replicas=None)
    nonces: Final = None
    further_nonces: Final = list[Any]()

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the store was asked for {name}")


def _settings(keyring: Keyring, others: int) -> Settings:
    """Routes that are called by tokens, to one upstream, to two and at a limited rate, one that people open in a
    browser, and so many others."""
    routes = [
        {
            "name": "things",
            "path": "/api/things",
            "upstreams": ["http://127.0.0.1:9"],
            "auth": ["bearer"],
            "scopes": ["things"],
            "issuers": ["other"],
        },
        {
            "name": "pages",
            "path": "/pages/things",
            "upstreams": ["http://127.0.0.1:9"],
            "auth": ["session"],
        },
        {
            "name": "two",
            "path": "/two/things",
            "upstreams": ["http://127.0.0.1:10", "http://127.0.0.1:11"],
            "auth": ["bearer"],
            "scopes": ["things"],
        },
        {
            "name": "limited",
            "path": "/limited/things",
            "upstreams": ["http://127.0.0.1:12"],
            "auth": ["bearer"],
            "scopes": ["things"],
            "rate": [{"by": "client", "limit": "1000000/s", "burst": 1_000_000}],
        },
        *(
            {"name": f"r{number}", "path": f"/r/{number}", "upstreams": ["http://127.0.0.1:9"], "auth": "none"}
            for number in range(others)
        ),
    ]
    tables = {
        "server": {"public_url": "http://127.0.0.1:8080"},
        "scopes": {"things": "Things"},
        "issuers": [{"name": "other", "url": "https://other.example", "audience": ["things"]}],
        "routes": routes,
    }
    return Settings(config.parse(tables), Path("/nowhere/config.toml"), None, keyring, ())


def _tokens(guard: Guard, keyring: Keyring, count: int, *, sessions: bool = False) -> list[str]:
    """So many live tokens, or sessions, in the guard's cache."""
    ledger = guard._ledger
    ledger.forget(1.0)
    ledger.renew(ledger.elapsed() + 3600)
    made = []
    for number in range(count):
        text = keyring.new_token("gwb_" if sessions else "gwa_")
        token = AccessToken(
            digest=digest(text),
            identity=Identity(
                subject=f"u{number}",
                client_id="" if sessions else "capp",
                username=f"user{number}",
                email=f"u{number}@example.com",
            ),
            scopes=frozenset() if sessions else frozenset({"things"}),
            token_type="session" if sessions else "bearer",
            audience=(),
            issued_at=datetime.now(UTC),
            expires_at=datetime.now(UTC) + timedelta(hours=1),
            mac_key=None,
            mac_algorithm=None,
            mac_drafts=(),
        )
        guard._tokens.cache.put(guard._tokens.cache.made(token, ledger.position))
        made.append(text)
    return made


def _foreign(guard: Guard, count: int) -> Iterator[tuple[str, list[str]]]:
    """So many tokens of another issuer, whose keys are known, by the algorithm that signed them."""
    assert guard._issuers is not None
    (source,) = guard._issuers._sources.values()
    now = int(time.time())
    algorithms: tuple[SigningAlgorithm, ...] = ("ES256", "RS256")
    for key in map(signing.new, algorithms):
        source._keys = [*source._keys, (jwk.read(key.public)[0], Voucher("other"))]
        claims = {"iss": "https://other.example", "aud": "things", "scope": "things", "client_id": "app", "iat": now}
        claims["exp"] = now + 3600
        yield key.algorithm, [key.signed({**claims, "sub": f"u{number}"}, "at+jwt") for number in range(count)]


def _cost(step: Callable[[Any], object], items: list[Any]) -> float:
    """Microseconds of this thread's CPU for each item: the best of some rounds."""
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.thread_time()
        for item in items:
            step(item)
        best = min(best, time.thread_time() - began)
    return best / len(items) * 1e6


def _whole(proxy: Proxy, to: Destination) -> Callable[[tuple[bytes, bytes]], None]:
    """A call from its first byte to its last, by a client and to upstreams that keep their connections."""
    front = Front(proxy, proxy)
    front.connection_made(cast("Any", _Wire()))
    upstreams, route = proxy.upstreams, to.route
    several = len(route.upstreams) > 1
    pools = [one.pool for one in upstreams._way(route).members] if several else [upstreams._make_only(route)]
    connections = [_kept(proxy, pool) for pool in pools]
    received = proxy.received

    def whole(pair: tuple[bytes, bytes]) -> None:
        request, response = pair
        received[: len(request)] = request
        front.buffer_updated(len(request))
        proxy.outbox.flush()
        received[: len(response)] = response
        asked = connections[0] if connections[0].owner is not None else connections[-1]
        asked.buffer_updated(len(response))
        proxy.outbox.flush()

    return whole


def _kept(proxy: Proxy, pool: Pool) -> UpstreamConnection:
    """A connection that a pool keeps for the next call."""
    connection = UpstreamConnection(pool, proxy.limits, proxy.outbox)
    connection.connection_made(cast("Any", _Wire()))
    pool._open.add(connection)
    connection.idle_since = proxy.now()
    pool._idle.append(connection)
    return connection


def _engine(routes: int, tokens: int, keyring: Keyring | None = None) -> tuple[Proxy, list[str]]:
    """The engine of a worker with so many routes, and with so many tokens in its cache."""
    keyring = keyring or Keyring(secrets.token_bytes(32))
    settings = _settings(keyring, routes - 1)
    guard = Guard(cast("Store", _Nobody()), settings, clock=Clock().seconds)
    made = _tokens(guard, keyring, tokens)
    proxy = Proxy(
        routes=config.compile_routes(settings.config),
        config=settings.config,
        guard=guard,
        authorization_socket="/nowhere",
        refusal_page=lambda *_: ({}, b""),
    )
    return proxy, made


def _call_of(routes: int = 20, tokens: int = 1000, fields: int = 0) -> float:
    """Microseconds of a whole call with so many fields besides the usual ones."""
    chance, (proxy, made) = random.Random(1), _engine(routes, tokens)
    more = b"".join(b"X-Field-%d: value-%d\r\n" % (number, number) for number in range(fields))
    raw = [
        head(chance, "127.0.0.1:8080", target(chance, "/api/things"), f"Bearer {chance.choice(made)}").replace(
            b"\r\n\r\n", b"\r\n%b\r\n" % more
        )
        for _ in range(_HEADS)
    ]
    found = RequestReader().whole(raw[0])
    assert found is not None
    to = cast("Destination", proxy.dispatcher.destination(found[0]))
    cost = _cost(_whole(proxy, to), [(data, answer(chance)) for data in raw])
    proxy.fronts.clear()
    proxy.close()
    return cost


def _of_another_issuer(
    guard: Guard, raw: list[bytes], calls: Callable[[list[bytes]], float]
) -> Iterator[tuple[str, float]]:
    """What it costs to prove a token of another issuer, and then a call with it."""
    issuers = guard._issuers
    assert issuers is not None

    def prove(text: str) -> None:
        named = issuers.read(text.encode())
        assert named is not None
        found = named[0].verify(named[1], time.time())
        assert isinstance(found, tuple)
        assert isinstance(found[0], Claimed)

    for algorithm, texts in _foreign(guard, 200):
        yield f"a token of another issuer, proven ({algorithm})", _cost(prove, texts)
        turns = cycle(texts)
        heads = [_BEARER.sub(b"Bearer %b\r\n" % next(turns).encode(), data) for data in raw]
        yield f"a whole call with one that is held ({algorithm})", calls(heads)


def _by_session(proxy: Proxy, keyring: Keyring, chance: random.Random) -> float:
    """The same of a browser that shows a session, among its other cookies."""
    sessions = cycle(_tokens(proxy.guard, keyring, 1000, sessions=True))
    raw = [
        head(chance, "127.0.0.1:8080", target(chance, "/pages/things"), None, session=next(sessions))
        for _ in range(_HEADS)
    ]
    found = RequestReader().whole(raw[0])
    assert found is not None
    whole = _whole(proxy, cast("Destination", proxy.dispatcher.destination(found[0])))
    return _cost(whole, [(data, answer(chance)) for data in raw])


async def _growth() -> Iterator[tuple[str, float]]:
    """How the cost of a whole call grows."""
    rows = [(f"{routes} routes", _call_of(routes=routes)) for routes in (1, 100, 1000)]
    rows += [(f"{fields} fields", _call_of(fields=fields - 13)) for fields in (13, 20, 40, 80)]
    rows += [(f"{tokens} tokens", _call_of(tokens=tokens)) for tokens in (100, 1000, 10_000, 100_000)]
    return iter(rows)


async def _measured() -> Iterator[tuple[str, float]]:
    chance, keyring = random.Random(1), Keyring(secrets.token_bytes(32))
    proxy, made = _engine(20, 1000, keyring)
    guard, tokens = proxy.guard, cycle(made)
    raw = [
        head(chance, "127.0.0.1:8080", target(chance, "/api/things"), f"Bearer {next(tokens)}") for _ in range(_HEADS)
    ]
    answers = [answer(chance) for _ in range(_HEADS)]
    rows: list[tuple[str, float]] = []
    reader, responses = RequestReader(), ResponseReader()

    def read(data: bytes) -> RequestHead:
        found = reader.whole(data)
        reader.next_request()
        assert found is not None
        return found[0]

    rows.append(("a request's head, read", _cost(read, raw)))
    heads = [read(data) for data in raw]
    rows.append(("its destination", _cost(proxy.dispatcher.destination, heads)))
    to = cast("list[Destination]", [proxy.dispatcher.destination(one) for one in heads])
    pairs = list(zip(heads, to, strict=True))
    rows.append(("the question for the guard", _cost(lambda pair: proxy.dispatcher.call(*pair), pairs)))
    calls = [proxy.dispatcher.call(*pair) for pair in pairs]
    rows.append(("the guard's verdict", _cost(guard.check, calls)))
    allowed = cast("list[Allowed]", [guard.check(call) for call in calls])
    assert all(isinstance(one, Allowed) for one in allowed)
    peer = proxy.dispatcher.peer("127.0.0.1")
    triples = [(one, where, who) for (one, where), who in zip(pairs, allowed, strict=True)]

    def upwards(triple: tuple[RequestHead, Destination, Allowed]) -> bytes:
        one, where, who = triple
        return upstream_head(one, where, proxy.arrival(one, peer, where), b"0123456789abcdef000000", who, expects=True)

    rows.append(("the head for the upstream", _cost(upwards, triples)))

    def answered(data: bytes) -> Any:
        responses.expect(b"GET")
        return responses.whole(data)

    rows.append(("an answer's head, read", _cost(answered, answers)))
    got = [answered(data)[0] for data in answers]
    rows.append(
        (
            "the head for the client",
            _cost(lambda one: client_head(one, b"0" * 22, b"Content-Length: 60\r\n", proxy.date, own=False), got),
        )
    )
    whole = _whole(proxy, to[0])
    rows.append(("a whole call, all of it", _cost(whole, list(zip(raw, answers, strict=True)))))
    for name, path in (("to the less busy of two upstreams", b"/two/"), ("at a rate by client", b"/limited/")):
        there = [data.replace(b" /api/", b" " + path, 1) for data in raw]
        such = _whole(proxy, cast("Destination", proxy.dispatcher.destination(read(there[0]))))
        rows.append((f"a whole call {name}", _cost(such, list(zip(there, answers, strict=True)))))
    rows += _of_another_issuer(guard, raw, lambda heads: _cost(whole, list(zip(heads, answers, strict=True))))
    rows.append(("a whole call by a session", _by_session(proxy, keyring, chance)))
    strangers = [data.replace(b"Bearer gwa_", b"Bearer gwa_x") for data in raw]
    front = Front(proxy, proxy)
    front.connection_made(cast("Any", _Wire()))

    def refused(data: bytes) -> None:
        proxy.received[: len(data)] = data
        front.buffer_updated(len(data))
        proxy.outbox.flush()

    rows.append(("a whole call with an invented token", _cost(refused, strangers)))
    proxy.fronts.clear()
    proxy.close()
    return iter(rows)


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(prog="python -m bench.steps", description=(__doc__ or "").partition("\n")[0]).parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    _print("step", asyncio.run(_measured()))
    _print("a whole call with", asyncio.run(_growth()))


def _print(what: str, rows: Iterable[tuple[str, float]]) -> None:
    print(f"| {what} | µs |\n|---|---|")
    for name, cost in rows:
        print(f"| {name} | {cost:.1f} |")
    print()


if __name__ == "__main__":
    main()
