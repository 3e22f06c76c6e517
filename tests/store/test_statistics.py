"""No statistics lead a statement astray: it reads about as much whatever the server believes of the tables.

The server guesses by statistics how many rows a condition leaves, and plans by that: where it guesses wrong, it may
walk through all tokens of a client to find one. So every statement is asked three times over,

    old         with statistics of a time when each table had some ten rows
    never       with none, as after a restore
    analysed    with those of now

and each time by the plan for its arguments and by the one for any (`plan_cache_mode`), since a connection uses both.
What it reads is counted in buffers, which are the same however busy the machine is.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from gateway.store import queries
from gateway.store.queries import Query
from tests import databases

FACTOR: Final = 2
ALLOWANCE: Final = 4  # buffers: a table of one page may be read whole, or an index looked at in vain
MODES: Final = ("force_generic_plan", "force_custom_plan")

TOKENS: Final = 250_000
USERS: Final = 25_000
CLIENTS: Final = 60

_PERSON: Final = f"'u' || n % {USERS}"
_CLIENT: Final = f"'c' || n % {CLIENTS}"
_REQUEST: Final = """'{"scopes": ["read", "write"], "resource": ["r0"]}'::jsonb"""
_END: Final = "now() + case when n % 20 = 0 then interval '-1 hour' else interval '1 hour' end"

# How many rows a table has, and its row n. Digests are numbers. Of the access tokens each client has some 4,000; half
# of them have a family, the others are the clients' own.
TABLES: Final[Mapping[str, tuple[int, str]]] = {
    "users": (
        USERS,
        ("'u' || n, 'user' || n, 'user' || n || '@example.com', null, '$argon2id$', 0, 0, now(), null"),
    ),
    "clients": (
        CLIENTS,
        (
            "'c' || n, 'Client ' || n, null, 'u' || n, null, null, null, true, null, '{https://client.example}', "
            "'{authorization_code}', '{read,write}', null, '{}', 'bearer', 'opaque', '{01}', 'hmac-sha-256', true, "
            "false, false, '{}', false, true, '{}', 0, now()"
        ),
    ),
    "client_secrets": (2 * CLIENTS, f"int8send(n), {_CLIENT}, now(), {_END}"),
    "client_logos": (CLIENTS, "'c' || n, 'logo' || n, 'fake'"),
    "scopes": (100, "'scope' || n, 'Scope', now()"),
    "sessions": (USERS, f"'s' || n, int8send(n), {_PERSON}, 0, now(), {_END}, null, null, null"),
    "pairwise_subjects": (USERS, f"'client.example', {_PERSON}, 'p' || n"),
    "logouts": (USERS, f"'l' || n, {_CLIENT}, {_PERSON}, 's' || n, now(), {_END}, 0"),
    "scope_uses": (CLIENTS, "'c' || n, 'read', now()"),
    "failed_attempts": (USERS, f"int8send(n), '', 1, {_END} - interval '1 hour'"),
    "grants": (
        2 * USERS,
        (
            f"'g' || n, {_PERSON}, {_CLIENT}, '{{read,write}}', array['r' || n / {USERS}], now(), now(), "
            "null, case when n % 20 = 0 then now() end"
        ),
    ),
    "flows": (
        USERS,
        (f"'f' || n, {_PERSON}, {_CLIENT}, {_REQUEST}, now(), {_END}, 'granted', '{{read}}', int8send(n), null"),
    ),
    "pushed_requests": (USERS, f"int8send(n), {_CLIENT}, {_REQUEST}, now(), {_END}, ''::bytea, null"),
    "device_codes": (
        USERS,
        f"int8send(n), int8send(n), {_CLIENT}, '{{read}}', '{{}}', now(), {_END}, 5, null, null, null",
    ),
    "families": (
        2 * USERS,
        (
            f"'f' || n, 'g' || n, '{{read,write}}', '{{}}', '{{}}', '{{}}', 0, 0, null, null, 'password', null, now(), "
            f"{_END}"
        ),
    ),
    "codes": (
        2 * USERS,
        (
            f"int8send(n), 'g' || n, {_REQUEST}, '{{read,write}}', 0, 0, null, null, 'password', now(), "
            f"case when n = 13 then '2100-01-01' else {_END} end, "
            "case when n % 2 = 0 then now() end, case when n % 2 = 0 then 'f' || n end"
        ),
    ),
    "refresh_tokens": (TOKENS // 2, f"int8send(n), 'f' || n % {2 * USERS}, '', now(), {_END}, null, null"),
    "access_tokens": (
        TOKENS,
        (
            f"int8send(n), {_CLIENT}, case when n % 2 = 0 then {_PERSON} end, "
            f"case when n % 2 = 0 then 'f' || n % {2 * USERS} end, 0, case when n % 2 = 0 then 0 end, '{{read}}', "
            f"'{{}}', 'bearer', null, null, null, now(), {_END}, null, null"
        ),
    ),
    "registrations": (CLIENTS - 1, f"'c' || n, int8send(n), '{{}}', interval '30 days', {_END}"),
    "registration_attempts": (USERS, f"'192.0.2.' || n % 250, {_END} - interval '1 hour'"),
    "registration_tokens": (100, f"int8send(n), now(), {_END}, 1"),
    "token_nonces": (USERS, f"int8send(n), {_END}"),
    "nonces": (USERS, "n % 32, int8send(n)"),
    "events": (
        USERS,
        (
            f"-n, {_END} - interval '1 year', 'token.issued', {_PERSON}, {_CLIENT}, '{{}}', 'r' || n, '192.0.2.7', "
            "'client:c1', case when n % 500 > 0 then n end, int8send(n)"
        ),
    ),
    "rate_buckets": (USERS, f"int8send(n), {_END} - interval '1 hour', 1, {_END} - interval '1 hour'"),
    "quotas": (USERS, "'2020-01-01'::date, int8send(n), 100, 10, 1, 1"),
    "rate_workers": (100, "int8send(n), now()"),
    "changes": (USERS, f"-n, {_END} - interval '1 day', 'user', {_PERSON}"),
}

# What parameters stand for, in SQL; the same for all statements but those below.
VALUES: Final[Mapping[str, str]] = {
    "access_expires_at": "now()",
    "access_token": "int8send(-1)",
    "actor": "'operator:root'",
    "address": "'192.0.2.7'",
    "addresses": "array['192.0.2.7']",
    "accounts": "array[int8send(12), int8send(13)]",
    "after": "-20",
    "algorithm": "'ES256'",
    "allow_groups": "'{}'",
    "allowed": "'{read}'",
    "ahead": "1200",
    "asked": "'{1}'",
    "at": "array[now()]",
    "base_link": "'fake'",
    "base_seq": "0",
    "batch": "1000",
    "before": "now()",
    "block": "200",
    "browser": "''",
    "browsers": "array[''::bytea, '']",
    "by": "'authorization_code'",
    "cause": "'fake'",
    "causes": "array['wrong password']",
    "claims": "'{}'",
    "client_generation": "0",
    "client_id": "'c12'",
    "client_ids": "array['c12']",
    "code": "int8send(-1)",
    "code_expires_at": "'2100-01-01'",
    "confidential": "true",
    "content": "'fake'",
    "decided": "'{}'",
    "decision": "'denied'",
    "description": "'Fake'",
    "detail": "'{}'",
    "checksum": "''",
    "databases": "array['']",
    "default_scopes": "null",
    "digest": "int8send(13)",
    "digests": f"array[{', '.join(f'int8send({n * 1237 % TOKENS})' for n in range(1, 65))}]",
    "dpop_required": "false",
    "email": "'new@example.com'",
    "email_verified": "false",
    "event_ids": "array[-500, -1000]",
    "expires_at": "now()",
    "expiries": "array[now(), now()]",
    "failures": "array[1, 1]",
    "greatest": "int8send(15)",
    "id": "20",
    "idle": "interval '30 days'",
    "issued_before": "null",
    "least": "int8send(13)",
    "family_id": "'f13'",
    "family_jkt": "null",
    "first_party": "false",
    "floor": "0",
    "fresh": "array[int8send(-1)]",
    "flow_expires_at": "'2100-01-01'",
    "flow_id": "'f13'",
    "grant_id": "'new'",
    "grant_ids": "'{g12,g13}'",
    "grant_types": "'{}'",
    "groups": "'{}'",
    "homepage": "null",
    "jkt": "null",
    "jwks": "null",
    "kept": "interval '1 hour'",
    "key_id": "'fake'",
    "keys": "array[int8send(-1), int8send(-2)]",
    "kind": "'token'",
    "kid": "'k1'",
    "kids": "array['k1']",
    "known_as": "'new'",
    "kinds": "array['sign_in.failed']",
    "link": "'fake'",
    "last_failed_at": "array[now(), now()]",
    "lock": "1",
    "lease": "interval '30 seconds'",
    "logout_id": "'l13'",
    "login": "'user12@example.com'",
    "logo": "null",
    "mac": "'fake'",
    "mac_algorithm": "'hmac-sha-256'",
    "mac_drafts": "'{01}'",
    "mac_key": "null",
    "metadata": "'{}'",
    "most": "200",
    "name": "'logo12'",
    "names": "array['read']",
    "new_username": "null",
    "newest": "-1",
    "newest_at": "now()",
    "namespace": "'public'::regnamespace",
    "now": "now()",
    "old": "array[int8send(-1)]",
    "openid": "'{}'",
    "overlap": "interval '0'",
    "owner": "'u12'",
    "old_hash": "'$argon2id$'",
    "par_required": "false",
    "pace": "5",
    "password_hash": "'$argon2id$'",
    "pkce_required": "true",
    "place": "'192.0.2.7'",
    "privacy": "null",
    "proof": "'fake'",
    "public": "'{}'",
    "proofs": "array['fake'::bytea, 'fake']",
    "redirect_uris": "'{}'",
    "refresh_expires_at": "now()",
    "remember": "false",
    "request": _REQUEST,
    "request_id": "'r1'",
    "request_ids": "array['r1']",
    "resource": "'{r0}'",
    "rest": "interval '15 minutes'",
    "salt": "''",
    "scope": "'write'",
    "schema": "'public'",
    "scopes": "'{read}'",
    "sector": "'client.example'",
    "sealed": "'fake'",
    "sealed_before": "'fake'",
    "sealed_code": "'fake'",
    "sealed_key": "'fake'",
    "seconds": "'{0,60}'",
    "secret_digest": "int8send(12)",
    "seq": "20",
    "seqs": "array[30001, 30002]",
    "session_id": "'s13'",
    "signs_from": "now()",
    "since": "now()",
    "slot": "30",
    "subject": "'u13'",
    "subjects": "array['u12']",
    "successor": "null",
    "terms": "null",
    "timeline": "'00000001'",
    "token_format": "'opaque'",
    "token_type": "'bearer'",
    "until": "now()",
    "unused_since": "null",
    "used": "null",
    "user_code": "int8send(13)",
    "user_agent": "null",
    "user_generation": "0",
    "username": "'user12'",
    "uses": "1",
    "verified": "true",
    "worker": "int8send(-1)",
    "part": "0.1",
    "grows": "'{true}'",
    "days": "array['2020-01-01'::date]",
    "unspent": "'{1}'",
    "why": "'code.replayed'",
}
OF: Final[Mapping[str, Mapping[str, str]]] = {
    "client_create": {"client_id": "'new'", "secret_digest": "int8send(-1)"},
    "nonce_floor_raise": {"before": "0"},
    "privileges_lacking": {"names": "array['users', 'nonces', 'clients']"},
    "schema_grants": {"names": "array['users', 'nonces', 'clients']"},
    "schema_objects": {"names": "array['users', 'nonces', 'clients']"},
    "table_columns": {"name": "'users'"},
    "tables_kept": {"names": "array['users', 'nonces', 'clients']"},
    "device_code_add": {"digest": "int8send(-1)", "user_code": "int8send(-1)"},
    "access_tokens_since_before": {"after": "int8send(13)"},
    "events_before": {"before": "0"},
    "logout_again": {"after": "interval '5 seconds'"},
    "mac_keys_reseal": {"digests": "array[int8send(13)]"},
    "mac_keys_under_others": {"after": "int8send(13)"},
    "refresh_tokens_since_before": {"after": "int8send(13)"},
    "events_set_aside": {"seq": "30000"},
    "failures_note": {"failures": "array[1]", "proofs": "array['fake'::bytea]"},
    "flow_allow": {"flow_id": "'new'"},
    "flow_deny": {"flow_id": "'new'"},
    "grants_revoke": {"grant_id": "'g13'"},
    "scope_create": {"name": "'new'"},
    "scope_delete": {"name": "'scope12'"},
    "pushed_request_add": {"digest": "int8send(-1)"},
    "secret_add": {"secret_digest": "int8send(-1)"},
    "quotas_take": {
        "keys": "array[int8send(-1)]",
        "most": "'{100}'",
        "asked": "'{1}'",
    },
    "quotas_give_back": {"days": "array['2020-01-01'::date]", "keys": "array[int8send(12)]"},
    "quotas_count": {"most": "10"},
    "rates_tell": {"keys": "array[int8send(-1)]", "seconds": "'{1}'"},
    "registration_add": {"client_id": "'c60'", "digest": "int8send(-1)"},
    "registration_token_create": {"digest": "int8send(-1)"},
    "session_start": {"session_id": "'new'", "digest": "int8send(-1)"},
    "sessions_end": {"session_id": "null"},
    "tokens_issue": {"code": "int8send(13)", "family_id": "'new'", "mac_algorithm": "null"},
    "user_create": {"subject": "'new'", "username": "'new'"},
}


# What some statements are asked with besides: where null stands for all, and a person or a client for all of theirs.
ALL: Final = {"subject": "null", "scope": "null"}
ALSO: Final[Mapping[str, tuple[Mapping[str, str], ...]]] = {
    "grants_find": ({"scope": "'read'"}, ALL, ALL | {"client_id": "null"}),
    "grants_revoke": ({"grant_id": "null"}, {"grant_id": "null", "subject": "null"}),
    "sessions_list": ({"subject": "null"},),
    "sessions_revoke": ({"session_id": "'s13'"},),
    "tokens_list": ({"subject": "'u12'", "scope": "'read'"}, ALL, ALL | {"client_id": "null"}),
}


@asynccontextmanager
async def filled(server: str, template: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with all those rows, whose statistics are old."""
    async with databases.made(server, template) as dsn:
        connection = await asyncpg.connect(dsn)
        try:
            await _fill(connection, 1, 10)
            await connection.execute("analyze")
            await _fill(connection, 11, TOKENS)
            yield connection
        finally:
            await connection.close()


