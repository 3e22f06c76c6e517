"""What holds for how objects work together, by the text of the code."""

import ast
from collections.abc import Iterator

import pytest

from tests.serving import ROOT

TREES = {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in sorted((ROOT / "gateway").rglob("*.py"))}
PACKAGES = tuple(f"gateway/{name}/" for name in ("credentials", "guard", "http1", "proxy", "routing"))


def assigned(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Every attribute that is assigned, by whatever statement, or deleted."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load))


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


# The fields of all classes of the gateway; what a library's objects have besides is set as the library wants it.
FIELDS = {field.attr for tree in TREES.values() for field in assigned(tree) if is_self(field.value)} | {
    node.target.id
    for tree in TREES.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
}
SETTERS = ("setattr", "delattr", "object.__setattr__", "object.__delattr__")


def written_by_others(tree: ast.AST) -> list[str]:
    """Where the field of another object is written, by line."""
    written = [field for field in assigned(tree) if field.attr in FIELDS and not is_self(field.value)]
    called = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in SETTERS]
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in (*written, *(call for call in called if not is_self(call.args[0])))
    ]


def test_nobody_writes_the_fields_of_another() -> None:
    found = {file: written_by_others(tree) for file, tree in TREES.items() if file.startswith(PACKAGES)}
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
