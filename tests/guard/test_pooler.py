"""PgBouncer in transaction mode between the gateway and its database: slower where it must be, never wrong.

Each test runs with a pooler that keeps prepared statements (PgBouncer 1.21 and newer, by its configuration) and with
one that does not, as older ones and others are.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from gateway.crypto import Keyring
from gateway.faults import OperatorError
from gateway.guard import Allowed
from gateway.guard.ledger import LEASE
from gateway.store import Store
from gateway.store.database import connect
from gateway.store.migrations import migrate, migrations, status
from gateway.store.poolers import ARRAYS, IDLE_IN_TRANSACTION, Array, Forgetful, Pooled
from tests.guard.conftest import World
from tests.guard.pooler import PROGRAM, pooling
from tests.guard.test_workers import ROUTE, callers
from tests.serving import serving
from tests.store.rig import Rig, count, fetch, outcome

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed: install the package pgbouncer")

KEPT = 200
SETTINGS = (
    "statement_timeout, idle_in_transaction_session_timeout, synchronous_commit, default_transaction_isolation, jit"
)


@pytest.fixture(params=[KEPT, 0], ids=["prepared statements kept", "prepared statements lost"])
async def pooled(request: pytest.FixtureRequest, database: str) -> AsyncIterator[str]:
    """The way to the test's database through a pooler."""
    await make_durable(database)
    async with pooling(database, prepared=request.param) as dsn:
        yield dsn


@pytest.fixture
async def store(pooled: str, keyring: Keyring) -> AsyncIterator[Store]:
    opened = await Store.open(pooled, keyring, size=8, name="gateway-test")
    yield opened
    await opened.close()


async def make_durable(database: str) -> None:
    """What every server is by default, and that of the tests is not."""
    await fetch(database, f"alter database {urlsplit(database).path[1:]} set synchronous_commit = on")


# -- the connection ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prepared", "kind"), [(KEPT, Pooled), (0, Forgetful)])
async def test_pooler_is_noticed_without_being_named(database: str, prepared: int, kind: type) -> None:
    async with pooling(database, prepared=prepared) as dsn:
        for _ in range(3):
            connection = await connect(dsn, "gateway-test")
            assert type(connection) is kind
            connection.terminate()
    direct = await connect(database, "gateway-test")
    assert not issubclass(type(direct), Pooled)
    direct.terminate()


@pytest.mark.parametrize(("prepared", "kind"), [(KEPT, Pooled), (0, Forgetful)])
async def test_pooler_that_swallows_settings_is_noticed_though_the_server_has_usual_ones(
    database: str, prepared: int, kind: type
) -> None:
    for name, value in {"statement_timeout": "2s", "idle_in_transaction_session_timeout": "30s"}.items():
        await fetch(database, f"alter database {urlsplit(database).path[1:]} set {name} = '{value}'")
    async with pooling(database, prepared=prepared, swallowed=SETTINGS) as dsn:
        connection = await connect(dsn, "gateway-test")
        assert type(connection) is kind
        connection.terminate()


