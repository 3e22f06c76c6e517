"""HTTP message signatures before the guard: what passes once, in which order it is judged, and what writes nothing."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import HMAC_SHA256
from requests import PreparedRequest, Request

from fuzz.values import changed
from gateway import config
from gateway.credentials import content_digest, signatures
from gateway.credentials.components import Fields, Message, authority
from gateway.credentials.structured import InnerList, Item
from gateway.errors import Refused
from gateway.guard import Allowed, BodyAwaited, Call, Guard, Verdict, settled
from gateway.store.records import IssuedTokens

from .conftest import World, new_client, settings_for

ROUTES: list[dict[str, Any]] = [
    {"upstreams": ["http://127.0.0.1:9"], **route}
    for route in (
        {"name": "notes", "path": "/notes", "auth": ["signature"], "scopes": {"GET": ["read"], "*": ["write"]}},
        {"name": "any", "path": "/any", "auth": ["bearer", "mac", "signature"]},
        {"name": "mac", "path": "/mac", "auth": ["mac"]},
    )
]
SKEW = 60


@dataclass
class Signing:
    """A guard whose clock stands at the whole second `now`, and its routes."""

    world: World
    guard: Guard
    routes: dict[str, Any]
    now: int

    def call(self, tokens: IssuedTokens, *, route: str = "notes", **changes: Any) -> Call:
        """A rightly signed call; `changes` to its parameters and to the request are made before signing."""
        parts = {name: changes.pop(name) for name in ("method", "target", "host", "port", "body") if name in changes}
        body = parts.pop("body", None)
        call = Call(
            route=self.routes[route],
            method=parts.pop("method", "GET"),
            target=parts.pop("target", self.routes[route].path + b"/1?b=1&a=2"),
            **{"host": "api.example.com", "port": 443, **parts},
            authorization=(),
            has_body=body is not None,
            fields=() if body is None else ((b"content-digest", b"", content_digest.render(body).encode()),),
        )
        return changed(call, fields=(*call.fields, *self.credential(tokens, call, **changes)))

    def credential(self, tokens: IssuedTokens, call: Call, **changes: Any) -> Fields:
        """The two fields of a right signature for `call`."""
        key, label = changes.pop("key", tokens.mac_key), changes.pop("label", "sig")
        covered = ("@method", "@target-uri", *(("content-digest",) if call.has_body else ()))
        parameters = {"created": self.now, "nonce": "n1", "keyid": tokens.access_token} | changes
        stated = InnerList(tuple(Item(name, {}) for name in covered), parameters)
        message = Message(
            method=call.method,
            target=call.target,
            scheme="https",
            authority=authority("https", call.host, call.port),
            fields=tuple(call.fields),
            has_body=call.has_body,
        )
        inputs, value = signatures.render(signatures.sign(key.encode(), message, stated, label))
        return (b"signature-input", b"", inputs.encode()), (b"signature", b"", value.encode())

    async def check(self, call: Call) -> Verdict | BodyAwaited:
        found = self.guard.check(call)
        return await settled(found)

    async def passes(self, call: Call) -> bool:
        return isinstance(await self.check(call), Allowed)

    async def refused(self, call: Call, status: int = 401, error: str = "invalid_token", said: str = "") -> Refused:
        """The refusal of a call that must be refused."""
        verdict = await self.check(call)
        assert isinstance(verdict, Refused)
        assert (verdict.status, verdict.error) == (status, error)
        assert said in verdict.description
        return verdict


@pytest.fixture
def signing(world: World) -> Signing:
    now = int(time.time())
    settings = settings_for(world.keyring, routes=ROUTES)
    routes = {route.name: route for route in config.compile_routes(settings.config)}
    return Signing(world, Guard(world.store, settings, clock=lambda: float(now)), routes, now)


async def test_signed_request_passes_once_under_whatever_label(signing: Signing) -> None:
    tokens = await signing.world.token(kind="mac")
    verdict = await signing.check(signing.call(tokens))
    assert isinstance(verdict, Allowed)
    assert verdict.scheme == "signature"
    assert verdict.scopes == {"read"}
    for again in (signing.call(tokens), signing.call(tokens, label="other"), signing.call(tokens, tag="else")):
        await signing.refused(again, said="nonce was used before")
    assert await signing.world.nonces() == 1
    assert await signing.passes(signing.call(tokens, nonce="n2"))
    assert await signing.passes(signing.call(tokens, created=signing.now - 1))


async def test_mac_token_signs_either_way_and_stays_a_mac_token_by_mac(signing: Signing) -> None:
    tokens = await signing.world.token(kind="mac")
    assert await signing.passes(signing.call(tokens, route="any"))
    call = signing.world.call(route="mac")
    header = signing.world.authorization(tokens, changed(call, route=signing.routes["any"]), ts=str(signing.now))
    by_mac = await signing.check(changed(call, route=signing.routes["any"], authorization=(header.encode(),)))
    assert isinstance(by_mac, Allowed)
    assert by_mac.scheme == "mac"


class _Keys(HTTPSignatureKeyResolver):
    def __init__(self, tokens: IssuedTokens) -> None:
        self._tokens = tokens

    def resolve_private_key(self, key_id: str) -> bytes:
        assert key_id == self._tokens.access_token
        return (self._tokens.mac_key or "").encode()

    resolve_public_key = resolve_private_key


@pytest.mark.parametrize("body", [None, b"some body"])
@pytest.mark.parametrize(
    "covered",
    [
        ("@method", "@authority", "@target-uri"),  # what that client signs unless told otherwise
        ("@method", "@authority", "@path", "@query", "@scheme", "@request-target", '"@query-param";name="b"', "accept"),
        ("@method", "@target-uri", '"x-dict";key="a"', '"x-dict";key="l"', "x-dict", '"accept";bs', '"priority";sf'),
    ],
)
async def test_client_of_another_hand_passes_once(
    signing: Signing, covered: tuple[str, ...], body: bytes | None
) -> None:
    tokens = await signing.world.token("read", "write", kind="mac")
    request: PreparedRequest = Request(
        "GET" if body is None else "POST",
        "https://api.example.com/notes/1?b=%20+x&a=2&",
        headers={"Accept": "*/*, a/b", "X-Dict": 'a=1.50;x,  l=("a"   b)', "Priority": "u=1,i"},
    ).prepare()
    signer = HTTPMessageSigner(signature_algorithm=HMAC_SHA256, key_resolver=_Keys(tokens))
    signer.sign(
        request,
        key_id=tokens.access_token,
        nonce='a "random" \\ nonce',
        created=datetime.fromtimestamp(signing.now, UTC),
        expires=datetime.fromtimestamp(signing.now + 30, UTC),
        covered_component_ids=(*covered, *(() if body is None else ("content-digest",))),
        body=body,
    )
    fields = [(name.lower().encode(), name.encode(), value.encode()) for name, value in request.headers.items()]
    call = changed(
        signing.call(tokens, method=str(request.method), target=str(request.path_url).encode()),
        fields=fields,
        has_body=body is not None,
    )
    for once in (True, False):
        verdict = await signing.check(call)
        if isinstance(verdict, BodyAwaited):
            assert body is not None
            verdict.check.update(body)
            assert verdict.check.fits()
            verdict = await verdict.spend()
        assert isinstance(verdict, Allowed) is once


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"created": -SKEW}, True),
        ({"created": SKEW}, True),
        ({"created": -SKEW - 1}, False),
        ({"created": SKEW + 1}, False),
        ({"created": -10_000}, False),
        ({"created": 10**12}, False),
        ({"expires": 1}, True),
        ({"expires": 10**12}, True),
        ({"expires": 0}, False),
        ({"created": -30, "expires": -1}, False),
    ],
)
async def test_time_is_kept_to_the_second(signing: Signing, changes: dict[str, int], passes: bool) -> None:
    tokens = await signing.world.token(kind="mac")
    moved: dict[str, Any] = {name: signing.now + seconds for name, seconds in changes.items()}
    assert await signing.passes(signing.call(tokens, **moved)) is passes
    assert await signing.world.nonces() == passes


# -- the order of the checks: what fails before the nonce leaves it unspent -----------------------------------


async def test_nothing_but_a_good_call_spends_a_nonce(signing: Signing) -> None:
    world, tokens = signing.world, await signing.world.token(kind="mac")
    await signing.refused(signing.call(tokens, method="POST", body=b""), 403, "insufficient_scope", "write")
    await signing.refused(signing.call(tokens, key="x" * 43), said="does not match")
    await signing.refused(signing.call(tokens, created=signing.now - 61, key="x" * 43), said="does not match")
    await signing.refused(signing.call(tokens, created=signing.now - 61), said="seconds off")
    await signing.refused(signing.call(tokens, expires=signing.now), said="expired")
    await signing.refused(changed(signing.call(tokens, route="any"), route=signing.routes["mac"]), error="unauthorized")
    await signing.refused(changed(signing.call(tokens), target=b"/notes/1?access_token=x"), 400, "invalid_request")
    await signing.refused(changed(signing.call(tokens), authorization=(b"Bearer x",)), 400, "invalid_request")
    await signing.refused(changed(signing.call(tokens), method="HEAD"))
    assert await world.nonces() == 0
    assert await signing.passes(signing.call(tokens))


async def test_body_of_another_hash_spends_none(signing: Signing) -> None:
    tokens = await signing.world.token("read", "write", kind="mac")
    awaited = await signing.check(signing.call(tokens, method="POST", body=b"one"))
    assert isinstance(awaited, BodyAwaited)
    awaited.check.update(b"two")
    assert not awaited.check.fits()
    assert awaited.misfit.status == 401
    assert '"content-digest"' in awaited.misfit.values("Accept-Signature")[0]
    stated = changed(signing.call(tokens), has_body=False)
    digest = (b"content-digest", b"", content_digest.render(b"x").encode())
    await signing.refused(changed(stated, fields=(digest, *stated.fields)), said="does not match the signed hash")
    assert await signing.world.nonces() == 0


Broken = Callable[[Signing, IssuedTokens], Awaitable[Call]]


async def _of_bearer(signing: Signing, tokens: IssuedTokens) -> Call:
    bearer = await signing.world.token()
    return signing.call(tokens, keyid=bearer.access_token)


async def _of_another_token(signing: Signing, tokens: IssuedTokens) -> Call:
    other = await signing.world.token(kind="mac")
    return signing.call(tokens, keyid=other.access_token)


async def _of_another_client(signing: Signing, tokens: IssuedTokens) -> Call:
    client, _ = await signing.world.store.clients.create(new_client("mac"))
    other = await signing.world.store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, None)
    return signing.call(other, key=tokens.mac_key)


async def _of_sha_1(signing: Signing, tokens: IssuedTokens) -> Call:
    client, _ = await signing.world.store.clients.create(new_client("mac", mac_algorithm="hmac-sha-1"))
    return signing.call(await signing.world.store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, None))


async def _revoked(signing: Signing, tokens: IssuedTokens) -> Call:
    await signing.world.store.tokens.revoke(tokens.access_token, signing.world.client)
    return signing.call(tokens)


async def _invented(signing: Signing, tokens: IssuedTokens) -> Call:
    return signing.call(tokens, keyid=tokens.access_token[:-1] + ("A" if tokens.access_token[-1] != "A" else "B"))


async def _foreign(signing: Signing, tokens: IssuedTokens) -> Call:
    return signing.call(tokens, keyid="an-imported-token")


@pytest.mark.parametrize(
    "broken", [_of_bearer, _of_another_token, _of_another_client, _of_sha_1, _revoked, _invented, _foreign]
)
async def test_key_that_is_not_the_tokens_reads_like_an_unknown_token(signing: Signing, broken: Broken) -> None:
    tokens = await signing.world.token(kind="mac")
    await signing.refused(await broken(signing, tokens), said="unknown, expired or revoked, or its signature")
    assert await signing.world.nonces() == 0


async def test_signed_bearer_token_and_mac_token_as_bearer_are_refused(signing: Signing) -> None:
    mac = await signing.world.token(kind="mac")
    as_bearer = changed(
        signing.call(mac, route="any"), fields=(),
        authorization=(f"Bearer {mac.access_token}".encode(),),
    )  # fmt: skip
    await signing.refused(as_bearer)
    scheme_without_fields = changed(as_bearer, authorization=(b'Signature keyId="a",signature="b"',))
    await signing.refused(scheme_without_fields, error="unauthorized")


async def test_expired_token_signs_nothing(signing: Signing) -> None:
    tokens = await signing.world.token(kind="mac", ttl=3600)
    later = Guard(
        signing.world.store, settings_for(signing.world.keyring, routes=ROUTES), clock=lambda: time.time() + 3601
    )
    call = signing.call(tokens, created=signing.now + 3601)
    verdict = await changed(signing, guard=later).check(call)
    assert isinstance(verdict, Refused)
    assert verdict.status == 401
    assert await signing.world.nonces() == 0


async def test_parallel_replays_over_two_workers_pass_once(signing: Signing) -> None:
    tokens = await signing.world.token(kind="mac")
    async with signing.world.second_guard() as other:
        second = changed(signing, guard=Guard(other._store, settings_for(signing.world.keyring, routes=ROUTES)))
        for round_ in range(5):
            call = signing.call(tokens, nonce=f"round {round_}")
            found = await asyncio.gather(*(one.passes(call) for one in [signing, second] * 10))
            assert found.count(True) == 1


# -- what a client is told -----------------------------------------------------------------------------------


async def test_refusals_say_what_to_sign_and_how(signing: Signing) -> None:
    tokens = await signing.world.token(kind="mac")
    bare = changed(signing.call(tokens), fields=())
    refused = await signing.refused(bare, error="unauthorized", said="RFC 9421")
    assert refused.values("Accept-Signature") == ('sig=("@method" "@target-uri");created;alg="hmac-sha256"',)
    assert [challenge.split()[0] for challenge in refused.values("WWW-Authenticate")] == ["Signature"]
    with_body = await signing.refused(changed(bare, has_body=True), error="unauthorized")
    assert '"content-digest"' in with_body.values("Accept-Signature")[0]
    three = await signing.refused(changed(bare, route=signing.routes["any"]), error="unauthorized")
    assert [challenge.split()[0] for challenge in three.values("WWW-Authenticate")] == ["Bearer", "MAC", "Signature"]
    mac = changed(bare, route=signing.routes["mac"])
    elsewhere = await signing.refused(mac, error="unauthorized", said="signed with a MAC token")
    assert elsewhere.values("Accept-Signature") == ()


async def test_texts_of_refusals_do_not_hold_what_the_client_chose(signing: Signing) -> None:
    tokens = await signing.world.token(kind="mac")
    call = signing.call(tokens)
    texts = set()
    for name in ("x-one", "x-two", "x-three"):
        covered = next(iter(call.fields))[2].replace(b'"@method"', f'"@method" "{name}"'.encode())
        refused = await signing.refused(
            changed(call, fields=((b"signature-input", b"", covered), tuple(call.fields)[1])), 400, "invalid_request"
        )
        texts.add((refused.description, refused.cause))
    assert len(texts) == 1  # a flood of them fills no cache
