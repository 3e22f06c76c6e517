"""What is asked of each proxy, and what is measured while it answers."""

import contextlib
import random
import re
import signal
import subprocess
import zlib
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args

import uvloop

from bench import client, lifelike, machine
from bench.client import Exchange, Wrong
from bench.companion import received
from bench.machine import LOAD_CORE, NOTHING, Memory, Usage, on_core
from bench.peers import Checks, Contender
from bench.signing import PER_SECOND
from bench.site import HERE, PART, SMALL, UPLOAD, Site

T = TypeVar("T")

CONNECTIONS: Final = 32
WAITING: Final = 64  # connections where each request waits for the disk
RATE: Final = 1000.0  # requests per second where latency is measured
IDLE: Final = 2000
_WARM: Final = 100  # requests before each measure


@dataclass(frozen=True, slots=True)
class Outcome:
    """One measure of one proxy under one load. A fault says why there are no figures."""

    requests: int = 0
    seconds: float = 0.0
    cpu: float = 0.0  # of the proxy, in seconds
    database_cpu: float = 0.0  # besides
    peak: Memory = NOTHING
    growth: int = 0  # of the peak, from what was resident before
    p50: float = 0.0
    p99: float = 0.0
    per_connection: float = 0.0
    fault: str = ""

    @property
    def cpu_per_request(self) -> float:
        """The database's with it."""
        return (self.cpu + self.database_cpu) / self.requests


Kind = Literal["wrk", "transfer", "paced", "idle"]


@dataclass(frozen=True, slots=True)
class Load:
    """A load. `needs` is what a peer must check for it to be fair."""

    name: str
    title: str
    kind: Kind
    needs: Checks
    path: str
    credential: Literal["none", "one", "turn", "session", "foreign", "unseen", "invented", "signed"] = "one"
    size: str = ""  # of what is sent
    answer: tuple[bytes, int] = (SMALL, 1)
    connections: int = CONNECTIONS
    lifelike: bool = False  # no two requests are alike, below `path`; nor are the answers, which begin with `answer`

    def fits(self, contender: Contender) -> bool:
        """Whether this peer can carry it; the baseline, which checks nothing, carries every load."""
        peer = contender.peer
        if peer.loads is not None and self.name not in peer.loads:
            return False
        if self.credential == "unseen" and not contender.tokens.unseen:
            return peer.checks == "nothing"
        order = get_args(Checks)
        return peer.checks == "nothing" or order.index(peer.checks) >= order.index(self.needs)

    def status(self, contender: Contender) -> int:
        return 401 if self.credential == "invented" and contender.peer.checks != "nothing" else 200


def _uploaded(size: str) -> tuple[bytes, int]:
    return received(len(UPLOAD[size]), zlib.crc32(UPLOAD[size])), 1


_THINGS: Final = (b'{"thing":"', 1)

# In the order in which they are run: what memory grows by is looked at before much was ever used and freed again.
LOADS: Final = (
    Load("large", "64 MiB down", "transfer", "one", "/api/64m", answer=(PART, 1024), connections=2),
    Load("idle", "idle", "idle", "one", "/api/small"),
    Load("lifelike", "lifelike, bearer", "wrk", "many", "/api/things", "turn", answer=_THINGS, lifelike=True),
    Load(
        "lifelike-open", "lifelike, no check", "wrk", "nothing", "/open/things", "none", answer=_THINGS, lifelike=True
    ),
    Load(
        "lifelike-post",
        "lifelike, POST 2 KB",
        "wrk",
        "many",
        "/up/things",
        "turn",
        "2k",
        _uploaded("2k"),
        lifelike=True,
    ),
    Load(
        "lifelike-two",
        "lifelike, two upstreams",
        "wrk",
        "signed",
        "/two/things",
        "turn",
        answer=_THINGS,
        lifelike=True,
    ),
    Load(
        "lifelike-limited",
        "lifelike, at a rate",
        "wrk",
        "signed",
        "/limited/things",
        "turn",
        answer=_THINGS,
        lifelike=True,
    ),
    Load(
        "lifelike-session",
        "lifelike, session",
        "wrk",
        "signed",
        "/pages/things",
        "session",
        answer=_THINGS,
        lifelike=True,
    ),
    Load(
        "lifelike-foreign",
        "lifelike, foreign JWT",
        "wrk",
        "signed",
        "/foreign/things",
        "foreign",
        answer=_THINGS,
        lifelike=True,
    ),
    Load(
        "lifelike-signed",
        "lifelike, signed",
        "wrk",
        "signed",
        "/signed/things",
        "signed",
        answer=_THINGS,
        connections=WAITING,
        lifelike=True,
    ),
    Load("cold", "tokens never seen before", "wrk", "many", "/api/small", "unseen"),
    Load("open", "GET, no check", "wrk", "nothing", "/open/small", "none"),
    Load("get", "GET, bearer", "wrk", "one", "/api/small"),
    Load("tokens", "many tokens in turn", "wrk", "many", "/api/small", "turn"),
    Load("invented", "invented tokens", "wrk", "one", "/api/small", "invented"),
    Load("mac", "GET, MAC", "wrk", "signed", "/signed/small", "signed", connections=WAITING),
    Load("post", "POST 10 KiB", "wrk", "one", "/up/10k", size="10k", answer=_uploaded("10k")),
    Load("up", "1 MiB up", "transfer", "one", "/up/1m", size="1m", answer=_uploaded("1m"), connections=8),
    Load("down", "1 MiB down", "transfer", "one", "/api/1m", answer=(PART, 16), connections=8),
    Load("latency", "latency", "paced", "one", "/api/small"),
)


