"""What is compiled keeps to what the compiler takes rightly."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest

from hatch_build import UNSEEN
from tests.counts import LONG
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


@pytest.mark.skipif(not LONG, reason="it takes half a minute of a core")
def test_the_engine_compiles_where_nothing_but_the_compiler_is_installed() -> None:
    """As pip builds a wheel: what our dependencies are typed as is not known there."""
    plain = {ROOT / name for name in _HOOK["custom"]["plain"]}
    files = {file for pattern in _HOOK["custom"]["modules"] for file in ROOT.glob(pattern)} - plain
    modules = sorted(str(file.relative_to(ROOT)) for file in files if file.name != "__init__.py")
    mypy = [sys.executable, "-m", "mypy", "--no-site-packages", "--config-file=", "--cache-dir=/dev/null"]
    done = subprocess.run([*mypy, *UNSEEN, *modules], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_module_that_stays_plain_is_one_that_would_be_compiled() -> None:
    matched = {str(file.relative_to(ROOT)) for pattern in _HOOK["custom"]["modules"] for file in ROOT.glob(pattern)}
    assert set(_HOOK["custom"]["plain"]) <= matched
