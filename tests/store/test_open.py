"""A store opens on the right database with the right key, or says in one line what is wrong and how to mend it."""

import asyncio
import socket

import asyncpg
import pytest

from gateway.crypto import Keyring
from gateway.faults import OperatorError
from gateway.store import Store
from gateway.store.database import place
from gateway.store.migrations import migrations
from tests.store.rig import fetch

OTHER = Keyring(b"another-obviously-fake-test-key!")


async def refusal(dsn: str, keyring: Keyring) -> str:
    with pytest.raises(OperatorError) as refused:
        await Store.open(dsn, keyring)
    text = str(refused.value)
    assert "\n" not in text
    return text


async def execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(sql)
    await connection.close()


async def test_first_store_notes_its_key_and_every_later_one_needs_it(database: str, keyring: Keyring) -> None:
    await (await Store.open(database, keyring)).close()
    rows = await fetch(database, "select master_key_id from settings")
    assert [row["master_key_id"] for row in rows] == [keyring.key_id]
    await (await Store.open(database, keyring)).close()
    text = await refusal(database, OTHER)
    assert text.startswith("keys.master: ")
    assert "keys.previous" in text
    assert keyring.key_id.hex() in text


async def test_stores_that_open_at_once_on_new_data_agree(database: str, keyring: Keyring) -> None:
    stores = await asyncio.gather(*(Store.open(database, keyring) for _ in range(5)))
    await asyncio.gather(*(store.close() for store in stores))
    assert len(await fetch(database, "select * from settings")) == 1


async def test_previous_key_that_fits_is_enough(database: str, keyring: Keyring) -> None:
    await (await Store.open(database, keyring)).close()
    rotated = Keyring(b"another-obviously-fake-test-key!", (b"obviously-a-fake-key-for-tests!!",))
    await (await Store.open(database, rotated)).close()
    await (await Store.open(database, keyring)).close()


async def test_database_that_is_not_migrated_is_told(empty_database: str, keyring: Keyring) -> None:
    assert "not migrated; run `gateway migrate`" in await refusal(empty_database, keyring)


async def test_database_of_an_older_version_is_told(database: str, keyring: Keyring) -> None:
    newest = migrations()[-1].name
    await execute(database, f"delete from schema_migrations where name = '{newest}'")
    text = await refusal(database, keyring)
    assert f"older than this version: {newest}" in text
    assert "gateway migrate" in text


async def test_database_of_a_newer_version_is_told(database: str, keyring: Keyring) -> None:
    await execute(database, "insert into schema_migrations (name, checksum) values ('9999_future', '')")
    assert "newer than this version: 9999_future" in await refusal(database, keyring)


async def test_migration_that_was_changed_is_told(database: str, keyring: Keyring) -> None:
    await execute(database, "update schema_migrations set checksum = 'x' where name like '0001%'")
    assert "0001_keys.sql was changed" in await refusal(database, keyring)


async def test_database_of_another_encoding_is_told(server: str, keyring: Keyring) -> None:
    name = "of_another_encoding"
    try:
        await execute(server, f"create database {name} template template0 encoding 'SQL_ASCII' locale 'C'")
        assert "encoding is SQL_ASCII" in await refusal(server.replace("/gateway?", f"/{name}?"), keyring)
    finally:
        await execute(server, f"drop database if exists {name} with (force)")


async def test_server_that_refuses_is_told_without_the_password(keyring: Keyring) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        text = await refusal(f"postgresql://ada:hunter2@127.0.0.1:{unused.getsockname()[1]}/gateway", keyring)
    assert text.startswith("database.url: 127.0.0.1:")
    assert "start the database" in text
    assert "hunter2" not in text


async def test_database_that_is_absent_is_told(server: str, keyring: Keyring) -> None:
    assert '"no_such_database" does not exist' in await refusal(
        server.replace("/gateway?", "/no_such_database?"), keyring
    )


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://ada:hunter2#x@127.0.0.1:1/gateway",
        "postgresql://ada:hunter2/x@127.0.0.1:1/gateway",
        "postgresql://ada:hunter2?x@127.0.0.1:1/gateway",
        "postgresql://ada:hunter2@x@127.0.0.1:1/gateway",
        "postgresql://ada:hunter2]x@127.0.0.1:1/gateway",
        "postgresql://ada@127.0.0.1:hunter2/gateway",
        "postgresql://ada:hunter2/gateway",
        "mysql://ada:hunter2@127.0.0.1/gateway",
        "postgresql://ada:hunter2@127.0.0.1:1/gateway?sslmode=hunter2",
    ],
)
async def test_malformed_address_is_told_without_the_password(dsn: str, keyring: Keyring) -> None:
    text = await refusal(dsn, keyring)
    assert text.startswith("database.url: ")
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://ada:pw@db.example:5433/gateway", "db.example:5433"),
        ("postgresql://ada:pw@one,two:5433/gateway", "one,two:5433"),
        ("postgresql:///gateway?host=/run/pg&user=ada", "/run/pg"),
        ("postgresql:///gateway", "the local server"),
        ("postgresql://ada:p#w@db.example/gateway", "the server"),
        ("postgresql://[broken/gateway", "the server"),
    ],
)
def test_place_of_a_database_shows_no_credentials(dsn: str, shown: str) -> None:
    assert place(dsn) == shown
