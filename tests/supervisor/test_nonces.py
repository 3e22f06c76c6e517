"""Nonces over several databases, as an operator sets them up: the commands, what is refused, and calls meanwhile."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from gateway.doctor import examine
from gateway.faults import OperatorError
from gateway.store import Store, spreading
from gateway.store.migrations import migrate
from tests.guard.conftest import new_client
from tests.serving import PATIENCE, Gateway, serving
from tests.store.rig import count, fetch
from tests.supervisor.conftest import SlowUpstream
from tests.supervisor.test_reload_command import reload, rewrite
from tests.supervisor.test_rotation import SignedCaller

ROLE = "nonces_of_the_tests"
AWAY = "postgresql://gateway@/gateway?host=/nowhere"


def elsewhere(dsn: str) -> str:
    """The same database by another address."""
    head, _, query = dsn.partition("?")
    return f"{head}?{'&'.join(reversed(query.split('&')))}"


async def sent(url: str, request: bytes) -> int:
    """The status that a request gets on a connection of its own."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(request)
        return int((await asyncio.wait_for(reader.readline(), PATIENCE)).split()[1])
    finally:
        writer.close()
        await writer.wait_closed()


async def faults_of(gateway: Gateway) -> list[str]:
    return [f"{one.about}: {one.what}" for one in (await examine(gateway.config)).findings if "nonces" in one.about]


async def test_nonces_are_spread_over_a_database_that_was_migrated_for_it(
    tmp_path: Path, store: Store, database: str, empty_database: str, upstream: SlowUpstream
) -> None:
    client, _ = await store.clients.create(new_client())
    tokens = [await store.tokens.issue(client.client_id, None, frozenset(), 3600, "mac") for _ in range(8)]
    route = {**upstream.route(), "auth": ["mac"]}
    async with serving(tmp_path, dsn=database, routes=[route], database={"nonces": []}) as gateway:
        rewrite(gateway, ('"nonces" = []', f'"nonces" = ["{empty_database}"]'))
        code, _, complaints = await reload(gateway.config)
        assert code == 1
        assert "database.nonces[0]: the database is not migrated; run `gateway migrate`" in complaints[0]
        assert await faults_of(gateway) == ["database.nonces[0]: the database is not migrated"]

        done = await gateway.run("migrate")
        assert done["applied"] == []
        assert done["further"]["database.nonces[0]"]
        assert done["nonces_spread"]["over"] == 2
        assert await spreading.change(database, [empty_database]) is None
        assert await faults_of(gateway) == []

        # The layout counts in 20 minutes, which a test cannot wait for.
        await fetch(database, "update nonce_layouts set from_second = 1")
        code, out, _ = await reload(gateway.config)
        assert code == 0
        assert "database.nonces: [] → [" in out
        for each in tokens:  # whichever worker a copy reaches, one of them passes
            request = SignedCaller(gateway.url, each).request()
            found = await asyncio.gather(*(sent(gateway.url, request) for _ in range(8)))
            assert sorted(found) == [200, *[401] * 7]
        spent = [await count(dsn, "nonces") for dsn in (database, empty_database)]
        assert sum(spent) == len(tokens)
        assert all(spent)

        # One that is no longer named has to be taken out of the layouts first.
        rewrite(gateway, (f'"nonces" = ["{empty_database}"]', '"nonces" = []'))
        code, _, complaints = await reload(gateway.config)
        assert code == 1
        assert "of which not all are named here" in complaints[0]


async def test_list_that_would_put_a_nonce_into_two_places_or_none_is_refused(
    database: str, empty_database: str
) -> None:
    await migrate(empty_database)
    for acts in (spreading.look, spreading.change):
        with pytest.raises(OperatorError, match="two of them are one database, or one is a copy of the other"):
            await acts(database, [empty_database, elsewhere(empty_database)])
    with pytest.raises(OperatorError, match=r"database.nonces\[1\]: is database.url, where nonces are put anyway"):
        await spreading.change(database, [empty_database, elsewhere(database)])
    [fault] = (await spreading.look(database, [empty_database])).faults
    assert "one of them is new, and no nonces are put there yet; run `gateway migrate`" in str(fault)

    assert await spreading.change(database, [empty_database]) is not None
    assert await spreading.look(database, [empty_database]) == spreading.Spreading()
    [fault] = (await spreading.look(database, [])).faults
    assert "not all are named here" in str(fault)

    # One that is away stops nobody from starting; but it cannot be put in force.
    found = await spreading.look(database, [AWAY])
    assert found.faults == []
    assert "database.nonces[0]: /nowhere cannot be used" in str(found.away[0])
    with pytest.raises(OperatorError, match=r"database.nonces\[0\]: /nowhere cannot be used"):
        await spreading.change(database, [AWAY])

    # One that left the list is still needed for a while.
    await fetch(database, "update nonce_layouts set from_second = from_second - 3600")
    assert await spreading.change(database, []) is not None
    [advice] = (await spreading.look(database, [])).advice
    assert "nonces are put into a database that is not named here" in advice
    assert await spreading.look(database, [empty_database]) == spreading.Spreading()
    await fetch(database, "update nonce_layouts set from_second = from_second - 3600")
    assert await spreading.look(database, []) == spreading.Spreading()
    assert (await spreading.look(database, [empty_database])).faults


async def test_privileges_that_a_role_lacks_on_a_database_of_nonces_come_as_statements(
    database: str, empty_database: str
) -> None:
    await migrate(empty_database)
    assert await spreading.change(database, [empty_database]) is not None
    connection = await asyncpg.connect(empty_database)
    try:
        await connection.execute(f"create role {ROLE} login")
        limited = empty_database.replace("//gateway@", f"//{ROLE}@")
        [fault] = (await spreading.look(database, [limited])).faults
        assert f"database.nonces[0]: the role {ROLE} lacks privileges that serving needs" in str(fault)
        for statement in fault.statements:
            await connection.execute(statement)
        assert await spreading.look(database, [limited]) == spreading.Spreading()
    finally:
        await connection.execute(f"drop owned by {ROLE}")
        await connection.execute(f"drop role {ROLE}")
        await connection.close()
