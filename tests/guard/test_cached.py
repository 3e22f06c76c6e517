"""Calls with tokens that the guard holds: at once, and judged exactly as if the database had been asked."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from gateway.errors import Refused
from gateway.guard import Allowed, Pending, settled
from gateway.guard.ledger import LEASE
from gateway.oauth.grants import ClientCredentialsGrant
from gateway.store.records import IssuedTokens
from tests.guard.conftest import SIGNATURE_FIELDS, Offset, Worker, World, new_client
from tests.guard.relay import Relay
from tests.serving import holds_within, until
from tests.store.rig import Rig, fetch

IMPORTED = "imported-from-elsewhere"
OF_A_REFUSAL = ("status", "error", "description", "cause", "mend", "fields", "retry_after", "identity", "upstream")


def said(refused: Refused) -> list[object]:
    return [getattr(refused, name) for name in OF_A_REFUSAL]


async def imported(world: World, number: int = 0) -> IssuedTokens:
    """A live token of another shape than ours."""
    tokens = await world.token()
    name = f"{IMPORTED}-{number}"
    await fetch(
        world.database, "update access_tokens set digest = sha256($1) where digest = sha256($2)",
        name.encode(), tokens.access_token.encode(),
    )  # fmt: skip
    return IssuedTokens(access_token=name, token_type="bearer", expires_in=3600, scope="read")


# -- at once -------------------------------------------------------------------------------------------------


async def test_second_call_passes_at_once_while_the_database_hangs(world: World, relay: Relay) -> None:
    tokens = await world.token()
    async with world.worker(relay.dsn, elapsed=Offset()) as worker:
        await worker.holds(tokens)
        for use in ("gateway-lookups", "gateway-test-worker"):
            relay.hold(use)
        one, two = worker.at_once(tokens), worker.at_once(tokens, target=b"/notes/2")
        assert isinstance(one, Allowed)
        assert one is two  # what the engine hangs on it is made once


@pytest.mark.parametrize("query", [b"?a=1", b"?%61=1", b"?access_token_=1"])
async def test_query_without_a_token_changes_nothing(world: World, query: bytes) -> None:
    tokens = await world.token()
    async with world.worker() as worker:
        await worker.holds(tokens)
        assert isinstance(worker.at_once(tokens, target=b"/notes/1" + query), Allowed)


async def test_verdict_is_the_same_whether_the_token_is_held_or_not(world: World) -> None:
    rig = await Rig.build(world.store)
    now = datetime.now(UTC)
    good, low = await world.token("read", "write"), await world.token("read")
    aimed = await world.store.tokens.client_credentials(
        world.client, ClientCredentialsGrant(frozenset({"read"}), ("https://api.example.com/other",)), now
    )
    person, signing = await rig.tokens(scopes=frozenset({"read"})), await world.token(kind="mac")
    dead = await world.token()
    await world.store.tokens.revoke(dead.access_token, None)
    calls = [
        world.call(f"{scheme} {tokens.access_token}", route=route, method=method, target=target, fields=more)
        for tokens in (good, low, aimed, person, signing, dead)
        for scheme in ("Bearer", "bearer", "Bearer ")
        for route in ("notes", "other", "bearer", "mac", "public")
        for method in ("GET", "HEAD", "POST")
        for target, more in ((b"/x", ()), (b"/x?a=%61", ()), (b"/x?access_token=y", ()), (b"/x", SIGNATURE_FIELDS))
    ]
    async with world.worker(follows=False) as unheld, world.worker() as holding:
        for tokens in (good, low, aimed, person):
            await holding.check(tokens)
        at_once = 0
        for call in calls:
            found = holding.guard.check(call)
            at_once += isinstance(found, Allowed | Refused)
            verdict = await settled(found)
            expected = await world.check(call, unheld.guard)
            if isinstance(expected, Refused):
                assert isinstance(verdict, Refused), call
                assert said(verdict) == said(expected), call
            else:
                assert isinstance(verdict, Allowed), call
                assert verdict == expected
                assert (verdict.digest, verdict.ends_at) == (expected.digest, expected.ends_at)
        assert at_once > len(calls) / 2


async def test_what_is_held_for_one_route_does_not_open_another(world: World) -> None:
    resource = "https://api.example.com/notes"
    tokens = await world.store.tokens.client_credentials(
        world.client, ClientCredentialsGrant(frozenset({"read"}), (resource,)), datetime.now(UTC)
    )
    async with world.worker() as worker:
        await worker.holds(tokens)
        foreign = worker.at_once(tokens, route="other")
        assert isinstance(foreign, Refused)
        assert (foreign.status, foreign.error) == (401, "invalid_token")
        low = worker.at_once(tokens, method="POST")
        assert isinstance(low, Refused)
        assert (low.status, low.error) == (403, "insufficient_scope")
        assert worker.at_once(tokens, method="POST") is low  # made once


async def test_held_mac_token_whose_key_is_lost_is_no_bearer_token(world: World) -> None:
    tokens = await world.token(kind="mac")
    await fetch(world.database, "update access_tokens set mac_key = decode('00', 'hex') || mac_key")
    async with world.worker() as worker:
        await worker.holds(await world.token())
        for _ in range(2):  # the second time it is in the cache
            for call in (world.signed(tokens), world.call(f"Bearer {tokens.access_token}")):
                verdict = await world.check(call, worker.guard)
                assert isinstance(verdict, Refused)
                assert (verdict.status, verdict.error) == (401, "invalid_token")


async def test_refusals_of_a_flood_are_made_once(world: World) -> None:
    one, two = (world.guard.check(world.call(f"Bearer gwa_{number}")) for number in range(2))
    assert isinstance(one, Refused)
    assert one is two


async def test_guard_that_does_not_follow_the_log_holds_nothing(world: World) -> None:
    tokens = await world.token()
    async with world.worker(follows=False) as worker:
        for _ in range(2):
            assert isinstance(await worker.check(tokens), Allowed)
            assert worker.at_once(tokens) is None
        await world.store.tokens.revoke(tokens.access_token, None)
        assert not isinstance(await worker.check(tokens), Allowed)


async def test_unknown_token_is_not_remembered_as_unknown(world: World) -> None:
    async with world.worker() as worker:
        later = IssuedTokens(access_token=f"{IMPORTED}-0", token_type="bearer", expires_in=1, scope="")
        assert not isinstance(await worker.check(later), Allowed)
        await imported(world)
        assert isinstance(await worker.check(later), Allowed)


# -- time ----------------------------------------------------------------------------------------------------


async def test_held_token_ends_to_the_second_without_the_database(world: World, relay: Relay) -> None:
    tokens = await world.token(ttl=100)
    async with world.worker(relay.dsn, elapsed=Offset()) as worker:
        await worker.holds(tokens)
        verdict = await worker.check(tokens)
        assert isinstance(verdict, Allowed)
        relay.hold("gateway-lookups")
        world.clock.stop(verdict.ends_at - 0.5)
        assert isinstance(worker.at_once(tokens), Allowed)
        world.clock.stop(verdict.ends_at)
        refused = worker.at_once(tokens)
        assert isinstance(refused, Refused)
        assert (refused.status, refused.error) == (401, "invalid_token")
        world.clock.stop(verdict.ends_at - 100)  # a clock set back revives nothing
        assert isinstance(worker.at_once(tokens), Refused)


async def test_clock_of_the_machine_set_back_does_not_lengthen_the_lease(world: World) -> None:
    elapsed = Offset()
    tokens = await world.token()
    async with world.worker(elapsed=elapsed) as worker:
        await worker.holds(tokens)
        world.clock.offset = -3600
        elapsed.seconds += LEASE
        assert worker.at_once(tokens) is None


# -- the database is away ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stale_for", "lasts"), [("0s", LEASE), ("10m", LEASE + 600)])
async def test_held_token_passes_without_the_database_for_the_lease_and_what_is_configured(
    world: World, relay: Relay, stale_for: str, lasts: float
) -> None:
    elapsed = Offset()
    tokens, other = await world.token(), await world.token()
    async with world.worker(relay.dsn, elapsed=elapsed, stale_for=stale_for) as worker:
        await worker.holds(tokens)
        relay.closed = True
        for use in ("gateway-lookups", "gateway-listen", "gateway-test-worker"):
            relay.cut(use)
        await until(lambda: relay.connections("gateway-listen") == 0)
        unknown = await worker.check(other)
        assert isinstance(unknown, Refused)
        assert unknown.status == 503
        assert worker.ledger.holds_until - worker.ledger.elapsed() == pytest.approx(lasts)
        elapsed.seconds = lasts - 0.2
        assert isinstance(worker.at_once(tokens), Allowed)
        elapsed.seconds = lasts
        verdict = await worker.check(tokens)
        assert isinstance(verdict, Refused)
        assert verdict.status == 503
        relay.closed = False
        await until(worker.follows, 5)
        assert isinstance(await worker.check(tokens), Allowed)


async def test_server_whose_log_is_not_followed_is_believed_for_now_only(world: World) -> None:
    tokens = await world.token()
    async with world.worker() as worker:
        worker.ledger.server = 1.0  # as after a failover that the lookups have not seen yet
        for _ in range(2):
            assert isinstance(await worker.check(tokens), Allowed)
            assert worker.at_once(tokens) is None


# -- signed requests -----------------------------------------------------------------------------------------


async def test_signed_requests_ask_for_their_token_once(world: World, relay: Relay) -> None:
    tokens = await world.token(kind="mac")
    async with world.worker(relay.dsn, elapsed=Offset()) as worker:
        assert isinstance(await world.check(world.signed(tokens, nonce="n0"), worker.guard), Allowed)
        relay.hold("gateway-lookups")
        for number in range(1, 5):
            call = world.signed(tokens, nonce=f"n{number}")
            assert isinstance(await world.check(call, worker.guard), Allowed)
            assert not isinstance(await world.check(call, worker.guard), Allowed)  # a replay
        relay.release("gateway-lookups")
        await world.store.tokens.revoke(tokens.access_token, None)

        async def refused() -> bool:
            nonce = f"n{time.monotonic_ns()}"
            return isinstance(await world.check(world.signed(tokens, nonce=nonce), worker.guard), Refused)

        await holds_within(1, refused)


# -- lanes ---------------------------------------------------------------------------------------------------


async def test_imported_token_is_held_like_one_of_ours(world: World) -> None:
    tokens = await imported(world)
    async with world.worker() as worker:
        await worker.holds(tokens)
        assert await world.store.tokens.revoke(tokens.access_token, None)
        await worker.refuses(tokens, 1)


async def test_flood_of_strange_tokens_waits_for_itself_only(world: World, relay: Relay) -> None:
    ours, known = await world.token(), await imported(world)
    async with world.worker(relay.dsn) as worker:
        await worker.holds(known)  # in the strangers' lane, on whose connection nothing is answered from now on
        relay.hold("gateway-lookups", later=False)
        flood = [asyncio.create_task(_strange(worker, world, number)) for number in range(2000)]
        await until(lambda: sum(task.done() for task in flood) >= 2000 - 256 - 512)
        for refused in (task.result() for task in flood if task.done()):
            assert isinstance(refused, Refused)
            assert (refused.status, refused.error) == (503, "temporarily_unavailable")
        assert isinstance(await worker.check(ours), Allowed)
        worker.ledger.forget(worker.ledger.server or 0.0)  # what is held no longer counts
        assert isinstance(await worker.check(known), Allowed)  # it was good once
        assert not all(task.done() for task in flood)
        relay.release("gateway-lookups")
        await asyncio.gather(*flood)


async def _strange(worker: Worker, world: World, number: int) -> object:
    found = worker.guard.check(world.call(f"Bearer strange-{number}"))
    assert isinstance(found, Pending | Refused)  # no room: 503 at once
    return await settled(found)


async def test_flood_of_strange_tokens_is_answered_when_there_is_room(world: World) -> None:
    async with world.worker() as worker:
        for _ in range(3):
            verdicts = await asyncio.gather(*(_strange(worker, world, number) for number in range(500)))
            assert {verdict.status for verdict in verdicts if isinstance(verdict, Refused)} == {401}


async def test_many_misses_share_few_queries(world: World, relay: Relay) -> None:
    many = [await world.token() for _ in range(40)]
    async with world.worker(relay.dsn) as worker:
        await worker.holds(await world.token())
        answers = relay.answers["gateway-lookups"]
        await asyncio.gather(*(worker.check(tokens) for tokens in many for _ in range(5)))
        rows = len(many)
        assert relay.answers["gateway-lookups"] - answers < rows + 3 * 10  # rows, and a few messages for each query
        for tokens in many:
            await worker.still_holds(tokens)


async def test_lookups_are_planned_once(world: World) -> None:
    async with world.worker() as worker:
        await worker.check(await world.token())
        async with worker.store._lookups.lend() as connection:
            assert await connection.fetchval("show plan_cache_mode") == "force_generic_plan"
        names = await fetch(world.database, "select application_name from pg_stat_activity")
        assert {"gateway-lookups", "gateway-listen"} <= {row["application_name"] for row in names}


# -- whom it stands for --------------------------------------------------------------------------------------


async def test_name_is_the_new_one_within_a_second_of_its_change(world: World) -> None:
    rig = await Rig.build(world.store)
    tokens = await rig.tokens()
    async with world.worker() as worker:
        await worker.holds(tokens)
        await fetch(world.database, "update users set username = 'lovelace'")

        async def anew() -> bool:
            verdict = await worker.check(tokens)
            assert isinstance(verdict, Allowed)
            return verdict.username == "lovelace"

        await holds_within(1, anew)


async def test_allowed_tells_the_end_of_the_token(world: World) -> None:
    verdict = await world.check(world.call(f"Bearer {(await world.token(ttl=60)).access_token}"))
    assert isinstance(verdict, Allowed)
    assert verdict.expires_at is not None
    assert timedelta(seconds=50) < verdict.expires_at - datetime.now(UTC) <= timedelta(seconds=60)


async def test_clients_of_any_kind_are_told_apart(world: World) -> None:
    client, _ = await world.store.clients.create(new_client(name="Other"))
    other = await world.store.tokens.issue(client.client_id, None, frozenset({"read"}), 60, None)
    async with world.worker() as worker:
        for tokens, expected in ((await world.token(), world.client.client_id), (other, client.client_id)):
            await worker.holds(tokens)
            verdict = worker.at_once(tokens)
            assert isinstance(verdict, Allowed)
            assert verdict.client_id == expected
