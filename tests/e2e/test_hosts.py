"""A route on several hosts: at each of them a client finds its way by what it is told there, and by nothing else."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from tests.serving import serving
from tests.web.rig import basic

PASSES = 502  # nothing listens behind the route


async def test_each_host_of_a_route_is_a_resource_of_its_own(tmp_path: Path, database: str) -> None:
    # RFC 9728, sections 3.3 and 5.1; RFC 8707, section 2
    hosts = ["one.test", "two.test"]
    route = {"name": "notes", "path": "/notes", "hosts": hosts, "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer"]}
    async with serving(tmp_path, dsn=database, routes=[route]) as gateway, aiohttp.ClientSession() as session:
        port = urlsplit(gateway.url).port
        made = await gateway.run("client", "create", "--name", "x", "--grant-type", "client_credentials")

        async def call(host: str, token: str) -> int:
            fields = {"Host": f"{host}:{port}", "Authorization": f"Bearer {token}"}
            async with session.get(f"{gateway.url}/notes", headers=fields) as answer:
                return answer.status

        tokens = {}
        for host in hosts:
            async with session.get(f"{gateway.url}/notes", headers={"Host": f"{host}:{port}"}) as answer:
                assert answer.status == 401
                found = re.search('resource_metadata="(.*?)"', answer.headers["WWW-Authenticate"])
            assert found is not None
            told = urlsplit(found[1])
            assert told.netloc == f"{host}:{port}"
            async with session.get(gateway.url + told.path, headers={"Host": told.netloc}) as answer:
                document = await answer.json()
            assert document["resource"] == f"http://{host}:{port}/notes"
            assert document["authorization_servers"] == [gateway.url]
            form = {"grant_type": "client_credentials", "resource": document["resource"]}
            credentials = basic(made["client_id"], made["client_secret"])
            async with session.post(f"{gateway.url}/oauth2/token", data=form, headers=credentials) as answer:
                tokens[host] = (await answer.json())["access_token"]
        for host in hosts:
            assert {other: await call(other, tokens[host]) for other in hosts} == {
                other: PASSES if other == host else 401 for other in hosts
            }
