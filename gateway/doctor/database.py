"""The database: what the server is and keeps, what the role may do, what is to spare, and what stands in between.

The questions are asked of any database, migrated or not, by any role, so that they stand here and not among the
statements of the store.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address
from typing import Any, Final

import asyncpg

from gateway.config import Settings
from gateway.config.database_url import wants_no_encryption
from gateway.doctor.finding import FAULT, WARNING, Finding, Report
from gateway.faults import OperatorError
from gateway.store import poolers, privileges, queries
from gateway.store.database import Row, connect, place
from gateway.store.migrations import require_current, require_server
from gateway.store.outages import outage_of
from gateway.store.pool import Connection
from gateway.supervisor.connections import needed

_PATIENCE: Final = 20.0  # seconds: a server that hangs says nothing
_OTHERS: Final = 4  # the supervisor, and a command
_UNREACHABLE: Final = (
    "calls with a token are answered 503, except where workers hold it in memory and tokens.stale_for still lets them; "
    "nobody can sign in"
)
_UNUSABLE: Final = "the gateway does not start on it"
_DURABLE: Final = "a revocation, a spent nonce or a code could come back after a crash, and be used once more"
_ABSENT = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError)

_FACTS: Final = """
select extract(epoch from clock_timestamp())::float8 as now, current_setting('server_version') as version,
    current_user as role, r.rolsuper as superuser, r.rolconnlimit as role_limit,
    d.datname as database, d.datconnlimit as database_limit, d.datallowconn as allowed,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int as most,
    a.used, a.used_by_role, a.used_in_database, a.ours,
    current_setting('fsync') as fsync, current_setting('full_page_writes') as full_page_writes,
    current_setting('synchronous_commit') as synchronous_commit,
    current_setting('default_transaction_read_only') as read_only,
    current_setting('autovacuum') as autovacuum,
    current_setting('statement_timeout') as statement_timeout,
    current_setting('synchronous_standby_names') as synchronous_standbys,
    s.standbys, s.waited_for, pg_has_role('pg_read_all_stats', 'usage') as sees_standbys,
    (select ssl from pg_stat_ssl where pid = pg_backend_pid()) as encrypted,
    host(inet_client_addr()) as client, host(inet_server_addr()) as server
from pg_roles r, pg_database d,
    lateral (
        select count(*) as used, count(*) filter (where usename = current_user) as used_by_role,
            count(*) filter (where datname = d.datname) as used_in_database,
            count(*) filter (where datname = d.datname and usename = current_user
                and client_addr is not distinct from inet_client_addr()
                and application_name like 'gateway-%' and pid <> pg_backend_pid()) as ours
        from pg_stat_activity where datname is not null
    ) a,
    lateral (
        select count(*) as standbys, count(*) filter (where sync_state in ('sync', 'quorum')) as waited_for
        from pg_stat_replication
    ) s
where r.rolname = current_user and d.datname = current_database()"""


async def findings(settings: Settings, dsn: str, report: Report, apart: dict[str, float], *, serving: bool) -> None:
    """Add to the report what is wrong with the database at `dsn`, as far as it can be looked at; what its clock says
    goes into `apart`."""
    try:
        connection = await connect(dsn, "gateway-doctor")
    except _ABSENT as exc:
        report.findings.append(_unreachable(dsn, exc))
        return
    try:
        async with asyncio.timeout(_PATIENCE):
            async for finding in _look(settings, dsn, connection, report, apart, serving=serving):
                report.findings.append(finding)
    except _ABSENT as exc:
        report.findings.append(_unreachable(dsn, exc))
    finally:
        connection.terminate()


def _unreachable(dsn: str, exc: Exception) -> Finding:
    if isinstance(exc, ValueError):  # the driver's own words may quote the password
        what, mend = "its address cannot be read", "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    elif _is_statement_pooling(exc):
        what = "the pooler in between lends a connection for one statement only"
        mend = "set pool_mode = transaction in PgBouncer, or name the server itself"
    else:
        what, mend = outage_of(exc)
    return Finding("database.url", f"{place(dsn)} cannot be used: {what}", _UNREACHABLE, mend)


def _is_statement_pooling(exc: Exception) -> bool:
    """PgBouncer's refusal of a transaction; it has no code of its own."""
    return "statement pooling" in str(exc) or "transaction blocks not allowed" in str(exc)


