"""docs/standards.md names tests that there are, and its sums are those of its rows."""

import re

import pytest

from tests.serving import ROOT

PAGE = (ROOT / "docs" / "standards.md").read_text(encoding="utf-8")
SUMS = re.findall(r"^\| \[([^\]]+)\]\(#[^)]+\) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
NONE = ("not built", "no test of its own", "an operator’s", "no such scopes")


def _rows(heading: str) -> list[tuple[str, str]]:
    """How strong each requirement of a standard is, and what proves it."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith(("| |", "|--"))]
    return [(cells[1].strip(), cells[-2]) for cells in (line.split("|") for line in lines)]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z0-9_/]+(?:\.py|/))`", PAGE))))
def test_every_test_that_is_named_is_there(path: str) -> None:
    assert (ROOT / "tests" / path).exists()


@pytest.mark.parametrize(("heading", "must", "should", "untested"), SUMS, ids=[row[0] for row in SUMS])
def test_sums_are_those_of_the_rows(heading: str, must: str, should: str, untested: str) -> None:
    rows = [row for row in _rows(heading) if "not counted" not in row[0]]
    strict = [row for row in rows if row[0] == "MUST"]
    assert (len(strict), len(rows) - len(strict)) == (int(must), int(should))
    assert len([proof for _, proof in rows if any(said in proof for said in NONE)]) == int(untested)


def test_every_requirement_has_a_test_or_a_reason() -> None:
    for heading, *_ in SUMS:
        for kind, proof in _rows(heading):
            assert ".py`" in proof or any(said in proof for said in NONE), (heading, kind, proof)
