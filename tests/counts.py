"""How often a repeated test repeats: its full count in `make test-long`, a tenth or less of it otherwise."""

import os

LONG = bool(os.environ.get("GATEWAY_TEST_LONG"))


def scaled(full: int, part: int = 10) -> int:
    """`full` in a long run, a tenth or another `part` (at least one) in a normal one."""
    return full if LONG else max(1, full // part)