# -- measuring ---------------------------------------------------------------------------------------------------


def prepare(load: Load, contender: Contender) -> None:
    """Let the proxy see every token and session once, so that its cache is warm. Raises Wrong."""
    tokens = contender.tokens
    match load.credential:
        case "turn":
            exchanges = [_exchange(load, contender, f"Bearer {token}") for token in tokens.values]
        case "foreign":
            exchanges = [_exchange(load, contender, f"Bearer {token}") for token in tokens.foreign]
        case "session":
            exchanges = [_exchange(load, contender, None, session) for session in tokens.sessions]
        case _:
            return
    _run_client(client.each(contender.running.port, exchanges, 8))


def measure(load: Load, contender: Contender, site: Site, seconds: float, idle: int) -> Outcome:
    """One measure, after some requests that are not counted; what goes wrong is in its `fault`."""
    tree, port = contender.running.tree, contender.running.port
    warm = load.connections if load.kind == "transfer" else _WARM
    session = contender.tokens.sessions[0] if load.credential == "session" else ""
    first = [_exchange(load, contender, credential, session) for credential in _credentials(load, contender, warm)]
    exchange = first[0]
    try:
        machine.forget_peak(tree)
        memory = machine.resident(tree)
        _run_client(client.each(port, first, 8))
        if load.kind == "idle":
            grown = client.idle(port, exchange, idle, lambda: machine.resident(tree).total)
            return Outcome(requests=idle, per_connection=_run_client(grown))
        if load.kind == "paced":
            return _latency(_run_client(client.paced(port, exchange, load.connections, RATE, seconds)))
        if load.lifelike:
            _whole(site).write_bytes(b"".join(_lifelike(load, contender, int(PER_SECOND * seconds))))
        elif load.credential in ("signed", "unseen"):
            values = _credentials(load, contender, int(PER_SECOND * seconds))
            _signed(site).write_text("\n".join(map(str, values)))
        before = Usage.of(tree)
        if load.kind == "wrk":
            requests, elapsed = _wrk(load, contender, site, seconds)
        else:
            requests, elapsed = _run_client(client.repeated(port, exchange, load.connections, seconds))
        after, peak = Usage.of(tree), machine.peak(tree)
    except (Wrong, OSError, TimeoutError, ExceptionGroup) as exc:
        return Outcome(fault=f"{type(exc).__name__}: {exc}"[:300])
    if after.pids != before.pids:
        return Outcome(fault="its processes changed meanwhile")
    used, database = after.proxy - before.proxy, after.database - before.database
    return Outcome(requests, elapsed, used, database, peak, peak.total - memory.total)


