"""The schema's history: forward only, exactly once, and never silently different."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from gateway.crypto import Keyring
from gateway.faults import OperatorError
from gateway.store import Store, migrations
from gateway.store.migrations import Migration, migrate, pending, status
from tests.store.rig import fetch

ONE, TWO, THREE = (Migration(f"000{n}_step", f"select {n};") for n in (1, 2, 3))


def applied(*steps: Migration) -> dict[str, str]:
    return {step.name: step.checksum for step in steps}


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Another history than ours: files by name, with their text."""
    monkeypatch.setattr(migrations, "folder", lambda _: tmp_path)
    (tmp_path / "migrations").mkdir()

    def write(**files: str) -> None:
        for name, sql in files.items():
            (tmp_path / "migrations" / f"{name.removeprefix('m')}.sql").write_text(sql)
        migrations.migrations.cache_clear()

    yield write
    migrations.migrations.cache_clear()


async def test_empty_database_gets_the_whole_schema_once(empty_database: str) -> None:
    before = await status(empty_database)
    names = [migration.name for migration in migrations.migrations()]
    assert before == [(name, None) for name in names]
    assert await migrate(empty_database) == names
    assert await migrate(empty_database) == []
    after = await status(empty_database)
    assert [name for name, _ in after] == names
    assert all(at is not None for _, at in after)


async def test_processes_that_start_at_once_apply_each_once(empty_database: str) -> None:
    results = await asyncio.gather(*(migrate(empty_database) for _ in range(6)))
    names = [migration.name for migration in migrations.migrations()]
    assert sorted(name for result in results for name in result) == names
    assert len(await fetch(empty_database, "select * from schema_migrations")) == len(names)


@pytest.mark.parametrize(
    ("known", "done", "left"),
    [
        ((ONE, TWO), applied(), [ONE, TWO]),
        ((ONE, TWO), applied(ONE), [TWO]),
        ((ONE, TWO), applied(ONE, TWO), []),
        ((), applied(), []),
    ],
)
def test_pending_is_what_follows_the_applied(
    known: tuple[Migration, ...], done: dict[str, str], left: list[Migration]
) -> None:
    assert pending(known, done) == left


@pytest.mark.parametrize(
    ("known", "done", "fault"),
    [
        ((ONE, TWO), {"0001_step": "another"}, "0001_step.sql was changed"),
        ((TWO, THREE), applied(ONE, TWO), "0001_step.sql was applied to this database but is missing"),
        ((ONE,), applied(ONE, TWO), "newer than this version: 0002_step"),
        ((), applied(ONE), "newer than this version"),
        ((ONE, TWO, THREE), applied(ONE, THREE), "0002_step.sql comes before 0003_step"),
        ((ONE, TWO), {"0001_people": "", "0014_client_metadata": ""}, "made by an unreleased version"),
    ],
)
def test_history_that_does_not_agree_stops(known: tuple[Migration, ...], done: dict[str, str], fault: str) -> None:
    with pytest.raises(OperatorError, match=fault):
        pending(known, done)


@pytest.mark.parametrize("first", ["0001_people", "0001_users"])
def test_no_history_of_an_unreleased_version_passes_for_one_of_ours(first: str) -> None:
    with pytest.raises(OperatorError, match="made by an unreleased version"):
        pending(migrations.migrations(), {first: "", "0029_ended_codes": ""})


async def test_changed_file_is_told_by_migrate_and_status(empty_database: str, history: Callable[..., None]) -> None:
    history(m0001_a="create table a (n integer);")
    await migrate(empty_database)
    history(m0001_a="create table a (n bigint);")
    for attempt in (migrate, status):
        with pytest.raises(OperatorError, match=r"0001_a\.sql was changed after it had been applied"):
            await attempt(empty_database)


async def test_database_of_an_unreleased_version_is_told_and_left_as_it_is(
    empty_database: str, keyring: Keyring, history: Callable[..., None], tmp_path: Path
) -> None:
    history(m0001_people="create table users (name text); insert into users values ('ada');")
    await migrate(empty_database)
    (tmp_path / "migrations" / "0001_people.sql").unlink()
    history(m0001_users="create table users (subject text);")
    for attempt in (migrate(empty_database), status(empty_database), Store.open(empty_database, keyring)):
        with pytest.raises(OperatorError, match=r"made by an unreleased version, .* make a new database"):
            await attempt
    assert [row["name"] for row in await fetch(empty_database, "select name from users")] == ["ada"]
    assert [row["name"] for row in await fetch(empty_database, "select * from schema_migrations")] == ["0001_people"]


async def test_line_ends_of_a_checkout_are_no_change(empty_database: str, history: Callable[..., None]) -> None:
    history(m0001_a="create table a (\nn integer);\n")
    await migrate(empty_database)
    history(m0001_a="create table a (\r\nn integer);\r\n")
    assert await migrate(empty_database) == []


async def test_failing_migration_leaves_nothing_half_done(empty_database: str, history: Callable[..., None]) -> None:
    history(m0001_a="create table a (n integer);", m0002_b="create table b (n integer); select 1/0;")
    with pytest.raises(OperatorError, match="the migration failed: division by zero"):
        await migrate(empty_database)
    tables = await fetch(empty_database, "select tablename from pg_tables where schemaname = 'public' order by 1")
    assert [row["tablename"] for row in tables] == ["a", "schema_migrations"]
    assert (await status(empty_database))[1] == ("0002_b", None)


async def test_marked_migration_runs_outside_of_a_transaction(
    empty_database: str, history: Callable[..., None]
) -> None:
    history(
        m0001_a="create table a (n integer);",
        m0002_b="-- gateway: no transaction\ncreate index concurrently if not exists a_n on a (n);",
    )
    assert await migrate(empty_database) == ["0001_a", "0002_b"]
    assert await fetch(empty_database, "select from pg_indexes where indexname = 'a_n'")


async def test_lock_that_is_held_is_waited_for_and_then_told(
    empty_database: str, history: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    history(m0001_a="create table a (n integer);")
    await migrate(empty_database)
    history(m0002_b="alter table a add column m integer;")
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(migrations, "_PAUSE", 0.01)
    holder = await asyncpg.connect(empty_database)
    async with holder.transaction():
        await holder.execute("lock table a in access share mode")
        with pytest.raises(OperatorError, match="something holds a lock that the migration needs"):
            await migrate(empty_database)
        waiting = asyncio.create_task(migrate(empty_database))
        await asyncio.sleep(0)
    assert await waiting == ["0002_b"]
    await holder.close()


@pytest.mark.parametrize("name", ["m1_short", "m0001_Upper"])
def test_misnamed_file_is_told(history: Callable[..., None], name: str) -> None:
    history(**{name: "select 1;"})
    with pytest.raises(OperatorError, match="a migration is named NNNN_what_it_does"):
        migrations.migrations()


def test_two_files_of_one_number_are_told(history: Callable[..., None]) -> None:
    history(m0001_a="select 1;", m0001_b="select 1;")
    with pytest.raises(OperatorError, match="two files have the same number"):
        migrations.migrations()
