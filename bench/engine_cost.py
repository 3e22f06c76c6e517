"""What the way through the engine costs the authorization plane: beside its aiohttp application asked by itself.

`python -m bench.engine_cost` asks the same two things in turn through the public listener and on the private socket of
the authorization plane, where the engine asks too, and prints what a request takes: CPU of both planes' workers, and
time until the answer is whole, on one connection that is kept. Ways alternate within a round; differences are taken
within one.
"""

import argparse
import asyncio
import base64
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench import machine
from bench.client import Wrong
from bench.machine import LOAD_CORE, Tree
from bench.peers import PEERS
from bench.report import spread, table
from bench.site import Site
from gateway import config
from gateway.cli.common import database
from gateway.model import ISSUER_METADATA
from gateway.store import NewClient, Store

WARM: Final = 50  # requests before a measure
_BUFFER: Final = 64 * 1024
_BODY: Final = b"grant_type=client_credentials"
_PLANES_OWN: Final = (  # what the engine adds to a request
    ("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "{host}"),
    ("X-Forwarded-Port", "{port}"), ("X-Request-Id", "0123456789abcdef-0001"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """A request to the authorization plane, and what its answer holds."""

    title: str
    line: str
    fields: tuple[tuple[str, str], ...]
    body: bytes
    wanted: bytes

    def written(self, port: int, *, direct: bool) -> bytes:
        """As a client sends it to the listener, or, `direct`, as the engine sends it on."""
        host = f"127.0.0.1:{port}"
        added = [(name, value.format(host=host, port=port)) for name, value in _PLANES_OWN if direct]
        length = [("Content-Length", str(len(self.body)))] if self.body else []
        fields = [("Host", host), ("User-Agent", "bench"), ("Accept", "*/*"), *self.fields, *length, *added]
        head = "\r\n".join([self.line, *(f"{name}: {value}" for name, value in fields)])
        return head.encode() + b"\r\n\r\n" + self.body


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds a request: CPU of the workers, and the middle one of the times until the answer was there."""

    cpu: float
    p50: float


def questions(client_id: str, secret: str) -> tuple[Question, ...]:
    """What is asked: a token, which takes a transaction, and a document, which takes next to nothing."""
    basic = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    form = (("Authorization", f"Basic {basic}"), ("Content-Type", "application/x-www-form-urlencoded"))
    return (
        Question("token, client_credentials", "POST /oauth2/token HTTP/1.1", form, _BODY, b'"access_token"'),
        Question("metadata", f"GET {next(iter(ISSUER_METADATA))} HTTP/1.1", (), b"", b'"token_endpoint"'),
    )


def ask(sock: socket.socket, request: bytes, wanted: bytes) -> None:
    """Send a request and take its answer whole. Raises Wrong."""
    sock.sendall(request)
    answer = bytearray()
    while (end := answer.find(b"\r\n\r\n")) < 0 or len(answer) < end + 4 + _length(bytes(answer[:end])):
        data = sock.recv(_BUFFER)
        if not data:
            raise Wrong("the connection was closed")
        answer += data
    if not answer.startswith(b"HTTP/1.1 200 ") or wanted not in answer:
        raise Wrong(bytes(answer[:200]).decode("latin-1"))


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise Wrong("an answer without Content-Length")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, in steps of nanoseconds (proc(5), schedstat)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def measure(address: tuple[str, int] | str, request: bytes, wanted: bytes, pids: Sequence[int], requests: int) -> Cost:
    """What `requests` of them cost the processes, one after another on one connection. Raises Wrong."""
    with closing(_connected(address)) as sock:
        for _ in range(WARM):
            ask(sock, request, wanted)
        times, before = [], sum(map(cpu_seconds, pids))
        for _ in range(requests):
            began = time.perf_counter()
            ask(sock, request, wanted)
            times.append(time.perf_counter() - began)
        return Cost((sum(map(cpu_seconds, pids)) - before) / requests * 1e6, median(times) * 1e6)


def _connected(address: tuple[str, int] | str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.settimeout(30)
    sock.connect(address)
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def rows(title: str, direct: Sequence[Cost], through: Sequence[Cost]) -> Iterator[list[str]]:
    """The lines of one question; the costs of a round stand at one place in both."""
    for way, costs in (("aiohttp alone", direct), ("through the engine", through)):
        yield [title, way, *(spread([getattr(cost, name) for cost in costs], "{:.0f}") for name in ("cpu", "p50"))]
    pairs = list(zip(direct, through, strict=True))
    more = ([getattr(two, name) - getattr(one, name) for one, two in pairs] for name in ("cpu", "p50"))
    yield [title, "**what the engine takes**", *(f"**{spread(values, '{:+.0f}')}**" for values in more)]


# -- the gateway that is asked -----------------------------------------------------------------------------------


def workers_of(tree: Tree) -> tuple[int, ...]:
    """The process ids of the workers, of either plane."""
    return tuple(
        process.pid
        for process in tree.processes()
        if b"\0worker\0" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    )


def private_socket(pids: Sequence[int]) -> str:
    """Where the authorization plane listens."""
    inodes = {str(link.readlink()) for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) == 8 and f"socket:[{fields[6]}]" in inodes and "/authorization-" in fields[7]:
            return fields[7]
    raise Wrong("the authorization plane has no private socket")


async def _registered(path: Path) -> tuple[str, str]:
    async with database(config.load(path)) as (settings, dsn):
        assert settings.keyring is not None
        store = await Store.open(dsn, settings.keyring, size=1, name="gateway-bench")
        try:
            client, secret = await store.clients.create(
                NewClient(
                    name="bench", confidential=True, redirect_uris=(), grant_types=frozenset({"client_credentials"}),
                    scopes=frozenset({"bench"}), token_type="bearer", mac_drafts=("01",),
                    mac_algorithm="hmac-sha-256",
                )
            )  # fmt: skip
        finally:
            await store.close()
        return client.client_id, secret or ""


@contextmanager
def _gateway() -> Iterator[tuple[int, tuple[int, ...], tuple[Question, ...]]]:
    """One worker of each plane on the proxy's core: the port, their process ids, and what can be asked."""
    peer = next(peer for peer in PEERS if peer.name == "gateway")
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        site = Site(folder, 1)
        running = peer.start(sys.executable, site)
        try:
            running.wait()
            asked = questions(*asyncio.run(_registered(folder / "gateway.toml")))
            with closing(_connected(("127.0.0.1", running.port))) as sock:  # answered once there is a worker
                ask(sock, asked[-1].written(running.port, direct=False), asked[-1].wanted)
            yield running.port, workers_of(running.tree), asked
        finally:
            running.stop()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine_cost", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=500, help="in each round, of each kind and way")
    given = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE} & os.sched_getaffinity(0) or os.sched_getaffinity(0))
    lines: list[list[str]] = []
    with _gateway() as (port, pids, asked):
        ways: dict[str, tuple[str, int] | str] = {"direct": private_socket(pids), "through": ("127.0.0.1", port)}
        costs: dict[tuple[str, str], list[Cost]] = {}
        for number in range(given.rounds):
            for question in asked:
                for way in (*ways,) if number % 2 else (*reversed(ways),):
                    request = question.written(port, direct=way == "direct")
                    cost = measure(ways[way], request, question.wanted, pids, given.requests)
                    costs.setdefault((question.title, way), []).append(cost)
        for question in asked:
            lines += rows(question.title, costs[question.title, "direct"], costs[question.title, "through"])
    print(f"{machine.description()}\n")
    print(table(["request", "way", "CPU of the workers, µs", "p50, µs"], lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
