"""docs/mcp.md, followed but for its ports: an SDK's client that knows only the address uses the server."""

import re
import shlex
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import aiohttp

from gateway.crypto import Keyring
from tests.clients.rig import World, mcp_server
from tests.conftest import cloned_store
from tests.serving import ROOT, free_ports, serving
from tests.web.rig import Browser

_FENCE = re.compile(r"^   ```([^\n]*)\n(.*?)^   ```$", re.MULTILINE | re.DOTALL)
_PAGE = (ROOT / "docs" / "mcp.md").read_text(encoding="utf-8")
BLOCKS = [(found[1], textwrap.dedent(found[2])) for found in _FENCE.finditer(_PAGE)]


def _blocks(info: str) -> list[str]:
    return [text for said, text in BLOCKS if said == info]


async def test_the_page_protects_an_mcp_server(server: str, template: str, keyring: Keyring, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    program = tmp_path / "server.py"
    program.write_text(_blocks("python server.py")[0].replace("9000", str(port)), encoding="utf-8")
    tables: dict[str, Any] = tomllib.loads(_blocks("toml config.toml")[0].replace("9000", str(port)))
    routes = tables.pop("routes")
    tables["server"] = {}  # its ports are the test's
    create = next(line for line in _blocks("sh")[0].splitlines() if line.startswith("gateway user create"))
    async with (
        cloned_store(server, template, keyring) as (dsn, store),
        mcp_server(program, port, tmp_path),
        serving(tmp_path, dsn=dsn, routes=routes, workers=1, **tables) as gateway,
    ):
        user = await gateway.run(*shlex.split(create)[1:])
        person = Browser(gateway.url)
        try:
            assert (await person.sign_in("ada", user["password"])).status == 303
            async with aiohttp.ClientSession() as session, session.post(f"{gateway.url}/mcp") as refused:
                shown = _blocks("http")[0].replace("http://127.0.0.1:8080", gateway.url).splitlines()
                assert shown == [
                    f"HTTP/1.1 {refused.status} {refused.reason}",
                    f"WWW-Authenticate: {refused.headers['WWW-Authenticate']}",
                ]
            facts = await World(gateway, store, person, tmp_path).run("mcp_python.py", {"MCP": f"{gateway.url}/mcp"})
        finally:
            await person.close()
    assert facts["results"] == [42, 3]
    assert facts["steps"] == [1.0, 2.0, 3.0] * 2
    assert facts["sent_to"] == [
        {"scope": "sums:use offline_access", "prompt": "consent", "resource": f"{gateway.url}/mcp"}
    ]