async def _look(
    settings: Settings, dsn: str, connection: Connection, report: Report, apart: dict[str, float], *, serving: bool
) -> AsyncIterator[Finding]:
    try:
        require_server(connection)
        before = time.time()
        async with connection.transaction():
            facts = await connection.fetchrow(_FACTS)
        after = time.time()
        assert facts is not None  # noqa: S101  # a role that is connected is there, and so is its database
        apart["the database"] = facts["now"] - min(max(facts["now"], before), after)
        report.facts["database"] = _described(connection, facts)
        for finding in _of_facts(settings, connection, facts, serving=serving):
            yield finding
        if poolers.is_pooled(connection):
            await poolers.require_settings(connection)
        lacking = await privileges.lacking(dsn)
        if lacking is not None:
            yield Finding(
                "database.url",
                f"the role {lacking.role} lacks privileges that serving needs",
                "the gateway does not start as this role",
                f"run these as {lacking.owner}, in psql for instance",
                statements=lacking.grants,
            )
            return
        await require_current(connection)
    except OperatorError as exc:
        yield Finding.of(exc, _UNUSABLE)
        return
    async for finding in _key(settings, connection):
        yield finding
    async for finding in _scopes(settings, connection):
        yield finding


def _described(connection: Connection, facts: Row) -> str:
    synchronous = f"waits for {facts['synchronous_standbys']}" if facts["synchronous_standbys"] else "waits for none"
    parts = [
        f"PostgreSQL {facts['version'].partition(' ')[0]}",
        f"role {facts['role']}",
        f"{facts['used']} of {facts['most']} connections in use",
        f"{facts['standbys']} standbys, a commit {synchronous}",
    ]
    if poolers.is_pooled(connection):
        parts.append("behind a pooler in transaction mode")
    return ", ".join(parts)


def _of_facts(settings: Settings, connection: Connection, facts: Row, *, serving: bool) -> Iterator[Finding]:
    pooled = poolers.is_pooled(connection)
    yield from _durability(facts)
    yield from _standbys(facts)
    if facts["read_only"] == "on":
        yield Finding(
            "database.url",
            "transactions begin read-only there (default_transaction_read_only)",
            "nothing can be issued, revoked or spent",
            "take the setting back, as its owner",
            statements=(f"ALTER DATABASE {_quoted(facts['database'])} RESET default_transaction_read_only;",),
        )
    if facts["autovacuum"] == "off":
        yield Finding(
            "database.url",
            "autovacuum is off there",
            "what expired is deleted, but its room is not used again: tables grow until the disk is full",
            "turn it on: ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()",
            WARNING,
        )
    if pooled:
        yield from _pooler(connection, facts)
    elif settings.database_url is not None:
        yield from _connections(settings, facts, serving=serving)
        yield from _in_the_clear(facts, settings.database_url)
    if facts["superuser"] and not settings.config.database.embedded:
        yield Finding(
            "database.url",
            f"the role {facts['role']} is a superuser",
            "whoever gets into the gateway has the whole server with it, its other databases and its files",
            "serve as a role that owns this database and no more (docs/database.md)",
            WARNING,
        )


def _durability(facts: Row) -> Iterator[Finding]:
    for name in ("fsync", "full_page_writes"):
        if facts[name] == "off":
            yield Finding(
                "database.url",
                f"{name} is off there",
                f"{_DURABLE}; the whole database may be lost with the power",
                f"turn it on: ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()",
            )


def _standbys(facts: Row) -> Iterator[Finding]:
    names, standbys = facts["synchronous_standbys"], facts["standbys"]
    if standbys and not names:
        yield Finding(
            "database.url",
            f"{standbys} standbys follow the server, and a commit waits for none of them",
            "after a failover what was revoked in the last moments is alive again, and a spent nonce passes twice",
            "name one: ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)', or Patroni's synchronous_mode: true",
            WARNING,
        )
    waited_for = facts["waited_for"] if facts["sees_standbys"] else standbys
    if names and not waited_for:
        yield Finding(
            "database.url",
            f"a commit waits for a standby ({names}), and none is there",
            "whatever is written waits, until the caller gives up: no token, no sign-in, no signed call",
            "start the standby, or have commits wait for none until it is back: "
            "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()",
        )


