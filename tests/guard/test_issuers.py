"""Tokens of other issuers (RFC 9068, RFC 7519, RFC 8725): which pass, what they stand for, and when they end."""

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from gateway import config
from gateway.errors import Cause, Refused
from gateway.guard import Allowed, Guard, Pending, Verdict
from gateway.guard.causes import WITHDRAWN_KEY
from gateway.guard.issuers import AGAIN, LAPSE, LONGEST_KEPT
from gateway.guard.watch import Watched
from gateway.routing import Route
from gateway.schemes.scheme import UNPROVEN
from tests.guard.conftest import Offset, World, settings_for, verdict_of
from tests.issuers import (
    AUDIENCE,
    EC,
    EDWARDS,
    KEYS,
    METADATA,
    METADATA_BY_RFC_8414,
    NEXT,
    RSA,
    Issuer,
    an_issuer,
    document,
)
from tests.oauth.proofs import ES256, jkt_of, proof
from tests.oauth.signing import Signer, encoded, signer
from tests.serving import until

UPSTREAMS = ["http://127.0.0.1:9"]
ROUTES: list[dict[str, Any]] = [
    {"name": "open", "path": "/open", "upstreams": UPSTREAMS, "auth": ["bearer", "mac"], "issuers": ["corp"]},
    {"name": "notes", "path": "/notes", "upstreams": UPSTREAMS, "auth": ["bearer"], "issuers": ["corp"]}
    | {"scopes": {"GET": ["read"], "*": ["write"]}},
    {"name": "ours", "path": "/ours", "upstreams": UPSTREAMS, "auth": ["bearer"]},
    {"name": "staff", "path": "/staff", "upstreams": UPSTREAMS, "auth": ["bearer"], "issuers": ["corp"]}
    | {"groups": ["staff"]},
    {"name": "bound", "path": "/bound", "upstreams": UPSTREAMS, "auth": ["bearer"], "issuers": ["corp"]}
    | {"dpop": "required"},
    {"name": "fresh", "path": "/fresh", "upstreams": UPSTREAMS, "auth": ["bearer"], "issuers": ["corp"]}
    | {"max_age": "10m"},
    {"name": "password", "path": "/password", "upstreams": UPSTREAMS, "auth": ["bearer"], "issuers": ["corp"]}
    | {"acr": "password"},
]


@dataclass
class Trusting:
    """A guard that takes tokens of an issuer."""

    world: World
    guard: Guard
    issuer: Issuer
    elapsed: Offset
    routes: dict[str, Route]

    async def verdict(self, token: str, route: str = "open", scheme: str = "Bearer", **changes: Any) -> Verdict:
        self.world.routes = self.routes
        return await verdict_of(self.guard, self.world.call(f"{scheme} {token}", route=route, **changes))

    async def allowed(self, token: str, route: str = "open") -> Allowed:
        verdict = await self.verdict(token, route)
        assert isinstance(verdict, Allowed), verdict
        return verdict

    async def refused(self, token: str, route: str = "open") -> Refused:
        """The refusal; one that is about the token tells a client nothing but that."""
        verdict = await self.verdict(token, route)
        assert isinstance(verdict, Refused), verdict
        if verdict.status == 401:
            assert (verdict.error, verdict.description) == ("invalid_token", UNPROVEN)
            assert verdict.mend
        return verdict

    def at_once(self, token: str, route: str = "open") -> bool:
        """Whether the verdict needs nobody's answer."""
        self.world.routes = self.routes
        found = self.guard.check(self.world.call(f"Bearer {token}", route=route))
        if isinstance(found, Pending):
            found.drop()
        return not isinstance(found, Pending)

    async def renewed(self, after: float) -> None:
        """Let so many seconds pass, and have the keys asked for."""
        self.elapsed.seconds += after
        (source,) = self.sources()
        source._wanted.set()
        await until(lambda: source._tried_at == self.elapsed() and not source._asking)

    def sources(self) -> list[Any]:
        assert self.guard._issuers is not None
        return list(self.guard._issuers._sources.values())


