"""What figures and the access log add to a call, in CPU: `python -m bench.watching`.

The engine is called as in `bench.steps`, without sockets, some thousand calls at a time, in turn with figures counted
once more, and with the access log to a file. A ratio compares neighbours, and the median of many is told, so that a
busy machine spoils little. Sockets and the loop are not in it, which take as long as all of this again.
"""

import argparse
import asyncio
import logging
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, Final, cast

import structlog

from bench.lifelike import answer, head, target
from bench.report import table
from bench.steps import _engine, _whole
from gateway.figures import TOKEN_LOOKUPS, cells
from gateway.http1 import RequestReader
from gateway.log_sink import Lines, target_of
from gateway.proxy import Proxy
from gateway.proxy.access_log import AccessLog
from gateway.proxy.dispatch import Destination

_CALLS: Final = 400
_TURNS: Final = 8  # of all of them, in a row: about as many lines as are written in one step
_PLAIN: Final = "as it is"


class Rig:
    """An engine, and calls for it of which no two are alike."""

    def __init__(self) -> None:
        chance = random.Random(1)
        self.proxy, made = _engine(20, 1000)
        tokens = cycle(made)
        raw = [
            head(chance, "127.0.0.1:8080", target(chance, "/api/things"), f"Bearer {next(tokens)}")
            for _ in range(_CALLS)
        ]
        found = RequestReader().whole(raw[0])
        assert found is not None
        self.to = cast("Destination", self.proxy.dispatcher.destination(found[0]))
        self.whole = _whole(self.proxy, self.to)
        self.pairs = [(data, answer(chance)) for data in raw]

    def calls(self) -> None:
        for pair in self.pairs:
            self.whole(pair)

    def counted_twice(self) -> None:
        """Count a call, and ask whether to remember it, once more: by way of Python, so rather too dearly."""
        count, wants, route = self.proxy.calls.count, self.proxy.decisions.wants, self.to.route
        counts, held_at = cells(), TOKEN_LOOKUPS.at("held")
        for pair in self.pairs:
            self.whole(pair)
            count(route, b"GET", 200, 0.0012)
            counts[held_at] += 1.0
            wants("", 0.0012)


@contextmanager
def _logging(proxy: Proxy, file: Path, form: Any) -> Iterator[Lines]:
    lines = Lines(target_of(str(file), file.parent))
    proxy.listeners.append(AccessLog(lines.add, form, soon=lines.soon).hear)
    try:
        yield lines
    finally:
        proxy.listeners.pop()
        lines.close()


def _cost(act: Callable[[], None], lines: Lines | None = None) -> float:
    """Seconds of CPU, also of the thread that writes lines."""
    began = time.process_time()
    for _ in range(_TURNS):
        act()
    if lines is not None:
        lines.flush()
        while lines._done < lines._given:
            time.sleep(0.0005)
    return time.process_time() - began


def _nothing() -> None:
    pass


async def _measured(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """For each way, what calls cost as it is, and in the next moment with it."""
    rig, found = Rig(), dict[str, list[tuple[float, float]]]()
    for _ in range(20):
        rig.calls()
    with tempfile.TemporaryDirectory(prefix="gateway-watching-") as folder:
        for number in range(rounds):
            rig.proxy.decisions.tick()
            plain = _cost(rig.calls)
            found.setdefault("counted once more", []).append((plain, _cost(rig.counted_twice)))
            for form in ("json", "combined"):
                plain = _cost(rig.calls)
                file = Path(folder) / f"{form}-{number % 2}"
                file.unlink(missing_ok=True)
                with _logging(rig.proxy, file, form) as lines:
                    rig.calls()  # what it remembers of texts is known
                    _cost(_nothing, lines)
                    found.setdefault(f"access log to a file, {form}", []).append((plain, _cost(rig.calls, lines)))
    rig.proxy.fronts.clear()
    rig.proxy.close()
    return found


def _rows(found: dict[str, list[tuple[float, float]]]) -> Iterator[list[str]]:
    for name, pairs in found.items():
        alone, more = min(plain for plain, _ in pairs), median(took / plain for plain, took in pairs) - 1
        cost = alone / (_CALLS * _TURNS) * 1e6
        yield [name, f"{cost:.1f}", f"{cost * more:.2f}", f"{1 / (1 + more):.3f}", f"{1 / (1 + more / 2):.3f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.watching", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    head = ["", "a call, µs", "what it adds, µs", "ratio of the engine's steps", "with sockets"]
    print(table(head, _rows(asyncio.run(_measured(given.rounds)))))


if __name__ == "__main__":
    main()
