"""The tables: ratios to the bare nginx of the same round, and the figures themselves, as Markdown."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from bench.loads import LOADS, RATE, Load, Outcome
from bench.machine import Memory
from bench.peers import BASELINE, Contender

_BEGIN: Final = "<!-- figures: written by `make bench` -->"
_END: Final = "<!-- end of figures -->"
_MIB: Final = 2**20
_OURS: Final = "gateway"

# What the gateway is to reach, as ratios to nginx bare: floor and aim.
GOALS: Final = {
    "lifelike": (0.45, 0.55),
    "lifelike-open": (0.48, 0.58),
    "lifelike-post": (0.45, 0.55),
    "lifelike-session": (0.40, 0.50),
    "lifelike-foreign": (0.40, 0.50),
    "lifelike-signed": (0.25, 0.33),
    "tokens": (0.58, 0.80),
    "get": (0.58, 0.80),
    "mac": (0.28, 0.38),
    "invented": (1.0, 1.5),
    "open": (0.58, 0.80),
    "post": (0.6, 0.9),
    "cold": (0.15, 0.2),
    "up": (1.1, 1.5),
    "down": (1.1, 1.5),
    "large": (1.1, 1.5),
}
_TWO_WORKERS: Final = (1.12, 1.05)
_LOGGED: Final = (0.95, 0.97)
_MANY_TOKENS: Final = (0.87, 0.93)  # 1/1.15
# And as ratios to its own "lifelike, bearer": what a route pays for what it uses besides.
BESIDES: Final = {"lifelike-two": (0.93, 0.97), "lifelike-limited": (0.85, 0.92)}

# Bytes: a worker by itself, each token in its cache (64 MB for 100,000), each idle connection.
_WORKER: Final = 70e6
_PER_TOKEN: Final = 640
_PER_CONNECTION: Final = 4096
_PROVING: Final = 22_000_000  # of cryptography, which the first token of another issuer has a worker load


@dataclass(slots=True)
class Results:
    """All measures of a run, by load and peer, one for each round; of so many rounds is each start."""

    contenders: list[Contender]
    at_rest: dict[str, Memory]
    outcomes: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)
    rounds: int = 1

    def add(self, load: Load, contender: Contender, outcome: Outcome) -> None:
        self.outcomes.setdefault((load.name, contender.peer.name), []).append(outcome)

    def of(self, load: str, peer: str) -> list[Outcome]:
        return self.outcomes.get((load, peer), [])

    def good(self, load: str, peer: str) -> list[Outcome]:
        return [outcome for outcome in self.of(load, peer) if not outcome.fault]

    def ratios(self, load: str, peer: str, other: str = BASELINE) -> list[float]:
        """CPU per request of `other` over that of `peer`, round by round."""
        return _cheaper(self.of(load, peer), self.of(load, other))

    def beside(self, load: str, other: str, peer: str) -> list[float]:
        """CPU per request under the load `other` over that under `load`, of one peer, round by round."""
        return _cheaper(self.of(load, peer), self.of(other, peer))

    def faults(self) -> list[str]:
        """What went wrong, a line for each load and peer."""
        lines = []
        for (load, peer), found in self.outcomes.items():
            faults = [outcome.fault for outcome in found if outcome.fault]
            if faults:
                lines.append(f"{load}, {peer}, {len(faults)} of {len(found)} rounds: {faults[0]}")
        return lines


def _cheaper(mine: Sequence[Outcome], base: Sequence[Outcome]) -> list[float]:
    """How many times less CPU a request took than one of `base`, round by round."""
    return [
        other.cpu_per_request / one.cpu_per_request
        for one, other in zip(mine, base, strict=False)
        if not one.fault and not other.fault and one.cpu > 0
    ]


def spread(values: Sequence[float], form: str = "{:.2f}") -> str:
    """The median, and the range where there is one."""
    if not values:
        return "-"
    middle, low, high = (form.format(value) for value in (median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, aligned so that it reads well in a terminal too."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([texts[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *texts[1:]])


def figures(results: Results) -> str:
    """Every table of a run."""
    parts = [
        "### CPU per request, also the database's, as a ratio to nginx bare (higher is cheaper)\n\n"
        + _by_load(results, _ratio),
        "### CPU seconds per 10,000 requests, of all processes\n\n" + _by_load(results, _cpu),
        "### Requests per second\n\n" + _by_load(results, _rate),
        "### Latency and memory\n\n" + _others(results),
    ]
    if any(contender.peer.name == _OURS for contender in results.contenders):
        parts.append("### Gateway against its goals\n\n" + _goals(results))
    if faults := results.faults():
        parts.append("### Without figures\n\n" + "\n".join(f"- {fault}" for fault in faults))
    return "\n\n".join(parts)


def _by_load(results: Results, cell: Callable[[Results, str, str], str]) -> str:
    named = [*GOALS, *BESIDES]
    loads = [load for name in named for load in LOADS if load.name == name and _has(results, name)]
    rows = (
        [contender.peer.title, *(cell(results, load.name, contender.peer.name) for load in loads)]
        for contender in results.contenders
    )
    return table(["", *(load.title for load in loads)], rows)


def _has(results: Results, load: str) -> bool:
    return any(name == load for name, _ in results.outcomes)


def _failed(results: Results, load: str, peer: str) -> bool:
    return bool(results.of(load, peer)) and not results.good(load, peer)


def _ratio(results: Results, load: str, peer: str) -> str:
    return "wrong" if _failed(results, load, peer) else spread(results.ratios(load, peer))


def _cpu(results: Results, load: str, peer: str) -> str:
    good = results.good(load, peer)
    form = "{:.1f}" if load in ("up", "down", "large") else "{:.3f}"
    text = spread([outcome.cpu / outcome.requests * 10_000 for outcome in good], form)
    database = [outcome.database_cpu / outcome.requests * 10_000 for outcome in good]
    return text + (f" + {median(database):.3f} database" if database and median(database) >= 0.0005 else "")


def _rate(results: Results, load: str, peer: str) -> str:
    return spread([outcome.requests / outcome.seconds for outcome in results.good(load, peer)], "{:,.0f}")


def _others(results: Results) -> str:
    head = [
        "",
        f"p50 ms at {RATE:.0f}/s",
        "p99 ms",
        "RSS at rest, MiB",
        "peak RSS",
        "largest worker's",
        "KiB per idle connection",
    ]
    return table(head, (_other(results, contender) for contender in results.contenders))


def _other(results: Results, contender: Contender) -> list[str]:
    name = contender.peer.name
    paced, idle = results.good("latency", name), results.good("idle", name)
    peaks = [outcome.peak for (_, peer), found in results.outcomes.items() if peer == name for outcome in found]
    return [
        contender.peer.title,
        spread([outcome.p50 * 1000 for outcome in paced]),
        spread([outcome.p99 * 1000 for outcome in paced]),
        f"{results.at_rest[name].total / _MIB:.0f}",
        f"{max((peak.total for peak in peaks), default=0) / _MIB:.0f}",
        f"{max((peak.worker for peak in peaks), default=0) / _MIB:.0f}",
        spread([outcome.per_connection / 1024 for outcome in idle], "{:.1f}"),
    ]


def _goals(results: Results) -> str:
    titles = {load.name: load.title for load in LOADS}
    rows: list[list[str]] = []
    for load, goal in GOALS.items():
        rows += _ratio_goal(titles[load], results.ratios(load, _OURS), goal)
    for load, goal in BESIDES.items():
        title = f"{titles[load]}: beside {titles['lifelike']}"
        rows += _ratio_goal(title, results.beside(load, "lifelike", _OURS), goal)
    for load in ("lifelike", "lifelike-open"):
        title = f"{titles[load]}, with the access log: beside without"
        rows += _ratio_goal(title, results.ratios(load, "gateway-logged", _OURS), _LOGGED)
    title = f"{titles['lifelike']}: with 100,000 tokens in turn beside 100"
    rows += _ratio_goal(title, results.ratios("lifelike", "gateway-100k", "gateway-100"), _MANY_TOKENS)
    more = [1 / ratio for ratio in results.ratios("get", "gateway-2", _OURS)]
    if more:
        floor, aim = _TWO_WORKERS
        met = _met(-median(more), -floor, -aim)
        rows.append(["two workers: CPU per request against one", f"≤ {floor}", f"≤ {aim}", spread(more), met])
    rows += _memory_goals(results)
    return table(["", "floor", "aim", "here", ""], rows)


def _ratio_goal(title: str, ratios: list[float], goal: tuple[float, float]) -> list[list[str]]:
    """The row of ratios that are to reach a floor, and an aim; none where nothing was measured."""
    floor, aim = goal
    if not ratios:
        return []
    return [[title, f"≥ {floor}", f"≥ {aim}", spread(ratios), _met(median(ratios), floor, aim)]]


def _memory_goals(results: Results) -> list[list[str]]:
    rows = []
    peaks = [outcome.peak.worker for load in LOADS for outcome in results.good(load.name, _OURS)]
    if any(peaks):
        tokens = max((len(each.tokens.values) for each in results.contenders if each.peer.name == _OURS), default=0)
        cold = [0 if outcome.fault else outcome.requests for outcome in results.of("cold", _OURS)]
        starts = [cold[first : first + results.rounds] for first in range(0, len(cold), results.rounds)]
        tokens += max(map(sum, starts), default=0)  # each of these requests brought another
        connections = max((outcome.requests for outcome in results.good("idle", _OURS)), default=0)
        proving = _PROVING if results.good("lifelike-foreign", _OURS) else 0
        limit = (_WORKER + tokens * _PER_TOKEN + connections * _PER_CONNECTION + proving) / 1e6
        title = f"peak RSS of a worker with {tokens:,} tokens and after {connections:,} connections, MB"
        peak = max(peaks) / 1e6
        rows.append([title, f"≤ {limit:.0f}", "", f"{peak:.0f}", _met(-peak, -limit, -limit)])
    bodies = [outcome.growth for load in ("up", "down", "large") for outcome in results.good(load, _OURS)]
    if bodies:
        growth = max(bodies) / _MIB
        rows.append(["RSS grown under large bodies, MiB", "< 8", "", f"{growth:.1f}", _met(-growth, -8, -8)])
    for outcome in results.good("idle", _OURS):
        each = outcome.per_connection / 1024
        title = f"KiB of each of {outcome.requests:,} idle connections"
        rows.append([title, "≤ 4", "", f"{each:.2f}", _met(-each, -4, -4)])
    return rows


def _met(value: float, floor: float, aim: float) -> str:
    if value >= aim:
        return "aim met" if aim != floor else "met"
    return "floor met" if value >= floor else "missed"


def write(path: Path, text: str, marks: tuple[str, str] = (_BEGIN, _END)) -> None:
    """Put the figures into the file, between their marks; what stands outside them stays."""
    begin, end = marks
    block = f"{begin}\n\n{text}\n\n{end}"
    standing = path.read_text() if path.exists() else f"# Measured\n\n{block}\n"
    pattern = re.compile(re.escape(begin) + ".*" + re.escape(end), re.DOTALL)
    if not pattern.search(standing):
        standing += f"\n{block}\n"
    path.write_text(pattern.sub(lambda _: block, standing))