@asynccontextmanager
async def a_guard(
    world: World, issuer: Issuer, *more: dict[str, Any], route: dict[str, Any] | None = None, **keys: Any
) -> AsyncIterator[Trusting]:
    elapsed = Offset()
    settings = settings_for(
        world.keyring, issuers=[issuer.configured(**keys), *more], routes=[*ROUTES, *([route] if route else [])]
    )
    guard = Guard(world.store, settings, clock=world.clock, elapsed=elapsed)
    try:
        routes = {route.name: route for route in config.compile_routes(settings.config)}
        yield Trusting(world, guard, issuer, elapsed, routes)
    finally:
        await guard.close()


@pytest.fixture
async def trusting(world: World) -> AsyncIterator[Trusting]:
    async with an_issuer() as issuer, a_guard(world, issuer) as guarded:
        yield guarded


# -- what passes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [RSA, EC], ids=lambda key: str(key.algorithm))
async def test_token_of_an_issuer_stands_for_whom_it_names_under_the_issuers_name(
    trusting: Trusting, key: Signer
) -> None:
    allowed = await trusting.allowed(trusting.issuer.token(key))
    assert (allowed.subject, allowed.client_id) == ("corp|ada", "corp|app")
    assert (allowed.username, allowed.email, allowed.groups) == (None, None, ())
    assert (allowed.scopes, allowed.audience) == (frozenset({"read"}), (AUDIENCE,))
    assert allowed.scheme == "bearer"  # a kind


async def test_token_that_was_proven_once_is_held_and_asks_nobody(trusting: Trusting) -> None:
    token = trusting.issuer.token()
    assert not trusting.at_once(token)
    await trusting.allowed(token)
    asked = list(trusting.issuer.asked)
    assert asked == [METADATA, KEYS]
    assert trusting.at_once(token)
    assert len(trusting.guard._tokens.cache) == 1
    assert trusting.issuer.asked == asked


async def test_calls_that_wait_for_keys_share_one_question(trusting: Trusting) -> None:
    tokens = [trusting.issuer.token(jti=str(number)) for number in range(20)]
    verdicts = await asyncio.gather(*map(trusting.verdict, tokens))
    assert all(isinstance(verdict, Allowed) for verdict in verdicts)
    assert trusting.issuer.asked == [METADATA, KEYS]


async def test_route_that_does_not_name_the_issuer_refuses_its_tokens_held_or_not(trusting: Trusting) -> None:
    token = trusting.issuer.token()
    assert (await trusting.refused(token, "ours")).why == "unknown token"
    await trusting.allowed(token)
    trusting.guard._ledger.renew(trusting.elapsed())  # so that it is held there too
    refused = await trusting.refused(token, "ours")
    assert refused.why == "foreign token, route: corp is none of its issuers"


async def test_scope_that_a_token_lacks_is_named(trusting: Trusting) -> None:
    assert isinstance(await trusting.verdict(trusting.issuer.token(), "notes"), Allowed)
    verdict = await trusting.verdict(trusting.issuer.token(scope="other"), "notes")
    assert isinstance(verdict, Refused)
    assert (verdict.status, verdict.error) == (403, "insufficient_scope")


async def test_route_for_groups_refuses_people_of_an_issuer(trusting: Trusting) -> None:
    verdict = await trusting.verdict(trusting.issuer.token(groups=["staff"]), "staff")
    assert isinstance(verdict, Refused)
    assert (verdict.status, verdict.error) == (403, "access_denied")


async def test_route_that_asks_how_lately_somebody_signed_in_goes_by_auth_time(trusting: Trusting) -> None:
    now = time.time()
    assert isinstance(await trusting.verdict(trusting.issuer.token(auth_time=now - 60), "fresh"), Allowed)
    for auth_time in (None, "now", True, now - 3600):
        verdict = await trusting.verdict(trusting.issuer.token(auth_time=auth_time), "fresh")
        assert isinstance(verdict, Refused)
        assert verdict.error == "insufficient_user_authentication"
    verdict = await trusting.verdict(trusting.issuer.token(auth_time=now, acr="password"), "password")
    assert isinstance(verdict, Refused)


async def test_our_own_tokens_open_such_a_route_as_any(trusting: Trusting) -> None:
    tokens = await trusting.world.token()
    allowed = await trusting.allowed(tokens.access_token)
    assert allowed.client_id == trusting.world.client.client_id
    assert trusting.issuer.asked == []


