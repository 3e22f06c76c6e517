"""What ends a token ends it on every worker, however the news is lost, held up or overtaken on the way.

Each race is forced: a wire that the test cuts stands between the worker and Postgres, and transactions are held open.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from gateway.crypto import digest
from gateway.errors import StoreUnavailable
from gateway.guard import Allowed, follower
from gateway.store.records import IssuedTokens
from tests.counts import scaled
from tests.guard.conftest import Offset, Worker, World, new_client
from tests.guard.relay import Relay
from tests.serving import holds_within, until
from tests.store.rig import Rig, fetch, outcome

CHANGE_LOCK = 1667788398  # the advisory lock under which a change's id is drawn

# -- the usual way -------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_token_revoked_on_one_worker_is_refused_on_the_other_within_a_second(world: World) -> None:
    async with world.worker() as one, world.worker() as other:
        for _ in range(scaled(500)):
            tokens = await world.token()
            await one.holds(tokens)
            await other.holds(tokens)
            assert await one.store.tokens.revoke(tokens.access_token, None)
            await asyncio.gather(one.refuses(tokens, 1), other.refuses(tokens, 1))


Ending = Callable[[Rig, IssuedTokens], Awaitable[object]]

ENDINGS: dict[str, Ending] = {
    "token revoked": lambda rig, tokens: rig.store.tokens.revoke(tokens.access_token, rig.client),
    "refresh token revoked": lambda rig, tokens: rig.store.tokens.revoke(tokens.refresh_token or "", rig.client),
    "grant withdrawn": lambda rig, _: rig.store.grants.withdraw(rig.user.subject, rig.client.client_id),
    "scope un-ticked": lambda rig, _: rig.code(scopes=frozenset({"read"})),
    "scope deleted": lambda rig, _: rig.store.scopes.end("write"),
    "client disabled": lambda rig, _: rig.store.clients.disable(rig.client.client_id),
    "client revoked": lambda rig, _: rig.store.clients.revoke_tokens(rig.client.client_id),
    "client deleted": lambda rig, _: rig.store.clients.delete(rig.client.client_id),
    "user disabled": lambda rig, _: rig.store.users.disable("ada"),
    "user revoked": lambda rig, _: rig.store.users.revoke_tokens("ada"),
    "user deleted": lambda rig, _: rig.store.users.delete("ada"),
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
async def test_every_way_to_end_a_token_ends_it_on_all_workers(world: World, ending: Ending) -> None:
    rig = await Rig.build(world.store)
    tokens = await rig.tokens()
    bystander = await world.token()
    async with world.worker() as one, world.worker() as other:
        await one.holds(tokens)
        await one.holds(bystander)
        while not one.marks(tokens).isdisjoint(one.marks(bystander)):  # by chance
            bystander = await world.token()
            await one.holds(bystander)
        await other.holds(tokens)
        await other.holds(bystander)
        assert await ending(rig, tokens)
        await asyncio.gather(one.refuses(tokens, 1), other.refuses(tokens, 1))
        for worker in (one, other):
            await worker.still_holds(bystander)


async def test_upstreams_get_a_persons_new_names_from_every_worker_within_a_second(world: World) -> None:
    rig = await Rig.build(world.store)
    tokens = await rig.tokens()
    async with world.worker() as one, world.worker() as other:
        for worker in (one, other):
            await worker.holds(tokens)
        assert await world.store.users.update("ada", "countess", "countess@example.org", None)

        async def is_renamed(worker: Worker) -> bool:
            verdict = await worker.check(tokens)
            assert isinstance(verdict, Allowed), "what was issued goes on"
            identity = verdict.identity
            assert identity is not None
            assert identity.subject == rig.user.subject
            return (identity.username, identity.email) == ("countess", "countess@example.org")

        for worker in (one, other):
            await holds_within(1, lambda worker=worker: is_renamed(worker))  # type: ignore[misc]
        await rig.refresh(tokens.refresh_token)
        assert await world.store.sessions.find(rig.session_token) is not None


async def test_replayed_code_and_reused_refresh_token_end_what_is_cached(world: World) -> None:
    rig = await Rig.build(world.store)
    code = await rig.code()
    first = await rig.redeem(code)
    async with world.worker() as worker:
        await worker.holds(first)
        assert await outcome(rig.redeem(code)) == "invalid_grant"
        await worker.refuses(first, 1)
        second = await rig.tokens()
        third = await rig.refresh(second.refresh_token)
        await worker.holds(second)
        await worker.holds(third)
        assert await outcome(rig.refresh(second.refresh_token)) == "invalid_grant"
        await asyncio.gather(worker.refuses(second, 1), worker.refuses(third, 1))


async def test_new_password_ends_no_token(world: World) -> None:
    rig = await Rig.build(world.store)
    tokens = await rig.tokens()
    async with world.worker() as worker:
        await worker.holds(tokens)
        position = worker.ledger.position
        assert await rig.store.users.set_password("ada", "$argon2id$another")
        assert await rig.store.tokens.revoke((await world.token()).access_token, None)
        await worker.moves(position)
        await worker.holds(tokens)


async def test_what_an_operator_types_into_psql_ends_it_as_well(world: World) -> None:
    statements = (
        "update access_tokens set revoked_at = now()",
        "delete from access_tokens",
        "truncate access_tokens",
        "update clients set disabled_at = now()",
        "update users set generation = 7",
        "delete from grants",
        "delete from families",
    )
    rig = await Rig.build(world.store)
    async with world.worker() as worker:
        for statement in statements:
            rig = await Rig.build(world.store, username=f"user{statements.index(statement)}")
            tokens = await rig.tokens()
            await worker.holds(tokens)
            await fetch(world.database, statement)
            await worker.refuses(tokens, 1)
            await fetch(world.database, "update clients set disabled_at = null")


async def test_enabled_client_does_not_get_its_old_tokens_back(world: World) -> None:
    tokens = await world.token()
    async with world.worker() as worker:
        await worker.holds(tokens)
        await world.store.clients.disable(world.client.client_id)
        await world.store.clients.enable(world.client.client_id)
        await worker.refuses(tokens, 1)
        await worker.holds(await world.token())


async def test_renamed_user_and_altered_client_are_seen_by_calls_with_old_tokens(world: World) -> None:
    rig = await Rig.build(world.store)
    tokens = await rig.tokens()
    signing = await world.token(kind="mac")
    async with world.worker() as worker:
        await worker.holds(tokens)
        await fetch(world.database, "update users set email = 'new@example.com'")

        async def renamed() -> bool:
            verdict = await worker.check(tokens)
            assert isinstance(verdict, Allowed)
            return verdict.email == "new@example.com"

        await holds_within(1, renamed)

        async def passes(nonce: str) -> bool:
            return isinstance(await world.check(world.signed(signing, nonce=nonce), worker.guard), Allowed)

        assert await passes("n1")
        assert await passes("n2")
        await world.store.clients.update(world.client.client_id, new_client(mac_drafts=("00",)))
        numbers = itertools.count()

        async def refused() -> bool:
            return not await passes(f"x{next(numbers)}")

        await holds_within(1, refused)


# -- order ---------------------------------------------------------------------------------------------------


async def test_writer_that_changed_early_and_commits_late_is_not_missed(world: World) -> None:
    early, late = await world.token(), await world.token()
    holder = await asyncpg.connect(world.database)
    async with world.worker() as worker:
        await worker.holds(early)
        await worker.holds(late)
        transaction = holder.transaction()
        await transaction.start()
        await _revoke(holder, early)
        await world.store.tokens.revoke(late.access_token, None)  # a later writer, whose commit comes first
        await worker.refuses(late, 1)
        assert isinstance(await worker.check(early), Allowed)
        await transaction.commit()
        await worker.refuses(early, 1)
    await holder.close()


async def test_writer_that_drew_its_id_early_and_commits_late_is_not_missed(world: World) -> None:
    early, late = await world.token(), await world.token()
    holder = await asyncpg.connect(world.database)
    async with world.worker() as worker:
        await worker.holds(early)
        await worker.holds(late)
        transaction = holder.transaction()
        await transaction.start()
        await _revoke(holder, early)
        await holder.execute("set constraints all immediate")  # the id is drawn here
        waiting = asyncio.create_task(world.store.tokens.revoke(late.access_token, None))
        await until(lambda: _waits_for_the_lock(world.database))
        assert isinstance(await worker.check(late), Allowed)
        await transaction.commit()
        assert await waiting
        await asyncio.gather(worker.refuses(early, 1), worker.refuses(late, 1))
    ids = [
        row["key"] for row in await fetch(world.database, "select key from changes where kind = 'token' order by id")
    ]
    assert ids == [_digest(early).hex(), _digest(late).hex()]
    await holder.close()


async def test_revocation_that_cannot_be_logged_is_no_revocation(world: World) -> None:
    tokens = await world.token()
    holder = await asyncpg.connect(world.database)
    async with world.worker() as worker:
        await worker.holds(tokens)
        async with holder.transaction():
            await holder.execute("select pg_advisory_xact_lock($1)", CHANGE_LOCK)
            with pytest.raises(StoreUnavailable):
                await world.store.tokens.revoke(tokens.access_token, None)
        assert isinstance(await worker.check(tokens), Allowed)
        assert await world.store.tokens.revoke(tokens.access_token, None)
        await worker.refuses(tokens, 1)
    await holder.close()


async def test_revocation_that_is_rolled_back_never_happened(world: World) -> None:
    tokens = await world.token()
    holder = await asyncpg.connect(world.database)
    async with world.worker() as worker:
        await worker.holds(tokens)
        transaction = holder.transaction()
        await transaction.start()
        await _revoke(holder, tokens)
        await holder.execute("set constraints all immediate")
        await transaction.rollback()
        assert await world.store.tokens.revoke((await world.token()).access_token, None)
        await worker.moves(1)
        await worker.still_holds(tokens)
    await holder.close()


# -- misses that meet a revocation ---------------------------------------------------------------------------


async def test_miss_that_meets_a_revocation_between_its_query_and_its_answer_is_refused(
    world: World, relay: Relay
) -> None:
    async with world.worker(relay.dsn) as worker:
        await worker.holds(await world.token())  # the connection for lookups stands
        for ended_by in ("token", "client"):
            client, _ = await world.store.clients.create(new_client())
            tokens = await world.store.tokens.issue(client.client_id, None, frozenset({"read"}), 60, None)
            answers, position = relay.answers["gateway-lookups"], worker.ledger.position
            relay.hold("gateway-lookups")
            asking = asyncio.create_task(worker.check(tokens))
            await relay.more_answers("gateway-lookups", answers)  # it says: live
            if ended_by == "token":
                assert await world.store.tokens.revoke(tokens.access_token, None)
            else:
                assert await world.store.clients.disable(client.client_id)
            await worker.moves(position)
            assert not asking.done()
            relay.release("gateway-lookups")
            assert not isinstance(await asking, Allowed)
            assert worker.at_once(tokens) is None
            await worker.refuses(tokens, 1)


async def test_miss_whose_answer_comes_before_the_news_of_the_revocation_is_ended_by_the_news(
    world: World, relay: Relay
) -> None:
    async with world.worker(relay.dsn, elapsed=Offset()) as worker:
        tokens = await world.token()
        relay.hold("gateway-listen")
        assert await world.store.tokens.revoke(tokens.access_token, None)
        relay.release("gateway-listen")
        await worker.refuses(tokens, 1)
        tokens = await world.token()
        relay.hold("gateway-listen")  # the worker cannot know yet
        await worker.holds(tokens)
        assert await world.store.tokens.revoke(tokens.access_token, None)
        assert isinstance(await worker.check(tokens), Allowed)
        relay.release("gateway-listen")
        await worker.refuses(tokens, 1)


async def test_miss_that_meets_the_change_of_another_token_is_cached(world: World, relay: Relay) -> None:
    async with world.worker(relay.dsn) as worker:
        await worker.holds(await world.token())
        tokens, other = await world.token(), await world.token()
        answers, position = relay.answers["gateway-lookups"], worker.ledger.position
        relay.hold("gateway-lookups")
        asking = asyncio.create_task(worker.check(tokens))
        await relay.more_answers("gateway-lookups", answers)
        assert await world.store.tokens.revoke(other.access_token, None)
        await worker.moves(position)
        relay.release("gateway-lookups")
        assert isinstance(await asking, Allowed)
        await worker.still_holds(tokens)


async def test_miss_that_meets_a_new_beginning_of_the_log_is_not_cached(
    world: World, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_PAUSE", (0.0, 0.0))  # the new beginning must come within the question's deadline
    async with world.worker(relay.dsn) as worker:
        await worker.holds(await world.token())
        tokens = await world.token()
        answers, position = relay.answers["gateway-lookups"], worker.ledger.position
        relay.hold("gateway-lookups")
        asking = asyncio.create_task(worker.check(tokens))
        await relay.more_answers("gateway-lookups", answers)
        relay.cut("gateway-listen")
        await worker.moves(position)
        relay.release("gateway-lookups")
        assert isinstance(await asking, Allowed)  # asked again, and found
        await worker.holds(tokens)


async def _revoke(connection: "asyncpg.Connection[asyncpg.Record]", tokens: IssuedTokens) -> None:
    await connection.execute("update access_tokens set revoked_at = now() where digest = $1", _digest(tokens))


def _digest(tokens: IssuedTokens) -> bytes:
    return digest(tokens.access_token)


async def _waits_for_the_lock(dsn: str) -> bool:
    waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted and database = "
    return bool(await fetch(dsn, waiting + "(select oid from pg_database where datname = current_database())"))
