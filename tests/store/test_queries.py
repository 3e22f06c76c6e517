"""The named statements: each is sound, described, used and asked for by a name that exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

import gateway.store
from gateway.resources import folder
from gateway.store import queries
from gateway.store.database import Statements
from gateway.store.queries import Query

STORE = Path(gateway.store.__file__).parent
PACKAGE = STORE.parent
VERBS = {"row", "rows", "value"}


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the store's code of a statement by its name."""
    for file in STORE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VERBS:
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value, node


def names_asked_for() -> set[str]:
    """Every statement's name that stands in the store's code, as an argument, a choice or a key."""
    known = queries.load()
    texts = {
        str(node.value)
        for file in STORE.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and node.value in known
    }
    return texts | {name for name, _ in calls()}


def texts(file: Path) -> Iterator[ast.Constant]:
    """Every text in a file's code but those that describe something."""
    tree = ast.parse(file.read_text())
    described = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in described:
            yield node


def test_parameters_are_numbered_by_nobody_but_the_compiler() -> None:
    """Neither in the program's texts nor in the files of SQL."""
    numbered = re.compile(r"\$\d")
    found = [
        f"{file.relative_to(PACKAGE)}:{node.lineno}"
        for file in PACKAGE.rglob("*.py")
        for node in texts(file)
        if numbered.search(str(node.value))
    ]
    found += [str(file) for file in folder("sql").rglob("*.sql") if numbered.search(file.read_text())]
    assert not found


