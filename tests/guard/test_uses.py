"""What was used is written down now and then: tokens, grants, and the scopes that clients used."""

import pytest

from gateway.crypto import digest
from gateway.errors import StoreUnavailable
from gateway.guard import Allowed
from gateway.guard import uses as module
from tests.guard.conftest import World
from tests.store.rig import Rig, fetch


async def test_calls_that_pass_are_uses_and_refused_ones_are_none(world: World) -> None:
    rig = await Rig.build(world.store)
    used, unused = await rig.tokens(), await rig.tokens()
    assert isinstance(await world.check(world.call(f"Bearer {used.access_token}")), Allowed)
    lacking = await world.token("write")
    assert not isinstance(await world.check(world.call(f"Bearer {lacking.access_token}")), Allowed)
    assert await fetch(world.database, "select from scope_uses") == []  # no call writes it
    await world.guard._uses.flush()
    rows = await fetch(world.database, "select digest from access_tokens where last_used_at is not null")
    assert [row["digest"] for row in rows] == [digest(used.access_token)]
    assert unused.access_token != used.access_token
    rows = await fetch(world.database, "select client_id, scope from scope_uses")
    assert [tuple(row) for row in rows] == [(rig.client.client_id, "read")]
    (grant,) = await fetch(world.database, "select last_used_at from grants")
    assert grant["last_used_at"] is not None


async def test_a_token_in_steady_use_is_written_once_in_five_minutes(world: World) -> None:
    tokens = await world.token()

    async def used_at() -> object:
        await world.check(world.call(f"Bearer {tokens.access_token}"))
        await world.guard._uses.flush()
        (row,) = await fetch(world.database, "select last_used_at, xmin::text from access_tokens")
        return tuple(row)

    first = await used_at()
    assert await used_at() == first
    assert not world.guard._uses._noted
    await fetch(world.database, "update access_tokens set last_used_at = last_used_at - interval '10 minutes'")
    later = [await used_at() for _ in range(module._AGAIN)]
    assert later[-1][0] > first[0]  # type: ignore[index]  # rows


@pytest.mark.plain
async def test_what_is_remembered_is_bounded_and_an_outage_stops_no_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    for _ in range(5):
        tokens = await world.token()
        assert isinstance(await world.check(world.call(f"Bearer {tokens.access_token}")), Allowed)
    assert len(world.guard._uses._noted) == 3
    await world.store.close()
    with pytest.raises(StoreUnavailable):
        await world.guard._uses.flush()
    world.guard._uses.note(Allowed(client_id="c1", digest=b"x"), world.call())
    assert len(world.guard._uses._noted) == 1
