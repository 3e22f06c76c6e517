"""Why a database cannot be used: its own reason, each with its mend, and never the password."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.crypto import Keyring
from gateway.faults import OperatorError
from gateway.store import Store
from gateway.store.migrations import migrate, status
from gateway.store.privileges import lacking
from gateway.supervisor import embedded
from tests.store.rig import fetch

SECRET = "hunter2"

# what is wrong with the address · the database's own reason · what to do
REASONS = [
    (
        f"//ada:{SECRET}x@/gateway?",
        'password authentication failed for user "ada"',
        "correct the password in database.url",
    ),
    ("//nobody_here@/gateway?", 'role "nobody_here" does not exist', "create the role, or allow it in from here"),
    ("//gateway@/none?", 'database "none" does not exist', "create it (CREATE DATABASE"),
    (f"//ada:{SECRET}@/closed?", 'permission denied for database "closed"', "once the role may CONNECT"),
    (
        f"//ada:{SECRET}@/unfit?",
        "permission denied for table schema_migrations",
        "`gateway migrate --status` prints the",
    ),
]
UNREACHABLE = [
    ("postgresql://ada:hunter2@127.0.0.1:1/x", "Connection refused", "start the database, or correct host and port"),
    ("postgresql://ada:hunter2@db.invalid/x", "", "correct the host's name"),
    ("postgresql://ada:hunter2@/x?host=/nowhere", "No such file or directory", "correct the folder of its socket"),
]


@pytest.fixture
async def guarded(data_dir: Path) -> AsyncIterator[str]:
    """A server on which ada needs a password, may not enter one database, and may read nothing in another."""
    async with embedded.Server(data_dir) as server:
        rules = data_dir / "postgres" / "pg_hba.conf"
        rules.write_text("local all ada scram-sha-256\n" + rules.read_text())
        await fetch(server.dsn, f"create role ada login password '{SECRET}'")
        for name in ("closed", "unfit"):
            await fetch(server.dsn, f"create database {name}")
        await fetch(server.dsn, "revoke connect on database closed from public")
        await migrate(server.dsn.replace("/gateway?", "/unfit?"))
        await fetch(server.dsn, "select pg_reload_conf()")
        yield server.dsn


async def _faults(dsn: str) -> set[str]:
    """What each way to come to the database says."""
    faults = set()
    for attempt in (Store.open(dsn, Keyring(b"obviously-a-fake-key-for-tests!!")), status(dsn), migrate(dsn)):
        with pytest.raises(OperatorError) as raised:
            await attempt
        faults.add(str(raised.value))
    return faults


async def test_a_database_that_refuses_is_told_in_its_own_words_with_the_mend(guarded: str) -> None:
    for address, reason, mend in REASONS:
        dsn = guarded.replace("//gateway@/gateway?", address)
        for fault in await _faults(dsn):
            assert fault.startswith("database.url: "), fault
            assert reason in fault or "may not change the schema" in fault, fault
            assert mend in fault or "may not change the schema" in fault, fault
            assert SECRET not in fault, fault
    found = await lacking(guarded.replace("//gateway@/gateway?", REASONS[-1][0]))
    assert found is not None
    assert any("schema_migrations" in grant for grant in found.grants)


@pytest.mark.parametrize(("dsn", "reason", "mend"), UNREACHABLE)
async def test_a_database_that_is_not_there_is_told_with_the_systems_reason(dsn: str, reason: str, mend: str) -> None:
    for fault in await _faults(dsn):
        assert reason in fault
        assert mend in fault
        assert SECRET not in fault
        assert not re.search(r"\berrno\b|call failed", fault, re.IGNORECASE)
