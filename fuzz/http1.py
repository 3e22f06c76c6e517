"""The nightly form: `python -m fuzz.http1 --count 1000000 --seed 1`."""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence

from fuzz.invariants import INVARIANTS
from fuzz.sockets import gateway
from gateway.observe import start

SLOWER = 100  # times: what goes through sockets gets a hundredth of what each other target gets


def fuzz(name: str, count: int, seed: int) -> None:
    """Feed one reader `count` inputs. An input that breaks an invariant is printed, and the error goes on."""
    check = INVARIANTS[name]
    for number in range(count):
        chance = random.Random(f"{name}/{seed}/{number}")
        try:
            check(chance)
        except BaseException:
            print(f"{name}: input {number} of seed {seed} breaks an invariant", file=sys.stderr)
            raise


def shares(names: Sequence[str], count: int) -> dict[str, int]:
    """How many of `count` inputs each target gets."""
    weights = {name: 1 if name == "gateway" else SLOWER for name in names}
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
        if name == "gateway":
            asyncio.run(gateway(count, given.seed))
        else:
            fuzz(name, count, given.seed)
        print(f"{name}: {count} inputs in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
