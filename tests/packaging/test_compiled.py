"""What is compiled keeps to what the compiler takes rightly."""

import ast
import tomllib
from collections.abc import Iterator

from tests.serving import ROOT

_HOOK = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]


def _functions() -> Iterator[tuple[str, ast.AST]]:
    plain = {ROOT / name for name in _HOOK["custom"]["plain"]}
    files = {file for pattern in _HOOK["custom"]["modules"] for file in ROOT.glob(pattern)} - plain
    assert files
    for file in sorted(files):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{file.relative_to(ROOT)}: {node.name}", node


def test_no_compiled_function_calls_two_exceptions_by_one_name() -> None:
    """Compiled, a variable has one type: the first exception's, and another kind by its name is a TypeError."""
    for place, function in _functions():
        names = [node.name for node in ast.walk(function) if isinstance(node, ast.ExceptHandler) and node.name]
        assert len(names) == len(set(names)), place


def test_every_module_that_stays_plain_is_one_that_would_be_compiled() -> None:
    matched = {str(file.relative_to(ROOT)) for pattern in _HOOK["custom"]["modules"] for file in ROOT.glob(pattern)}
    assert set(_HOOK["custom"]["plain"]) <= matched
