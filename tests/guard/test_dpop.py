"""Calls with tokens that are bound to a key (DPoP, RFC 9449): who may pass, who may not, and what they are told."""

import asyncio
from typing import Any

import pytest

from gateway.config import compile_routes
from gateway.errors import Refused
from gateway.guard import Allowed, Call, Guard, Verdict
from gateway.model import CLIENT_ALGORITHMS
from gateway.oauth.grants import ClientCredentialsGrant
from gateway.store.records import IssuedTokens
from tests.guard.conftest import World, settings_for, verdict_of
from tests.oauth.proofs import ES256, OTHER, jkt_of, proof
from tests.serving import until

URL = "https://api.example.com/bound/1"
_OF_ROUTES: dict[str, dict[str, Any]] = {
    "bound": {"dpop": "required"},
    "either": {"dpop": "optional"},
    "off": {},
    "scoped": {"dpop": "required", "scopes": ["write"]},
}
ROUTES: list[dict[str, Any]] = [
    {"name": name, "path": f"/{name}", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer"], **more}
    for name, more in _OF_ROUTES.items()
]


class Bound:
    """A world whose routes take DPoP, and a token that is bound to a key."""

    def __init__(self, world: World, issued: IssuedTokens, **tables: Any) -> None:
        settings = settings_for(world.keyring, routes=ROUTES, **tables)
        self.world, self.tokens = world, issued
        self.settings = settings
        self.routes = {route.name: route for route in compile_routes(settings.config)}
        self.guard = Guard(world.store, settings, clock=world.clock)

    @classmethod
    async def build(cls, world: World, **tables: Any) -> "Bound":
        grant = ClientCredentialsGrant(frozenset({"read"}), jkt=jkt_of(ES256))
        tokens = await world.store.tokens.client_credentials(world.client, grant, world.store.now())
        return cls(world, tokens, **tables)

    def proof(self, route: str = "bound", **changes: Any) -> str:
        usual: dict[str, Any] = {
            "key": ES256,
            "method": "GET",
            "url": f"https://api.example.com/{route}/1",
            "now": self.world.clock() - changes.pop("late", 0),
            "token": self.tokens.access_token,
        }
        return proof(**(usual | changes))

    def call(self, *proofs: str, route: str = "bound", credential: str = "", target: bytes = b"") -> Call:
        fields = tuple((b"dpop", b"DPoP", text.encode()) for text in proofs)
        return Call(
            route=self.routes[route],
            method="GET",
            target=target or f"/{route}/1?a=b".encode(),
            host="api.example.com",
            port=443,
            authorization=((credential or f"DPoP {self.tokens.access_token}").encode(),),
            fields=fields,
        )

    async def check(self, *proofs: str, guard: Guard | None = None, **changes: Any) -> Verdict:
        return await verdict_of(guard or self.guard, self.call(*proofs, **changes))


@pytest.fixture
async def bound(world: World) -> Bound:
    return await Bound.build(world)


def refusal(verdict: Verdict) -> Refused:
    assert isinstance(verdict, Refused)
    return verdict


async def test_call_with_its_proof_passes_as_dpop(bound: Bound) -> None:
    for late, route in ((30, "bound"), (-30, "either")):  # clocks differ
        verdict = await bound.check(bound.proof(route, jti=f"j{late}", late=late), route=route)
        assert isinstance(verdict, Allowed)
        assert (verdict.scheme, verdict.client_id) == ("dpop", bound.world.client.client_id)


async def test_target_in_absolute_form_is_the_same_url(bound: Bound) -> None:  # RFC 9112, section 3.2.2
    target = b"http://api.example.com/bound/1?x"
    assert isinstance(await bound.check(bound.proof(), target=target), Allowed)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another key": ({"key": OTHER}, "invalid_token"),  # section 7.1
    "another method": ({"method": "POST"}, "invalid_dpop_proof"),
    "another path": ({"url": f"{URL}1"}, "invalid_dpop_proof"),
    "another host": ({"url": URL.replace("api.", "other.")}, "invalid_dpop_proof"),
    "http": ({"url": URL.replace("https:", "http:")}, "invalid_dpop_proof"),
    "another token's ath": ({"token": "gwa_other"}, "invalid_dpop_proof"),
    "no ath": ({"ath": None}, "invalid_dpop_proof"),
    "too old": ({"late": 75}, "invalid_dpop_proof"),
    "clock ahead": ({"late": -120}, "invalid_dpop_proof"),
    "no jti": ({"jti": None}, "invalid_dpop_proof"),
    "typ": ({"header": {"typ": "JWT"}}, "invalid_dpop_proof"),
    "alg none": ({"header": {"alg": "none"}}, "invalid_dpop_proof"),
    "signed by another key": ({"key": OTHER, "header": {"jwk": ES256.jwk}}, "invalid_dpop_proof"),
    "made-up nonce": ({"nonce": "made-up"}, "use_dpop_nonce"),
}


@pytest.mark.parametrize(("changes", "error"), REFUSED.values(), ids=REFUSED)
async def test_call_with_a_wrong_proof_is_refused_and_spends_nothing(
    bound: Bound, changes: dict[str, Any], error: str
) -> None:
    refused = refusal(await bound.check(bound.proof(**changes)))
    assert (refused.status, refused.error, bool(refused.mend)) == (401, error, True)
    assert f'error="{error}"' in refused.values("WWW-Authenticate")[0]
    assert bool(refused.values("DPoP-Nonce")) is (error == "use_dpop_nonce")
    assert await bound.world.nonces() == 0


