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
from gateway.store.database import Row, cannot_reach, connect
from gateway.store.migrations import made
from gateway.store.pool import Connection

_SCHEMA: Final = """
select n.oid, quote_ident(n.nspname) as name, quote_ident(current_user) as role, quote_ident(owner.rolname) as owner,
    has_schema_privilege(n.oid, 'USAGE') as usable
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_roles owner on owner.oid = c.relowner
where c.relname = 'schema_migrations' and c.relkind = 'r'
order by c.oid = coalesce(to_regclass('schema_migrations'), 0) desc, c.oid
limit 1"""

_LACKING: Final = """
with named as (
    select c.oid, c.relname, c.relkind, c.relispartition from pg_class c
    where c.relnamespace = $1 and c.relkind in ('r', 'p', 'v') and c.relname = any ($2::text[])
), ours as (
    select * from named
    union
    select c.oid, c.relname, c.relkind, c.relispartition
    from named join pg_inherits i on i.inhparent = named.oid join pg_class c on c.oid = i.inhrelid
), tables as (
    select oid, '' as kind, quote_ident(relname) as object, privilege
    from ours, unnest(case
        when relkind = 'v' or relname = 'schema_migrations' then array['SELECT']
        when relispartition then array['TRUNCATE']
        else array['SELECT', 'INSERT', 'UPDATE', 'DELETE']
    end) as privilege
    where not has_table_privilege(oid, privilege)
), sequences as (
    select s.oid, 'SEQUENCE ', quote_ident(s.relname), 'USAGE'
    from pg_class s
    join pg_depend d on d.objid = s.oid and d.classid = 'pg_class'::regclass and d.deptype = 'a'
    join ours on ours.oid = d.refobjid
    where case when s.relkind = 'S' then not has_sequence_privilege(s.oid, 'USAGE') end
), functions as (
    select p.oid, 'FUNCTION ', format('%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), 'EXECUTE'
    from pg_proc p
    where p.pronamespace = $1 and p.proname = any ($2::text[]) and not has_function_privilege(p.oid, 'EXECUTE')
)
select kind, object, privilege
from (select * from tables union all select * from sequences union all select * from functions) as lacking
order by kind, oid, privilege"""

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
    schema = await connection.fetchrow(_SCHEMA)
    if schema is None:
        return None
    grants = [] if schema["usable"] else [f"GRANT USAGE ON SCHEMA {schema['name']} TO {schema['role']};"]
    grants += _grants(await connection.fetch(_LACKING, schema["oid"], made()), schema)
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
