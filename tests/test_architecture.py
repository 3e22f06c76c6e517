"""What holds for how objects work together, by the text of the code."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.serving import ROOT

TREES = {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in sorted((ROOT / "gateway").rglob("*.py"))}
KEPT_WHOLE = tuple(f"gateway/{package}/" for package in ("guard", "http1", "proxy", "schemes"))
CHANGES = {
    *("add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert"),
    *("intersection_update", "move_to_end", "pop", "popitem", "popleft", "remove", "reverse", "rotate", "setdefault"),
    *("sort", "subtract", "symmetric_difference_update", "update"),
}
CONTAINER = re.compile(
    r"(typing\.)?(Final\[)?(collections\.|weakref\.)?"
    r"(dict|list|set|bytearray|deque|defaultdict|Counter|OrderedDict|Weak\w+|Mutable\w+)\b"
)
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


def is_container(kind: ast.expr | None, value: ast.expr | None) -> bool:
    displays = (ast.Dict, ast.DictComp, ast.List, ast.ListComp, ast.Set, ast.SetComp)
    makes = isinstance(value, ast.Call) and CONTAINER.match(ast.unparse(value.func))
    return bool(makes or isinstance(value, displays) or (kind is not None and CONTAINER.match(ast.unparse(kind))))


def containers(tree: ast.AST) -> Iterator[str]:
    """Fields of the classes of a file that hold a container, by how they are declared or first set."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            kind = node.annotation if isinstance(node, ast.AnnAssign) else None
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Attribute) and is_self(target.value) and is_container(kind, node.value):
                    yield target.attr
        elif isinstance(node, ast.ClassDef):
            lines = [
                line for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
            ]
            yield from (ast.unparse(line.target) for line in lines if is_container(line.annotation, line.value))


CONTAINERS = {field for tree in TREES.values() for field in containers(tree)}


def is_anothers(node: ast.AST | None) -> bool:
    """Whether this is a container that is a field of another object."""
    return isinstance(node, ast.Attribute) and node.attr in CONTAINERS and not is_self(node.value)


def names_for_anothers(function: ast.AST) -> set[str]:
    """Local names of containers of others: `held = account.held`, or `for held in (meter.shared, meter.own)`."""
    found = set[str]()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            values, targets = [node.value], node.targets if isinstance(node, ast.Assign) else [node.target]
        elif isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple | ast.List):
            values, targets = [*node.iter.elts], [node.target]
        else:
            continue
        if any(is_anothers(value) for value in values):
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def changed_by_others(tree: ast.AST) -> set[str]:
    """Where a container of another object is changed, or what changes it is handed on, by line."""
    found = set[str]()
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        names = set[str]() if isinstance(scope, ast.Module) else names_for_anothers(scope)
        for node in ast.walk(scope):
            stored = isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load)
            if stored or (isinstance(node, ast.Attribute) and node.attr in CHANGES):
                assert isinstance(node, ast.Subscript | ast.Attribute)
                if is_anothers(node.value) or (isinstance(node.value, ast.Name) and node.value.id in names):
                    found.add(f"{node.lineno}: {ast.unparse(node)}")
    return found


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


def test_nobody_changes_the_containers_of_another() -> None:
    """In the packages that are `KEPT_WHOLE`: whoever has a container is who changes it.

    A container is one by how a field is declared or set, so what is called `add` or `update` on any other field
    is that object's own method. What a function has made itself, or was given for an argument, it may change.
    """
    found = {file: changed_by_others(tree) for file, tree in TREES.items() if file.startswith(KEPT_WHOLE)}
    assert {file: lines for file, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "turn.held[1] = 2",
        "turn.held[1] += 2",
        "turn.held[1], other = 2, 3",
        "del turn.held[1]",
        "turn.held.pop(1, None)",
        "task.add_done_callback(turn.held.pop)",
        "held = turn.held; held.clear()",
        "(held := turn.held).pop(1); held[1] = 2",
        "for held in (turn.held, other): del held[1]",
    ],
)
def test_each_way_to_change_one_is_seen(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for field in ("self.held = {}", "self.held: Final = set[int]()", "self.held: Final[dict[int, int]] = made()"):
        monkeypatch.setitem(globals(), "CONTAINERS", set(containers(ast.parse(field))))
        for by_others in (line, line.replace("turn", "self.turn")):
            assert changed_by_others(ast.parse(f"async def end():\n {by_others}"))
        assert not changed_by_others(ast.parse(f"async def end():\n {line.replace('turn', 'self')}"))


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
