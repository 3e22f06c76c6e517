"""docs/signing.md: its vectors are recomputed, and its clients, as they stand there, call a real gateway."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.cli.mac import covered_by
from gateway.credentials import mac
from gateway.credentials.components import Message
from gateway.credentials.signatures import from_message
from gateway.credentials.variations import ELEMENTS
from gateway.crypto import Keyring
from gateway.model import MacAlgorithm
from gateway.store import NewClient, Store
from gateway.store.records import IssuedTokens
from tests.conftest import cloned_store
from tests.proxy.rig import RawUpstream
from tests.serving import ROOT, Gateway, serving

PAGE = (ROOT / "docs" / "signing.md").read_text()
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = {found[1]: found[2] for found in _FENCE.finditer(PAGE)}
VECTORS: list[dict[str, Any]] = json.loads(BLOCKS["json vectors"])


# -- vectors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{one['draft']} {one['method']} {one['url']}" for one in VECTORS])
def test_vector_is_what_any_client_computes_and_what_the_gateway_does(vector: dict[str, Any]) -> None:
    hash_name = {"hmac-sha-256": "sha256", "hmac-sha-1": "sha1"}[vector["algorithm"]]
    text = "".join(f"{element}\n" for element in vector["elements"]).encode()
    digest = hmac.digest(vector["key"].encode(), text, hash_name)
    assert base64.b64encode(digest).decode() == vector["mac"]
    given = dict(zip(ELEMENTS[vector["draft"]], vector["elements"], strict=True))
    attributes = {name: given[name] or None for name in ("ts", "nonce", "bodyhash", "ext") if name in given}
    covered = covered_by(vector["url"], vector["method"])
    assert mac.normalized_string(covered, **attributes) == text  # type: ignore[arg-type]  # the nonce is never None
    assert mac.sign(vector["key"].encode(), vector["algorithm"], text) == vector["mac"]
    if "body" in vector:
        hashed = base64.b64encode(hashlib.new(hash_name, vector["body"].encode()).digest()).decode()
        assert (given.get("bodyhash") or given["ext"].removeprefix("body_hash=")) == hashed


def test_vectors_have_every_draft_with_every_algorithm() -> None:
    assert {(one["draft"], one["algorithm"]) for one in VECTORS} == {
        (draft, algorithm) for draft in ("00", "01") for algorithm in ("hmac-sha-1", "hmac-sha-256")
    }


def test_example_of_a_message_signature_is_right() -> None:
    key, base = VECTORS[-1]["key"].encode(), BLOCKS["signature-base"].removesuffix("\n")
    (shown,) = (block for info, block in BLOCKS.items() if "Signature-Input:" in block)
    lines = [line.partition(": ") for line in shown.splitlines()]
    fields = tuple((name.lower().encode(), name.encode(), value.encode()) for name, _, value in lines)
    message = Message(
        method="POST", target=b"/api/notes", scheme="https", authority="api.example.com", fields=fields, has_body=True
    )
    signed = from_message(message)
    assert signed.proofs[0].text == base.encode()
    assert signed.proven_by(key, "hmac-sha-256")
    assert signed.digests[0].digest == hashlib.sha256(b"hello").digest()


def test_every_refusal_of_the_page_is_one_that_the_gateway_gives() -> None:
    code = "".join(file.read_text() for file in (ROOT / "gateway").rglob("*.py"))
    for said in (
        "or its signature does not match", "seconds off; compare your clock with Date",
        "The nonce was used before", "is not accepted; accepted:", "The body does not match the signed hash",
        "This resource requires a signed hash of the body", "lacks the scope", "cannot be checked at the moment",
    ):  # fmt: skip
        assert said in code, said
        words = said.replace("The ", "the ").replace("This ", "this ").partition("; compare")[0]
        assert words in PAGE, words


# -- clients -------------------------------------------------------------------------------------------------

_PROGRAMS = {
    "python": ("python signed.py", "signed.py", (sys.executable, "-I"), sys.executable),
    "javascript": ("js signed.mjs", "signed.mjs", ("node",), "node"),
    "go": ("go signed.go", "signed.go", ("go", "run"), "go"),
    "shell": ("sh signed.sh", "signed.sh", ("sh",), "openssl"),
}


@dataclass
class World:
    """A gateway with a route that demands body hashes, and what its upstream got."""

    gateway: Gateway
    upstream: RawUpstream
    store: Store
    tokens: dict[MacAlgorithm, IssuedTokens]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    server: str, template: str, tmp_path_factory: pytest.TempPathFactory, keyring: Keyring
) -> AsyncIterator[World]:
    """A real gateway, for all clients."""
    async with AsyncExitStack() as stack:
        dsn, store = await stack.enter_async_context(cloned_store(server, template, keyring))
        upstream = await stack.enter_async_context(RawUpstream().serving())
        route = {
            "name": "notes", "path": "/", "auth": ["mac"], "upstreams": [f"http://127.0.0.1:{upstream.port}"],
            "scopes": {"GET": ["read"], "*": ["write"]}, "mac_body_hash": True,
        }  # fmt: skip
        tables: dict[str, Any] = {
            "scopes": {"read": "Read", "write": "Write", "admin": "All"},
            "mac": {"algorithms": ["hmac-sha-256", "hmac-sha-1"]},
        }
        folder = tmp_path_factory.mktemp("gateway")
        gateway = await stack.enter_async_context(serving(folder, dsn=dsn, routes=[route], workers=1, **tables))
        algorithms: tuple[MacAlgorithm, ...] = ("hmac-sha-256", "hmac-sha-1")
        yield World(gateway, upstream, store, {name: await _issued(store, name) for name in algorithms})


async def _issued(store: Store, algorithm: MacAlgorithm) -> IssuedTokens:
    new = NewClient(
        name="Signer",
        confidential=True,
        redirect_uris=(),
        grant_types=frozenset({"client_credentials"}),
        scopes=frozenset({"read", "write"}),
        token_type="mac",
        mac_drafts=("01",),
        mac_algorithm=algorithm,
    )
    client, _ = await store.clients.create(new)
    return await store.tokens.issue(client.client_id, None, frozenset({"read", "write"}), 3600, None)


def _program(language: str, folder: Path) -> list[str]:
    """The command that runs a client of the page; the test is skipped where its language is not installed."""
    info, name, command, needed = _PROGRAMS[language]
    for program in (needed, *(("curl",) if language == "shell" else ())):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed, so the client in {language} cannot be run")
    file = folder / name
    file.write_text(BLOCKS[info])
    return [*command, str(file)]


async def _run(command: Sequence[str], *arguments: str, tokens: IssuedTokens) -> tuple[int, list[str]]:
    """The exit code, and the lines that were printed."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "GOCACHE", "GOFLAGS") if name in os.environ}
    environment |= {"ACCESS_TOKEN": tokens.access_token, "MAC_KEY": tokens.mac_key or ""}
    environment |= {"MAC_ALGORITHM": tokens.mac_algorithm or ""}
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
    )
    out, err = await process.communicate()
    assert out, err.decode()
    return process.returncode or 0, out.decode().splitlines()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.timeout(600)  # Go compiles its library first, where nobody has done so yet
