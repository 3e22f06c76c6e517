"""What is installed is used, and pinned in constraints.txt: all of it, and nothing else."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.serving import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINES = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]


def _required(lines: Iterable[str], extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """The packages that these requirements ask for on this interpreter, each with its own extras."""
    for requirement in map(Requirement, lines):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def _installed() -> set[str]:
    """All packages that Gateway and its extra `test` lead to, Gateway itself left out."""
    ours: str = canonicalize_name(PROJECT["name"])
    lines = [*PROJECT["dependencies"], *EXTRAS["embedded"], *EXTRAS["traces"], *EXTRAS["test"]]
    waiting = list(_required(lines, frozenset()))
    seen: set[tuple[str, frozenset[str]]] = {(ours, frozenset({"embedded", "traces"}))}
    while waiting:
        if (found := waiting.pop()) not in seen:
            seen.add(found)
            waiting += _required(requires(found[0]) or (), found[1])
    return {name for name, _ in seen} - {ours}


@pytest.fixture
def pins() -> dict[str, str]:
    """The pinned version of each package; every line has one."""
    found = [re.fullmatch(r"([\w.-]+)==([\w.+!]+)", line) for line in LINES]
    assert None not in found
    return {canonicalize_name(pin[1]): pin[2] for pin in found if pin}


def test_constraints_pin_exactly_what_is_installed(pins: dict[str, str]) -> None:
    assert sorted(pins) == sorted(_installed())


def test_constraints_are_in_the_order_of_the_alphabet() -> None:
    assert sorted(LINES, key=lambda line: line.lower().partition("==")) == LINES


def test_pins_fit_what_the_project_asks_for(pins: dict[str, str]) -> None:
    asked = map(Requirement, [*PROJECT["dependencies"], *EXTRAS["embedded"], *EXTRAS["traces"], *EXTRAS["test"]])
    ours = PROJECT["name"]
    wrong = [str(one) for one in asked if one.name != ours and pins[canonicalize_name(one.name)] not in one.specifier]
    assert wrong == []


def test_every_dependency_of_the_program_is_imported_by_it() -> None:
    source = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "gateway").rglob("*.py"))
    imported = set(re.findall(r'(?:\bimport |\bfrom |import_module\("|distribution\(")(\w+)', source))
    modules = {Requirement(line).name.removesuffix("-cffi").replace("-", "_") for line in PROJECT["dependencies"]}
    assert modules <= imported