async def test_foreign_subject_is_never_one_of_ours(trusting: Trusting) -> None:
    ours = trusting.world.client.client_id
    allowed = await trusting.allowed(trusting.issuer.token(sub=ours, client_id=ours))
    assert (allowed.subject, allowed.client_id) == (f"corp|{ours}", f"corp|{ours}")


MAPPED = {"api.read": ["read"], "Notes Writer": ["read", "write"]}


@pytest.mark.parametrize(
    ("keys", "claims", "scopes"),
    [
        ({}, {"scope": "read write"}, {"read", "write"}),
        ({}, {"scope": None}, set()),
        ({}, {"scope": ["read", "no scope", ""]}, {"read"}),
        ({"scopes": MAPPED}, {"scope": "api.read read write"}, {"read"}),
        ({"scopes": MAPPED, "scopes_claim": "roles"}, {"roles": ["Notes Writer"]}, {"read", "write"}),
        ({"scopes": MAPPED}, {"scope": "read"}, set()),
    ],
)
async def test_scopes_are_those_that_the_configuration_makes_of_the_issuers(
    world: World, keys: dict[str, Any], claims: dict[str, Any], scopes: set[str]
) -> None:
    async with an_issuer() as issuer, a_guard(world, issuer, **keys) as trusting:
        assert (await trusting.allowed(issuer.token(**claims))).scopes == scopes


async def test_claims_of_other_names_name_person_and_client(world: World) -> None:
    async with an_issuer() as issuer, a_guard(world, issuer, subject_claim="oid", client_claim="azp") as trusting:
        allowed = await trusting.allowed(issuer.token(oid="o1", azp="app2"))
        assert (allowed.subject, allowed.client_id) == ("corp|o1", "corp|app2")
        assert "client_id" not in (await trusting.refused(issuer.token(oid="o1"))).why


async def test_plain_jwt_passes_where_the_configuration_says_so(world: World) -> None:
    async with an_issuer() as issuer, a_guard(world, issuer, token_types=["at+jwt", "JWT"]) as trusting:
        for typ in (None, "JWT", "jwt", "application/jwt", "at+jwt"):
            await trusting.allowed(issuer.token(header={"typ": typ}))


async def test_type_of_an_access_token_is_read_as_a_media_type(trusting: Trusting) -> None:
    for typ in ("at+jwt", "AT+JWT", "application/at+jwt"):
        await trusting.allowed(trusting.issuer.token(header={"typ": typ}))


async def test_token_that_names_no_key_passes_by_any_that_fits(trusting: Trusting) -> None:
    await trusting.allowed(trusting.issuer.token(RSA, header={"kid": None}))


async def test_what_a_header_says_of_keys_is_not_looked_at(trusting: Trusting) -> None:
    elsewhere = {"jku": f"{trusting.issuer.url}/elsewhere", "x5u": f"{trusting.issuer.url}/x5u", "jwk": NEXT.jwk}
    await trusting.allowed(trusting.issuer.token(header=elsewhere))
    await trusting.refused(trusting.issuer.token(NEXT, header=elsewhere | {"kid": "ES256-1"}))
    assert set(trusting.issuer.asked) == {METADATA, KEYS}


async def test_token_that_is_bound_to_a_key_needs_its_proof(trusting: Trusting) -> None:
    token = trusting.issuer.token(cnf={"jkt": jkt_of(ES256)})
    assert (await trusting.refused(token)).why == "a dpop token presented as bearer"
    url = "https://api.example.com/bound/1"
    made = proof(ES256, method="GET", url=url, now=trusting.world.clock(), token=token)
    verdict = await trusting.verdict(token, "bound", "DPoP", fields=((b"dpop", b"DPoP", made.encode()),))
    assert isinstance(verdict, Allowed), verdict
    assert verdict.scheme == "dpop"  # a kind


# -- what is refused -----------------------------------------------------------------------------------------------

