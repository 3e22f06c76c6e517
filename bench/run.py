"""Run every proxy beside the others, load by load, and print how they compare.

Each round takes every load in turn, and every proxy under it, beginning with another one each round (A B C, B C A, …),
so that what the machine does meanwhile falls on all alike. Ratios are taken within a round. Where a process lies in
memory is chance, and is worth some hundredths for as long as it runs: so all are started anew some times.
"""

import argparse
import contextlib
import os
import resource
import signal
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime

from bench import loopback, machine, report
from bench.client import Wrong
from bench.loads import CONNECTIONS, IDLE, LOADS, WAITING, Load, Outcome, measure, prepare
from bench.machine import LOAD_CORE, PROXY_CORE
from bench.peers import BASELINE, PEERS, Contender, started
from bench.report import Results
from bench.site import HERE, CannotStart, Site, open_site, program

_TOKENS = 5000
_QUICK_TOKENS = 500
_QUICK_IDLE = 200
_NOT_QUICK = {
    "gateway-2", "gateway-logged", "gateway-plain", "gateway-100", "gateway-100k", "nginx-streamed", "fastapi",
}  # fmt: skip
_CAUTION = (
    "Figures are medians of the rounds with their range. A virtual machine's speed changes from minute to minute, so "
    "only the ratios, which are taken within a round, can be compared with those of another run."
)