async def _fill(connection: asyncpg.Connection, first: int, last: int) -> None:
    await connection.execute("set session_replication_role = replica")  # the rows fit together, without being looked at
    for table, (count, row) in TABLES.items():
        numbers = f"generate_series({first}, {min(last, count)}) as n"
        await connection.execute(f"insert into {table} overriding system value select {row} from {numbers}")
    await connection.execute("set session_replication_role = origin")


async def _forget_statistics(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "select pg_clear_attribute_stats(schemaname, tablename, attname, inherited) from pg_stats "
        "where schemaname = 'public'"
    )
    await connection.execute(
        "select pg_clear_relation_stats('public', relname) from pg_class "
        "where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'i')"
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement, and what it is asked with besides VALUES."""

    query: Query
    besides: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.query.name} {dict(self.besides)}"

    @property
    def arguments(self) -> str:
        values = [{**VALUES, **self.besides}[parameter] for parameter in self.query.parameters]
        return f"({', '.join(values)})" if values else ""


def _asked() -> list[Asked]:
    """Every statement, some several times over."""
    return [
        Asked(query, {**OF.get(name, {}), **also})
        for name, query in queries.load().items()
        for also in ({}, *ALSO.get(name, ()))
    ]


async def _buffers(connection: asyncpg.Connection, asked: Asked, *, readonly: bool = False) -> int:
    """What a statement reads; whatever it writes is undone."""
    explain = "explain (analyze, buffers, timing off, format json)"
    await connection.execute(f"prepare asked as {asked.query.sql}")
    transaction = connection.transaction(readonly=readonly)
    await transaction.start()
    try:
        answer = await connection.fetchval(f"{explain} execute asked{asked.arguments}")
    except asyncpg.ReadOnlySQLTransactionError:
        raise
    except asyncpg.PostgresError as exc:
        raise AssertionError(f"{asked} cannot be asked with the values that stand here: {exc}") from exc
    finally:
        await transaction.rollback()
        await connection.execute("deallocate asked")
    return _read(json.loads(answer)[0]["Plan"])


async def _writes(connection: asyncpg.Connection, asked: Asked) -> bool:
    """Whether a statement leaves something behind, also where that is undone."""
    try:
        await _buffers(connection, asked, readonly=True)
    except asyncpg.ReadOnlySQLTransactionError:
        return True
    return False


async def _least(connection: asyncpg.Connection, asked: Asked) -> int:
    """The buffers of a statement, which is asked again where they are many: what other tests change in their databases
    may have the server forget at any time what it knows of the tables here, and look it up in the midst of it."""
    count = await _buffers(connection, asked)
    return count if count <= ALLOWANCE else min(count, await _buffers(connection, asked))


def _read(plan: dict[str, Any]) -> int:
    """The buffers of a statement, and of each part that it begins with: one may run after the end of the others."""
    parts = [part for part in plan.get("Plans", ()) if part.get("Subplan Name", "").startswith("CTE ")]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"]) + sum(map(_read, parts))


async def _measured(connection: asyncpg.Connection) -> dict[str, int]:
    """The buffers of each statement in each mode: those that read before those that leave dead rows in their way."""
    reading, writing = list[Asked](), list[Asked]()
    for asked in _asked():
        (writing if await _writes(connection, asked) else reading).append(asked)
    found = dict[str, int]()
    for some in (reading, writing):
        for asked in some:
            await _buffers(connection, asked)  # what the server looks up about tables for the first time is not counted
        for mode in MODES:
            await connection.execute(f"set plan_cache_mode = {mode}")
            found |= {f"{asked} ({mode})": await _least(connection, asked) for asked in some}
    await connection.execute("vacuum")
    return found


def test_every_parameter_has_a_value() -> None:
    """A new statement is held to the same: here stands what it is asked with."""
    used = {parameter for query in queries.load().values() for parameter in query.parameters}
    assert set(VALUES) == used
    for name, values in (*OF.items(), *((name, values) for name, several in ALSO.items() for values in several)):
        assert set(values) <= set(queries.load()[name].parameters), name


async def test_statement_reads_as_much_whatever_the_statistics(server: str, template: str) -> None:
    async with filled(server, template) as connection:
        old = await _measured(connection)
        await _forget_statistics(connection)
        never = await _measured(connection)
        await connection.execute("analyze")
        analysed = await _measured(connection)
    astray = []
    for asked, *counts in ((asked, old[asked], never[asked], analysed[asked]) for asked in old):
        if max(counts) > FACTOR * min(counts) + ALLOWANCE:
            astray.append(f"{asked}: {', '.join(map(str, counts))} buffers")
    assert not astray, "old, never, analysed:\n" + "\n".join(astray)