# What changes of a good token, by the cause that the operator is told.
BAD_CLAIMS: list[tuple[str, dict[str, Any]]] = [
    ("foreign token, audience: aud is neither", {"aud": None}),
    ("foreign token, audience: aud is neither", {"aud": 1}),
    ("foreign token, audience: aud is neither", {"aud": {"https://api.example.com": 1}}),
    ("foreign token, audience: aud is neither", {"aud": [AUDIENCE, 1]}),
    ("foreign token, audience: [] names none", {"aud": []}),
    ('foreign token, audience: "https://api.example.com/" names none', {"aud": f"{AUDIENCE}/"}),
    ('foreign token, audience: ["app"] names none', {"aud": ["app"]}),
    ("foreign token, time: it ended", {"exp": 1}),
    ("foreign token, time: it ended", {"exp": 0.5}),
    ("foreign token, claims: exp is absent", {"exp": None}),
    ("foreign token, claims: exp is absent", {"exp": "2099"}),
    ("foreign token, claims: exp is absent", {"exp": True}),
    ("foreign token, claims: exp is absent", {"exp": -1}),
    ("foreign token, claims: exp is absent", {"exp": 1e300}),
    ("foreign token, claims: exp is absent", {"exp": [4102444800]}),
    ("foreign token, time: it begins", {"nbf": 4102444800}),
    ("foreign token, time: it begins", {"iat": 4102444800}),
    ("foreign token, claims: nbf is absent", {"nbf": "now"}),
    ("foreign token, claims: iat is absent", {"iat": {}}),
    ('foreign token, claims: "sub"', {"sub": None}),
    ('foreign token, claims: "sub"', {"sub": ""}),
    ('foreign token, claims: "sub"', {"sub": 7}),
    ('foreign token, claims: "sub"', {"sub": " ada"}),
    ('foreign token, claims: "sub"', {"sub": "ada\r\nX-Auth-Subject: root"}),
    ('foreign token, claims: "sub"', {"sub": "ada\u200b"}),
    ('foreign token, claims: "sub"', {"sub": "\ud800"}),
    ('foreign token, claims: "sub"', {"sub": "a" * 256}),
    ('foreign token, claims: "client_id"', {"client_id": None}),
    ('foreign token, claims: "client_id"', {"client_id": ["app"]}),
    ('foreign token, claims: "scope"', {"scope": 1}),
    ('foreign token, claims: "scope"', {"scope": {"read": True}}),
    ('foreign token, claims: "scope"', {"scope": ["read", None]}),
    ("foreign token, claims: bound in a way", {"cnf": {"x5t#S256": "abc"}}),
    ("foreign token, claims: bound in a way", {"cnf": {"jkt": 1}}),
    ("foreign token, claims: bound in a way", {"cnf": {}}),
    ("foreign token, claims: bound in a way", {"cnf": "jkt"}),
    ("foreign token, type: an ID token", {"at_hash": "abc"}),
    ("foreign token, type: a logout token", {"events": {}}),
    ('foreign token, issuer: "https://elsewhere.example"', {"iss": "https://elsewhere.example"}),
    ("unknown token", {"iss": None}),
    ("unknown token", {"iss": ["https://elsewhere.example"]}),
]
BAD_HEADERS: list[tuple[str, dict[str, Any]]] = [
    ("foreign token, algorithm: null", {"alg": None}),
    ('foreign token, algorithm: "none"', {"alg": "none"}),
    ('foreign token, algorithm: "None"', {"alg": "None"}),
    ('foreign token, algorithm: "HS256"', {"alg": "HS256"}),
    ('foreign token, algorithm: "PS256"', {"alg": "PS256"}),
    ('foreign token, algorithm: "EdDSA"', {"alg": "EdDSA"}),
    ('foreign token, algorithm: ["ES256"]', {"alg": ["ES256"]}),
    ("foreign token, header: crit", {"crit": ["exp"]}),
    ("foreign token, header: crit", {"crit": []}),
    ("foreign token, header: crit", {"crit": ["b64"], "b64": False}),
    ("foreign token, header: b64", {"b64": False}),
    ("foreign token, type", {"typ": "JWT"}),
    ("foreign token, type", {"typ": None}),
    ("foreign token, type", {"typ": "logout+jwt"}),
    ("foreign token, type", {"typ": "dpop+jwt"}),
    ("foreign token, type", {"typ": 1}),
    ("foreign token, header: kid", {"kid": 1}),
    ("foreign token, header: kid", {"kid": ""}),
    ("foreign token, header: kid", {"kid": "k" * 256}),
    ('foreign token, key: none of corp is "ES256-9" for ES256', {"kid": "ES256-9"}),
    ('foreign token, key: none of corp is "ES256-1" for RS256', {"alg": "RS256"}),
    ("foreign token, signature", {"more": "than was signed"}),
]


