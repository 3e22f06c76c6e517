"""HTTP message signatures over the wire (RFC 9421): what passes, once, and what reaches the upstream."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.store import Store
from tests.proxy.rig import Rig
from tests.proxy.signature_client import ROUTES, parts
from tests.proxy.signing import Signer, bytes_of, nonces

__all__ = ["ROUTES"]  # which the fixture `guarded` looks for here


async def test_signed_request_passes_once_and_its_signature_stays_here(guarded: Rig, signer: Signer) -> None:
    request = parts(signer, fields=["X-Own: kept", "X-Auth-Token-Type: root"]).sign().bytes()
    first, again = await guarded.talk(request), await guarded.talk(request)
    assert (first.status, again.status) == (200, 401)
    (seen,) = guarded.upstream.requests
    assert (seen.target, seen.one("x-own"), seen.one("x-auth-token-type")) == ("/1?b=1&a=2", "kept", "signature")
    assert seen.one("x-auth-client-id") == signer.client_id
    assert not seen.all("signature")
    assert not seen.all("signature-input")
    assert signer.tokens.access_token not in guarded.upstream.raw.decode()


async def test_heads_of_one_connection_are_judged_anew_each_time(guarded: Rig, signer: Signer, database: str) -> None:
    connection = await guarded.connect()
    one, two = (parts(signer, parameters={"nonce": f'"{name}"'}).sign().bytes() for name in ("one", "two"))
    statuses = []
    for request in (one, two, one, one, two):
        await connection.send(request)
        statuses.append((await connection.reply()).status)
    connection.close()
    assert statuses == [200, 200, 401, 401, 401]
    assert len(guarded.upstream.requests) == await nonces(database) == 2


async def test_upstream_gets_the_fields_where_the_route_says_so(guarded: Rig, signer: Signer) -> None:
    request = parts(signer, target="/forward").sign()
    assert (await guarded.talk(request.bytes())).status == 200
    (seen,) = guarded.upstream.requests
    assert (seen.one("signature-input"), seen.one("signature")) == (request.inputs, request.value)


async def test_signature_of_someone_elses_passes_through_where_none_is_asked_for(guarded: Rig, signer: Signer) -> None:
    request = parts(signer, target="/public").sign()
    assert (await guarded.talk(request.bytes())).status == 200
    (seen,) = guarded.upstream.requests
    assert (seen.one("signature-input"), seen.one("signature")) == (request.inputs, request.value)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 5, 64 * 1024, 200_000])
async def test_body_goes_up_whole_if_it_is_the_signed_one(
    guarded: Rig, signer: Signer, database: str, size: int, chunked: bool
) -> None:
    body = bytes_of(size)
    changed = body[:-1] + b"\0" if body else b"x"
    for nonce, sent, status in (('"a"', changed, 401), ('"b"', body, 200)):
        request = parts(signer, method="POST", body=body, chunked=chunked, parameters={"nonce": nonce}).sign()
        request.body = sent
        assert (await guarded.talk(request.bytes(), method="POST")).status == status
    whole = [seen for seen in guarded.upstream.requests if seen.complete]
    assert [seen.body for seen in whole] == [body]
    assert await nonces(database) == (1 if size <= 64 * 1024 else 2)  # what is too long to be held costs its nonce


RIGHT: list[dict[str, Any]] = [
    {"covered": '"@method" "@authority" "@path" "@query"'},
    {"covered": '"@scheme" "@request-target" "@target-uri" "@method"'},
    {"covered": '"@method" "@target-uri" "host" "accept"', "fields": ["Accept: a", "Accept: b"]},
    {"target": "/signed/1?"},
    {"target": "/signed"},
    {"method": "DELETE"},
    {"method": "NOTES"},
    {"host": "GATEWAY.test"},
    {"host": "gateway.test:80"},
    {"host": "gateway.test:9999"},  # the authority is ours to say
    {"fields": ["X-Forwarded-Host: evil.test", "Forwarded: host=evil.test", "X-Forwarded-Proto: https"]},
    {"host": "one.test", "authority": "one.test", "target": "/own"},
    {"host": "ONE.test:80", "authority": "one.test", "target": "/own"},
    {"parameters": {"alg": '"hmac-sha256"', "tag": '"app"', "expires": "9999999999", "more": "1"}},
    {"parameters": {"nonce": '"' + "n" * 128 + '"'}},
    {"parameters": {"nonce": '"a \\"b\\" \\\\ c"'}},
    {"label": "*any.label-1_"},
]


async def test_right_signature_passes(guarded: Rig, signer: Signer) -> None:
    for index, changes in enumerate(RIGHT):
        request = parts(signer, **changes)
        request.parameters = {"nonce": f'"{index}"'} | request.parameters
        assert (await guarded.talk(request.sign().bytes())).status == 200, changes


async def test_signature_passes_among_those_of_others(guarded: Rig, signer: Signer) -> None:
    request = parts(signer).sign()
    request.inputs = (
        f'proxy=("@authority");created=1;keyid="p";alg="ed25519", {request.inputs}, bot=();tag="web-bot-auth"'
    )
    request.value = f"bot=:AA==:, proxy=:AAAA:, {request.value}"
    assert (await guarded.talk(request.bytes())).status == 200


async def test_fields_may_come_in_several_lines(guarded: Rig, signer: Signer) -> None:
    request = parts(signer).sign()
    request.fields += ['Signature-Input: other=();keyid="x"', "SIGNATURE: other=:AA==:"]
    assert (await guarded.talk(request.bytes())).status == 200


async def test_lacking_scope_keeps_the_nonce(guarded: Rig, signer: Signer, database: str) -> None:
    reply = await guarded.talk(parts(signer, target="/read").sign().bytes())
    assert reply.status == 403
    assert 'scope="notes:read"' in reply.one("www-authenticate")
    assert (guarded.upstream.connections, await nonces(database)) == (0, 0)


async def test_route_that_takes_no_signature_does_not_judge_one(guarded: Rig, signer: Signer, database: str) -> None:
    reply = await guarded.talk(parts(signer, target="/mac").sign().bytes())
    assert (reply.status, reply.all("accept-signature")) == (401, [])
    assert [challenge.split()[0] for challenge in reply.all("www-authenticate")] == ["MAC"]
    assert (guarded.upstream.connections, await nonces(database)) == (0, 0)


async def test_route_of_three_schemes_takes_each_of_them(guarded: Rig, signer: Signer, store: Store) -> None:
    bearer = await store.tokens.issue(signer.client_id, None, frozenset({"notes:write"}), 60, "bearer")
    by_bearer = (
        f"GET /any HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {bearer.access_token}\r\n\r\n".encode()
    )
    by_mac = signer.head(None, target="/any", method="GET")
    for request in (by_bearer, by_mac, parts(signer, target="/any").sign().bytes()):
        assert (await guarded.talk(request)).status == 200
    kinds = [seen.one("x-auth-token-type") for seen in guarded.upstream.requests]
    assert kinds == ["bearer", "mac", "signature"]
    signed_bearer = replace(parts(signer, target="/any"), token=bearer.access_token).sign()
    assert (await guarded.talk(signed_bearer.bytes())).status == 401


async def test_signature_in_a_trailer_opens_nothing(guarded: Rig, signer: Signer, database: str) -> None:
    request = parts(signer, method="POST", body=b"body", chunked=True).sign()
    inputs, value, request.inputs, request.value = request.inputs, request.value, "", ""
    raw = request.bytes().removesuffix(b"\r\n") + f"Signature-Input: {inputs}\r\nSignature: {value}\r\n\r\n".encode()
    assert (await guarded.talk(raw, method="POST")).status == 401
    assert (guarded.upstream.connections, await nonces(database)) == (0, 0)