def _run_client(work: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(work)


def _latency(latencies: list[float]) -> Outcome:
    count = len(latencies)
    return Outcome(requests=count, p50=latencies[count // 2], p99=latencies[min(count - 1, count * 99 // 100)])


def _credentials(load: Load, contender: Contender, count: int) -> list[str | None]:
    """The Authorization fields of that many requests, one after another."""
    tokens = contender.tokens
    match load.credential:
        case "none" | "session":
            return [None] * count
        case "foreign":
            return [f"Bearer {tokens.foreign[0]}"] * count
        case "signed":
            path = f"{load.path}/1" if load.lifelike else load.path
            return [*tokens.signer.credentials(path, contender.running.port, count)]
        case "unseen":
            taken = [tokens.unseen.pop() for _ in range(min(count, len(tokens.unseen)))]
            return [f"Bearer {token}" for token in taken or [tokens.one] * count]
        case "invented":
            return ["Bearer " + tokens.invented().replace("NUMBER", "0123456789")] * count
        case _:
            return [f"Bearer {tokens.one}"] * count


def _lifelike(load: Load, contender: Contender, count: int) -> Iterator[bytes]:
    """So many whole requests, each ended by a zero byte."""
    chance, port, given = random.Random(), contender.running.port, contender.tokens
    tokens = cycle(given.foreign if load.credential == "foreign" else given.values)
    sessions = cycle(given.sessions if load.credential == "session" else ("",))
    body = UPLOAD[load.size] if load.size else b""
    for _ in range(count):
        target = lifelike.target(chance, load.path)
        if load.credential in ("none", "session"):
            credential = None
        elif load.credential == "signed":
            [credential] = contender.tokens.signer.credentials(target, port, 1)
        else:
            credential = f"Bearer {next(tokens)}"
        host = f"127.0.0.1:{port}"
        yield lifelike.head(chance, host, target, credential, session=next(sessions), length=len(body)) + body + b"\0"


def _whole(site: Site) -> Path:
    return site.folder / "whole"


def _signed(site: Site) -> Path:
    return site.folder / "signed"


def _exchange(load: Load, contender: Contender, credential: str | None, session: str = "") -> Exchange:
    body = UPLOAD[load.size] if load.size else b""
    path = f"{load.path}/1" if load.lifelike else load.path
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", f"Host: 127.0.0.1:{contender.running.port}"]
    if credential is not None:
        lines.append(f"Authorization: {credential}")
    if session:
        lines.append(f"Cookie: gateway_session={session}")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    status = load.status(contender)
    part, repeat = load.answer if status == 200 and load.answer is not _THINGS else (None, 1)
    return Exchange("\r\n".join([*lines, "", ""]).encode() + body, status, part, repeat)


# -- wrk ---------------------------------------------------------------------------------------------------------


def _wrk(load: Load, contender: Contender, site: Site, seconds: float) -> tuple[int, float]:
    """Requests answered, and in how many seconds. Raises Wrong."""
    command = ["wrk", "-t1", f"-c{load.connections}", "-d600s", "--timeout=30s", f"-s{HERE / 'load.lua'}"]
    command += [f"http://127.0.0.1:{contender.running.port}", "--", *_arguments(load, contender, site)]
    process = subprocess.Popen(on_core(LOAD_CORE, command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        said = _ended(process)
    except BaseException:
        process.kill()
        raise
    found = re.search(r"^checked (\d+) (\d+) (\d+) (\d+)$", said, re.MULTILINE)
    if found is None:
        raise Wrong(f"wrk told nothing: {said[-200:]}")
    requests, microseconds, wrong, lost = map(int, found.groups())
    if wrong or lost or not requests:
        raise Wrong(f"of {requests} answers {wrong} were wrong, and {lost} connections failed")
    return requests, microseconds / 1e6


def _ended(process: "subprocess.Popen[str]") -> str:
    """What wrk tells at its end, to which SIGINT brings it: its -d knows whole seconds only. Sent again, since one that
    comes a moment before wrk goes to sleep does not wake it."""
    for _ in range(30):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=1)[0]
    raise TimeoutError("wrk does not end")


def _arguments(load: Load, contender: Contender, site: Site) -> list[str]:
    status = load.status(contender)
    given = {"method": "POST" if load.size else "GET", "path": load.path, "status": str(status)}
    if status == 200:
        given["begins" if load.answer is _THINGS else "body"] = load.answer[0].decode()
    if load.lifelike:
        return [f"{name}={value}" for name, value in (given | {"whole": str(_whole(site))}).items()]
    match load.credential:
        case "one":
            given["token"] = contender.tokens.one
        case "turn":
            given["tokens"] = str(contender.tokens.file)
        case "invented":
            given["invented"] = contender.tokens.invented()
        case "signed" | "unseen":
            given["signed"] = str(_signed(site))
    if load.size:
        given["send"] = str(site.folder / f"up-{load.size}")
    return [f"{name}={value}" for name, value in given.items()]