async def test_token_with_a_bad_claim_is_refused(trusting: Trusting) -> None:
    for cause, claims in BAD_CLAIMS:
        refused = await trusting.refused(trusting.issuer.token(**claims))
        assert (refused.status, refused.why[: len(cause)]) == (401, cause), claims


async def test_token_with_a_bad_header_is_refused(trusting: Trusting) -> None:
    for cause, header in BAD_HEADERS:
        token = trusting.issuer.token(header=header)
        if "more" in header:
            token = ".".join((token.split(".")[0], *trusting.issuer.token().split(".")[1:]))
        refused = await trusting.refused(token)
        assert (refused.status, refused.why[: len(cause)]) == (401, cause), header


def changed(token: str, part: int, make: Callable[[str], str]) -> str:
    parts = token.split(".")
    parts[part] = make(parts[part])
    return ".".join(parts)


FORMS: dict[str, Callable[[str], str]] = {
    "no signature": lambda token: changed(token, 2, lambda _: ""),
    "the signature cut": lambda token: changed(token, 2, lambda part: part[:-4]),
    "DER for R and S": lambda token: changed(token, 2, lambda _: encoded(b"\x30\x06\x02\x01\x01\x02\x01\x01")),
    "R and S of nothing": lambda token: changed(token, 2, lambda _: encoded(bytes(64))),
    "two parts": lambda token: token.rpartition(".")[0],
    "four parts": lambda token: f"{token}.e30",
    "five parts, as a JWE has them": lambda token: f"{token}.e30.e30",
    "padding": lambda token: f"{token}==",
    "claims that are no object": lambda token: changed(token, 1, lambda _: encoded(b"[]")),
    "claims that are a JWT": lambda token: changed(token, 1, lambda _: encoded(token.encode())),
    "claims that are no JSON": lambda token: changed(token, 1, lambda _: encoded(b"{'iss': 1}")),
    "claims that are no UTF-8": lambda token: changed(token, 1, lambda _: encoded(b'{"iss": "\xff"}')),
    "claims nested deep": lambda token: changed(token, 1, lambda _: encoded(b'{"a":' * 300 + b"1" + b"}" * 300)),
    "a claim twice": lambda token: changed(token, 1, lambda _: encoded(b'{"iss": "a", "iss": "b"}')),
    "a header twice": lambda token: changed(token, 0, lambda _: encoded(b'{"alg": "ES256", "alg": "none"}')),
    "no header": lambda token: changed(token, 0, lambda _: ""),
}


async def test_token_in_another_form_is_refused(trusting: Trusting) -> None:
    for form, make in FORMS.items():
        assert (await trusting.refused(make(trusting.issuer.token()))).status == 401, form


async def test_token_of_which_anything_was_changed_is_refused(trusting: Trusting) -> None:
    token = trusting.issuer.token()
    await trusting.allowed(token)
    for place in range(0, len(token), 5):
        other = "A" if token[place] != "A" else "B"
        assert (await trusting.refused(token[:place] + other + token[place + 1 :])).status == 401, place


async def test_each_claim_twice_is_refused(trusting: Trusting) -> None:
    for name, value in trusting.issuer.claims().items():
        text = json.dumps(trusting.issuer.claims())[:-1] + f", {json.dumps(name)}: {json.dumps(value)}}}"
        head = encoded(json.dumps({"alg": "ES256", "typ": "at+jwt", "kid": "ES256-1"}).encode())
        signed = f"{head}.{encoded(text.encode())}"
        assert (await trusting.refused(f"{signed}.{encoded(EC.sign(signed.encode()))}")).status == 401


async def test_public_key_is_no_secret_of_hmac(world: World) -> None:
    async with an_issuer() as issuer, a_guard(world, issuer) as trusting:
        for secret in (json.dumps(RSA.jwk).encode(), RSA.jwk["n"].encode(), EC.jwk["x"].encode()):
            forger = Signer("HS256", {"kid": "RS256-1"}, partial(hmac.digest, secret, digest="sha256"))
            assert (await trusting.refused(issuer.token(forger))).why.startswith("foreign token, algorithm")