async def test_arrays_are_known_without_a_question(pooled: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's own would be compiled for seconds, where a pooler keeps `jit` from the server."""
    asked, ask = list[Any](), asyncpg.Connection._introspect_types  # type: ignore[attr-defined]

    async def noted(connection: Any, types: Any, *given: Any) -> Any:
        asked.append(types)
        return await ask(connection, types, *given)

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", noted)
    for dsn in (pooled, database):
        connection = await connect(dsn, "gateway-test")
        async with connection.transaction():
            assert await connection.fetchval("select $1::bytea[] || $1::bytea[]", [b"a"]) == [b"a", b"a"]
            for array in ARRAYS.values():
                assert await connection.fetchval(f"select null::{array.of_name}[]") is None
                assert await connection.fetchval(f"select array[null::{array.of_name}]") == [None]
            assert asked == []
            found = await connection.fetch(
                "select a.oid::int, a.typname::text, e.oid::int, e.typname::text from pg_type a, pg_type e "
                "where a.typelem = e.oid and a.typdelim = ',' and a.typnamespace = 'pg_catalog'::regnamespace"
            )
            assert set(ARRAYS.values()) <= {Array(*row) for row in found}
            assert await connection.fetchval("select array['192.0.2.7'::inet]")  # of others the server is asked
        assert len(asked) == 1
        asked.clear()
        connection.terminate()


async def test_transaction_brings_its_limits_along(pooled: str, store: Store) -> None:
    for deadline, limit in ((2.0, "2s"), (30.0, "30s")):
        async with store._database.transaction(deadline) as statements:
            settings = await statements._connection.fetch(
                "select current_setting(name) from unnest(array['statement_timeout', "
                "'idle_in_transaction_session_timeout']) as name"
            )
            assert [row[0] for row in settings] == [limit, IDLE_IN_TRANSACTION]
    assert await _setting(pooled, "statement_timeout") == "0"  # nothing is left behind for whoever comes next


async def test_server_that_loses_commits_is_refused_since_its_pooler_keeps_us_from_changing_it(
    database: str, keyring: Keyring
) -> None:
    async with pooling(database) as dsn:
        with pytest.raises(OperatorError, match=r"database\.url: synchronous_commit is off"):
            await Store.open(dsn, keyring)


async def test_server_that_shows_a_transaction_the_past_is_refused_for_the_same_reason(
    database: str, keyring: Keyring
) -> None:
    await make_durable(database)
    name = urlsplit(database).path[1:]
    await fetch(database, f"alter database {name} set default_transaction_isolation = 'repeatable read'")
    async with pooling(database) as dsn:
        with pytest.raises(OperatorError, match=r"database\.url: default_transaction_isolation is repeatable read"):
            await Store.open(dsn, keyring)
    await (await Store.open(database, keyring, name="gateway-test")).close()


async def _setting(dsn: str, name: str) -> str:
    connection = await connect(dsn, "gateway-test")
    try:
        async with connection.transaction():
            return str(await connection.fetchval("select current_setting($1)", name))
    finally:
        connection.terminate()


# -- migrations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prepared", [KEPT, 0])
async def test_schema_is_migrated_through_a_pooler_once_by_whoever_comes_first(
    empty_database: str, prepared: int
) -> None:
    names = [migration.name for migration in migrations()]
    async with pooling(empty_database, prepared=prepared) as dsn:
        assert [applied for _, applied in await status(dsn)] == [None] * len(names)
        applied = await asyncio.gather(*(migrate(dsn) for _ in range(3)))
        assert sorted(name for each in applied for name in each) == names  # the advisory lock holds
        assert all(applied for _, applied in await status(dsn))
        assert await migrate(dsn) == []


# -- what must happen once -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient_stores")
async def test_code_is_redeemed_once_of_many_attempts(store: Store, database: str) -> None:
    rig = await Rig.build(store)
    for _ in range(3):
        code = await rig.code()
        results = Counter(await asyncio.gather(*(outcome(rig.redeem(code)) for _ in range(12))))
        assert results == {"ok": 1, "invalid_grant": 11}
    assert await count(database, "families") == 3


async def test_refresh_token_gives_one_successor_of_many_attempts(store: Store) -> None:
    rig = await Rig.build(store)
    tokens = await rig.tokens()
    results = Counter(await asyncio.gather(*(outcome(rig.refresh(tokens.refresh_token)) for _ in range(12))))
    assert results == {"ok": 1, "invalid_grant": 11}


async def test_signed_request_passes_once_of_many_over_two_workers(pooled: str, store: Store, keyring: Keyring) -> None:
    world = await World.over(store, pooled, keyring)
    tokens = await world.token(kind="mac")
    async with world.second_guard() as other:
        for number in range(3):
            call = world.signed(tokens, nonce=f"n{number}")
            verdicts = await asyncio.gather(*(world.check(call, guard) for guard in (world.guard, other) * 10))
            assert sum(isinstance(verdict, Allowed) for verdict in verdicts) == 1


async def test_sweep_is_made_by_one_at_a_time(store: Store) -> None:
    await Rig.build(store)
    assert await asyncio.gather(*(store.upkeep.sweep() for _ in range(6))) == [0] * 6


# -- revocation ----------------------------------------------------------------------------------------------


async def test_revoked_token_is_refused_by_polling(pooled: str, store: Store, keyring: Keyring) -> None:
    world = await World.over(store, pooled, keyring)
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(world.worker(pooled)) for _ in range(2)]
        for _ in range(3):
            tokens = await world.token()
            for worker in workers:
                await worker.holds(tokens)
            assert await store.tokens.revoke(tokens.access_token, None)
            for worker in workers:
                await worker.refuses(tokens, LEASE + 0.5)


async def test_lookups_of_many_tokens_share_statements_through_a_pooler(
    pooled: str, store: Store, keyring: Keyring
) -> None:
    world = await World.over(store, pooled, keyring)
    issued = [await world.token() for _ in range(30)]
    async with world.worker(pooled) as worker:
        verdicts = await asyncio.gather(*(worker.check(tokens) for tokens in issued))
        assert all(isinstance(verdict, Allowed) for verdict in verdicts)


async def test_gateway_serves_through_a_pooler(database: str, tmp_path: Path) -> None:
    await make_durable(database)
    async with (
        pooling(database) as dsn,
        serving(tmp_path, routes=[ROUTE], dsn=dsn, scopes={"read": "Read"}) as gateway,
    ):
        client = await gateway.run("client", "create", "--name", "App", *_OF_CLIENT)
        token = (await gateway.run("token", "issue", "--client", client["client_id"]))["access_token"]
        async with callers(gateway) as found:
            for caller in found:
                assert (await caller.call(token))[0] == 502  # it passed: nothing listens behind the route
            await gateway.run("token", "revoke", token)
            await asyncio.gather(*(caller.refused(token, 5) for caller in found))
        assert await gateway.is_ready()
    assert [line for line in gateway.logs if line["level"] in ("error", "critical")] == []


_OF_CLIENT = ("--grant-type", "client_credentials", "--scope", "read")
