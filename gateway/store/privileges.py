"""Privileges of the role that serves, checked before it does: those it lacks would fail later, and seldom at once.

The owner of the tables needs nothing. Another role needs, on what the migrations made, no more than this:

    schema                    USAGE
    tables                    SELECT, INSERT, UPDATE, DELETE; of the migrations' own only SELECT
    partitions of nonces      TRUNCATE, with which a minute of nonces is forgotten, some 25 minutes after it was used
    views                     SELECT
    sequences                 USAGE, but for those of identity columns, which need none
    functions                 EXECUTE

The partitions are made by a migration, once and for all, and belong to who ran it: the role that serves makes nothing,
so nothing is ever another's than the owner's.
"""

from collections import defaultdict
from typing import Final

import asyncpg
from msgspec import Struct

from gateway.faults import OperatorError
from gateway.store.database import Row, Statements, cannot_reach, connect
from gateway.store.migrations import made
from gateway.store.pool import Connection

_ORDER: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "USAGE", "EXECUTE")


class Lacking(Struct, frozen=True):
    """Privileges that a role lacks, as the statements that grant them, for the owner of the tables to run."""

    role: str
    owner: str
    grants: tuple[str, ...]

    def fault(self) -> OperatorError:
        """The message to the operator."""
        return OperatorError(
            f"database.url: the role {self.role} lacks privileges that serving needs; as {self.owner} run:",
            statements=self.grants,
        )


async def lacking(dsn: str) -> Lacking | None:
    """What the role of `dsn` lacks on a database that was migrated, wholly or in part; None if nothing.

    Raises OperatorError where the database cannot be reached.
    """
    try:
        connection = await connect(dsn, "gateway-privileges")
        try:
            async with connection.transaction():
                return await _lacking(connection)
        finally:
            connection.terminate()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError) as exc:
        raise cannot_reach(dsn, exc) from exc


async def require_privileges(dsn: str) -> None:
    """Pass if the role may do all that serving needs. Raises OperatorError with the missing GRANTs."""
    found = await lacking(dsn)
    if found is not None:
        raise found.fault()


async def _lacking(connection: Connection) -> Lacking | None:
    statements = Statements(connection)
    schema = await statements.row("schema_place")
    if schema is None:
        return None
    grants = [] if schema["usable"] else [f"GRANT USAGE ON SCHEMA {schema['name']} TO {schema['role']};"]
    grants += _grants(await statements.rows("privileges_lacking", namespace=schema["oid"], names=made()), schema)
    return Lacking(schema["role"], schema["owner"], tuple(grants)) if grants else None


def _grants(rows: list[Row], schema: Row) -> list[str]:
    """A statement for all that lack the same, ready to be pasted."""
    privileges: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        privileges[row["kind"], f"{schema['name']}.{row['object']}"].append(row["privilege"])
    objects: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (kind, name), wanted in privileges.items():
        objects[kind, ", ".join(sorted(wanted, key=_ORDER.index))].append(name)
    return [
        f"GRANT {wanted} ON {kind}{', '.join(names)} TO {schema['role']};" for (kind, wanted), names in objects.items()
    ]