async def test_token_that_is_too_long_never_passes(trusting: Trusting) -> None:
    verdict = await trusting.verdict(trusting.issuer.token(filler="x" * 64 * 1024))
    assert isinstance(verdict, Refused)
    assert (verdict.status, verdict.error) == (400, "invalid_request")


async def test_token_that_another_issuers_key_signed_is_refused(world: World) -> None:
    async with an_issuer() as issuer, an_issuer(NEXT) as other:
        more = other.configured(name="other")
        async with a_guard(world, issuer, more) as trusting:
            claims = other.claims(iss=issuer.url)
            token = NEXT.assertion(claims, typ="at+jwt", kid="ES256-2")
            assert (await trusting.refused(token)).why.startswith("foreign token, key")
            assert other.asked == []


async def test_token_of_an_issuer_that_the_route_does_not_name_asks_nobody(world: World) -> None:
    async with an_issuer() as issuer, an_issuer(NEXT) as other:
        route = {"name": "others", "path": "/others", "upstreams": UPSTREAMS, "auth": ["bearer"], "issuers": ["other"]}
        async with a_guard(world, issuer, other.configured(name="other"), route=route) as trusting:
            why = (await trusting.refused(other.token(NEXT))).why
            assert why == "foreign token, route: other is none of its issuers"
            assert other.asked == []


# -- time ----------------------------------------------------------------------------------------------------------


async def test_token_ends_with_its_time_also_where_it_is_held(trusting: Trusting) -> None:
    token = trusting.issuer.token()
    await trusting.allowed(token)
    trusting.world.clock.offset = 600 + 27  # of whose last seconds a busy machine may take some
    assert trusting.guard.left(await trusting.allowed(token)) <= 3.0
    trusting.world.clock.offset = 600 + 31
    assert (await trusting.refused(token)).why == "expired token"


@pytest.mark.parametrize(("leeway", "off", "passes"), [("30s", 29, True), ("30s", 33, False), ("0s", 3, False)])
async def test_clocks_may_differ_by_the_leeway(world: World, leeway: str, off: float, passes: bool) -> None:
    async with an_issuer() as issuer, a_guard(world, issuer, leeway=leeway) as trusting:
        now = time.time()
        different: list[dict[str, Any]] = [{"exp": now - off}, {"nbf": now + off}, {"iat": now + off}]
        for claims in different:
            assert isinstance(await trusting.verdict(issuer.token(**claims)), Allowed) == passes, claims


# -- keys come and go ----------------------------------------------------------------------------------------------


async def test_new_key_counts_as_soon_as_a_token_names_it(trusting: Trusting) -> None:
    await trusting.allowed(trusting.issuer.token())
    trusting.issuer.publish(RSA, EC, NEXT)
    trusting.elapsed.seconds += AGAIN
    await trusting.allowed(trusting.issuer.token(NEXT))
    assert trusting.issuer.asked.count(KEYS) == 2


async def test_invented_key_identifiers_have_the_keys_asked_for_twice_a_minute_at_most(trusting: Trusting) -> None:
    await trusting.allowed(trusting.issuer.token())
    for minute in range(3):
        for number in range(50):
            await trusting.refused(trusting.issuer.token(header={"kid": f"invented-{minute}-{number}"}))
        trusting.elapsed.seconds += AGAIN
    assert trusting.issuer.asked.count(KEYS) == 3


async def test_keys_are_asked_for_again_before_they_are_old(trusting: Trusting) -> None:
    trusting.issuer.answers[KEYS] = document({"keys": [EC.jwk]}, fields="Cache-Control: max-age=86400\r\n")
    await trusting.allowed(trusting.issuer.token())
    (source,) = trusting.sources()
    assert source._kept_for == 86400
    assert LONGEST_KEPT == 300


async def test_token_stops_when_its_key_is_withdrawn_and_counts_again_when_it_returns(trusting: Trusting) -> None:
    token, other = trusting.issuer.token(), trusting.issuer.token(RSA)
    await trusting.allowed(token)
    await trusting.allowed(other)
    trusting.issuer.publish(RSA)
    await trusting.renewed(LONGEST_KEPT)
    assert (await trusting.refused(token)).why == "foreign token, key withdrawn: corp"
    await trusting.allowed(other)
    trusting.issuer.publish(RSA, EC)
    await trusting.renewed(LONGEST_KEPT)
    await trusting.allowed(token)


