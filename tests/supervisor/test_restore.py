"""`backup` and `restore` while the gateway serves, and killed at any moment."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.counts import scaled
from tests.serving import PROGRAM, ROOT, Gateway, free_ports, serving, until


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with a route whose upstream is away: a call that may pass gets 502."""
    [port] = free_ports(1)
    route = {"name": "api", "path": "/api", "upstreams": [f"http://127.0.0.1:{port}"], "auth": ["bearer"], "scopes": []}
    async with serving(tmp_path, routes=[route]) as started:
        yield started


async def _call(gateway: Gateway, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/api", headers=headers) as answer:
        return answer.status


async def _token(gateway: Gateway, client: str, user: str) -> str:
    issued = await gateway.run("token", "issue", "--client", client, "--user", user)
    return str(issued["access_token"])


async def test_while_it_serves_what_was_revoked_stays_so_and_what_is_gone_is_refused_by_every_worker(
    gateway: Gateway, tmp_path: Path
) -> None:
    client = (await gateway.run("client", "create", "--name", "App"))["client_id"]
    await gateway.run("user", "create", "--username", "ada", "--generate-password")
    good, revoked = await _token(gateway, client, "ada"), await _token(gateway, client, "ada")
    file, kept = tmp_path / "gateway.backup", tmp_path / "kept.backup"
    await gateway.run("backup", str(file))
    await gateway.run("token", "revoke", revoked)
    await gateway.run("user", "create", "--username", "eve", "--generate-password")
    newer = await _token(gateway, client, "eve")
    for token in (good, newer):
        assert {await _call(gateway, token) for _ in range(8)} == {502}
    report = await gateway.run("restore", str(file), "--keep", str(kept))
    assert report["ended"]["tokens"]["count"] == 1
    assert report["lost"]["users"]["names"] == ["eve"]

    async def settled() -> bool:
        return {await _call(gateway, newer) for _ in range(8)} == {401}

    await until(settled)
    for token, status in ((good, 502), (newer, 401), (revoked, 401)):
        assert {await _call(gateway, token) for _ in range(8)} == {status}
    assert await gateway.is_ready()
    await _killed_at_any_moment(gateway, file, kept)


async def _killed_at_any_moment(gateway: Gateway, one: Path, other: Path) -> None:
    """Each holds what the other does not; whoever looks sees one of them whole."""
    moments, folder = random.Random(8642), one.parent
    for number in range(scaled(20)):
        file = (one, other)[number % 2]
        made = folder / f"made-{number}.backup"
        for arguments in (("backup", str(made)), ("restore", str(file), "--discard", "--trust")):
            process = await asyncio.create_subprocess_exec(
                *(*PROGRAM, *arguments),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=ROOT,
                env={**os.environ, **gateway.environment, "GATEWAY_CONFIG": str(gateway.config)},
            )
            await asyncio.wait([asyncio.create_task(process.wait())], timeout=moments.uniform(0.2, 3))
            if process.returncode is None:
                process.kill()
                await process.wait()
        names = [user["username"] for user in await gateway.run("user", "list")]
        assert names in (["ada"], ["ada", "eve"])
        if made.exists():
            await gateway.run("restore", str(made), "--discard", "--trust")
    assert not [path for path in folder.iterdir() if path.name.startswith(".backup")]
    assert (await gateway.run("restore", str(other), "--discard", "--trust"))["tokens"] == "trust"
    assert len(await gateway.run("user", "list")) == 2
