"""What a restored database must not bring back: tokens, sessions and grants that were ended after the backup.

The file cannot know them; the database that is being replaced does, if it is the same one as it went on (its *lineage*
tells). What it knows is carried over:

    ended there       a token, session, grant or connection that was revoked, expired or removed is dead here too
    disabled there    a person or client is disabled here too
    deleted there     who was deleted comes back disabled, so that the operator decides
    spent there       an initial access token that was used or revoked is so here too
    credentials       passwords and client secrets are those of the replaced database: an old one may be known to others
    rotation          a refresh token that was used is used here too, and its successor goes on
    records           audit events, wrong guesses, and nonces that count as long as their token

Where no such database answers, the operator decides between an end of all tokens and sessions, and the backup's word.
Tokens of MAC draft 00, whose nonces count as long as they do, end in either case: what they signed could pass again.

What lived in the backup and is dead now, and what lived in the replaced database and is gone, is found by looking at
all that lives, before and after; so nothing is told that no statement here had in mind.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from msgspec import Struct, field

from gateway.store.pool import Connection

MOST_NAMED: Final = 100  # of a kind; all are counted


class Fate(Enum):
    """What becomes of tokens and sessions that live in the backup."""

    CARRY_OVER = "carry over"  # what the replaced database has ended is dead, the rest lives
    END = "end"  # all of them end
    TRUST = "trust"  # all of them live


class Some(Struct, frozen=True):
    """How many of a kind, and the first of them by name."""

    count: int
    names: tuple[str, ...]


Kinds = Mapping[str, Some]  # by kind: users, clients, grants, connections, tokens, sessions


class Revival(Struct, frozen=True, kw_only=True):
    """What of a backup lives after a restore, and what does not, by kind. `living` is filled only where nobody knows
    what was ended since the backup."""

    ended: Kinds  # lived in the backup, and is dead
    lost: Kinds = field(default_factory=dict)  # lived in the replaced database, and is gone
    living: Kinds = field(default_factory=dict)
    changed: Kinds = field(default_factory=dict)


# All that lives: what it is, what tells it from others, and how a person knows it.
_LIVING: Final = """
select 'users' as kind, subject as key, username as name from users where disabled_at is null
union all
select 'clients', client_id, client_id || ' (' || name || ')' from clients where disabled_at is null
union all
select 'grants', g.grant_id, u.username || ' to ' || g.client_id || ': ' || array_to_string(g.scopes, ' ')
from grants g join users u using (subject) join clients c using (client_id)
where g.revoked_at is null and u.disabled_at is null and c.disabled_at is null
union all
select 'connections', family_id, username || ' by ' || client_id from living_families where expires_at > now()
union all
select 'tokens', encode(digest, 'hex'), left(encode(digest, 'hex'), 12) || '… of ' || client_id
    || coalesce(' for ' || username, '')
from living_access_tokens where expires_at > now()
union all
select 'sessions', session_id, username || ', signed in ' || to_char(signed_in_at, 'YYYY-MM-DD HH24:MI"Z"')
from living_sessions where expires_at > now()"""

_NAMED: Final = f"""
select kind, count(*) as count, (array_agg(name order by name, key))[:{MOST_NAMED}] as names
from """  # noqa: S608 -- a constant

# In this order. {old} is the schema of the replaced tables.
_CARRIED_OVER: Final = (
    """
update users n set generation = greatest(n.generation, o.generation),
    session_generation = greatest(n.session_generation, o.session_generation),
    disabled_at = coalesce(n.disabled_at, o.disabled_at), password_hash = o.password_hash
from {old}.users o where o.subject = n.subject""",
    """
update users n set generation = generation + 1, session_generation = session_generation + 1,
    disabled_at = coalesce(disabled_at, now())
where not exists (select from {old}.users o where o.subject = n.subject)""",
    """
update clients n set generation = greatest(n.generation, o.generation),
    disabled_at = coalesce(n.disabled_at, o.disabled_at)
from {old}.clients o where o.client_id = n.client_id""",
    """
update clients n set generation = generation + 1, disabled_at = coalesce(disabled_at, now())
where not exists (select from {old}.clients o where o.client_id = n.client_id)""",
    """
delete from client_secrets n using {old}.clients o where o.client_id = n.client_id""",
    """
insert into client_secrets select o.* from {old}.client_secrets o join clients n using (client_id)""",
    """
update grants n set revoked_at = coalesce(n.revoked_at, o.revoked_at),
    scopes = array(select unnest(n.scopes) intersect select unnest(o.scopes) order by 1)
from {old}.grants o where o.grant_id = n.grant_id""",
    """
update grants n set revoked_at = now()
where revoked_at is null and not exists (select from {old}.grants o where o.grant_id = n.grant_id)""",
    """
update families n set revoked_at = coalesce(n.revoked_at, o.revoked_at)
from {old}.families o where o.family_id = n.family_id and n.revoked_at is null and o.revoked_at is not null""",
    """
update families n set revoked_at = now()
where revoked_at is null and not exists (select from {old}.families o where o.family_id = n.family_id)""",
    """
delete from refresh_tokens n using {old}.refresh_tokens o
where o.digest = n.digest and (o.spent_at, o.successor) is distinct from (n.spent_at, n.successor)""",
    """
