"""The table at the head of docs/standards.md, made from the rows below it.

    python -m tests.docs.standards        writes it anew, where rows were added or changed

A row is counted by how strong its requirement is, and as untested where it cites no test: it has the reason then.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
PAGE = TESTS.parent / "docs" / "standards.md"
_HEAD = "| standard | MUST | SHOULD | tests | without a test |\n|---|---|---|---|---|\n"
_SUMS = re.compile(re.escape(_HEAD) + r"(?:\|.*\n)*")
_CITED = re.compile(r"`((?:[a-z0-9_]+/)*test_[a-z0-9_]+\.py)::(test_[a-z0-9_]+)`")
_STRENGTHS = ("MUST", "SHOULD", "RECOMMENDED", "MUST, not counted")


@dataclass(frozen=True)
class Requirement:
    """A row: how strong it is, where it stands, and the cell that names its tests or says why there is none."""

    strength: str
    section: str
    text: str
    proof: str

    @property
    def tests(self) -> list[tuple[str, str]]:
        """The tests that it cites, each by its file and its function."""
        return _CITED.findall(self.proof)


def cited(page: str) -> set[tuple[str, str]]:
    """All the tests that the page cites, below the requirements too."""
    return set(_CITED.findall(page))


def standards(page: str) -> dict[str, list[Requirement]]:
    """The requirements of each standard, by its heading. Raises ValueError for a row of another form."""
    return {heading: rows for heading, text in _sections(page) if (rows := [*_rows(heading, text)])}


def sums(page: str) -> str:
    """The table of how many requirements each standard has."""
    found = standards(page)
    lines = [_sum(f"[{heading}](#{_anchor(heading)})", rows) for heading, rows in found.items()]
    return _HEAD + "".join(lines) + _sum("all", [row for rows in found.values() for row in rows])


def written(page: str) -> str:
    """The page with that table as its rows have it."""
    if len(_SUMS.findall(page)) != 1:
        raise ValueError("the page has no table of sums, or more than one")
    return _SUMS.sub(lambda _: sums(page), page)


@cache
def functions(path: str) -> frozenset[str]:
    """The tests of a file below tests/; none where there is no such file."""
    file = TESTS / path
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else ast.Module([], [])
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _sections(page: str) -> Iterator[tuple[str, str]]:
    for part in page.split("\n## ")[1:]:
        heading, _, text = part.partition("\n")
        yield heading, text


def _rows(heading: str, text: str) -> Iterator[Requirement]:
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]] if line.startswith("| ") else []
        if not cells or not cells[0].startswith(("MUST", "SHOULD", "RECOMMENDED")):
            continue
        if len(cells) != len(("strength", "section", "text", "proof")) or cells[0] not in _STRENGTHS:
            raise ValueError(f"{heading}: {line}")
        yield Requirement(*cells)


def _sum(name: str, rows: list[Requirement]) -> str:
    counted = [row for row in rows if "not counted" not in row.strength]
    strict = sum(row.strength == "MUST" for row in counted)
    cited = {test for row in counted for test in row.tests}
    untested = sum(not row.tests for row in counted)
    return f"| {name} | {strict} | {len(counted) - strict} | {len(cited)} | {untested} |\n"


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
