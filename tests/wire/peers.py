"""The wire table against other proxies, graded by the RFCs alone: `python -m tests.wire.peers` writes bench/WIRE.md.

Each peer stands in a neutral configuration before the same recorder. nginx, HAProxy and Envoy run where they are on
the PATH. A row counts when it is right in all four ways; rows that only this gateway's rules make are left out.

A proxy that answers and closes while bytes are still on their way to it sends a reset, and that may overtake its
answer: whether the client reads it is chance. So what is behind a row comes with its last byte, and a row that fails
is played again, for this gateway as for the peers.
"""

import argparse
import asyncio
import platform
import shutil
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gateway.observe import start
from tests.proxy.rig import RawUpstream
from tests.wire.answers import Answer
from tests.wire.judge import WAYS, fair, play
from tests.wire.judge_answers import fair_answer, hear
from tests.wire.recorder import Recorder
from tests.wire.rig import wire_rig
from tests.wire.rows import Row
from tests.wire.table import TOPICS

PATIENCE = 2.0
PLAYS = 3  # at most, of one row
REPORT = Path(__file__).parents[2] / "bench" / "WIRE.md"

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1; master_process off;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_max_body_size 2m;
  upstream recorder {{ server 127.0.0.1:{upstream}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://recorder; proxy_http_version 1.1; proxy_next_upstream off;
      proxy_set_header Host $http_host; proxy_set_header Connection "";
    }}
  }}
}}
"""
HAPROXY = """
global
  maxconn 256
defaults
  mode http
  retries 0
  timeout connect 2s
  timeout client 5s
  timeout server 5s
frontend front
  bind 127.0.0.1:{port}
  default_backend recorder
backend recorder
  server recorder 127.0.0.1:{upstream}
"""
ENVOY = """
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          delayed_close_timeout: 0.05s
          http_protocol_options: {{ accept_http_10: true }}
          upgrade_configs: [{{ upgrade_type: websocket }}]
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: recorder }} }}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: recorder
    connect_timeout: 2s
    load_assignment:
      cluster_name: recorder
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }} }}
"""

LOOKED_UP = (
    "RFC 9112, section 3.2: an invalid Host is answered 400. Section 7.1: a chunked body ends in CRLF; the leave to",
    "take a bare LF (section 2.2) is for start lines and fields. RFC 9110, section 7.6.1: what Connection names is",
    "removed from answers too.",
)


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy: its program, its configuration, and how it is started and asked for its version."""

    program: str
    configuration: str
    arguments: Callable[[Path], list[str]]
    version: tuple[str, ...]


PEERS = {
    "nginx": Peer("nginx", NGINX, lambda file: ["-p", str(file.parent), "-c", str(file)], ("-v",)),
    "HAProxy": Peer("haproxy", HAPROXY, lambda file: ["-db", "-f", str(file)], ("-v",)),
    "Envoy": Peer(
        "envoy",
        ENVOY,
        lambda file: ["-c", str(file), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "off"],
        ("--version",),
    ),
}


