"""The replicas: whether each is a standby of the database, and has replayed what was changed last."""

import asyncio
from contextlib import aclosing
from typing import Final

import asyncpg

from gateway.config import Settings
from gateway.doctor.finding import WARNING, Finding, Report
from gateway.store.changes import Mark
from gateway.store.database import Statements, connect
from gateway.store.replicas import Replica

_PATIENCE: Final = 2.0  # seconds, for an answer, and for what is on its way to a standby
_PAUSE: Final = 0.1
_WHY: Final = "tokens that the gateway has not seen before are all looked up at the primary, as if it were not there"
_MEND: Final = (
    "name a standby of database.url, in the same database and with the same role; on it, `select "
    "pg_is_in_recovery(), pg_is_wal_replay_paused(), now() - pg_last_xact_replay_timestamp()` says what it is at"
)


async def findings(settings: Settings, dsn: str, report: Report) -> None:
    """Add to the report which replicas are passed over; `dsn` leads to the database that they follow."""
    newest = await _newest(dsn)
    if newest is None:
        report.left_out["database.replicas"] = "the change log of database.url cannot be read"
        return
    for number, replica in enumerate(settings.replicas):
        async with aclosing(Replica(replica)) as looked_at:
            cause = await _cause(looked_at, newest)
        if cause is not None:
            what = f"{looked_at.place} is passed over: {cause}"
            report.findings.append(Finding(f"database.replicas[{number}]", what, _WHY, _MEND, WARNING))
    report.facts["replicas"] = str(len(settings.replicas))


async def _cause(replica: Replica, newest: Mark) -> str | None:
    """Why a replica is passed over, for as long as one may lag."""
    ends_at = asyncio.get_running_loop().time() + _PATIENCE
    while isinstance(found := await replica.find((), newest, _PATIENCE), str):
        if asyncio.get_running_loop().time() > ends_at:
            return found
        await asyncio.sleep(_PAUSE)
    return None


async def _newest(dsn: str) -> Mark | None:
    """The newest change of the database."""
    try:
        connection = await connect(dsn, "gateway-doctor")
        try:
            row = await Statements(connection).row("changes_read", after=2**62, most=1)
        finally:
            connection.terminate()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
        return None
    return None if row is None or row["newest_at"] is None else Mark(row["newest"], row["newest_at"])