async def test_statement_is_prepared_by_a_real_server(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        for name, query in queries.load().items():
            try:
                await connection.prepare(query.sql)
            except asyncpg.PostgresError as exc:
                pytest.fail(f"{name}: {exc}")
    finally:
        await connection.close()


def test_statements_are_all_used_and_all_there() -> None:
    assert names_asked_for() == set(queries.load())


def test_statement_is_called_with_its_own_parameters() -> None:
    for name, call in calls():
        given = {keyword.arg for keyword in call.keywords}
        query = queries.load()[name]
        known = set(query.parameters) - (queries.RECORDED if query.records else set())
        assert given - {None} <= known, name
        assert None in given or given == known, name  # None stands for `**`, whose keys are judged at the call


def test_statement_carries_its_name_for_the_operator() -> None:
    assert all(query.sql.startswith(f"-- {name}\n") for name, query in queries.load().items())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("select 1;", "before the first"),
        ("-- name: one\nselect 1;", "no description"),
        ("-- name: one\n-- It does.\nselect 1;\n-- name: one\n-- Again.\nselect 2;", "twice"),
        ("-- name: one\n-- It does.\nselect $1;", r"bad.sql: one: \$1: a parameter is named in small letters"),
        ("-- name: one\n-- It does.\nselect $Name;", r"\$Name: a parameter is named in small letters"),
        ("-- name: one\n-- It does.\nselect $_a;", r"\$_a: a parameter is named in small letters"),
        ("-- name: one\n-- It does.\nselect $naïve;", r"\$naïve: a parameter is named in small letters"),
        ("-- name: one\n-- It does.\nselect\n  $ name;", r"begins with \$ in '\$ name;' is not understood"),
        ("-- name: one\n-- It does.\nselect 'a\n where b = $b;", "begins with ' in \"select 'a\" .* has no end"),
        ('-- name: one\n-- It does.\nselect "a;', 'begins with " in'),
        ("-- name: one\n-- It does.\nselect $$a;", r"begins with \$\$ in"),
        ("-- name: one\n-- It does.\nselect $tag$a$other$;", r"\$other|\$ in"),
        ("-- name: one\n-- It does.\nselect 1 /* why */;", r"begins with /\* in"),
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
    assert queries.parse([file]) == {
        "one": Query("one", "-- one\nselect 1\n  + 1", ()),
        "two": Query("two", "-- two\nselect 2", ()),
    }


# SQL as it is written, as Postgres gets it, and the names of $1, $2, …
PARAMETERS = [
    ("select $a", "select $1", ("a",)),
    ("select $b, $a, $b", "select $1, $2, $1", ("b", "a")),
    ("select $a::text, cast($b as bytea[])", "select $1::text, cast($2 as bytea[])", ("a", "b")),
    ("select $a_1+$a_12", "select $1+$2", ("a_1", "a_12")),
    ("select '$a', $a", "select '$a', $1", ("a",)),
    ("select 'it''s $a', $b", "select 'it''s $a', $1", ("b",)),
    ("select '\\', $a, '\\'", "select '\\', $1, '\\'", ("a",)),  # no escape, but in E'…'
    ("select E'\\'$a', e'\\\\', $b", "select E'\\'$a', e'\\\\', $1", ("b",)),
    ("select typE'$a', $b", "select typE'$a', $1", ("b",)),
    ('select "$a", "say ""$b""", $c', 'select "$a", "say ""$b""", $1', ("c",)),
    ("select $$it's $a$$, $b", "select $$it's $a$$, $1", ("b",)),
    ("select $do$ $$ $a $$ $do$, $b", "select $do$ $$ $a $$ $do$, $1", ("b",)),
    ("select $$a\n-- kept\n$$", "select $$a\n-- kept\n$$", ()),
    ("select n$a, n1$$a from t$b where c = $c", "select n$a, n1$$a from t$b where c = $1", ("c",)),
    ("select $a -- not $b, don't\n, $c", "select $1\n, $2", ("a", "c")),
    ("select '-- $a', $b", "select '-- $a', $1", ("b",)),
    ("select 'Σ $a', $b", "select 'Σ $a', $1", ("b",)),
    ("select a - $a, b - -1", "select a - $1, b - -1", ("a",)),
    ("select d->>'$a', d @> $b", "select d->>'$a', d @> $1", ("b",)),
]


@pytest.mark.parametrize(("written", "sql", "names"), PARAMETERS)
def test_parameter_is_numbered_wherever_it_is_one(written: str, sql: str, names: tuple[str, ...]) -> None:
    assert queries.compiled("one", f"\n-- It does.\n{written};\n") == Query("one", f"-- one\n{sql}", names)


async def test_server_reads_parameters_as_the_compiler_does(database: str) -> None:
    """What it takes for quoted, Postgres does too: the statement asks for as many values as there are names."""
    connection = await asyncpg.connect(database)
    try:
        for written in (
            "select $a::text || 'it''s $b' || E'\\'$c' || $$d $d$$ || $do$ $$ $e $$ $do$ || $f::text -- $g",
            'select "$a$" from (select $b::text) as t ("$a$")',
            "select n$a from (select $b::text) as t (n$a)",
        ):
            query = queries.compiled("one", written)
            prepared = await connection.prepare(query.sql)
            assert len(prepared.get_parameters()) == len(query.parameters), written
    finally:
        await connection.close()


def test_arguments_stand_in_the_order_of_their_numbers() -> None:
    query = queries.compiled("one", "select $b, $a, $b")
    assert query.arguments({"a": 1, "b": 2}) == [2, 1]


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"a": 1}, r"the statement one lacks \$b$"),
        ({}, r"lacks \$a and lacks \$b"),
        ({"a": 1, "b": 2, "c": 3}, r"the statement one has no \$c$"),
        ({"a": 1, "B": 2}, r"has no \$B and lacks \$b"),
    ],
)
def test_call_without_just_its_parameters_is_refused(given: dict[str, object], fault: str) -> None:
    query = queries.compiled("one", "select $a, $b")
    with pytest.raises(TypeError, match=fault):
        query.arguments(given)


async def test_call_with_an_unknown_parameter_asks_the_database_nothing(database: str) -> None:
    connection = await asyncpg.connect(database)
    with pytest.raises(TypeError, match=r"the statement clients_owned has no \$subject and lacks \$owner"):
        await Statements(connection).rows("clients_owned", subject="u1")
    assert await Statements(connection).rows("clients_owned", owner="u1") == []
    await connection.close()
