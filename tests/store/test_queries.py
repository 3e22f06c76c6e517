"""The named statements: each is sound, described, used and asked for by a name that exists."""

import ast
from pathlib import Path

import asyncpg
import pytest

import gateway.store
from gateway.store import queries

STORE = Path(gateway.store.__file__).parent
VERBS = {"row", "rows", "value"}


def names_asked_for() -> set[str]:
    """Every statement's name that stands in the store's code, as an argument, a choice or a key."""
    known = queries.load()
    found = set()
    for file in STORE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VERBS:
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
            if isinstance(node, ast.Constant) and node.value in known:
                found.add(str(node.value))
    return found


async def test_statement_is_prepared_by_a_real_server(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        for name, sql in queries.load().items():
            try:
                await connection.prepare(sql)
            except asyncpg.PostgresError as exc:
                pytest.fail(f"{name}: {exc}")
    finally:
        await connection.close()


def test_statements_are_all_used_and_all_there() -> None:
    assert names_asked_for() == set(queries.load())


def test_statement_carries_its_name_for_the_operator() -> None:
    assert all(sql.startswith(f"-- {name}\n") for name, sql in queries.load().items())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("select 1;", "before the first"),
        ("-- name: one\nselect 1;", "no description"),
        ("-- name: one\n-- It does.\nselect 1;\n-- name: one\n-- Again.\nselect 2;", "twice"),
    ],
)
def test_malformed_file_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "bad.sql"
    file.write_text(text)
    with pytest.raises(ValueError, match=fault):
        queries.parse([file])


def test_statements_of_a_file_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "good.sql"
    file.write_text("-- name: one\n-- It does.\n\nselect 1\n  -- why\n  + 1;\n\n-- name: two\n-- So too.\nselect 2;\n")
    assert queries.parse([file]) == {"one": "-- one\nselect 1\n  + 1", "two": "-- two\nselect 2"}
