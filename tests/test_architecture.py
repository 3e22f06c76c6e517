"""What holds for how objects work together, by the text of the code."""

import ast
from collections.abc import Iterator

import pytest

from tests.serving import ROOT

TREES = {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in sorted((ROOT / "gateway").rglob("*.py"))}
SETTERS = ("setattr", "delattr", "object.__setattr__", "object.__delattr__")


def assigned(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Every attribute that is assigned, by whatever statement, or deleted."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load))


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def annotated(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names of arguments and variables of which the type is told, with that."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            yield node.arg, node.annotation
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.annotation


def of_libraries(tree: ast.AST) -> set[str]:
    """The names that modules other than ours, and than those of types for anything, are imported by or from."""
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module not in ("typing", "collections.abc"):
            found |= {alias.asname or alias.name for alias in node.names}
            if (node.module or "").partition(".")[0] == "gateway":
                found -= {alias.asname or alias.name for alias in node.names}
    return found


# The fields of all classes of the gateway; what a library's objects have besides is set as the library wants it.
FIELDS = {field.attr for tree in TREES.values() for field in assigned(tree) if is_self(field.value)} | {
    line.target.id
    for tree in TREES.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef)
    for line in node.body
    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
}


def written_by_others(tree: ast.AST) -> list[str]:
    """Where the field of another object is written, by line."""
    libraries = of_libraries(tree)
    theirs = {name for name, kind in annotated(tree) if ast.unparse(kind).partition(".")[0] in libraries}
    written = [
        field
        for field in assigned(tree)
        if field.attr in FIELDS
        and not is_self(field.value)
        and not (isinstance(field.value, ast.Name) and field.value.id in theirs)
    ]
    called = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in SETTERS]
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in (*written, *(call for call in called if not is_self(call.args[0])))
    ]


def test_nobody_writes_the_fields_of_another() -> None:
    found = {file: written_by_others(tree) for file, tree in TREES.items()}
    assert {file: lines for file, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "turn.ended = True",
        "turn.ended += 1",
        "turn.ended: bool = True",
        "one, (turn.ended, *others) = 1, (2, 3)",
        "del turn.ended",
        "for turn.ended in (): ...",
        "with lock() as turn.ended: ...",
        "setattr(turn, 'ended', True)",
    ],
)
def test_each_way_to_write_one_is_seen(line: str) -> None:
    assert written_by_others(ast.parse(line))
    assert written_by_others(ast.parse(line.replace("turn", "self.turn")))
    assert not written_by_others(ast.parse(line.replace("turn", "self")))


def test_what_is_of_a_library_is_told_from_what_is_ours() -> None:
    line = "\ndef end({}): turn.ended = True"
    for imported, kind in (("import ssl", "ssl.SSLObject"), ("from ssl import SSLObject", "SSLObject")):
        assert not written_by_others(ast.parse(imported + line.format(f"turn: {kind}")))
    for imported, kind in (("from gateway.routing import Turn", "Turn"), ("from typing import Any", "Any")):
        assert written_by_others(ast.parse(imported + line.format(f"turn: {kind}")))
