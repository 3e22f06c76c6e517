"""Tokens of other issuers on the wire: what the upstream learns, and what ends with them. No database is there."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.proxy import Limits
from gateway.proxy.finished import Finished
from gateway.store import Store
from tests.issuers import EC, KEYS, RSA, Issuer, an_issuer
from tests.proxy.rig import KEYRING, Rig, eventually, rig
from tests.proxy.test_credentials import request
from tests.proxy.test_endings import everything
from tests.proxy.test_streams import CHUNKED, answering, begun, call

EDITED: dict[str, list[str]] = {"GET": [], "*": ["editors"]}
ROUTES: list[dict[str, Any]] = [
    {"name": "guarded", "path": "/", "auth": ["bearer"], "issuers": ["corp"]},
    {"name": "ours", "path": "/ours", "auth": ["bearer"]},
    {"name": "wiki", "path": "/wiki", "auth": ["bearer"], "issuers": ["corp"]} | {"groups": EDITED},
    {"name": "staff", "path": "/staff", "auth": ["bearer"], "issuers": ["corp"], "groups": ["staff"]},
]


@asynccontextmanager
async def running_with(tmp_path: Path, store: Store, issuer: Issuer, **keys: Any) -> AsyncIterator[Rig]:
    limits = Limits(tick=0.02, recheck=0.05)
    async with rig(tmp_path, store, routes=ROUTES, issuers=[issuer.configured(**keys)], limits=limits) as made:
        yield made


async def test_upstream_learns_who_calls_by_the_name_of_the_issuer(tmp_path: Path, no_database: Store) -> None:
    spoofed = ["X-Auth-Subject: root", "X-Forwarded-User: root", "X-Forwarded-Email: r@x.example"]
    async with an_issuer() as issuer, running_with(tmp_path, no_database, issuer) as running:
        token = issuer.token(sub="ada", email="ada@corp.example", preferred_username="root", groups=["staff"])
        reply = await running.talk(request("/x", f"Authorization: Bearer {token}", *spoofed))
        assert reply.status == 200
        (received,) = running.upstream.requests
        told = {name: value for name, value in received.fields if name.startswith(("x-auth", "x-forwarded-"))}
        assert told["x-auth-subject"] == "corp|ada"
        assert told["x-auth-client-id"] == "corp|app"
        assert (told["x-auth-scope"], told["x-auth-token-type"]) == ("read", "bearer")
        assert not {"x-forwarded-user", "x-forwarded-email", "x-auth-groups"} & told.keys()
        assert "authorization" not in dict(received.fields)


async def test_where_groups_are_needed_by_method_it_passes_where_everybody_may(
    tmp_path: Path, no_database: Store
) -> None:
    """Who is in no group may do what an empty list of groups opens to everybody, and nothing else."""
    async with an_issuer() as issuer, running_with(tmp_path, no_database, issuer) as running:
        token = f"Authorization: Bearer {issuer.token(groups=['editors'])}"
        replies = [
            await running.talk(request(path, token, method=method))
            for path, method in (("/wiki", "GET"), ("/wiki", "PUT"), ("/staff", "GET"))
        ]
        assert [reply.status for reply in replies] == [200, 403, 403]
        assert [received.target for received in running.upstream.requests] == ["/wiki"]


async def test_refusal_tells_the_client_nothing_and_the_operator_why(tmp_path: Path, no_database: Store) -> None:
    async with an_issuer() as issuer, running_with(tmp_path, no_database, issuer) as running:
        told = list[Finished]()
        running.proxy.listeners.append(told.append)
        replies = [
            await running.talk(request("/x", f"Authorization: Bearer {issuer.token(**claims)}"))
            for claims in ({"aud": "https://other.example"}, {"exp": 1}, {"sub": None})
        ]
        bodies = [json.loads(reply.body) for reply in replies]
        assert [reply.status for reply in replies] == [401, 401, 401]
        assert len({(body["error"], body["error_description"]) for body in bodies}) == 1
        await eventually(lambda: len(told) == 3)
        causes = [finished.refused.why.partition(":")[0] for finished in told if finished.refused is not None]
        assert causes == ["foreign token, audience", "foreign token, time", "foreign token, claims"]
        assert running.upstream.requests == []


async def test_stream_ends_with_the_time_of_its_token(tmp_path: Path, no_database: Store) -> None:
    async with an_issuer() as issuer, running_with(tmp_path, no_database, issuer, leeway="0s") as running:
        told = list[Finished]()
        running.proxy.listeners.append(told.append)
        answering(running, CHUNKED)
        stream = await begun(running, call(issuer.token(exp=time.time() + 1.0)))
        await everything(stream)
        stream.close()
        await eventually(lambda: len(told) == 1)
        assert told[0].refused is not None
        assert told[0].refused.why == "expired token"


async def test_stream_goes_on_without_a_database_and_ends_with_the_key(tmp_path: Path, no_database: Store) -> None:
    async with an_issuer() as issuer, running_with(tmp_path, no_database, issuer) as running:
        told = list[Finished]()
        running.proxy.listeners.append(told.append)
        answering(running, CHUNKED)
        stream = await begun(running, call(issuer.token()))
        issuers = running.proxy.guard._issuers
        assert issuers is not None
        (source,) = issuers._sources.values()
        began = running.proxy.guard._ledger.elapsed()
        await eventually(lambda: running.proxy.guard._ledger.elapsed() > began + 0.3)  # some looks at what goes on
        assert told == []
        issuer.publish(RSA)
        source._wanted.set()
        await everything(stream)
        stream.close()
        await eventually(lambda: len(told) == 1)
        assert told[0].refused is not None
        assert told[0].refused.why == "foreign token, key withdrawn: corp"
        assert told[0].refused.identity is not None
        assert told[0].refused.identity.subject == "corp|ada"


async def test_calls_wait_for_keys_and_those_who_leave_hold_nobody_up(tmp_path: Path, no_database: Store) -> None:
    async with an_issuer() as issuer, running_with(tmp_path, no_database, issuer) as running:
        keys, go = issuer.answers[KEYS], asyncio.Event()
        assert isinstance(keys, bytes)

        async def later(writer: asyncio.StreamWriter) -> None:
            await go.wait()
            writer.write(keys)
            await writer.drain()

        issuer.answers[KEYS] = later
        leaves, stays = await running.connect(), await running.connect()
        for connection in (leaves, stays):
            await connection.send(call(issuer.token(EC)))
        await eventually(lambda: KEYS in issuer.asked)
        leaves.close()
        go.set()
        assert (await stays.reply()).status == 200
        stays.close()


@pytest.mark.parametrize("path", ["/x", "/ours"])
async def test_our_own_tokens_need_the_database_on_either_route(path: str, tmp_path: Path, no_database: Store) -> None:
    async with an_issuer() as issuer, running_with(tmp_path, no_database, issuer) as running:
        token = KEYRING.new_token("gwa_")
        assert (await running.talk(request(path, f"Authorization: Bearer {token}"))).status == 503
        assert issuer.asked == []