@pytest.mark.parametrize("language", _PROGRAMS)
async def test_client_of_the_page_passes(language: str, world: World, tmp_path: Path) -> None:
    command = _program(language, tmp_path)
    calls: list[tuple[MacAlgorithm, str, str, list[str]]] = [
        ("hmac-sha-256", "GET", "/api/notes/%C3%A4?b=1&a=2%20c&d=", []),
        ("hmac-sha-1", "POST", "/api/notes", ['{"text": "ä"}\n"x"']),
        ("hmac-sha-256", "PUT", "", ["x=y"]),
    ]
    for algorithm, method, target, body in calls:
        world.upstream.requests.clear()
        url = world.gateway.url + target
        code, lines = await _run(command, method, url, *body, tokens=world.tokens[algorithm])
        assert (code, lines[:2]) == (0, ["200", "ok"]), lines
        (seen,) = world.upstream.requests
        assert (seen.method, seen.target) == (method, target or "/")
        assert seen.body.decode() == "".join(body)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.timeout(600)  # Go compiles its library first, where nobody has done so yet
@pytest.mark.parametrize("language", _PROGRAMS)
async def test_client_of_the_page_tells_of_a_refusal(language: str, world: World, tmp_path: Path) -> None:
    command = _program(language, tmp_path)
    world.upstream.requests.clear()
    other = world.tokens["hmac-sha-1"]
    wrong = IssuedTokens(
        access_token=world.tokens["hmac-sha-256"].access_token, token_type="mac", expires_in=1, scope="read",
        mac_key=other.mac_key, mac_algorithm="hmac-sha-256",
    )  # fmt: skip
    code, lines = await _run(command, "GET", f"{world.gateway.url}/api/notes", tokens=wrong)
    assert (code, lines[0]) == (1, "401")
    assert json.loads(lines[1])["error"] == "invalid_token"
    assert world.upstream.requests == []