def main() -> int:
    """The command."""
    given = _arguments()
    began = time.monotonic()
    for name in ("wrk", "taskset"):
        if program(name) is None:
            print(
                f"bench: {name} is missing: install the package {'wrk' if name == 'wrk' else 'util-linux'}",
                file=sys.stderr,
            )
            return 1
    if len(os.sched_getaffinity(0)) < 2:
        print("bench: two cores are wanted, one for the proxy and one for load and upstream", file=sys.stderr)
        return 1
    os.sched_setaffinity(0, {LOAD_CORE})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        text = _run(given, loopback.settle())
    except CannotStart as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    text += f"\n\nMeasured in {(time.monotonic() - began) / 60:.1f} minutes."
    print(text)
    if given.write:
        report.write(HERE / "RESULTS.md", text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round, for a first look")
    parser.add_argument("--starts", type=int, help="how often all are started anew; default: 2, or 1")
    parser.add_argument("--rounds", type=int, help="after each start; default: 3, or 1")
    parser.add_argument("--seconds", type=float, help="of each measure; default: 1.5, or 0.25")
    parser.add_argument("--peers", help=f"default: {','.join(peer.name for peer in PEERS)}")
    parser.add_argument("--loads", help=f"default: {','.join(load.name for load in LOADS)}")
    parser.add_argument("--write", action="store_true", help="put the figures into RESULTS.md, if they are of all")
    given = parser.parse_args()
    given.starts = given.starts or (1 if given.quick else 2)
    given.rounds = given.rounds or (1 if given.quick else 3)
    given.seconds = given.seconds or (0.25 if given.quick else 1.5)
    if given.write and (given.peers or given.loads or given.quick):
        print("bench: figures of a part, and quick ones, are printed and not written", file=sys.stderr)
        given.write = False
    usual = {peer.name for peer in PEERS} - (_NOT_QUICK if given.quick else set())
    given.peers = {BASELINE, *given.peers.split(",")} if given.peers else usual
    given.loads = set(given.loads.split(",")) if given.loads else {load.name for load in LOADS}
    unknown = (given.peers - {peer.name for peer in PEERS}) | (given.loads - {load.name for load in LOADS})
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return given


def _run(given: argparse.Namespace, control: str) -> str:
    count, idle = (_QUICK_TOKENS, _QUICK_IDLE) if given.quick else (_TOKENS, IDLE)
    loads = [load for load in LOADS if load.name in given.loads]
    results, names, skipped = Results([], {}, rounds=given.rounds), given.peers, list[str]()
    for start in range(given.starts):
        try:
            with open_site(count) as site, ExitStack() as stack:
                contenders, missing = _started(names, site, count, stack)
                if start == 0:
                    names, skipped = {contender.peer.name for contender in contenders}, missing
                    results.at_rest = {c.peer.name: machine.resident(c.running.tree) for c in contenders}
                elif missing:  # rounds are of all, or of nobody
                    raise CannotStart(missing[0])
                results.contenders = contenders
                _measure_start(start, loads, site, results, given.seconds, idle)
        except CannotStart as exc:
            if start == 0:
                raise
            skipped.append(f"all that was to come after {_so_many(start, 'start')}: left out: {exc}")
            print(f"bench: {skipped[-1]}", file=sys.stderr)
            break
    said = _circumstances(given, results.contenders, skipped, count, idle, control)
    return f"{said}\n\n{report.figures(results)}"


def _started(names: set[str], site: Site, count: int, stack: ExitStack) -> tuple[list[Contender], list[str]]:
    """Who runs now, until the stack ends, and why others do not."""
    contenders, missing = list[Contender](), list[str]()
    for peer in (peer for peer in PEERS if peer.name in names):
        try:
            contender = started(peer, site, count)
        except CannotStart as exc:
            missing.append(f"{peer.title}: left out: {exc}")
            print(f"bench: {missing[-1]}", file=sys.stderr)
            continue
        stack.callback(contender.running.stop)
        contenders.append(contender)
    if not contenders or contenders[0].peer.name != BASELINE:
        raise CannotStart("without the bare nginx there is nothing to compare with")
    return contenders, missing


def _measure_start(start: int, loads: list[Load], site: Site, results: Results, seconds: float, idle: int) -> None:
    """All rounds with those that run now."""
    for load in loads:
        _prepare(load, results.contenders)
    for number in range(start * results.rounds, (start + 1) * results.rounds):
        for load in loads if number == 0 else (load for load in loads if load.kind != "idle"):
            _measure_all(load, number, site, results, seconds, idle)


def _prepare(load: Load, contenders: list[Contender]) -> None:
    for contender in contenders:
        if load.fits(contender):
            with contextlib.suppress(Wrong, OSError, TimeoutError, ExceptionGroup):  # shows again when measured
                prepare(load, contender)


def _measure_all(load: Load, number: int, site: Site, results: Results, seconds: float, idle: int) -> None:
    fit = [contender for contender in results.contenders if load.fits(contender)]
    first = number % len(fit)
    for contender in fit[first:] + fit[:first]:
        results.add(load, contender, measure(load, contender, site, seconds, idle))
    said = (f"{c.peer.name} {_brief(results.of(load.name, c.peer.name)[-1])}" for c in fit)
    print(f"round {number + 1}  {load.title:<20}  {'  '.join(said)}", file=sys.stderr, flush=True)


def _brief(outcome: Outcome) -> str:
    if outcome.fault:
        return "wrong"
    if outcome.cpu:
        return f"{outcome.cpu_per_request * 1e6:.1f}µs"
    return f"{outcome.p99 * 1e3:.1f}ms" if outcome.p99 else f"{outcome.per_connection / 1024:.1f}KiB"


def _circumstances(
    given: argparse.Namespace, contenders: list[Contender], skipped: list[str], count: int, idle: int, control: str
) -> str:
    command = "make bench" + (" QUICK=1" if given.quick else "")
    wrk = machine.output("wrk", "--version").splitlines()[0].partition(" Copyright")[0]
    when = datetime.now(UTC)
    rounds = f"{_so_many(given.starts, 'start')} with {_so_many(given.rounds, 'round')} of {given.seconds} s"
    lines = [
        f"{when:%Y-%m-%d %H:%M} UTC, `{command}`, {rounds} for each load and proxy",
        f"{machine.description()}, load average at the end {os.getloadavg()[0]:.1f}",
        f"the proxy on core {PROXY_CORE}; {wrk}, our own client and the upstream on core {LOAD_CORE}",
        f"{CONNECTIONS} connections ({WAITING} for MAC, 8 for 1 MiB, 2 for 64 MiB), {idle:,} idle connections",
        f"{count:,} tokens",
        f"TCP's congestion control: {control}",
        *(f"{contender.peer.title}: {contender.version}" for contender in contenders),
        *skipped,
    ]
    return "\n".join(f"- {line}" for line in lines) + f"\n\n{_CAUTION}"


def _so_many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(main())
