"""What the whole code flow takes: Gateway beside node oidc-provider and two servers written with Authlib and Flask.

`python -m bench.flow` has each of them give tokens to a public client for people who are signed in: the request with
PKCE, its pages, the consent form that the person sends, the code, the token. Nobody's password is hashed: each browser
signs in once, before anything is measured. All have their data in one Postgres, each in a database of its own, and what
they promise to keep is on the disk before they answer.

A server, with the processes that it is made of, and Postgres are bound to core 0, browsers to core 1. Rounds are
interleaved: A B C, then B C A. What a flow costs is the CPU of the server and, beside it, that of Postgres; how long it
takes is what the browser waits, with four of them at once, each of another person. A second table has each request of
a flow, in all flows and in the slowest of them.

With `--openid` the client signs people in (OpenID Connect): it asks for `openid` too, and gets an ID token that is
signed by RS256. That is measured of the two that are OpenID providers.
"""

import argparse
import asyncio
import base64
import hashlib
import html
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, quantiles
from typing import Final
from urllib.parse import parse_qs, quote, urlencode, urljoin, urlsplit

import asyncpg

from bench import machine, report
from bench.machine import LOAD_CORE, PROXY_CORE, Tree, Usage, free_port, on_core
from bench.peers import ROOT, package
from bench.site import CannotStart, Running, program
from gateway.store import NewClient, Store
from gateway.store.migrations import migrate
from gateway.supervisor import embedded

PEERS: Final = Path(__file__).parent / "peers"
CALLBACK: Final = "https://app.example/cb"
_PEOPLE: Final = ("ada", "barbara", "edsger", "grace")  # who wait for each other nowhere but at the server
BROWSERS: Final = len(_PEOPLE)
_SLOWEST: Final = 0.02  # of the flows
_STEPS: Final = 12  # that a flow may take from the request to the code
_MARKS: Final = ("<!-- the code flow -->", "<!-- end of the code flow -->")
_MARKS_OF_OPENID: Final = ("<!-- signing in -->", "<!-- end of signing in -->")
OPENID: Final = "openid"  # the scope by which an application signs people in (OpenID Connect Core, section 3.1.2.1)
_PASSWORD: Final = "obviously-a-fake-password"

_FORM: Final = re.compile(r"<form\b([^>]*)>(.*?)</form>", re.DOTALL | re.IGNORECASE)
_FIELD: Final = re.compile(r"<(?:input|button)\b([^>]*)>", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(r"""([a-z-]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?""", re.IGNORECASE)


class Broken(Exception):
    """A flow that did not come to its token."""


@dataclass
class Answer:
    """An answer, whole."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def field(self, name: str) -> str:
        return next((value for key, value in self.fields if key == name), "")


@dataclass
class Browser:
    """One browser: the name of its person, a connection that is kept, cookies by name with the path that they are for,
    and how long it waited for each answer, in seconds."""

    host: str
    port: int
    username: str = "ada"
    waits: list[float] = field(default_factory=list)
    cookies: dict[str, tuple[str, str]] = field(default_factory=dict)
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, method: str, target: str, form: Mapping[str, str] | None = None) -> Answer:
        """A browser's request and its answer; what the answer says of cookies is kept."""
        origin = [] if form is None else [f"Origin: http://{self.host}:{self.port}"]
        return await self._sent(method, target, form, ["Accept: text/html", *origin])

    async def call(self, target: str, form: Mapping[str, str]) -> Answer:
        """What a program posts, on the same connection, and its answer."""
        return await self._sent("POST", target, form, ["Accept: application/json"])

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None

    async def _sent(self, method: str, target: str, form: Mapping[str, str] | None, more: list[str]) -> Answer:
        path = target.partition("?")[0]
        kept = "; ".join(f"{name}={value}" for name, (value, at) in self.cookies.items() if path.startswith(at))
        body = b"" if form is None else urlencode(form).encode()
        fields = [f"{method} {target} HTTP/1.1", f"Host: {self.host}:{self.port}", *more]
        fields += [f"Cookie: {kept}"] if kept else []
        if form is not None:
            fields += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
        request = "\r\n".join([*fields, "", ""]).encode() + body
        began = time.perf_counter()
        try:
            answer = await self._asked(request)
        except (ConnectionError, asyncio.IncompleteReadError):  # a kept connection may end between two requests
            self.close()
            answer = await self._asked(request)
        self.waits.append(time.perf_counter() - began)
        for name, value in answer.fields:
            if name == "set-cookie":
                self._keep(value, path)
        return answer

    async def _asked(self, request: bytes) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self.host, self.port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:-2])]
        answer = Answer(int(head[0].split()[1]), fields, b"")
        if answer.field("transfer-encoding").lower() == "chunked":
            answer.body = await _chunks(reader)
        else:
            answer.body = await reader.readexactly(int(answer.field("content-length") or 0))
        if answer.field("connection").lower() == "close":
            self.close()
        return answer

    def _keep(self, text: str, path: str) -> None:
        pair, *attributes = (part.strip() for part in text.split(";"))
        name, _, value = pair.partition("=")
        said = {key.lower(): item for key, _, item in (part.partition("=") for part in attributes)}
        if said.get("max-age", "1").startswith(("0", "-")) or " 1970 " in said.get("expires", ""):
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = (value, said.get("path") or path.rpartition("/")[0] or "/")


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