async def test_issuer_that_publishes_no_key_any_more_has_withdrawn_all(trusting: Trusting) -> None:
    token = trusting.issuer.token()
    await trusting.allowed(token)
    trusting.issuer.publish()
    await trusting.renewed(LONGEST_KEPT)
    assert (await trusting.refused(token)).why == "foreign token, key withdrawn: corp"
    refused = await trusting.refused(trusting.issuer.token(jti="2"))
    assert (refused.status, refused.why.partition(": ")[0]) == (503, "the issuer cannot be asked for its keys")


async def test_issuer_that_is_away_stops_nothing_whose_key_is_known_for_a_day(trusting: Trusting) -> None:
    token = trusting.issuer.token(exp=4102444800)
    await trusting.allowed(token)
    trusting.issuer.answers.clear()
    await trusting.renewed(LAPSE - 1)
    await trusting.allowed(token)
    await trusting.allowed(trusting.issuer.token(jti="new"))
    await trusting.renewed(AGAIN)
    assert (await trusting.refused(token)).why == "foreign token, key withdrawn: corp"
    assert (await trusting.refused(trusting.issuer.token(jti="newer"))).status == 503
    trusting.issuer.publish(EC)
    await trusting.renewed(AGAIN)
    await trusting.allowed(token)


def with_keys(*keys: dict[str, Any]) -> bytes:
    return document({"keys": list(keys)})


