"""Routes for some groups alone, and upstreams that are told the groups of who calls."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError, parse
from gateway.model import Client, User
from gateway.store import Store
from gateway.store.users import Known
from tests.proxy.rig import Rig, rig
from tests.proxy.test_credentials import ada, client, request

__all__ = ["ada", "client"]

TOLD = {"set": {"X-Auth-Groups": "{groups}"}}
ROUTES: list[dict[str, Any]] = [
    {"name": "staff", "path": "/staff", "auth": ["bearer"], "groups": ["staff", "admins"], "request_headers": TOLD},
    {"name": "all", "path": "/all", "auth": ["bearer"], "request_headers": TOLD},
    {"name": "plain", "path": "/plain", "auth": "none"},
]
SPOOFED = ["X-Auth-Groups: admins", "x.auth.groups: admins", "Remote-Groups: admins", "X-Forwarded-Groups: admins"]


@pytest.fixture
async def running(tmp_path: Path, store: Store) -> AsyncIterator[Rig]:
    async with rig(tmp_path, store, routes=ROUTES) as made:
        yield made


async def token(store: Store, client: Client, username: str | None) -> str:
    scopes = frozenset({"notes:read"})
    return (await store.tokens.issue(client.client_id, username, scopes, 3600, "bearer")).access_token


async def called(running: Rig, path: str, credential: str | None) -> tuple[int, bytes]:
    fields = SPOOFED if credential is None else [f"Authorization: Bearer {credential}", *SPOOFED]
    reply = await running.talk(request(path, *fields))
    return reply.status, reply.body


def groups_told(running: Rig) -> list[tuple[str, str]]:
    """What the upstream heard of groups in its last request, in whatever spelling."""
    return [(name, value) for name, value in running.upstream.requests[-1].fields if "groups" in name.lower()]


async def test_a_route_is_open_to_its_groups_alone_whatever_the_token_may_do(
    running: Rig, store: Store, client: Client, ada: User
) -> None:
    """403 and no challenge to ask for more scopes: no other token of this person would open it (RFC 6750, 3.1)."""
    for groups, status in (((), 403), (("guests",), 403), (("guests", "staff"), 200), (("admins",), 200)):
        await store.users.update("ada", None, None, None, Known(groups=groups))
        answered, body = await called(running, "/staff", await token(store, client, "ada"))
        assert answered == status, groups
        assert status == 200 or b'"access_denied"' in body
        assert (await called(running, "/all", await token(store, client, "ada")))[0] == 200
    # A client that acts for itself is in no group.
    assert (await called(running, "/staff", await token(store, client, None)))[0] == 403


async def test_an_upstream_is_told_the_groups_and_nobody_else_can_say_them(
    running: Rig, store: Store, client: Client, ada: User
) -> None:
    await store.users.update("ada", None, None, None, Known(groups=("admins", "staff")))
    await called(running, "/all", await token(store, client, "ada"))
    assert groups_told(running) == [("x-auth-groups", "admins,staff")]
    await called(running, "/all", await token(store, client, None))
    assert groups_told(running) == []
    await called(running, "/plain", None)
    assert groups_told(running) == []


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ({"auth": "none", "groups": ["staff"]}, "routes[0].groups"),
        ({"auth": ["bearer"], "groups": ["a b"]}, "routes[0].groups[0]"),
        ({"auth": ["bearer"], "groups": "staff"}, "routes[0].groups"),
        ({"auth": ["bearer"], "groups": {"GET": ["a b"]}}, "routes[0].groups.GET[0]"),
        ({"auth": ["bearer"], "groups": {"get": ["staff"]}}, "routes[0].groups.get"),
        ({"auth": ["bearer"], "methods": ["GET"], "groups": {"PUT": ["staff"]}}, "routes[0].groups.PUT"),
        ({"auth": "none", "groups": {"*": ["staff"]}}, "routes[0].groups"),
        ({"auth": ["bearer"], "groups": {"GET": [], "PUT": ["staff"]}}, "routes[0].groups"),
        ({"auth": ["bearer"], "methods": ["GET", "PUT"], "groups": {"PUT": ["staff"]}}, "routes[0].groups"),
        (
            {"auth": ["bearer"], "request_headers": {"set": {"X-Auth-Groups": "admins"}}},
            "routes[0].request_headers.set.X-Auth-Groups",
        ),
        ({"auth": "none", "request_headers": {"set": {"X-Auth-Groups": "{groups}"}}}, "routes[0].request_headers.set"),
    ],
)
def test_what_says_nothing_of_groups_is_refused(route: dict[str, Any], told: str) -> None:
    whole = {"name": "a", "path": "/a", "upstreams": ["http://127.0.0.1:1"], **route}
    with pytest.raises(ConfigError) as refused:
        parse({"server": {"public_url": "http://127.0.0.1:8080"}, "routes": [whole]})
    assert any(fault.path.startswith(told) for fault in refused.value.faults), refused.value
