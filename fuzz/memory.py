"""The memory that a run takes: however many inputs come, the process's real peak stays where it was.

The peak is the kernel's own (VmHWM in proc(5)). What getrusage gives would hide a leak: a program starts with the peak
of whoever started it.
"""

import re
from contextlib import suppress
from pathlib import Path

MIB = 1 << 20
WARM_UP = 2000  # inputs at most, or a tenth: caches fill, and the allocator gets what it will keep
EVERY = 50  # inputs: a look takes as long as some of them
GROWTH = 8 * MIB  # of the peak after the warm-up; an input is of some KiB, and nothing of it may stay

_PEAK = re.compile(r"^VmHWM:\s+([0-9]+) kB$", re.MULTILINE)


def peak() -> int:
    """The most that was resident of this process since it began or its peak was forgotten, in bytes."""
    found = _PEAK.search(Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak() -> None:
    """Let the peak begin anew, so that an earlier one hides nothing."""
    with suppress(OSError):  # where the kernel does not let us, growth is what is beyond the earlier one
        Path("/proc/self/clear_refs").write_text("5")


class Memory:
    """Looks at the peak while `count` inputs come; `grown` is what it has grown since the warm-up, in bytes."""

    def __init__(self, count: int) -> None:
        self._warm_up = min(WARM_UP, count // 10 + 1)
        self._inputs = self._warm = self.grown = 0

    def look(self) -> None:
        """Count an input. Raises AssertionError where the peak has grown by more than `GROWTH`."""
        self._inputs += 1
        if self._inputs == self._warm_up:
            forget_peak()
            self._warm = peak()
        elif self._inputs > self._warm_up and self._inputs % EVERY == 0:
            self.grown = peak() - self._warm
            assert self.grown <= GROWTH, f"the peak of memory grew by {self.grown / MIB:.1f} MiB"
