"""Credentials at the door: what a client is told, what the upstream learns, and that a refused call never ran."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from oauthlib.oauth2.rfc6749.tokens import prepare_mac_header

from gateway.model import Client, User
from gateway.store import NewClient, Store
from tests.proxy.rig import Rig, eventually, rig
from tests.serving import crowding

ROUTES: list[dict[str, Any]] = [
    {
        "name": "bearer",
        "path": "/bearer",
        "auth": ["bearer"],
        "scopes": {"GET": ["notes:read"], "*": ["notes:write"]},
    },
    {"name": "mac", "path": "/mac", "auth": ["mac"]},
    {"name": "both", "path": "/both", "auth": ["bearer", "mac"]},
    {"name": "through", "path": "/through", "auth": ["bearer"], "forward_authorization": True},
]


@pytest.fixture
async def guarded(tmp_path: Path, store: Store) -> AsyncIterator[Rig]:
    """Routes for bearer tokens, MAC tokens and both."""
    async with rig(tmp_path, store, routes=ROUTES) as running:
        yield running


@pytest.fixture
async def client(store: Store) -> Client:
    new = NewClient(
        name="Notes",
        confidential=True,
        redirect_uris=("https://client.test/callback",),
        grant_types=frozenset({"authorization_code", "refresh_token"}),
        scopes=frozenset({"notes:read", "notes:write"}),
        token_type="bearer",
        mac_drafts=("01",),
        mac_algorithm="hmac-sha-256",
    )
    return (await store.clients.create(new))[0]


@pytest.fixture
async def ada(store: Store) -> User:
    return await store.users.create("ada", "ada@example.test", "Ada", "$argon2id$fake")


def request(path: str, *fields: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: gateway.test", *fields, "", ""]).encode()


async def issued(store: Store, client: Client, *scopes: str, ttl: float = 60.0) -> str:
    tokens = await store.tokens.issue(client.client_id, "ada", frozenset(scopes), ttl, "bearer")
    return tokens.access_token


async def test_a_good_token_tells_the_upstream_who_asks_and_stays_here(
    guarded: Rig, store: Store, client: Client, ada: User
) -> None:
    token = await issued(store, client, "notes:read", "notes:write")
    reply = await guarded.talk(request("/bearer/1?x", f"Authorization: Bearer {token}", "X-Auth-Subject: root"))
    assert reply.status == 200
    (seen,) = guarded.upstream.requests
    assert seen.one("x-auth-subject") == ada.subject
    assert seen.one("x-auth-client-id") == client.client_id
    assert seen.one("x-auth-scope") == "notes:read notes:write"
    assert seen.one("x-auth-token-type") == "bearer"
    assert seen.one("x-forwarded-user") == "ada"
    assert seen.one("x-forwarded-email") == "ada@example.test"
    assert token not in guarded.upstream.raw.decode()


@pytest.mark.parametrize(
    ("fields", "target", "status", "error"),
    [
        ([], "/bearer", 401, None),
        (["Authorization: Basic eDp5"], "/bearer", 401, None),
        (["Authorization: Bearer {token}x"], "/bearer", 401, "invalid_token"),
        (["Authorization: Bearer {short}"], "/bearer", 401, "invalid_token"),
        (["Authorization: Bearer gwa_" + "A" * 40], "/bearer", 401, "invalid_token"),
        (["Authorization: Bearer imported-elsewhere"], "/bearer", 401, "invalid_token"),
        (["Authorization: Bearer {token}", "Authorization: Bearer {token}"], "/bearer", 400, "invalid_request"),
        (["Authorization: Bearer {token}", "authorization: Basic eDp5"], "/bearer", 400, "invalid_request"),
        ([], "/bearer?access_token={token}", 400, "invalid_request"),
        (["Authorization: Bearer {token}"], "/bearer?access_token={token}", 400, "invalid_request"),
    ],
)
async def test_a_bad_credential_is_refused_and_reaches_nobody(
    fields: list[str],
    target: str,
    status: int,
    error: str | None,
    guarded: Rig,
    store: Store,
    client: Client,
    ada: User,
) -> None:
    # RFC 6750, sections 2 and 3.1
    token = await issued(store, client, "notes:read")
    filled = [field.format(token=token, short=token[:-1]) for field in fields]
    reply = await guarded.talk(request(target.format(token=token), *filled))
    assert reply.status == status
    (challenge,) = reply.all("www-authenticate")
    assert challenge.startswith("Bearer realm=")
    assert 'resource_metadata="http://gateway.test/.well-known/oauth-protected-resource/bearer"' in challenge
    assert (f'error="{error}"' in challenge) if error else ("error" not in challenge)
    assert guarded.upstream.connections == 0
    assert token not in reply.body.decode()


async def test_low_scope_is_a_403_that_names_the_scope_and_the_connection_stays(
    guarded: Rig, store: Store, client: Client, ada: User
) -> None:
    # RFC 6750, section 3.1
    token = await issued(store, client, "notes:read")
    connection = await guarded.connect()
    post = request("/bearer", f"Authorization: Bearer {token}", "Content-Length: 5", method="POST") + b"hello"
    await connection.send(post + request("/bearer", f"Authorization: Bearer {token}"))
    refused = await connection.reply()
    assert refused.status == 403
    assert 'error="insufficient_scope"' in refused.one("www-authenticate")
    assert 'scope="notes:write"' in refused.one("www-authenticate")
    assert json.loads(refused.body)["error"] == "insufficient_scope"
    assert (await connection.reply()).status == 200
    assert [seen.method for seen in guarded.upstream.requests] == ["GET"]
    connection.close()


async def test_a_revoked_token_is_refused_at_once(guarded: Rig, store: Store, client: Client, ada: User) -> None:
    token = await issued(store, client, "notes:read")
    connection = await guarded.connect()
    await connection.send(request("/bearer", f"Authorization: Bearer {token}"))
    assert (await connection.reply()).status == 200
    await store.tokens.revoke(token, None)
    await connection.send(request("/bearer", f"Authorization: Bearer {token}"))
    assert (await connection.reply()).status == 401
    connection.close()


async def test_each_scheme_of_the_route_gets_its_challenge(guarded: Rig) -> None:
    reply = await guarded.talk(request("/both"))
    assert [challenge.split(" ")[0] for challenge in reply.all("www-authenticate")] == ["Bearer", "MAC"]


async def test_a_signed_request_passes_once_and_its_replay_never(
    guarded: Rig, store: Store, client: Client, ada: User
) -> None:
    tokens = await store.tokens.issue(client.client_id, "ada", frozenset({"notes:read"}), 60.0, "mac")
    fields = prepare_mac_header(
        tokens.access_token,
        "http://gateway.test/mac/x?b=1&a=2",
        tokens.mac_key or "",
        "GET",
        hash_algorithm="hmac-sha-256",
        draft=1,
    )
    signed = request("/mac/x?b=1&a=2", f"Authorization: {fields['Authorization']}", "X-Forwarded-Host: evil.test")
    replies = await asyncio.gather(*(guarded.talk(signed) for _ in range(10)))
    assert sorted(reply.status for reply in replies) == [200] + [401] * 9
    (seen,) = guarded.upstream.requests
    assert (seen.one("x-auth-token-type"), seen.one("x-auth-subject")) == ("mac", ada.subject)
    assert seen.all("authorization") == []
    assert (await guarded.talk(signed.replace(b"b=1&a=2", b"a=2&b=1"))).status == 401


async def test_without_the_database_a_call_is_refused_and_public_metadata_still_answers(
    tmp_path: Path, no_database: Store
) -> None:
    async with rig(tmp_path, no_database, routes=ROUTES) as running:
        began = asyncio.get_running_loop().time()
        reply = await running.talk(request("/bearer", "Authorization: Bearer imported-elsewhere"))
        assert asyncio.get_running_loop().time() - began < 2.5 * crowding()
        assert reply.status == 503
        assert json.loads(reply.body)["error"] == "temporarily_unavailable"
        assert (await running.talk(request("/.well-known/oauth-protected-resource/bearer"))).status == 200
    assert running.upstream.connections == 0


async def test_an_upgrade_without_a_good_token_never_touches_the_upstream(guarded: Rig) -> None:
    reply = await guarded.talk(request("/bearer", "Connection: Upgrade", "Upgrade: websocket"))
    assert reply.status == 401
    assert guarded.upstream.connections == 0


async def test_a_tunnel_ends_with_its_token(guarded: Rig, store: Store, client: Client, ada: User) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        await reader.read()

    guarded.upstream.handler = serve
    for ends in ("expiry", "revocation"):
        guarded.upstream.ended = 0
        token = await issued(store, client, "notes:read", ttl=3.0 if ends == "expiry" else 60.0)
        connection = await guarded.connect()
        await connection.send(request("/bearer", f"Authorization: Bearer {token}", "Connection: Upgrade", "Upgrade: x"))
        assert b" 101 " in await connection.reader.readuntil(b"\r\n\r\n")
        if ends == "revocation":
            await store.tokens.revoke(token, None)
        assert await connection.closed()
        await eventually(lambda: guarded.upstream.ended == 1)
        connection.close()


async def test_each_of_many_requests_that_differ_in_their_token_only_keeps_its_own(
    guarded: Rig, store: Store, client: Client, ada: User
) -> None:
    # Each waits for the guard (nothing is cached here) and then for a connection, while the next ones are here already.
    async def persistent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await guarded.upstream.read_request(reader)
            writer.write(guarded.upstream.answer)
            await writer.drain()

    guarded.upstream.handler = persistent
    scopes = [("notes:read",), ("notes:write",), ("notes:read", "notes:write")]
    tokens = {await issued(store, client, *named): named for named in scopes}
    sent = [list(tokens)[number * number % 3] for number in range(30)]
    requests = [request("/through", f"Authorization: Bearer {token}") for token in sent]
    connection = await guarded.connect()
    await connection.send(b"".join(requests))
    for _ in sent:
        assert (await connection.reply()).status == 200
    for one in requests:  # and alone, where the whole request is known by its bytes
        await connection.send(one)
        assert (await connection.reply()).status == 200
    seen = [(found.one("authorization"), found.one("x-auth-scope")) for found in guarded.upstream.requests]
    assert seen == [(f"Bearer {token}", " ".join(sorted(tokens[token]))) for token in sent * 2]
    connection.close()
