"""`gateway token`: every verb, and everything that it refuses."""

import asyncio
import re
from collections.abc import Sequence
from datetime import datetime

import pytest

from tests.cli.conftest import Terminal, matches
from tests.cli.direct import in_database


def test_issue_answers_with_the_token_endpoints_names(gateway: Terminal) -> None:
    client = gateway.client("--scope", "notes:read")
    gateway.user()
    answer = gateway("token", "issue", "--client", client["client_id"], "--user", "ada", "--json").json
    assert set(answer) == {"access_token", "token_type", "expires_in", "scope"}
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("bearer", 3600, "notes:read")
    assert answer["access_token"].startswith("gwa_")


def test_issue_of_a_mac_token_has_key_and_algorithm(gateway: Terminal) -> None:
    client = gateway.client("--token-type", "mac")
    answer = gateway("token", "issue", "--client", client["client_id"], "--json").json
    assert (answer["token_type"], answer["mac_algorithm"]) == ("mac", "hmac-sha-256")
    assert len(answer["mac_key"]) >= 32


@pytest.mark.parametrize(("kind", "other"), [("bearer", "mac"), ("mac", "bearer")])
def test_type_overrides_the_clients(gateway: Terminal, kind: str, other: str) -> None:
    client = gateway.client("--token-type", kind)
    answer = gateway("token", "issue", "--client", client["client_id"], "--type", other, "--json").json
    assert answer["token_type"] == other


def test_issue_obeys_scope_and_ttl(gateway: Terminal) -> None:
    client = gateway.client()
    answer = gateway(
        *("token", "issue", "--client", client["client_id"], "--scope", "notes:write", "--ttl", "15m", "--json")
    ).json
    assert (answer["scope"], answer["expires_in"]) == ("notes:write", 900)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--client", "nobody"), "--client: no client 'nobody'; `gateway client list`"),
        (("--user", "eve"), "no user 'eve'; `gateway user list` shows all"),
        (("--user", "bob"), "user 'bob': is disabled; `gateway user enable bob` enables it again"),
        (("--scope", "nobody:knows"), "--scope: there is no scope 'nobody:knows'"),
        (("--ttl", "soon"), "--ttl: must be a duration .*, not 'soon'"),
        (("--ttl", "0s"), "--ttl: must be a duration"),
        (("--ttl", "-1h"), "--ttl: must be a duration"),
        (("--ttl", "99999d"), "--ttl: must be a duration"),
    ],
)
def test_issue_refuses_what_cannot_be(gateway: Terminal, options: Sequence[str], told: str) -> None:
    client = gateway.client()
    gateway.user("bob")
    gateway("user", "disable", "bob")
    assert matches(told, gateway("token", "issue", "--client", client["client_id"], *options).fault)


def test_issue_refuses_a_disabled_client(gateway: Terminal) -> None:
    client_id = gateway.client()["client_id"]
    gateway("client", "disable", client_id)
    fault = gateway("token", "issue", "--client", client_id).fault
    assert matches(f"client .*: is disabled; `gateway client enable {client_id}` enables it again", fault)


def test_inspect_tells_what_introspection_says_and_more(gateway: Terminal) -> None:
    client, user = gateway.client("--token-type", "mac"), gateway.user()
    issued = gateway("token", "issue", "--client", client["client_id"], "--user", "ada", "--json").json
    told = gateway("token", "inspect", issued["access_token"], "--json").json
    assert told["exp"] - told["iat"] == issued["expires_in"]
    assert {name: told[name] for name in ("active", "sub", "username", "client_id", "token_type", "client_name")} == {
        "active": True,
        "sub": user["subject"],
        "username": "ada",
        "client_id": client["client_id"],
        "token_type": "mac",
        "client_name": "An app",
    }
    assert issued["mac_key"] not in str(told)
    assert gateway("token", "inspect", "-", "--json", text=issued["access_token"] + "\n").json == told


@pytest.mark.parametrize("token", ["gwa_" + "A" * 40, "nonsense", "gwr_x", ""])
def test_inspect_of_anything_else_is_inactive(gateway: Terminal, token: str) -> None:
    told = gateway("token", "inspect", token, "--json").json
    assert (told.keys(), told["active"]) == ({"active", "why"}, False)
    assert "never issued here" in told["why"]


