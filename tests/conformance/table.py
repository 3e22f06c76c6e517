"""What came of every module, as it stands in docs/standards.md."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from tests.conformance import basic, discovery, logout
from tests.conformance.rig import MODULES, Module, Outcome, Provider, all_of, played
from tests.serving import ROOT

PAGE: Final = ROOT / "docs" / "standards.md"
COMMAND: Final = "python -m tests.conformance"
ORDER: Final = ("Basic", "Form Post", "Config", "RP-Initiated", "Back-Channel", "Front-Channel")
_RESULTS: Final = ("passed", "warned", "failed", "skipped")
_BEGIN: Final = f"<!-- written by {COMMAND} -->\n"
_END: Final = "<!-- end of what it writes -->\n"
_ROW: Final = re.compile(r"^\| ([A-Z][A-Za-z -]+) \| `([a-z0-9-]+)` \| (\w+) \| (.*) \|$", re.MULTILINE)

__all__ = ["basic", "discovery", "logout"]  # which name the modules


def plans() -> list[tuple[str, Module]]:
    """Every module of every plan, plan by plan."""
    return sorted(all_of(MODULES), key=lambda one: ORDER.index(one[0]))


async def all_played(op: Provider) -> list[Outcome]:
    """Play them all."""
    return [await played(op, one, plan) for plan, one in plans()]


def table(outcomes: Sequence[Outcome]) -> str:
    """The sums by plan, and a row for each module."""
    lines = ["| plan | modules | passed | warned | failed | skipped |", "|---|---|---|---|---|---|"]
    for plan in ORDER:
        counts = Counter(one.result for one in outcomes if one.plan == plan)
        lines.append(f"| {plan} | {counts.total()} | {' | '.join(str(counts[result]) for result in _RESULTS)} |")
    lines += ["", "| plan | module | result | reason |", "|---|---|---|---|"]
    lines += [f"| {one.plan} | `{one.module}` | {one.result} | {one.reason} |" for one in outcomes]
    return "\n".join(lines) + "\n"


def told() -> dict[tuple[str, str], tuple[str, str]]:
    """What the page says came of each module of each plan, and why."""
    rows = _ROW.findall(_written(PAGE.read_text(encoding="utf-8")))
    return {(plan, name): (result, reason) for plan, name, result, reason in rows}


def _written(page: str) -> str:
    return page.partition(_BEGIN)[2].partition(_END)[0]


def write(outcomes: Sequence[Outcome]) -> None:
    """Write the table into the page."""
    page = PAGE.read_text(encoding="utf-8")
    assert _written(page) or f"{_BEGIN}{_END}" in page, "the page has no place for the table"
    PAGE.write_text(
        page.replace(f"{_BEGIN}{_written(page)}{_END}", f"{_BEGIN}{table(outcomes)}{_END}"), encoding="utf-8"
    )
