"""One gateway for all clients, the person who allows them what they ask for, and their programs.

A program is told by its environment where it is, and speaks lines of JSON: `{"open": URL}` sends the person there, and
is answered with the address at which their browser ended; `{"done": …}` is what came of it.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.crypto import Keyring
from gateway.model import DEVICE_CODE
from gateway.store import Store
from tests.conftest import cloned_store
from tests.proxy.rig import RawUpstream
from tests.serving import ROOT, Gateway, free_ports, serving, until
from tests.web.rig import PASSWORD_HASH, Browser, new_client

PROGRAMS = ROOT / "tests" / "clients" / "programs"
MADE = ROOT / ".venv"  # where `make clients` installs them
PYTHON = MADE / "clients" / "bin" / "python"
PACKAGES = MADE / "node" / "node_modules"
CONFORMANCE = MADE / "conformance" / "node_modules"
REDIRECT_URI = "http://127.0.0.1:49152/callback"
SCOPES = {"notes:read": "Read your notes", "notes:write": "Change your notes", "sums": "Add things up"}
_PATIENCE = 60.0
_SCOPE = re.compile(r'name="scope" value="([^"]+)"')


@dataclass
class World:
    """A gateway before an API and two MCP servers, which clients may register at, and somebody who is signed in."""

    gateway: Gateway
    store: Store
    person: Browser
    folder: Path

    async def client(self, **changes: Any) -> dict[str, str]:
        """What a program knows of a client that was registered for it."""
        grants = frozenset({"authorization_code", "refresh_token", "client_credentials", DEVICE_CODE})
        scopes = frozenset({"notes:read", "notes:write"})
        usual: dict[str, Any] = {"redirect_uris": (REDIRECT_URI,), "grant_types": grants, "scopes": scopes}
        client, secret = await new_client(self.store, **usual | changes)
        return {"CLIENT_ID": client.client_id, "CLIENT_SECRET": secret, "API": f"{self.gateway.url}/api/notes"}

    async def run(self, program: str, environment: Mapping[str, str]) -> dict[str, Any]:
        """What came of a client's program. The test is skipped where it is not installed."""
        process = await asyncio.create_subprocess_exec(
            *command(program, self.folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "ISSUER": self.gateway.url,
                "REDIRECT_URI": REDIRECT_URI,
                **environment,
            },
        )
        listening = list[asyncio.Task[None]]()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_PATIENCE):
                while line := await process.stdout.readline():
                    said = json.loads(line)
                    if "done" in said:
                        facts: dict[str, Any] = said["done"]
                        await process.communicate()  # nothing of it outlives the test
                        return facts
                    location = await self.allowed(said["open"])
                    if urlsplit(location).path == "/callback" and not location.startswith(REDIRECT_URI):
                        listening.append(asyncio.create_task(received(location)))
                    process.stdin.write(f"{location}\n".encode())
        except TimeoutError:
            process.kill()
        finally:
            await asyncio.gather(*listening)
        _, err = await process.communicate()
        raise AssertionError(f"{program}: {err.decode()}\n{self.gateway.log_text[-2000:]}")

    async def conforms(self, client_id: str, resource: str) -> tuple[int, str]:
        """The exit code of the MCP project's tests of an authorization server, and what they print."""
        found = sorted(CONFORMANCE.glob("node-linux-*/bin/node"))
        if not found:
            pytest.skip("the clients in JavaScript are not installed: make clients")
        (port,) = free_ports(1)
        process = await asyncio.create_subprocess_exec(
            *(str(found[0]), str(CONFORMANCE / "@modelcontextprotocol/conformance/dist/index.js"), "authorization"),
            *("--url", self.gateway.url, "--client-id", client_id, "--resource", resource, "--port", str(port)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        said = ""
        async with asyncio.timeout(_PATIENCE):
            while line := (await process.stdout.readline()).decode():
                said += line
                if line.startswith(f"{self.gateway.url}/oauth2/authorize?"):
                    await received(await self.allowed(line.strip()))
        return await process.wait(), said

    async def allowed(self, url: str) -> str:
        """The address at which the person's browser ends once they have allowed what is asked for."""
        answer = await self.person.get(url)
        while True:
            if answer.status == 303:
                if not answer.location.startswith(("/", self.gateway.url)):
                    return answer.location
                answer = await self.person.get(answer.location)
            elif answer.status == 200 and 'name="decision"' in answer.text:
                everything = _SCOPE.findall(answer.text)  # also what is new, which is not ticked
                answer = await self.person.submit(answer.form, decision="allow", scope=everything)
            elif answer.status == 200 and 'name="user_code"' in answer.text:
                answer = await self.person.submit(answer.form)
            else:
                return url


async def run_program(program: str, environment: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """What came of a program that sends nobody anywhere. The test is skipped where it is not installed."""
    process = await asyncio.create_subprocess_exec(
        *command(program, folder),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
    )
    try:
        async with asyncio.timeout(_PATIENCE):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
    said = [json.loads(line) for line in out.splitlines()]
    assert said, f"{program}: {err.decode()}"
    facts: dict[str, Any] = said[-1]["done"]
    return facts


def command(program: str, folder: Path) -> list[str]:
    """How a program is run: one in Python in a folder of packages of its own, one for Node beside its packages."""
    if program.endswith(".py"):
        if not PYTHON.exists():
            pytest.skip("the clients in Python are not installed: make clients")
        return [str(PYTHON), str(PROGRAMS / program)]
    node = shutil.which("node")
    if node is None or not PACKAGES.exists():
        pytest.skip("the clients in JavaScript are not installed: make clients")
    return [node, str(beside_packages(folder) / program)]


def beside_packages(folder: Path) -> Path:
    """Where programs for Node stand: it finds packages beside a file or above it."""
    beside = folder / "node"
    if not beside.exists():
        shutil.copytree(PROGRAMS, beside, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        (beside / "node_modules").symlink_to(PACKAGES)
    return beside


@asynccontextmanager
async def mcp_server(program: Path, port: int, folder: Path, *arguments: str) -> AsyncIterator[None]:
    """A server by the SDK that listens there, where the SDK is installed."""
    if not PYTHON.exists():
        yield
        return
    with (folder / f"{port}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(str(PYTHON), str(program), *arguments, stdout=log, stderr=log)
    try:
        await until(lambda: _listens(port))
        yield
    finally:
        process.kill()
        await process.wait()


async def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


@asynccontextmanager
async def world_of(server: str, template: str, folder: Path, keyring: Keyring) -> AsyncIterator[World]:
    """The gateway with all that it stands before."""
    async with AsyncExitStack() as stack:
        dsn, store = await stack.enter_async_context(cloned_store(server, template, keyring))
        upstream = await stack.enter_async_context(RawUpstream().serving())
        streamable, before = free_ports(2)
        api: dict[str, Any] = {"upstreams": [f"http://127.0.0.1:{upstream.port}"], "auth": ["bearer"]}
        scopes = {"GET": ["notes:read"], "*": ["notes:write"]}
        mcp: dict[str, Any] = {"auth": ["bearer"], "scopes": ["sums"]}
        routes = [
            {"name": "notes", "path": "/api/notes", "scopes": scopes, **api},
            {"name": "mcp", "path": "/mcp", "upstreams": [f"http://127.0.0.1:{streamable}"], **mcp},
            {"name": "before", "path": "/before", "upstreams": [f"http://127.0.0.1:{before}"], **mcp},
        ]
        tables: dict[str, Any] = {
            "scopes": SCOPES,
            "registration": {"policy": "open"},
            "client_metadata_documents": {"enabled": True},
        }
        gateway = await stack.enter_async_context(serving(folder, dsn=dsn, routes=routes, workers=1, **tables))
        for port, transport in ((streamable, "streamable-http"), (before, "sse")):
            program = PROGRAMS / "mcp_server.py"
            await stack.enter_async_context(mcp_server(program, port, folder, str(port), transport))
        await store.users.create("ada", "ada@example.org", "Ada Lovelace", PASSWORD_HASH)
        person = Browser(gateway.url)
        stack.push_async_callback(person.close)
        assert (await person.sign_in()).status == 303
        yield World(gateway, store, person, folder)


async def received(location: str) -> None:
    """The browser's last step, to a client that listens on this computer, and perhaps does so only in a moment."""
    parts = urlsplit(location)
    await until(lambda: _listens(parts.port or 80))
    async with aiohttp.ClientSession() as session, session.get(location) as answer:
        assert answer.status == 200, await answer.text()