def filled(page: str, address: str, username: str = "ada") -> tuple[str, dict[str, str]]:
    """Where the last form of a page goes, and what a person of that name sends who signs in, or allows what is asked.

    Raises Broken for a page without one.
    """
    forms = _FORM.findall(page)
    if not forms:
        raise Broken(f"{address}: a page without a form: {page[:200]!r}")
    attributes, inside = forms[-1]
    known = {"username": username, "login": username, "password": _PASSWORD}
    sent = dict[str, str]()
    for text in _FIELD.findall(inside):
        of = _attributes(text)
        name, kind = of.get("name", ""), of.get("type", "").lower()
        unticked = kind == "checkbox" and "checked" not in of
        if not name or unticked or (name == "decision" and of.get("value") != "allow"):
            continue
        sent[name] = known.get(name) or of.get("value", "")
    return urljoin(address, _attributes(attributes).get("action") or address), sent


def _attributes(text: str) -> dict[str, str]:
    found = ((name.lower(), one or two or three) for name, one, two, three in _ATTRIBUTE.findall(text))
    return {name: html.unescape(value) for name, value in found}


@dataclass(frozen=True)
class Peer:
    """A server that gives tokens: its endpoints, and the client that it knows."""

    name: str
    port: int
    authorize: str
    token: str
    client_id: str
    scope: str
    running: Running

    async def flow(self, browser: Browser) -> None:
        """One person allows one client, which gets its token. Raises Broken."""
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code", "client_id": self.client_id, "redirect_uri": CALLBACK, "scope": self.scope,
            "state": secrets.token_urlsafe(12), "prompt": "consent", "code_challenge": challenge,
            "code_challenge_method": "S256",
        }  # fmt: skip
        target = f"{self.authorize}?{urlencode(asked, quote_via=quote)}"
        try:
            code = await allowed(browser, target)
        except Broken as exc:
            raise Broken(f"{self.name}: {exc}") from exc
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        form |= {"code_verifier": verifier, "client_id": self.client_id}
        answer = await browser.call(self.token, form)
        wanted = b'"id_token"' if OPENID in self.scope.split() else b'"access_token"'
        if answer.status != 200 or wanted not in answer.body:
            raise Broken(f"{self.name}: no token, but {answer.status} {answer.body[:200]!r}")


async def allowed(browser: Browser, target: str) -> str:
    """The code that a client gets when a person has filled in every page that the request leads to. Raises Broken."""
    base = f"http://{browser.host}:{browser.port}"
    answer = await browser.send("GET", target)
    for _ in range(_STEPS):
        if answer.status in (301, 302, 303):
            location = urljoin(base + target, answer.field("location"))
            if location.startswith(CALLBACK):
                found = parse_qs(urlsplit(location).query).get("code")
                if not found:
                    raise Broken(f"no code, but {location}")
                return found[0]
            target = location.removeprefix(base)
            answer = await browser.send("GET", target)
        elif answer.status == 200:
            action, form = filled(answer.body.decode(), base + target, browser.username)
            target = action.removeprefix(base)
            answer = await browser.send("POST", target, form)
        else:
            raise Broken(f"{answer.status} at {target}: {answer.body[:200]!r}")
    raise Broken(f"no end after {_STEPS} steps, at {target}")


