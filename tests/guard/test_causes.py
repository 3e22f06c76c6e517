"""Why a token is refused: the operator is told which reason it was, and whose token; the client is told the same."""

from collections.abc import Awaitable, Callable

import pytest

from gateway.errors import Refused
from gateway.store.records import IssuedTokens
from tests.guard.conftest import World
from tests.store.rig import Rig, aged, fetch

End = Callable[[Rig, IssuedTokens], Awaitable[object]]


async def enabled_again(rig: Rig, _: IssuedTokens) -> None:
    await rig.store.clients.disable(rig.client.client_id)
    await rig.store.clients.enable(rig.client.client_id)


ENDS: dict[str, tuple[str, End]] = {
    "revoked": ("revoked token", lambda rig, tokens: rig.store.tokens.revoke(tokens.access_token, None)),
    "refresh token revoked": ("revoked token", lambda rig, t: rig.store.tokens.revoke(t.refresh_token or "", None)),
    "withdrawn": ("revoked token", lambda rig, _: rig.store.grants.withdraw(rig.user.subject, rig.client.client_id)),
    "un-ticked": ("revoked token", lambda rig, _: rig.code(scopes=frozenset({"read"}))),
    "client disabled": ("token of a disabled client", lambda rig, _: rig.store.clients.disable(rig.client.client_id)),
    "client enabled again": ("revoked token", enabled_again),
    "client deleted": ("token of a deleted client", lambda rig, _: rig.store.clients.delete(rig.client.client_id)),
    "person disabled": ("token of a disabled user", lambda rig, _: rig.store.users.disable("ada")),
    "person deleted": ("token of a deleted user", lambda rig, _: rig.store.users.delete("ada")),
}


async def refusal(world: World, token: str) -> Refused:
    verdict = await world.check(world.call(f"Bearer {token}"))
    assert isinstance(verdict, Refused)
    return verdict


@pytest.mark.parametrize(("cause", "end"), ENDS.values(), ids=ENDS)
async def test_the_log_names_the_end_and_whose_token_it_was_and_the_client_learns_neither(
    world: World, cause: str, end: End
) -> None:
    rig = await Rig.build(world.store)
    tokens = await rig.tokens()
    await end(rig, tokens)
    dead = await refusal(world, tokens.access_token)
    assert (dead.cause, bool(dead.mend)) == (cause, True)
    assert dead.identity is not None
    assert (dead.identity.subject, dead.identity.client_id) == (rig.user.subject, rig.client.client_id)
    unknown = await refusal(world, world.keyring.new_token("gwa_"))
    assert (unknown.cause, unknown.identity, bool(unknown.mend)) == ("unknown token", None, True)
    for told in ("status", "error", "description", "fields"):
        assert getattr(dead, told) == getattr(unknown, told)


async def test_a_token_that_expired_is_called_so_until_it_is_removed(world: World) -> None:
    rig = await Rig.build(world.store)
    tokens = await rig.tokens()
    await aged(world.database, 3601)
    assert (await refusal(world, tokens.access_token)).cause == "expired token"
    await world.store.upkeep.sweep()
    assert (await refusal(world, tokens.access_token)).cause == "unknown token"


async def test_a_token_whose_key_nobody_can_open_is_called_so(world: World) -> None:
    tokens = await world.token(kind="mac")
    await fetch(world.database, "update access_tokens set mac_key = '\\x00'")
    verdict = await world.check(world.signed(tokens))
    assert isinstance(verdict, Refused)
    assert verdict.cause == "a MAC token whose key is lost"