@dataclass
class Score:
    """What a proxy made of the table: right rows by topic, those of them that were not right at first, and what was
    wrong with the others.
    """

    right: Counter[str] = field(default_factory=Counter)
    again: list[str] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def standing(peer: Peer, recorder: Recorder) -> AsyncIterator[int]:
    """Run a peer before the recorder; gives its port."""
    async with RawUpstream(handler=recorder.handle).serving() as upstream:
        with tempfile.TemporaryDirectory(prefix="wire-") as name:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            file = Path(name) / "peer.yaml"
            file.write_text(peer.configuration.format(folder=name, port=port, upstream=upstream.port))
            process = await asyncio.create_subprocess_exec(
                peer.program,
                *peer.arguments(file),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                await _listening(port, process)
                yield port
            finally:
                with suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()


async def _listening(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(20):
        while True:
            if process.returncode is not None:
                raise SystemExit(f"the peer ended with {process.returncode}")
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


async def grade(port: int, recorder: Recorder, topics: Sequence[str] = tuple(TOPICS)) -> Score:
    """Play all graded rows of these topics; one that fails is played up to `PLAYS` times."""
    score = Score()
    for topic in topics:
        for row in TOPICS[topic]:
            if row.own:
                continue
            name = f"{topic}: {row.name}"
            for plays in range(PLAYS):
                wrong = await _wrong(row, port, recorder)
                if not wrong:
                    score.right[topic] += 1
                    if plays:
                        score.again.append(name)
                    break
            else:
                score.wrong[name] = wrong
    return score


async def _wrong(row: Row | Answer, port: int, recorder: Recorder) -> str:
    for way in WAYS:
        if isinstance(row, Row):
            faults = fair(row, await play(row, way, port, recorder, patience=PATIENCE, eager=True))
        else:
            faults = fair_answer(row, await hear(row, way, port, recorder, patience=PATIENCE))
        if faults:
            return f"{way}: {'; '.join(faults)}"
    return ""


async def scores(names: Sequence[str], topics: Sequence[str]) -> dict[str, Score]:
    """Grade this gateway and the peers that are here."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="wire-") as folder:
        async with wire_rig(Path(folder)) as rig:
            found["Gateway"] = await grade(rig.port, rig.recorder, topics)
    for name in names:
        recorder = Recorder()
        async with standing(PEERS[name], recorder) as port:
            found[name] = await grade(port, recorder, topics)
    return found


def version(peer: Peer) -> str:
    """A peer's own word on its version."""
    said = subprocess.run([peer.program, *peer.version], capture_output=True, text=True, check=True)
    line = (said.stdout + said.stderr).strip().splitlines()[0]
    return " ".join(line.replace(shutil.which(peer.program) or "", peer.program).split())


def shared(found: dict[str, Score]) -> list[str]:
    """The rows that every peer fails."""
    peers = [set(score.wrong) for name, score in found.items() if name in PEERS]
    return sorted(set.intersection(*peers)) if peers else []


def report(found: dict[str, Score], topics: Sequence[str] = tuple(TOPICS)) -> str:
    """The table of scores as Markdown, and what everyone gets wrong."""
    graded = {topic: [row for row in TOPICS[topic] if not row.own] for topic in topics}
    total = sum(map(len, graded.values()))
    own = sum(len(TOPICS[topic]) for topic in topics) - total
    again = ", ".join(f"{name} {len(score.again)}" for name, score in found.items())
    lines = [
        "# The wire table beside other proxies",
        "",
        "`python -m tests.wire.peers` plays the rows of `tests/wire/` against each proxy: whole, byte by byte, behind",
        "a good request, and second on a connection. The judge is the RFCs alone: where they leave a choice, either",
        f"counts; {own} rows that only this gateway's own rules make are left out.",
        "",
        "A row counts when all four ways are right on both sides. A proxy that closes while bytes are on their way to",
        "it sends a reset, which may overtake its answer, and chance should decide no row. So what stands behind a row",
        "comes with its last byte, and a row that fails is played again from the start, up to three times in all: it",
        "counts when one play is right in all four ways. All proxies are held to this alike, Gateway too (its own",
        f"tests are stricter). Rows that counted at the second or third play: {again}.",
        "",
        f"Linux {platform.release()}, {platform.machine()}; Python {platform.python_version()}; "
        + "; ".join(version(PEERS[name]) for name in found if name in PEERS),
        "",
        "| topic | rows | " + " | ".join(found) + " |",
        "|---|---|" + "---|" * len(found),
    ]
    lines += [
        f"| {topic} | {len(rows)} | " + " | ".join(str(score.right[topic]) for score in found.values()) + " |"
        for topic, rows in graded.items()
    ]
    lines += [
        f"| **all** | {total} | " + " | ".join(f"**{score.right.total()}**" for score in found.values()) + " |",
    ]
    lines += ["", "## Rows that no other passes, looked up again", "", *LOOKED_UP, ""]
    lines += [f"- {row}" for row in shared(found)]
    for name, score in found.items():
        lines += ["", f"## {name}: {len(score.wrong)} rows", ""]
        lines += [f"- {row}" for row in score.wrong]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the comparison and write the report."""
    parser = argparse.ArgumentParser(description="Play the wire table against other proxies.")
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="only this one (may be repeated)")
    parser.add_argument("--topic", action="append", choices=list(TOPICS), help="only this one (may be repeated)")
    parser.add_argument("--output", type=Path, default=REPORT, help="where the report goes")
    parser.add_argument("--explain", action="store_true", help="print what was wrong with each row")
    given = parser.parse_args()
    start("wire", "error")  # the refusals are the point
    names = [name for name in given.peer or PEERS if shutil.which(PEERS[name].program)]
    topics = given.topic or list(TOPICS)
    found = asyncio.run(scores(names, topics))
    given.output.write_text(report(found, topics))
    if given.explain:
        for name, score in found.items():
            for row, wrong in [*((row, "played again") for row in score.again), *score.wrong.items()]:
                print(f"{name}: {row}: {wrong}")  # noqa: T201  # it is a program too


if __name__ == "__main__":
    main()
