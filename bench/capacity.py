"""What each thing that clients and people do takes of the gateway and of its database: `python -m bench.capacity`.

One gateway, one Postgres, and a few callers at a time; nothing is bound to a core, and what is told is CPU, so that a
busy machine spoils little. How many of them a core carries in a second is the reciprocal, which `docs/scaling.md`
reckons with.
"""

import argparse
import asyncio
import base64
import json
import secrets
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import aiohttp

from bench.flow import Browser, Peer, _cpu, _postgres, _prepared
from bench.machine import Tree, description, free_port
from bench.peers import ROOT, package
from bench.report import table
from bench.signing import Signer
from bench.site import Running

Act = Callable[[int], Awaitable[None]]


class Callers:
    """Who calls a gateway, as the two clients and the person that it knows."""

    def __init__(self, session: aiohttp.ClientSession, peer: Peer, own: dict[str, str], mac: dict[str, str]) -> None:
        self.session, self.peer = session, peer
        self.front = f"http://127.0.0.1:{peer.port}"
        self.credentials = aiohttp.encode_basic_auth(own["client_id"], own["client_secret"])
        self.signer = Signer(mac["access_token"], mac["mac_key"].encode())
        self.tokens: list[str] = []
        self.browser = Browser("127.0.0.1", peer.port)

    async def call(self, authorization: str) -> None:
        async with self.session.get(f"{self.front}/api", headers={"Authorization": authorization}) as answer:
            await answer.read()
            assert answer.status == 200, answer.status

    async def post(self, name: str, **form: str) -> dict[str, Any]:
        headers = {"Authorization": self.credentials}
        async with self.session.post(f"{self.front}/oauth2/{name}", data=form, headers=headers) as answer:
            body = await answer.read()
            assert answer.status == 200, body
            return json.loads(body) if body else {}

    async def issue(self, _: int) -> None:
        self.tokens.append((await self.post("token", grant_type="client_credentials"))["access_token"])

    async def see(self, number: int) -> None:
        await self.call(f"Bearer {self.tokens[number]}")

    async def sign(self, _: int) -> None:
        [authorization] = self.signer.credentials("/api", self.peer.port, 1)
        await self.call(authorization)

    async def revoke(self, number: int) -> None:
        await self.post("revoke", token=self.tokens[number])

    async def allow(self, _: int) -> None:
        await self.peer.flow(self.browser)

    async def sign_in(self, _: int) -> None:
        browser = Browser("127.0.0.1", self.peer.port)
        await self.peer.flow(browser)
        browser.close()


async def _cost(act: Act, count: int, at_once: int, trees: tuple[Tree, Tree]) -> tuple[float, float]:
    """Milliseconds of CPU of the gateway and of the database, for each."""
    left = iter(range(count))

    async def some() -> None:
        for number in left:
            await act(number)

    before = _cpu(*trees)
    await asyncio.gather(*(some() for _ in range(at_once)))
    await asyncio.sleep(0.3)  # what is told later, in batches
    gateway, database = (after - earlier for after, earlier in zip(_cpu(*trees), before, strict=True))
    return gateway / count * 1000, database / count * 1000


class _Upstream(asyncio.Protocol):
    """Answers each request, of which none has a body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * data.count(b"\r\n\r\n"))


async def _measured(folder: Path, port: int, peer: Peer, database: Tree, scale: float) -> list[list[str]]:
    async def gateway(*arguments: str) -> dict[str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *arguments, "--config", str(folder / "config.toml"), "--json",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0, arguments
        answer: dict[str, str] = json.loads(out)
        return answer

    own = await gateway("client", "create", "--name", "Own", "--grant-type", "client_credentials", "--scope", "read")
    mac = await gateway("token", "issue", "--client", own["client_id"], "--type", "mac")
    async with (
        await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", port),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        callers = Callers(session, peer, own, mac)
        await callers.issue(0)
        await callers.see(0)
        await callers.allow(0)
        callers.tokens.clear()
        many, few = int(1000 * scale), int(100 * scale)
        acts: Sequence[tuple[str, Act, int, int]] = (
            ("a token is issued to a client for itself", callers.issue, many, 8),
            ("a call with a token that was not seen before", callers.see, many, 32),
            ("a call with a token that was", callers.see, many, 32),
            ("a signed call", callers.sign, many, 64),
            ("a token is revoked", callers.revoke, many // 2, 8),
            ("a person who is signed in allows a client something, which redeems the code", callers.allow, few, 1),
            ("the same, and signs in before", callers.sign_in, few // 2, 2),
        )
        rows = []
        for name, act, count, at_once in acts:
            took = await _cost(act, count, at_once, (peer.running.tree, database))
            rates = (f"{1000 / each:,.0f}" if each >= 0.01 else "-" for each in took)
            rows.append([name, *(f"{each:.2f}" for each in took), *rates])
        callers.browser.close()
        return rows


def _gateway(folder: Path, dsn: str, upstream: int) -> Peer:
    """One with a worker of each plane."""
    port, admin = free_port(), free_port()
    (folder / "config.toml").write_text(
        f'[server]\nlisten = "127.0.0.1:{port}"\npublic_url = "http://127.0.0.1:{port}"\nworkers = 1\n'
        f'authorization_workers = 1\n[admin]\nlisten = "127.0.0.1:{admin}"\n[database]\nurl = "{dsn}"\n'
        f'[keys]\nmaster = {{ file = "{folder}/master.key" }}\n[scopes]\n"read" = "Read"\n'
        f'[[routes]]\nname = "api"\npath = "/api"\nupstreams = ["http://127.0.0.1:{upstream}"]\n'
        'auth = ["bearer", "mac"]\nscopes = ["read"]\n'
    )
    (folder / "master.key").write_bytes(base64.urlsafe_b64encode(secrets.token_bytes(32)) + b"\n")
    (folder / "master.key").chmod(0o600)
    client_id = asyncio.run(_prepared(folder / "config.toml", dsn))
    code = package("gateway")
    serve = [sys.executable, "-P", "-m", "gateway", "serve", "--config", str(folder / "config.toml")]
    running = Running([*serve, "--log-level", "error"], port, folder / "gateway.out", {"PYTHONPATH": str(code)})
    name = "Gateway, plain Python" if code == ROOT else "Gateway"
    return Peer(name, port, "/oauth2/authorize", "/oauth2/token", client_id, "read", running)


def run(scale: float) -> Iterator[str]:
    """Measure; the table as text, and what it is of."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-capacity-")))
        folder.chmod(0o755)
        made, database = stack.enter_context(_postgres(folder / "data"))
        upstream = free_port()
        peer = _gateway(folder, made("capacity"), upstream)
        stack.callback(peer.running.stop)
        peer.running.wait()
        rows = asyncio.run(_measured(folder, upstream, peer, database, scale))
    yield f"{peer.name}; {description()}"
    yield table(["", "gateway, ms", "database, ms", "a second and core", "a second and core of the database"], rows)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of how many of each  [1]")
    print("\n\n".join(run(parser.parse_args().scale)))


if __name__ == "__main__":
    main()
