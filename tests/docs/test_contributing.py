"""CONTRIBUTING.md, SECURITY.md and what other pages say of tests name what is there."""

import re
import tomllib

import pytest

from tests.serving import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_every_place_that_is_named_exists(page: str) -> None:
    named = re.findall(r"`([\w./-]+(?:/|\.(?:py|toml|md)))`", (ROOT / page).read_text(encoding="utf-8"))
    assert named
    assert [place for place in named if not ((ROOT / place).exists() or (ROOT / "gateway" / place).exists())] == []


def test_every_test_that_a_page_names_exists() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "bench").glob("*.md")]
    named = {place for page in pages for place in re.findall(r"\btests/[\w./-]+\.py\b", page.read_text("utf-8"))}
    assert len(named) > 10
    assert [place for place in sorted(named) if not (ROOT / place).exists()] == []


def test_every_target_that_is_named_is_one_of_make() -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", CONTRIBUTING, re.MULTILINE))
    assert len(named) > 5
    assert named <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def test_floor_of_the_coverage_is_the_one_that_is_checked() -> None:
    report = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["coverage"]["report"]
    assert f"The floor is {report['fail_under']} % of `gateway/`, branches counted" in CONTRIBUTING