@dataclass(frozen=True, slots=True)
class Round:
    """What flows took: seconds of each, and CPU seconds of all of them, of the server and of Postgres; and seconds of
    each request of each flow."""

    times: tuple[float, ...]
    server: float
    database: float
    requests: tuple[tuple[float, ...], ...] = ()

    @property
    def count(self) -> int:
        return len(self.times)


async def measured(peer: Peer, browsers: Sequence[Browser], database: Tree, flows: int) -> Round:
    """So many flows, a few at a time. Raises Broken."""
    times, requests, left = list[float](), list[tuple[float, ...]](), iter(range(flows))

    async def go(browser: Browser) -> None:
        for _ in left:
            browser.waits.clear()
            began = time.perf_counter()
            await peer.flow(browser)
            times.append(time.perf_counter() - began)
            requests.append(tuple(browser.waits))

    before = _cpu(peer.running.tree, database)
    await asyncio.gather(*map(go, browsers))
    server, rest = (after - earlier for after, earlier in zip(_cpu(peer.running.tree, database), before, strict=True))
    return Round(tuple(times), server, rest, tuple(requests))


def _cpu(server: Tree, database: Tree) -> tuple[float, float]:
    return Usage.of(server).proxy, sum(process.cpu for process in database.processes())


def lines(results: Mapping[str, Sequence[Round]]) -> Iterator[list[str]]:
    """A line for each server; all rounds hold as many flows."""
    for name, rounds in results.items():
        cuts = [quantiles(one.times, n=100, method="inclusive") for one in rounds]
        yield [
            name,
            report.spread([one[49] * 1000 for one in cuts], "{:.1f}"),
            report.spread([one[98] * 1000 for one in cuts], "{:.1f}"),
            report.spread([one.server / one.count * 1000 for one in rounds]),
            report.spread([(one.server + one.database) / one.count * 1000 for one in rounds]),
        ]


def lines_of_requests(results: Mapping[str, Sequence[Round]]) -> Iterator[list[str]]:
    """A line for each server: what its requests take in their order, in all flows, and in the slowest of them."""
    for name, rounds in results.items():
        flows = [pair for one in rounds for pair in zip(one.times, one.requests, strict=True)]
        flows.sort(key=lambda pair: pair[0])
        slowest = flows[-max(1, round(len(flows) * _SLOWEST)) :]
        yield [name, *(_means([requests for _, requests in some]) for some in (flows, slowest))]


def _means(flows: Sequence[tuple[float, ...]]) -> str:
    return ", ".join(f"{fmean(times) * 1000:.1f}" for times in zip(*flows, strict=False))


# -- who is measured ----------------------------------------------------------------------------------------------


def _gateway(folder: Path, dsn: str) -> Peer:
    """Gateway, from the compiled package where there is one."""
    code = package("gateway")
    return _served(folder, dsn, "Gateway, plain Python" if code == ROOT else "Gateway", code)


def _earlier(tree: Path) -> Callable[[Path, str], Peer]:
    """Gateway as it was in another checkout, compiled where that is."""

    def start(folder: Path, dsn: str) -> Peer:
        built = tree / "build" / "engine"
        return _served(folder, dsn, "before", built if any(built.glob("*.so")) else tree)

    start.__name__ = "_earlier"
    return start


