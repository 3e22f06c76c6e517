"""A session that begins while its person is shut out does not survive it, whoever commits first."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from gateway.crypto import random_text
from gateway.store import SignInCandidate, Store
from tests.counts import scaled
from tests.serving import until
from tests.store.rig import PASSWORD_HASH, Rig

HELD = 4711  # the advisory lock for which a session that begins waits, its snapshot taken


async def new_password(store: Store) -> bool:
    return await store.users.set_password("ada", f"$argon2id${random_text()}")


async def disabled(store: Store) -> bool:
    return await store.users.disable("ada")


ENDINGS = pytest.mark.parametrize("ending", [new_password, disabled])


@asynccontextmanager
async def beginning_held(dsn: str) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
    """Sessions are held as they begin, until the context ends; what is given says whether one is."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        f"create function hold() returns trigger language plpgsql as "
        f"$$ begin perform pg_advisory_xact_lock({HELD}); return new; end $$; "
        f"create trigger hold before insert on sessions for each row execute function hold(); "
        f"select pg_advisory_lock({HELD})"
    )

    async def held() -> bool:
        return bool(
            await connection.fetchval("select exists (select from pg_locks where not granted and objid = $1)", HELD)
        )

    try:
        yield held
    finally:
        await connection.close()


@ENDINGS
async def test_session_that_began_before_and_is_written_afterwards_is_dead(
    rig: Rig, store: Store, database: str, ending: Callable[[Store], Awaitable[bool]]
) -> None:
    token = random_text()
    async with beginning_held(database) as held:
        begins = asyncio.create_task(store.sessions.start(rig.user.subject, token, 60, password_hash=PASSWORD_HASH))
        await until(held)
        assert await ending(store)
    begun = await begins
    for _ in ("at once", "enabled again"):
        assert await store.sessions.find(token) is None
        asked = store.flows.start(rig.user.subject, rig.request())
        assert begun is None or not await store.flows.deny(asked, begun.session_id)
        await store.users.enable("ada")
    token = random_text()
    assert await store.sessions.start(rig.user.subject, token, 60) is not None
    assert await store.sessions.find(token) is not None


async def test_session_that_is_dead_answers_no_flow(rig: Rig, store: Store, database: str) -> None:
    flow = store.flows.start(rig.user.subject, rig.request())
    connection = await asyncpg.connect(database)
    await connection.execute("update users set session_generation = session_generation + 1")
    await connection.close()
    assert await store.flows.find(flow.flow_id, rig.session_id) is None
    assert await store.flows.allow(flow, rig.session_id, frozenset({"read"}), 60) is None
    assert not await store.flows.deny(flow, rig.session_id)
    assert await store.flows.issue_code(rig.session_id, rig.request(), 60, remember=True) is None


@pytest.mark.long
@ENDINGS
async def test_no_session_survives_that_began_meanwhile(
    rig: Rig, store: Store, ending: Callable[[Store], Awaitable[bool]]
) -> None:
    for _ in range(scaled(2000)):
        candidate, token = await store.users.sign_in_candidate("ada"), random_text()
        assert candidate is not None

        async def begin(known: SignInCandidate = candidate, token: str = token) -> None:
            await asyncio.sleep(random.uniform(0, 0.001))
            await store.sessions.start(known.user.subject, token, 60, password_hash=known.password_hash)

        await asyncio.gather(begin(), ending(store))
        await store.users.enable("ada")
        assert await store.sessions.find(token) is None
