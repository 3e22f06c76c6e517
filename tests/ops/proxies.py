"""The samples of `ops/` on the real programs, with a test's ports, names and certificates in them."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.serving import ROOT, free_ports, until

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
PROGRAMS = {name: shutil.which(name, path=_PATH) for name in ("nginx", "caddy", "haproxy")}


@dataclass(frozen=True)
class Front:
    """A proxy in front that runs: its ports for http:// and https://."""

    plain: int
    secure: int


def sample(path: str, replaced: Mapping[str, str]) -> str:
    """A sample with some of its text replaced, each of which it must have."""
    text = (ROOT / "ops" / path).read_text()
    for old, new in replaced.items():
        assert re.search(old, text), old
        text = re.sub(old, new, text)
    return text


def _nginx(folder: Path, front: Front, gateway: int, admin: int, chain: Path, key: Path) -> tuple[list[str], str]:
    del admin
    text = sample(
        "nginx/gateway.conf",
        {
            r"listen \[::\]:.*\n": "\n",
            r"listen 80\b": f"listen 127.0.0.1:{front.plain}",
            r"listen 443\b": f"listen 127.0.0.1:{front.secure}",
            r"server 127.0.0.1:8080": f"server 127.0.0.1:{gateway}",
            r"/etc/letsencrypt\S+fullchain.pem": str(chain),
            r"/etc/letsencrypt\S+privkey.pem": str(key),
        },
    )
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = f"error_log {folder}/error.log;\npid {folder}/pid;\ndaemon off;\nworker_processes 1;\nevents {{}}\n"
    return ["-e", f"{folder}/error.log", "-c"], f"{main}http {{\naccess_log off;\n{temporary}{text}}}\n"


def _caddy(folder: Path, front: Front, gateway: int, admin: int, chain: Path, key: Path) -> tuple[list[str], str]:
    del folder, admin
    text = sample(
        "caddy/Caddyfile",
        {r"# tls \S+ \S+": f"tls {chain} {key}", r"127.0.0.1:8080 \{": f"127.0.0.1:{gateway} {{"},
    )
    options = (
        f"{{\nadmin off\nauto_https disable_certs\nhttp_port {front.plain}\nhttps_port {front.secure}\n"
        "default_bind 127.0.0.1\n}\n"
    )
    return ["run", "--adapter", "caddyfile", "--config"], options + text


def _haproxy(folder: Path, front: Front, gateway: int, admin: int, chain: Path, key: Path) -> tuple[list[str], str]:
    both = folder / "both.pem"
    both.touch(mode=0o600)
    both.write_text(chain.read_text() + key.read_text())
    text = sample(
        "haproxy/haproxy.cfg",
        {
            r"    (user|group) haproxy\n": "",
            r"maxconn 8000": "maxconn 200",
            r"bind :80\b": f"bind 127.0.0.1:{front.plain}",
            r"bind :443\b": f"bind 127.0.0.1:{front.secure}",
            r"/etc/haproxy/certs/\S+": str(both),
            r"127.0.0.1:8080": f"127.0.0.1:{gateway}",
            r"port 9901": f"port {admin}",
        },
    )
    return ["-db", "-f"], text


_MADE = {"nginx": _nginx, "caddy": _caddy, "haproxy": _haproxy}


@asynccontextmanager
async def proxying(name: str, folder: Path, gateway: int, admin: int, chain: Path, key: Path) -> AsyncIterator[Front]:
    """The sample of that name in front of a gateway, until the context ends."""
    program = PROGRAMS[name]
    assert program is not None
    front = Front(*free_ports(2))
    arguments, text = _MADE[name](folder, front, gateway, admin, chain, key)
    config = folder / "proxy.conf"
    config.write_text(text)
    async with running([program, *arguments, str(config)], folder, front.secure):
        yield front


@asynccontextmanager
async def running(command: Sequence[str], folder: Path, port: int) -> AsyncIterator[None]:
    """A program that listens at the port, until the context ends; `folder` is its home, and has its log."""
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=log, stderr=log, env={"HOME": str(folder), "PATH": _PATH}
        )
    try:
        await until(lambda: _listens(port, process, folder / "log"))
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _listens(port: int, process: asyncio.subprocess.Process, log: Path) -> bool:
    assert process.returncode is None, log.read_text()
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