def _served(folder: Path, dsn: str, name: str, code: Path) -> Peer:
    """Gateway with one worker of each plane, as `gateway serve` starts it, from the package in that folder."""
    port, admin = free_port(), free_port()
    where = folder / name.replace(" ", "-").lower()
    where.mkdir()
    listens = f'listen = "127.0.0.1:{port}"\npublic_url = "http://127.0.0.1:{port}"'
    (where / "config.toml").write_text(
        f"[server]\n{listens}\nworkers = 1\nauthorization_workers = 1\n"
        f'[admin]\nlisten = "127.0.0.1:{admin}"\n[database]\nurl = "{dsn}"\n'
        f'[keys]\nmaster = {{ file = "{where}/master.key" }}\n[scopes]\n"read" = "Read"\n'
        '[[routes]]\nname = "api"\npath = "/api"\nupstreams = ["http://127.0.0.1:9"]\nauth = ["bearer"]\n'
        'scopes = ["read"]\n'
    )
    key = base64.urlsafe_b64encode(secrets.token_bytes(32))
    (where / "master.key").write_bytes(key + b"\n")
    (where / "master.key").chmod(0o600)
    # The gateway's package of that folder, with what the bench has here.
    prepare = (
        f"import sys; sys.path.insert(0, {str(code)!r}); import gateway; sys.path.insert(0, {str(ROOT)!r}); "
        f"from bench.flow import prepared; prepared({str(where / 'config.toml')!r}, {dsn!r})"
    )
    done = subprocess.run([sys.executable, "-P", "-c", prepare], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotStart(f"{name}: {done.stderr.strip()[-400:]}")
    client_id = done.stdout.strip()
    serve = [sys.executable, "-P", "-m", "gateway", "serve", "--config", str(where / "config.toml")]
    command = on_core(PROXY_CORE, [*serve, "--log-level", "error"])
    running = Running(command, port, folder / f"{where.name}.out", {"PYTHONPATH": str(code)})
    return Peer(name, port, "/oauth2/authorize", "/oauth2/token", client_id, "read", running)


def prepared(file: str, dsn: str) -> None:
    """Print the public client of a new database; run with the package that the gateway is to have."""
    print(asyncio.run(_prepared(Path(file), dsn)))


async def _prepared(file: Path, dsn: str) -> str:
    """The public client of a gateway's new database, in which each of the people can sign in."""
    from gateway import config
    from gateway.crypto import hash_password

    await migrate(dsn)
    settings = config.load(file)
    if settings.keyring is None:
        raise CannotStart("the gateway has no master key")
    store = await Store.open(dsn, settings.keyring, size=1, name="bench")
    try:
        for username in _PEOPLE:
            await store.users.create(username, None, username.title(), hash_password(_PASSWORD))
        client, _ = await store.clients.create(
            NewClient(
                name="Flow",
                confidential=False,
                redirect_uris=(CALLBACK,),
                scopes=frozenset({"read", OPENID}),
                grant_types=frozenset({"authorization_code"}),
                token_type="bearer",
                mac_drafts=("01",),
                mac_algorithm="hmac-sha-256",
            )
        )
    finally:
        await store.close()
    return client.client_id


def _other(folder: Path, dsn: str, name: str, command: Callable[[int], list[str]], *, authorize: str) -> Peer:
    port = free_port()
    environment = {
        "FLOW_DSN": dsn, "FLOW_CLIENT": "flow", "FLOW_REDIRECT": CALLBACK, "ISSUER": f"http://127.0.0.1:{port}",
        "NODE_ENV": "production", "PYTHONPATH": str(PEERS),
    }  # fmt: skip
    running = Running(on_core(PROXY_CORE, command(port)), port, folder / f"{'-'.join(name.split())}.out", environment)
    return Peer(name, port, authorize, "/token", "flow", "read", running)


def _oidc_provider(folder: Path, dsn: str) -> Peer:
    """node oidc-provider with its own pages. Raises CannotStart."""
    node, packages = program("node"), Path(os.environ.get("BENCH_VENV", "")) / "node" / "node_modules"
    if node is None or not packages.is_dir():
        raise CannotStart("node oidc-provider is not installed: make bench-flow")
    beside = folder / "node"  # Node finds packages beside a file
    beside.mkdir()
    (beside / "oidc_provider.mjs").write_text((PEERS / "oidc_provider.mjs").read_text())
    (beside / "node_modules").symlink_to(packages.resolve())
    command = [node, str(beside / "oidc_provider.mjs")]
    return _other(folder, dsn, "node oidc-provider", lambda _: command, authorize="/auth")


def _authlib(folder: Path, dsn: str) -> Peer:
    """Authlib's server as its documentation has it written, over SQLAlchemy. Raises CannotStart."""
    return _flask(folder, dsn, "Authlib with Flask and SQLAlchemy", "authlib_documented")


def _authlib_by_hand(folder: Path, dsn: str) -> Peer:
    """Authlib's server with its SQL written by hand. Raises CannotStart."""
    return _flask(folder, dsn, "Authlib with Flask, SQL by hand", "authlib_app")


def _flask(folder: Path, dsn: str, name: str, module: str) -> Peer:
    """A server in Flask under gunicorn, a process with as many threads as browsers. Raises CannotStart."""
    gunicorn = Path(os.environ.get("BENCH_VENV", "")) / "bin" / "gunicorn"
    if not gunicorn.is_file():
        raise CannotStart("Authlib and gunicorn are not installed: make bench-flow")
    threads = ["--workers", "1", "--worker-class", "gthread", "--threads", str(BROWSERS), "--keep-alive", "60"]
    return _other(
        folder,
        dsn,
        name,
        lambda port: [str(gunicorn), *threads, "--bind", f"127.0.0.1:{port}", f"{module}:app"],
        authorize="/authorize",
    )


@contextmanager
def _postgres(folder: Path) -> Iterator[tuple[Callable[[str], str], Tree]]:
    """A Postgres on core 0: what makes a database of that name and gives its DSN, and its processes."""
    use = embedded.Use(folder)
    dsn = asyncio.run(use.join())
    try:
        pid = int(next(folder.rglob("postmaster.pid")).read_text().split()[0])
        os.sched_setaffinity(pid, {PROXY_CORE})

        def made(name: str) -> str:
            asyncio.run(_execute(dsn, f"create database {name}"))
            return dsn.replace("/gateway?", f"/{name}?", 1)

        yield made, Tree(pid)
    finally:
        asyncio.run(use.leave())


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def compared(peers: Sequence[Peer], database: Tree, rounds: int, flows: int) -> dict[str, list[Round]]:
    """Rounds of all of them in turn, after each browser has signed in. Raises Broken."""
    browsers = {peer.name: [Browser("127.0.0.1", peer.port, name) for name in _PEOPLE] for peer in peers}
    results = {peer.name: list[Round]() for peer in peers}
    for peer in peers:
        for browser in browsers[peer.name]:
            await peer.flow(browser)
        await measured(peer, browsers[peer.name], database, flows // 2)
    for number in range(rounds):
        for index in range(len(peers)):
            peer = peers[(number + index) % len(peers)]
            results[peer.name].append(await measured(peer, browsers[peer.name], database, flows))
    for held in browsers.values():
        for browser in held:
            browser.close()
    return results


def run(rounds: int, flows: int, before: Path | None = None, *, openid: bool = False) -> str:
    """Measure all that are there, and the gateway of another checkout where one is named; the tables as text.

    With `openid`, only those that give ID tokens, and that they do. What is missing has its line.
    """
    began, left_out = time.monotonic(), list[str]()
    os.sched_setaffinity(0, {LOAD_CORE})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-flow-")))
        folder.chmod(0o755)
        made, database = stack.enter_context(_postgres(folder / "data"))
        peers = list[Peer]()
        earlier = () if before is None else (_earlier(before.absolute()),)
        others = (_oidc_provider,) if openid else (_oidc_provider, _authlib, _authlib_by_hand)
        for start in (_gateway, *earlier, *others):
            try:
                peer = start(folder, made(f"flow{start.__name__}"))
                stack.callback(peer.running.stop)
                peer.running.wait()
                peers.append(replace(peer, scope=f"{OPENID} {peer.scope}") if openid else peer)
            except CannotStart as exc:
                left_out.append(str(exc))
        results = asyncio.run(compared(peers, database, rounds, flows))
    head = ["", "p50 ms", "p99 ms", "CPU s per 1,000 flows", "with Postgres"]
    head_of_requests = ["each request in its order, ms", "of all flows", f"of the slowest {_SLOWEST:.0%}"]
    took = f"{rounds} rounds of {flows} flows each, {BROWSERS} at a time, in {time.monotonic() - began:.0f} s."
    tables = [report.table(head, lines(results)), report.table(head_of_requests, lines_of_requests(results))]
    return "\n\n".join([*tables, *left_out, took])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.flow", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    # The slowest hundredth of fewer is one flow or two, and tells of chance.
    parser.add_argument("--flows", type=int, default=400, help="in a round, of each server")
    parser.add_argument("--before", type=Path, help="another checkout of Gateway, to be measured beside this one")
    parser.add_argument("--write", action="store_true", help="put the figures into RESULTS.md")
    parser.add_argument("--note", default="", help="a sentence on the machine that goes with them")
    parser.add_argument("--openid", action="store_true", help="sign people in, of the OpenID providers")
    given = parser.parse_args(arguments)
    text = run(given.rounds, given.flows, given.before, openid=given.openid)
    print(text)
    if given.write:
        title = "Signing in, by OpenID Connect" if given.openid else "The whole code flow"
        intro = f"## {title}\n\n{machine.description()}"
        text = "\n\n".join(part for part in (intro, given.note, text) if part)
        marks = _MARKS_OF_OPENID if given.openid else _MARKS
        report.write(Path(__file__).with_name("RESULTS.md"), text, marks)


if __name__ == "__main__":
    main()
