"""Every regular expression of the gateway, how it is used, and pieces of text that mean something to it."""

import ast
import importlib
import pkgutil
import random
import re
import re._parser as parser  # type: ignore[import-not-found]  # private to CPython, so typeshed has no stub
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from re import _constants as ops  # type: ignore[attr-defined]  # as above
from typing import Any, Final

import gateway

_USE: Final = re.compile(r"(\w+)(?:\[[^]\n]*\])?\.(fullmatch|match|search|sub|split|findall|finditer)\b")
_OF_RE: Final = re.compile(r"\bre\.\w+\(")
PIECES: Final = 50
LONGEST: Final = 64  # bytes of one


@dataclass(frozen=True, slots=True)
class Found:
    """A pattern, where it stands, and by which methods it is used there."""

    name: str
    pattern: re.Pattern[Any]
    uses: tuple[str, ...]

    def take(self, data: bytes) -> None:
        """Let it look at these bytes in each way in which it is used."""
        text: Any = data if isinstance(self.pattern.pattern, bytes) else data.decode("latin-1")
        for use in self.uses:
            if use == "sub":
                self.pattern.sub(text[:0], text)
            elif use == "finditer":
                list(self.pattern.finditer(text))
            else:
                getattr(self.pattern, use)(text)

    def pieces(self) -> list[bytes]:
        """Texts that it or a part of it fits, and single characters that it knows."""
        chance = random.Random(self.name)
        tree = list(parser.parse(self.pattern.pattern, self.pattern.flags))
        found = {b" ", b"a", b"0"}
        for _ in range(PIECES):
            part = tree
            while (within := _within(part)) and chance.random() < 0.7:
                part = chance.choice(within)
            start = chance.choice((0, chance.randrange(len(part))))
            text = "".join(_fitting(chance, part[start : chance.randint(start, len(part)) + 1]))
            found.add(text.encode("latin-1", "replace")[:LONGEST])
        return sorted(found - {b""})


@cache
def modules() -> list[tuple[str, Any, str]]:
    """Every module of the gateway that is Python: its name, itself and its text. What is Cython holds no patterns."""
    found = []
    for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if module.name == "gateway.__main__":
            continue
        loaded = importlib.import_module(module.name)
        source = _source(Path(str(loaded.__file__)))
        if source.exists():
            found.append((module.name, loaded, source.read_text()))
    return found


def _source(file: Path) -> Path:
    """The text of a module, which may be loaded compiled."""
    return file if file.suffix == ".py" else file.with_name(file.name.partition(".")[0] + ".py")


def patterns() -> list[Found]:
    """All of them, each where it is made."""
    uses = {module: _uses(text) for module, _, text in modules()}
    everywhere: dict[str, set[str]] = {}
    for used in uses.values():
        for variable, ways in used.items():
            everywhere.setdefault(variable, set()).update(ways)
    found = []
    for module, loaded, text in modules():
        holding = {variable: held for variable, value in vars(loaded).items() if (held := [*_patterns_in(value)])}
        for variable in _constants(ast.parse(text)) if holding else ():
            ways = (uses[module] if variable.startswith("_") else everywhere).get(variable) or {"fullmatch", "search"}
            for key, pattern, use in holding.get(variable, ()):
                found.append(Found(f"{module}.{variable}{key}", pattern, (use,) if use else tuple(sorted(ways))))
    return found


def calls_of_re(text: str) -> list[str]:
    """The functions of `re` that a module calls."""
    if _OF_RE.search(text) is None:  # to parse all texts takes seconds
        return []
    return [
        node.func.attr
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "re"
    ]


def _constants(tree: ast.Module) -> Iterator[str]:
    """The names that a module gives to values."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            if isinstance(target, ast.Name):
                yield target.id


def _patterns_in(value: object) -> Iterator[tuple[str, re.Pattern[Any], str]]:
    """A pattern, or those in a table or a list, each with its place there; or one of which only a method is kept."""
    if isinstance(value, re.Pattern):
        yield "", value, ""
    elif isinstance(pattern := getattr(value, "__self__", None), re.Pattern):
        yield "", pattern, str(getattr(value, "__name__", ""))
    elif isinstance(value, Mapping | tuple | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            for inner, pattern, use in _patterns_in(item):
                yield f"[{key}]{inner}", pattern, use


def _uses(text: str) -> dict[str, set[str]]:
    """Which name is asked for which methods; `_GRAMMAR[name].fullmatch` counts for `_GRAMMAR`."""
    found: dict[str, set[str]] = {}
    for name, use in _USE.findall(text):
        found.setdefault(name, set()).add(use)
    return found


def _within(items: Sequence[Any]) -> list[list[Any]]:
    """The parts of a pattern's tree that stand in the groups, branches and repetitions of a part."""
    values = [value if isinstance(value, tuple) else (value,) for _, value in items]
    inner = [part for value in values for one in value for part in (one if isinstance(one, list) else (one,))]
    return [list(part) for part in inner if isinstance(part, parser.SubPattern) and len(part)]


def _fitting(chance: random.Random, items: Any) -> Iterator[str]:
    """A text that a part of a pattern's tree fits, in pieces."""
    for kind, value in items:
        if kind in (ops.LITERAL, ops.NOT_LITERAL):
            yield chr(value if kind is ops.LITERAL else (value + 1) % 256)
        elif kind is ops.ANY:
            yield chance.choice("a \n")
        elif kind is ops.IN:
            yield _member(chance, value)
        elif kind is ops.BRANCH:
            yield from _fitting(chance, chance.choice(value[1]))
        elif kind is ops.SUBPATTERN:
            yield from _fitting(chance, value[3])
        elif kind is ops.ATOMIC_GROUP:
            yield from _fitting(chance, value)
        elif kind in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
            least, most, inner = value
            for _ in range(min(max(least, chance.choice((0, 1, 2, 3))), most, 40)):
                yield from _fitting(chance, inner)


def _member(chance: random.Random, members: Any) -> str:
    if members[0][0] is ops.NEGATE:
        return chance.choice("a0 \t.-=/@\"'x")
    kind, value = chance.choice(members)
    if kind is ops.LITERAL:
        return chr(value)
    if kind is ops.RANGE:
        return chr(chance.choice((value[0], value[1], chance.randint(*value))))
    return {ops.CATEGORY_DIGIT: "7", ops.CATEGORY_SPACE: " ", ops.CATEGORY_WORD: "w"}.get(value, "!")
