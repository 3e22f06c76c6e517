"""A role that serves with no more than it needs, and one that lacks some of it, on a real server."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from gateway.crypto import Keyring
from gateway.errors import StoreUnavailable
from gateway.store import Store
from gateway.store.migrations import migrations
from gateway.store.nonces import MINUTE
from gateway.store.privileges import lacking
from tests.store.rig import NEW_CLIENT, PASSWORD_HASH, Rig, fetch

TABLES = "SELECT, INSERT, UPDATE, DELETE"


@asynccontextmanager
async def serving_role(database: str, *, granted: bool = True) -> AsyncIterator[tuple[str, str]]:
    """A role of its own, with all that it is told to need or nothing; gives its name and its DSN."""
    role = f"serving_{os.getpid()}_{abs(hash(database)) % 10**6}"
    await fetch(database, f"create role {role} login")
    dsn = database.replace("//gateway@", f"//{role}@")
    try:
        if granted:
            await grant_all(database, dsn)
        yield role, dsn
    finally:
        await fetch(database, f"drop owned by {role}")
        await fetch(database, f"drop role {role}")


async def grant_all(database: str, dsn: str) -> None:
    """Paste what is printed, as the owner."""
    found = await lacking(dsn)
    assert found is not None
    for statement in found.grants:
        await fetch(database, statement)


async def test_the_owner_lacks_nothing(database: str) -> None:
    assert await lacking(database) is None


async def test_a_database_without_tables_asks_for_nothing_yet(empty_database: str) -> None:
    assert await lacking(empty_database) is None


async def test_a_role_without_privileges_is_told_all_that_it_lacks_and_lacks_nothing_once_it_is_pasted(
    database: str,
) -> None:
    async with serving_role(database, granted=False) as (role, dsn):
        found = await lacking(dsn)
        assert found is not None
        assert (found.role, found.owner) == (role, "gateway")
        said = "\n".join(found.grants)
        for table in ("users", "clients", "access_tokens", "events", "nonce_floor", "nonces"):
            assert f"public.{table}," in said or f"public.{table} TO" in said
        assert "GRANT SELECT ON public.schema_migrations, public.living_sessions, public.access_token_ends" in said
        assert "GRANT TRUNCATE ON public.nonces_0, public.nonces_1," in said
        await grant_all(database, dsn)
        assert await lacking(dsn) is None


@pytest.mark.parametrize(
    ("revoked", "wanted"),
    [
        ("truncate on nonces_17", "GRANT TRUNCATE ON public.nonces_17 TO {role};"),
        ("update on users", "GRANT UPDATE ON public.users TO {role};"),
        ("delete, insert on events", "GRANT INSERT, DELETE ON public.events TO {role};"),
        ("select on living_families", "GRANT SELECT ON public.living_families TO {role};"),
        ("select on schema_migrations", "GRANT SELECT ON public.schema_migrations TO {role};"),
    ],
)
async def test_one_privilege_that_is_missing_is_named_alone(database: str, revoked: str, wanted: str) -> None:
    async with serving_role(database) as (role, dsn):
        await fetch(database, f"revoke {revoked} from {role}")
        found = await lacking(dsn)
        assert found is not None
        assert found.grants == (wanted.format(role=role),)


async def test_a_schema_and_functions_that_are_closed_to_others_are_named(database: str) -> None:
    await fetch(database, "revoke usage on schema public from public")
    await fetch(database, "revoke execute on function empty_nonce_slot(integer) from public")
    async with serving_role(database, granted=False) as (role, dsn):
        found = await lacking(dsn)
        assert found is not None
        assert found.grants[0] == f"GRANT USAGE ON SCHEMA public TO {role};"
        assert f"GRANT EXECUTE ON FUNCTION public.empty_nonce_slot(slot integer) TO {role};" in found.grants
        await grant_all(database, dsn)
        assert await lacking(dsn) is None


async def test_all_that_a_migration_makes_is_looked_at(database: str) -> None:
    """What the names of the migrations' text leave out would be missed: everything that there is must be lacking."""
    async with serving_role(database, granted=False) as (_, dsn):
        found = await lacking(dsn)
        assert found is not None
        said = " ".join(found.grants).replace(",", " ").split()
        rows = await fetch(
            database,
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r','p','v')",
        )
        assert {f"public.{name}" for (name,) in rows} <= {*said}
    assert len(migrations()) > 0


async def test_a_role_that_lacks_nothing_can_do_all_that_serving_does(database: str, keyring: Keyring) -> None:
    """Sign in, consent, tokens, nonces and their forgetting, and the sweep, by a role that owns nothing."""
    async with serving_role(database) as (_, dsn):
        store = await Store.open(dsn, keyring, size=2, name="gateway-test")
        try:
            rig = await Rig.build(store, client=replace(NEW_CLIENT, token_type="mac"))
            tokens = await rig.tokens()
            tokens = await rig.refresh(tokens.refresh_token)
            assert await rig.lives(tokens)
            terms = await store.nonces.terms()
            start = int(terms.now)
            await store.nonces.raise_floor(start)
            now = (await store.nonces.terms()).terms
            await store.nonces.spend([b"n" * 16], [start], now)
            await store.nonces.raise_floor(start + 2 * MINUTE)
            assert await store.nonces.empty_slots() > 0
            assert not await fetch(database, "select from nonces")
            assert await store.users.revoke_tokens(rig.user.username)
            assert await store.clients.delete(rig.client.client_id)
            await store.upkeep.sweep()
        finally:
            await store.close()


async def test_a_privilege_that_is_lost_while_serving_is_an_outage_that_says_so(
    database: str, keyring: Keyring
) -> None:
    async with serving_role(database) as (role, dsn):
        store = await Store.open(dsn, keyring, size=2, name="gateway-test")
        try:
            await fetch(database, f"revoke insert on users from {role}")
            with pytest.raises(
                StoreUnavailable, match=r"permission denied for table users; .*`gateway migrate --status`"
            ):
                await store.users.create("ada", None, None, PASSWORD_HASH)
        finally:
            await store.close()