def filled(size: int) -> Callable[[asyncio.StreamWriter], Any]:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"keys": [')
        for _ in range(size // 65536):
            writer.write(b" " * 65536)
            await writer.drain()

    return write


async def silent(_writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def lacking(url: str) -> dict[str, dict[str, Any]]:
    """Answers by which there are no keys, by what the operator reads."""
    elsewhere = f"Location: {url}/moved\r\n"
    wrong_curve = {"kty": "EC", "crv": "P-384", "x": EC.jwk["x"], "y": EC.jwk["y"], "kid": "ES256-1"}
    return {
        "status is 404": {KEYS: document({}, status="404 Not Found")},
        "status is 500": {KEYS: document({}, status="500 Oh")},
        "status is 302": {KEYS: document({}, status="302 Found", fields=elsewhere)},
        "is not application/json": {KEYS: document({"keys": [EC.jwk]}, kind="text/html")},
        "longer than 65,536 bytes": {KEYS: filled(10 * 1024 * 1024)},
        "is not a JWK Set": {KEYS: document(b"{")},
        "array of 1 to 50 keys": {KEYS: document({"keys": [EC.jwk] * 51})},
        'two keys have the same "kid"': {KEYS: with_keys(EC.jwk, NEXT.jwk | {"kid": "ES256-1"})},
        "no key for ES256, RS256": {KEYS: with_keys(EDWARDS.jwk)},
        " no key for ES256, RS256": {KEYS: with_keys(EC.jwk | {"use": "enc"}, wrong_curve)},
        "  no key for ES256, RS256": {KEYS: with_keys(signer("RS256", 1024, kid="short").jwk)},
        "the answer is broken": {KEYS: b"nonsense\r\n\r\n"},
        "calls itself": {METADATA: document({"issuer": f"{url}/", "jwks_uri": f"{url}{KEYS}"})},
        " calls itself null": {METADATA: document({"jwks_uri": f"{url}{KEYS}"})},
        "jwks_uri is no plain https URL": {METADATA: document({"issuer": url, "jwks_uri": "http://192.0.2.1/"})},
        " jwks_uri is no plain https URL": {METADATA: document({"issuer": url})},
        "the host's address is not one of the public internet": {
            METADATA: document({"issuer": url, "jwks_uri": "https://localhost/keys"})
        },
        "a member is there twice": {METADATA: document(b'{"issuer": "a", "issuer": "b"}')},
        "  status is 404": {METADATA: document({}, status="404 Not Found")},
    }


@pytest.mark.parametrize("why", lacking(""))
async def test_issuer_whose_keys_cannot_be_had_is_answered_503_and_asked_no_more_for_a_while(
    world: World, why: str
) -> None:
    async with an_issuer() as issuer, a_guard(world, issuer) as trusting:
        issuer.answers |= lacking(issuer.url)[why]
        refused = await trusting.refused(issuer.token())
        assert (refused.status, refused.error) == (503, "temporarily_unavailable")
        assert why.strip() in refused.why
        assert refused.mend
        asked = list(issuer.asked)
        await trusting.refused(issuer.token(jti="2"))
        assert issuer.asked == asked


@pytest.mark.parametrize("why", [why for why in lacking("") if "no key for" not in why])  # which withdraws them
async def test_answer_that_holds_no_keys_leaves_those_that_are_known(world: World, why: str) -> None:
    async with an_issuer() as issuer, a_guard(world, issuer) as trusting:
        await trusting.allowed(issuer.token())
        issuer.answers |= lacking(issuer.url)[why]
        (source,) = trusting.sources()
        trusting.elapsed.seconds += LONGEST_KEPT
        source._wanted.set()
        await until(lambda: why.strip() in source._why)
        await trusting.allowed(issuer.token(jti="2"))


async def test_issuer_that_says_nothing_holds_calls_up_for_five_seconds_at_most(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.guard.issuers._DEADLINE", 0.2)
    async with an_issuer() as issuer, a_guard(world, issuer) as trusting:
        issuer.answers[KEYS] = silent
        assert "it took too long" in (await trusting.refused(issuer.token())).why


async def test_metadata_stands_at_either_address(world: World) -> None:
    async with an_issuer() as issuer, a_guard(world, issuer) as trusting:
        issuer.answers[METADATA_BY_RFC_8414] = issuer.answers.pop(METADATA)
        await trusting.allowed(issuer.token())
        assert issuer.asked == [METADATA, METADATA_BY_RFC_8414, KEYS]


async def test_keys_may_stand_where_the_operator_says(world: World) -> None:
    async with an_issuer() as issuer, a_guard(world, issuer, jwks_uri=f"{issuer.url}/own") as trusting:
        issuer.answers = {"/own": with_keys(EC.jwk)}
        await trusting.allowed(issuer.token())
        assert issuer.asked == ["/own"]


async def test_keys_rotated_under_load_refuse_no_good_token(world: World) -> None:
    async with an_issuer() as issuer, a_guard(world, issuer) as trusting:
        keys = [signer("ES256", kid=f"rotated-{number}") for number in range(6)]
        for old, new in pairwise(keys):
            issuer.publish(old, new)
            trusting.elapsed.seconds += AGAIN
            tokens = [issuer.token(key, jti=f"{key.jwk['kid']}-{n}") for n in range(10) for key in (old, new)]
            for verdict in await asyncio.gather(*map(trusting.verdict, tokens)):
                assert isinstance(verdict, Allowed), verdict
        assert issuer.asked.count(KEYS) == 5


# -- what rests on the database, and what does not -----------------------------------------------------------------


async def test_proven_token_passes_without_the_change_log(trusting: Trusting) -> None:
    """A lease of the change log is what all else that is held counts within, and this guard follows none."""
    token = trusting.issuer.token()
    await trusting.allowed(token)
    assert not trusting.guard._ledger.holds
    before = trusting.guard._tokens.cache._entries.copy()
    await trusting.allowed(token)
    assert trusting.guard._tokens.cache._entries == before  # it was not proven once more


async def test_stream_ends_when_the_key_is_withdrawn_and_no_change_of_the_database_touches_it(
    trusting: Trusting,
) -> None:
    guard, ended = trusting.guard, list[Cause | None]()
    allowed = await trusting.allowed(trusting.issuer.token())
    watched = guard.watch.add(allowed, lambda cause, _identity: ended.append(cause))
    assert isinstance(watched, Watched)
    guard._ledger.forget(1.0)
    guard._ledger.apply([("unknown kind", "x")])
    for _ in range(5):
        trusting.elapsed.seconds += 1.0
        guard.watch.beat()
        await asyncio.sleep(0)
    assert ended == []
    trusting.issuer.publish(RSA)
    await trusting.renewed(LONGEST_KEPT)
    guard.watch.beat()
    assert ended == [WITHDRAWN_KEY.naming("corp")]
    assert len(guard.watch) == 0
    refused = guard.ended(trusting.world.call(route="open"), allowed, ended[0])
    assert (refused.status, refused.error) == (401, "invalid_token")