def _pooler(connection: Connection, facts: Row) -> Iterator[Finding]:
    if poolers.is_forgetful(connection):
        yield Finding(
            "database.url",
            "the pooler in between forgets prepared statements",
            "each question takes three round trips more",
            "set max_prepared_statements = 200 in PgBouncer (1.21 or newer)",
            WARNING,
        )
    if facts["statement_timeout"] == "0":
        yield Finding(
            "database.url",
            "the pooler in between keeps us from bounding a statement's time",
            "one that nobody waits for any more goes on, and keeps what it locked",
            "set it for the role",
            WARNING,
            statements=(f"ALTER ROLE {_quoted(facts['role'])} SET statement_timeout = '2s';",),
        )


def _connections(settings: Settings, facts: Row, *, serving: bool) -> Iterator[Finding]:
    bounds: list[tuple[int, str, str]] = [
        (facts["most"] - facts["used"], "the server (max_connections)", "raise max_connections, which needs a restart")
    ]
    role, database = _quoted(facts["role"]), _quoted(facts["database"])
    if facts["role_limit"] >= 0:
        mend = f"ALTER ROLE {role} CONNECTION LIMIT -1"
        bounds.append((facts["role_limit"] - facts["used_by_role"], f"the role {role}", mend))
    if facts["database_limit"] >= 0:
        mend = f"ALTER DATABASE {database} CONNECTION LIMIT -1"
        bounds.append((facts["database_limit"] - facts["used_in_database"], f"the database {database}", mend))
    spare, whose, mend = min(bounds)
    room = spare + 1 + (facts["ours"] if serving else 0)  # ours ends with this look
    once = needed(settings, settings.config.server.workers) + _OTHERS
    if room < 2 * once:
        enough = room >= once
        yield Finding(
            "database.url",
            f"{whose} leaves the gateway {room} connections, and its workers take up to {once}",
            f"a reload takes {2 * once} for a while, beside the workers from before"
            if enough
            else "under load calls and sign-ins are answered 503",
            f"{mend}; or use fewer workers, or a pooler",
            WARNING if enough else FAULT,
        )


def _in_the_clear(facts: Row, url: str) -> Iterator[Finding]:
    client = facts["client"]
    if client is None or facts["encrypted"] or client == facts["server"] or ip_address(client).is_loopback:
        return
    meant = wants_no_encryption(url)
    yield Finding(
        "database.url",
        f"the connection to {facts['server']} is not encrypted",
        "whoever is on the way reads the role's password and who signs in, and can change what is asked",
        "nothing if nobody else is on that network; else write sslmode=verify-full in the place of disable, with the "
        "server's authority in sslrootcert"
        if meant
        else "add ?sslmode=verify-full to database.url, with the server's authority in sslrootcert; or "
        "?sslmode=disable, if nobody else is on that network",
        WARNING if meant else FAULT,
    )


async def _key(settings: Settings, connection: Connection) -> AsyncIterator[Finding]:
    """The data's sealed keys and keyed checks are worth nothing under another master key."""
    if settings.keyring is None:
        return
    async with connection.transaction():
        written: Any = await connection.fetchval(queries.load()["master_key_find"].sql)
    if written is not None and written not in settings.keyring.key_ids:
        yield Finding(
            "keys.master",
            f"the key {settings.keyring.key_id.hex()} does not fit the data, which was written with {written.hex()}",
            "the gateway does not start: no token could be checked, and no signing key read",
            "restore that key, or list it under keys.previous",
        )


async def _scopes(settings: Settings, connection: Connection) -> AsyncIterator[Finding]:
    async with connection.transaction():
        rows = await connection.fetch("select name from scopes")
    defined = {row["name"] for row in rows} | settings.config.scopes.keys()
    for index, route in enumerate(settings.config.routes):
        for name in sorted(route.all_scopes - defined):
            yield Finding(
                f"routes[{index}].scopes (route {route.name})",
                f'nobody defined the scope "{name}"',
                "no client can get it, so no call passes there",
                f"gateway scope create {name} --description …, or describe it under [scopes]",
                WARNING,
            )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
