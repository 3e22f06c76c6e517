"""What is read of processes, against processes whose doings are known."""

import subprocess
import sys
import time
from collections.abc import Callable

from bench.machine import Tree, Usage, peak, resident
from tests.serving import PATIENCE

# More than is waited for: the kernel tells of a process in ticks of 10 ms, and rounds down.
_BURN = "import time\nwhile time.process_time() < 0.5: pass\n"
_PARENT = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {_BURN!r} + 'input()'])\n"


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_usage_counts_a_child_that_works() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdin=subprocess.PIPE) as process:
        tree = Tree(process.pid)
        _until(lambda: Usage.of(tree).proxy >= 0.3)
        usage, memory = Usage.of(tree), resident(tree)
        assert len(usage.pids) == 2
        assert usage.database == 0
        assert 0 < memory.worker < memory.total <= peak(tree).total
        process.communicate(b"\n")


def test_usage_keeps_what_a_child_that_ended_has_used() -> None:
    code = _PARENT + "input()\n"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        tree = Tree(process.pid)
        _until(lambda: Usage.of(tree).proxy >= 0.3 and len(Usage.of(tree).pids) == 1)
        process.communicate(b"\n")


def test_memory_of_a_worker_is_not_that_of_the_process_that_started_it() -> None:
    large = f"ballast = bytes(64 * 2**20).replace(bytes(1), b'x')\n{_PARENT}"
    with subprocess.Popen([sys.executable, "-c", large], stdin=subprocess.PIPE) as process:
        tree = Tree(process.pid)
        _until(lambda: len(tree.processes()) == 2 and Usage.of(tree).proxy >= 0.3)
        memory = resident(tree)
        assert memory.worker < 64 * 2**20 < memory.total - memory.worker
        process.communicate(b"\n")


def test_process_without_workers_is_its_own() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        memory = resident(Tree(process.pid))
        assert 0 < memory.worker == memory.total
        process.communicate(b"\n")
