"""What the benchmark's loopback is, seen from a process of its own, which may leave this network."""

import subprocess
import sys

_SETTLE = """
from bench.loopback import congestion_control, settle
print(settle())
print(congestion_control())
"""


def test_the_loopback_does_not_pace_or_it_is_said_why() -> None:
    said, control = subprocess.run(
        [sys.executable, "-c", _SETTLE], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said.startswith(control)
    assert control != "bbr" or said.startswith("bbr, which paces")