insert into refresh_tokens select o.* from {old}.refresh_tokens o join families n using (family_id)
on conflict do nothing""",
    """
update access_tokens n set revoked_at = coalesce(n.revoked_at, o.revoked_at),
    expires_at = least(n.expires_at, o.expires_at)
from {old}.access_tokens o
where o.digest = n.digest
    and (n.revoked_at is null and o.revoked_at is not null or o.expires_at < n.expires_at)""",
    """
update access_tokens n set revoked_at = now()
where revoked_at is null and not exists (select from {old}.access_tokens o where o.digest = n.digest)""",
    """
delete from sessions n where not exists (select from {old}.sessions o where o.session_id = n.session_id)""",
    """
update registrations n set expires_at = greatest(n.expires_at, o.expires_at)
from {old}.registrations o where o.client_id = n.client_id""",
    """
update registration_tokens n set uses_left = least(n.uses_left, o.uses_left)
from {old}.registration_tokens o where o.digest = n.digest""",
    """
delete from registration_tokens n
where not exists (select from {old}.registration_tokens o where o.digest = n.digest)""",
)

# What is never taken back, whatever becomes of tokens: the audit record with all that proves it, and what was spent.
_RECORDS: Final = """
select relname::text from pg_class
where relnamespace = current_schema()::regnamespace and relkind = 'r'
    and (relname like 'event%' or relname in ('failed_attempts', 'token_nonces'))"""

_ENDED: Final = (
    "update users set generation = generation + 1, session_generation = session_generation + 1",
    "update clients set generation = generation + 1",
    "update families set revoked_at = now() where revoked_at is null",
    "update access_tokens set revoked_at = now() where revoked_at is null",
    "delete from sessions",
    "delete from registration_tokens",
)

_REPLAYABLE: Final = """
update access_tokens t set revoked_at = now()
from clients c
where c.client_id = t.client_id and t.token_type = 'mac' and '00' = any (c.mac_drafts) and t.revoked_at is null"""

_CHANGED: Final = """
select 'passwords' as kind, n.subject as key, n.username as name
from users n join {old}.users o using (subject) where o.password_hash <> n.password_hash
union all
select 'secrets', n.client_id, n.client_id || ' (' || n.name || ')'
from clients n join {old}.clients using (client_id)
where array(select digest from client_secrets s where s.client_id = n.client_id order by 1)
    <> array(select digest from {old}.client_secrets s where s.client_id = n.client_id order by 1)
union all
select 'registrations', n.client_id, n.client_id || ' (' || n.name || ')'
from clients n join {old}.clients o using (client_id)
where to_jsonb(n) - '{{generation,disabled_at}}'::text[] <> to_jsonb(o) - '{{generation,disabled_at}}'::text[]
union all
select 'accounts', n.subject, n.username
from users n join {old}.users o using (subject)
where (n.username, n.email, n.name) is distinct from (o.username, o.email, o.name)"""


async def look_at_replaced(connection: Connection, old: str, path: str) -> None:
    """Remember what lives in the replaced tables. `path` is the search path to go on with."""
    await connection.execute(f"set local search_path to {old}")
    await _remember(connection, "living_in_replaced")
    await connection.execute(f"set local search_path to {path}")


async def keep_ended(connection: Connection, fate: Fate, old: str | None, *, nonces_known: bool = False) -> Revival:
    """End what must not live, in the tables that were loaded just now.

    `old` is the schema of the replaced tables, if they are this database's as it went on. `nonces_known` says that
    nothing can have been signed since the backup.
    """
    await _remember(connection, "living_in_backup")
    changed: Kinds = {}
    if old is not None:
        changed = await _carry_over(connection, fate, old)
    elif not nonces_known:
        await connection.execute(_REPLAYABLE)
    if fate is Fate.END:
        for statement in _ENDED:
            await connection.execute(statement)
    await _remember(connection, "living_now")
    difference = "living_in_{} b where not exists (select from living_now n where (n.kind, n.key) = (b.kind, b.key))"
    return Revival(
        ended=await _named(connection, difference.format("backup")),
        lost={} if old is None else await _named(connection, difference.format("replaced")),
        living={} if old is not None else await _named(connection, "living_now"),
        changed=changed,
    )


async def _carry_over(connection: Connection, fate: Fate, old: str) -> Kinds:
    for (table,) in await connection.fetch(_RECORDS):
        await connection.execute(f"delete from {table}")  # noqa: S608 -- names of ours
        statement = f"insert into {table} overriding system value select * from {old}.{table}"  # noqa: S608 -- as above
        await connection.execute(statement)
    changed = await _named(connection, f"({_CHANGED.format(old=old)}) as changed")
    if fate is Fate.TRUST:
        return {kind: some for kind, some in changed.items() if kind in ("registrations", "accounts")}
    for statement in _CARRIED_OVER:
        await connection.execute(statement.format(old=old))
    return changed


async def _remember(connection: Connection, name: str) -> None:
    await connection.execute(f"create temp table {name} on commit drop as {_LIVING}")
    await connection.execute(f"analyze {name}")


async def _named(connection: Connection, rows: str) -> Kinds:
    found = await connection.fetch(f"{_NAMED} {rows} group by kind")
    return {row["kind"]: Some(row["count"], tuple(row["names"])) for row in found}
