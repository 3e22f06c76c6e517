"""The nightly form: `make fuzz`, which is `python -m fuzz.http1 --count 1000000 --seed 1`."""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence

from fuzz.invariants import INVARIANTS
from fuzz.memory import MIB, Memory
from fuzz.sockets import gateway
from gateway.observe import start

SHARE = 100  # of the inputs, for all but
SHARES = {"gateway": 1, "files": 5, "slowness": 10, "lines": 50}  # what is slower: sockets, files, long inputs


def fuzz(name: str, count: int, seed: int) -> Memory:
    """Feed one reader `count` inputs. An input that breaks an invariant is printed, and the error goes on."""
    check, memory = INVARIANTS[name], Memory(count)
    for number in range(count):
        chance = random.Random(f"{name}/{seed}/{number}")
        try:
            check(chance)
            memory.look()
        except BaseException as fault:  # one that hangs is ended from the keyboard
            print(f"{name}: stopped at input {number} of seed {seed}: {fault!r}", file=sys.stderr)
            raise
    return memory


def shares(names: Sequence[str], count: int) -> dict[str, int]:
    """How many of `count` inputs each target gets."""
    weights = {name: SHARES.get(name, SHARE) for name in names}
    return {name: -(-count * weight // sum(weights.values())) for name, weight in weights.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Share `--count` among the targets."""
    parser = argparse.ArgumentParser(description="Feed mutated bytes to everything that reads them off the wire.")
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--target", action="append", choices=[*INVARIANTS, "gateway"], help="only this one (repeatable)"
    )
    given = parser.parse_args(arguments)
    start("fuzz", "error")  # the refusals are the point
    for name, count in shares(given.target or [*INVARIANTS, "gateway"], given.count).items():
        began = time.monotonic()
        memory = asyncio.run(gateway(count, given.seed)) if name == "gateway" else fuzz(name, count, given.seed)
        took = time.monotonic() - began
        print(f"{name}: {count} inputs in {took:.1f} s; the peak of memory grew by {memory.grown / MIB:.1f} MiB")


if __name__ == "__main__":
    main()