_ENDS = [
    ("update access_tokens set revoked_at = '2026-01-02T03:04:05Z'", "it was revoked at 2026-01-02T03:04:05Z"),
    ("update access_tokens set expires_at = '2026-01-02T03:04:05Z'", "it expired at 2026-01-02T03:04:05Z"),
    ("update clients set disabled_at = '2026-01-02T03:04:05Z'", "its client was disabled at 2026-01-02T03:04:05Z"),
    ("update clients set generation = generation + 1", "all tokens of its client were ended"),
    ("update users set disabled_at = '2026-01-02T03:04:05Z'", "its user was disabled at 2026-01-02T03:04:05Z"),
    ("update users set generation = generation + 1", "all tokens of its user were ended, as when a password changes"),
]


@pytest.mark.parametrize(("end", "why"), _ENDS)
def test_inspect_says_why_a_token_is_dead(gateway: Terminal, end: str, why: str) -> None:
    client_id = gateway.client()["client_id"]
    gateway.user()
    token = gateway("token", "issue", "--client", client_id, "--user", "ada", "--json").json["access_token"]
    asyncio.run(in_database(gateway, end))
    told = gateway("token", "inspect", token, "--json").json
    assert (told["active"], told["why"], told["client_id"], told["username"]) == (False, why, client_id, "ada")
    assert re.search(f"^why +{re.escape(why)}$", gateway("token", "inspect", token).out, re.MULTILINE)


def test_inspect_gives_times_as_people_write_them(gateway: Terminal) -> None:
    client_id = gateway.client()["client_id"]
    token = gateway("token", "issue", "--client", client_id, "--json").json["access_token"]
    told = gateway("token", "inspect", token, "--json").json
    for name, seconds in (("issued_at", "iat"), ("expires_at", "exp")):
        assert datetime.fromisoformat(told[name]).timestamp() == told[seconds]
        assert told[name] in gateway("token", "inspect", token).out
    assert str(told["exp"]) not in gateway("token", "inspect", token).out


def test_revoke_ends_one_token_and_no_other(gateway: Terminal) -> None:
    client_id = gateway.client()["client_id"]
    one, other = (gateway("token", "issue", "--client", client_id, "--json").json["access_token"] for _ in range(2))
    assert gateway("token", "revoke", one, "--json").json == {"revoked": 1}
    assert gateway("token", "inspect", one, "--json").json["active"] is False
    assert gateway("token", "inspect", other, "--json").json["active"] is True
    fault = gateway("token", "revoke", one).fault
    assert "nothing was revoked" in fault
    assert one not in fault


def test_revoke_ends_all_of_a_user_and_all_of_a_client(gateway: Terminal) -> None:
    client_id = gateway.client()["client_id"]
    gateway.user()
    theirs = gateway("token", "issue", "--client", client_id, "--user", "ada", "--json").json["access_token"]
    its_own = gateway("token", "issue", "--client", client_id, "--json").json["access_token"]
    assert gateway("token", "revoke", "--user", "ada", "--json").json == {"revoked": 1}
    assert gateway("token", "inspect", theirs, "--json").json["active"] is False
    assert gateway("token", "inspect", its_own, "--json").json["active"] is True
    assert gateway("token", "revoke", "--client", client_id, "--json").json == {"revoked": 1}
    assert gateway("token", "inspect", its_own, "--json").json["active"] is False


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--user", "eve"), "no user 'eve'; `gateway user list` shows all"),
        (("--client", "nobody"), "no client 'nobody'; `gateway client list` shows all"),
        (("gwa_invented",), "TOKEN: is no longer valid, so nothing was revoked; `gateway token inspect` says why"),
    ],
)
def test_revoke_of_what_is_not_there_is_told(gateway: Terminal, arguments: Sequence[str], told: str) -> None:
    assert told in gateway("token", "revoke", *arguments).fault


@pytest.mark.parametrize(
    "arguments",
    [
        ("revoke",),
        ("revoke", "gwa_x", "--user", "ada"),
        ("revoke", "--user", "ada", "--client", "c"),
        ("issue",),
        ("inspect",),
        ("issue", "--client", "c", "--type", "jwt"),
    ],
)
def test_wrong_usage_is_exit_2(gateway: Terminal, arguments: Sequence[str]) -> None:
    assert gateway("token", *arguments).code == 2
