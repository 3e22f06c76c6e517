"""One run's place: its folder, ports, files and programs, the upstream that all proxies lead to, and the tokens."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bench.machine import LOAD_CORE, Tree, free_port, on_core
from bench.signing import Signer, tokens_of_an_issuer

HERE: Final = Path(__file__).parent
TEMPLATES: Final = HERE / "peers"
SMALL: Final = b"{" + b"small answer " * 7 + b"abcdefg}"  # 100 bytes
PART: Final = os.urandom(64 * 1024)
UPLOAD: Final = {"2k": b'{"text":"' + b"a" * 2037 + b'"}', "10k": PART[: 10 * 1024], "1m": PART * 16}
PEOPLE: Final = 1000  # whose sessions are shown in turn, and whose tokens of another issuer are
_START_PATIENCE: Final = 30.0
_STOP_PATIENCE: Final = 45.0


class CannotStart(Exception):
    """A program that is not there, or ended instead of serving."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Good tokens: the list, the file that has a line for each, one that signs, sessions of browsers, tokens of another
    issuer, and those that were issued and never sent, each of which is taken once."""

    values: tuple[str, ...]
    file: Path
    signer: Signer
    sessions: tuple[str, ...]
    foreign: tuple[str, ...]
    unseen: list[str]

    @classmethod
    def written(
        cls,
        values: list[str],
        file: Path,
        signer: Signer,
        sessions: list[str],
        foreign: tuple[str, ...],
        unseen: list[str] | None = None,
    ) -> Self:
        file.write_text("".join(f"{value}\n" for value in values))
        file.chmod(0o644)
        return cls(tuple(values), file, signer, tuple(sessions), foreign, unseen or [])

    @classmethod
    def random(cls, count: int, file: Path, foreign: tuple[str, ...]) -> Self:
        """Tokens of the gateway's shape for the peers, who only compare them."""
        values = [f"gwa_{secrets.token_urlsafe(30)}" for _ in range(count)]
        sessions = [f"gwb_{secrets.token_urlsafe(30)}" for _ in range(PEOPLE)]
        signer = Signer(values[0], secrets.token_urlsafe(32).encode())
        return cls.written(values, file, signer, sessions, foreign)

    @property
    def one(self) -> str:
        return self.values[0]

    def invented(self) -> str:
        """A pattern for tokens that nobody issued, never the same in two runs of a load: NUMBER is ten digits."""
        return f"gwa_{secrets.token_hex(3)}NUMBER{self.one[20:]}"


class Site:
    """The folder and what is fixed for a run."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.origin, self.sink, self.stub = free_port(), free_port(), free_port()
        foreign, keys = tokens_of_an_issuer(f"http://127.0.0.1:{self.origin}", PEOPLE)
        (folder / "jwks.json").write_text(keys)
        self.tokens = Tokens.random(count, folder / "tokens", foreign)

    def render(self, template: str, target: str, values: Mapping[str, object]) -> Path:
        """A template of `peers/` with each @NAME@ replaced, as a file of the run's folder."""
        known: dict[str, object] = {
            "FOLDER": self.folder, "ORIGIN": self.origin, "SINK": self.sink, "STUB": self.stub,
            "TOKEN": self.tokens.one, "SMALL": SMALL.decode(), **values,
        }  # fmt: skip
        text = re.sub("@([A-Z]+)@", lambda found: str(known[found[1]]), (TEMPLATES / template).read_text())
        path = self.folder / target
        path.write_text(text)
        return path

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.out"


class Running:
    """A program that serves on a port, and its descendants."""

    def __init__(self, command: list[str], port: int, log: Path, environment: Mapping[str, str] | None = None) -> None:
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )
        self._log, self.port = log, port
        self.tree = Tree(self._process.pid)

    def wait(self) -> None:
        """Until it accepts connections. Raises CannotStart."""
        deadline = time.monotonic() + _START_PATIENCE
        while not _accepts(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self._log.read_text(errors="replace").strip().splitlines()[-3:]
                raise CannotStart(" / ".join(said)[-400:] or f"it does not serve, exit {self._process.poll()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, and wait for its end."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def program(*names: str) -> str | None:
    """The first of these programs that is there, also where only root looks for it."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", "/sbin"])
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


@contextmanager
def open_site(count: int) -> Iterator[Site]:
    """A site with `count` tokens whose upstream serves. Raises CannotStart."""
    nginx = program("nginx")
    if nginx is None:
        raise CannotStart("nginx is missing, the upstream and the measure of all: install the package nginx")
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # servers that leave root read it too
        site = Site(folder, count)
        (folder / "tokens.map").write_text("".join(f"{token} 1\n" for token in site.tokens.values))
        for size, body in (("1m", PART * 16), ("64m", PART * 1024), ("up-10k", UPLOAD["10k"])):
            (folder / size).write_bytes(body)
        conf = site.render("origin.conf", "origin.conf", {})
        companion = [sys.executable, str(HERE / "companion.py"), f"--sink={site.sink}", f"--stub={site.stub}"]
        upstreams = (
            ([nginx, "-p", str(folder), "-c", str(conf)], site.origin, "origin"),
            ([*companion, f"--tokens={site.tokens.file}"], site.stub, "companion"),
        )
        with contextlib.ExitStack() as stack:
            for command, port, title in upstreams:
                running = Running(on_core(LOAD_CORE, command), port, site.log(title))
                stack.callback(running.stop)
                running.wait()
            yield site