@pytest.mark.parametrize("count", [0, 2])
async def test_call_has_one_proof(bound: Bound, count: int) -> None:  # section 4.3
    refused = refusal(await bound.check(*[bound.proof()] * count))
    assert (refused.status, refused.error) == (401, "invalid_dpop_proof")


async def test_challenge_names_the_scheme_and_its_algorithms(bound: Bound) -> None:  # section 7.1
    required = refusal(await bound.check(credential="Basic x"))
    [challenge] = required.values("WWW-Authenticate")
    assert challenge.startswith("DPoP realm=")
    assert f'algs="{" ".join(CLIENT_ALGORITHMS)}"' in challenge
    assert "error=" not in challenge
    either = refusal(await bound.check(route="either", credential="Basic x"))
    assert [one.partition(" ")[0] for one in either.values("WWW-Authenticate")] == ["Bearer", "DPoP"]


@pytest.mark.parametrize(
    ("route", "error"), [("either", "invalid_token"), ("off", "invalid_token"), ("bound", "unauthorized")]
)
async def test_bound_token_is_refused_as_bearer_everywhere(bound: Bound, route: str, error: str) -> None:
    credential = f"Bearer {bound.tokens.access_token}"
    for proofs in ((), (bound.proof(route),)):
        refused = refusal(await bound.check(*proofs, route=route, credential=credential))
        assert (refused.status, refused.error) == (401, error)


async def test_route_without_dpop_does_not_know_the_scheme(bound: Bound) -> None:
    refused = refusal(await bound.check(bound.proof("off"), route="off"))
    assert (refused.status, refused.error) == (401, "unauthorized")
    assert [one.partition(" ")[0] for one in refused.values("WWW-Authenticate")] == ["Bearer"]


async def test_token_that_is_bound_to_no_key_is_refused_with_a_proof(bound: Bound) -> None:
    plain = await bound.world.token()
    bearer = await bound.check(route="either", credential=f"Bearer {plain.access_token}")
    assert isinstance(bearer, Allowed)
    text = bound.proof("either", token=plain.access_token)
    refused = refusal(await bound.check(text, route="either", credential=f"DPoP {plain.access_token}"))
    assert (refused.status, refused.error) == (401, "invalid_token")


async def test_proof_passes_once_over_all_workers(bound: Bound) -> None:  # section 11.1
    other, text = Guard(bound.world.store, bound.settings, clock=bound.world.clock), bound.proof()
    both = (bound.guard, other)
    verdicts = await asyncio.gather(*(bound.check(text, guard=guard) for guard in both for _ in range(25)))
    assert sum(isinstance(verdict, Allowed) for verdict in verdicts) == 1
    refused = refusal(await bound.check(text, guard=other))
    assert (refused.status, refused.error, refused.cause) == (401, "invalid_dpop_proof", "replayed nonce")


async def test_call_without_the_scope_keeps_its_proof(bound: Bound) -> None:
    text = bound.proof("scoped")
    refused = refusal(await bound.check(text, route="scoped"))
    assert (refused.status, refused.error) == (403, "insufficient_scope")
    assert 'error="insufficient_scope"' in refused.values("WWW-Authenticate")[0]
    assert await bound.world.nonces() == 0


async def test_invented_and_revoked_tokens_are_refused_alike(bound: Bound) -> None:
    invented = bound.world.keyring.new_token("gwa_")
    one = refusal(await bound.check(bound.proof(token=invented), credential=f"DPoP {invented}"))
    assert await bound.world.store.tokens.revoke(bound.tokens.access_token, None)
    other = refusal(await bound.check(bound.proof()))
    assert (one.status, one.error, one.description) == (401, "invalid_token", other.description)
    assert (other.status, other.error, other.fields) == (401, "invalid_token", one.fields)


async def test_bound_token_is_held_as_what_it_is(bound: Bound) -> None:
    guard = bound.guard
    await guard.start()
    try:
        await until(lambda: guard._ledger.server is not None)
        for number in range(3):
            assert isinstance(await bound.check(bound.proof(jti=f"h{number}")), Allowed)
        refused = refusal(await bound.check(route="either", credential=f"Bearer {bound.tokens.access_token}"))
        assert refused.error == "invalid_token"
        assert refusal(await bound.check(bound.proof(key=OTHER))).error == "invalid_token"
        assert len(guard._tokens.cache) == 1
        assert guard._tokens.cache.size > 0
    finally:
        await guard.close()


async def test_demanded_nonce_is_given_and_then_taken(world: World) -> None:  # section 9
    bound = await Bound.build(world, tokens={"dpop_nonce": True})
    refused = refusal(await bound.check(bound.proof()))
    assert (refused.status, refused.error) == (401, "use_dpop_nonce")
    assert isinstance(await bound.check(bound.proof(nonce=refused.values("DPoP-Nonce")[0])), Allowed)
    world.clock.offset += 301
    again = refusal(await bound.check(bound.proof(nonce=refused.values("DPoP-Nonce")[0], jti="j2")))
    assert again.error == "use_dpop_nonce"
    assert isinstance(await bound.check(bound.proof(nonce=again.values("DPoP-Nonce")[0], jti="j2")), Allowed)
