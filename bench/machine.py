"""What the kernel knows of processes: their CPU time and memory; and of the machine: what it is."""

import os
import platform
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROXY_CORE: Final = 0
LOAD_CORE: Final = 1
_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")
_DATABASE: Final = "postgres"


def on_core(core: int, command: list[str]) -> list[str]:
    """The command, bound to one core with all that it starts."""
    return ["taskset", "-c", str(core), *command]


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one time; CPU seconds with those of the children it has waited for."""

    pid: int
    parent: int
    name: str
    cpu: float

    @property
    def is_database(self) -> bool:
        return self.name.startswith(_DATABASE)


def _process(pid: int) -> Process | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    front, _, back = text.rpartition(")")
    fields = back.split()  # from the third of proc(5) on
    ticks = sum(int(field) for field in fields[11:15])
    return Process(pid, int(fields[1]), front.partition("(")[2], ticks * _TICK)


class Tree:
    """A process and all that descend from it."""

    def __init__(self, root: int) -> None:
        self.root = root

    def processes(self) -> list[Process]:
        """Those that live now."""
        found = [_process(int(path.name)) for path in _PROC.iterdir() if path.name.isdecimal()]
        everything = [process for process in found if process is not None]
        mine, count = {self.root}, 0
        while count != len(mine):
            count = len(mine)
            mine |= {process.pid for process in everything if process.parent in mine}
        return [process for process in everything if process.pid in mine]


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds since the start of a tree's processes, the database's apart."""

    proxy: float
    database: float
    pids: frozenset[int]

    @classmethod
    def of(cls, tree: Tree) -> "Usage":
        processes = tree.processes()
        return cls(
            sum(process.cpu for process in processes if not process.is_database),
            sum(process.cpu for process in processes if process.is_database),
            frozenset(process.pid for process in processes if not process.is_database),
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes (RSS) of a tree without the database: of all its processes, and of the largest worker.

    A worker is what the first process has started; where that is alone, it is its own. What processes share counts
    for each.
    """

    total: int
    worker: int


NOTHING: Final = Memory(0, 0)


def resident(tree: Tree) -> Memory:
    """What is resident now."""
    return _memory(tree, "VmRSS:")


def peak(tree: Tree) -> Memory:
    """The most that was resident since `forget_peak`."""
    return _memory(tree, "VmHWM:")


def forget_peak(tree: Tree) -> None:
    """Let `peak` begin anew (proc(5), clear_refs)."""
    for process in tree.processes():
        if not process.is_database:  # whose processes come and go
            (_PROC / str(process.pid) / "clear_refs").write_text("5")


def _memory(tree: Tree, field: str) -> Memory:
    sizes = {process.pid: status(process.pid, field) for process in tree.processes() if not process.is_database}
    workers = [pid for pid in sizes if pid != tree.root]
    largest = max(workers or sizes, key=lambda pid: sizes[pid])
    return Memory(sum(sizes.values()), sizes[largest])


def status(pid: int, field: str) -> int:
    """What a line of /proc/PID/status says, which is in kB, in bytes; 0 where there is none."""
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def output(*command: str) -> str:
    """What a command prints, on either stream."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def description() -> str:
    """The machine in a line."""
    lines = (_PROC / "cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    virtual = ", virtual" if any("hypervisor" in line.split() for line in lines if line.startswith("flags")) else ""
    return f"{os.cpu_count()} cores of {model}{virtual}, {memory:.0f} GiB, Linux {platform.release()}"
