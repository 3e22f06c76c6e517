"""`gateway scope`: every verb, and everything that it refuses."""

from collections.abc import Sequence

import pytest

from gateway.oauth import openid
from tests.cli.conftest import Terminal


def test_create_list_and_delete(gateway: Terminal) -> None:
    made = gateway("scope", "create", "mail:send", "--description", "Send mail for you", "--json").json
    assert made == {"name": "mail:send", "description": "Send mail for you"}
    listed = gateway("scope", "list", "--json").json
    of_openid = [one for one in listed if one["defined_in"] == "OpenID Connect"]
    assert {one["name"]: one["description"] for one in of_openid} == openid.SCOPES
    assert [one for one in listed if one not in of_openid] == [
        {"name": "mail:send", "description": "Send mail for you", "defined_in": "database"},
        {"name": "notes:read", "description": "Read your notes", "defined_in": "configuration"},
        {"name": "notes:write", "description": "Write notes", "defined_in": "configuration"},
    ]
    assert gateway("scope", "delete", "mail:send", "--json").json == {"name": "mail:send", "deleted": True}
    assert len(gateway("scope", "list", "--json").json) == len(listed) - 1


def test_a_scope_that_was_created_can_be_given_to_a_client(gateway: Terminal) -> None:
    gateway("scope", "create", "mail:send", "--description", "Send mail for you")
    assert gateway.client("--scope", "mail:send")["scopes"] == ["mail:send"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("create", "notes:read", "--description", "x"), "scope 'notes:read': is already defined under [scopes] in"),
        (("create", "mail:send", "--description", "x"), "scope 'mail:send': is already defined"),
        (("create", "a b", "--description", "x"), "NAME: "),
        (("create", "", "--description", "x"), "NAME: "),
        (("create", 'a"b', "--description", "x"), "NAME: "),
        (("create", "ä", "--description", "x"), "NAME: "),
        (("create", "a", "--description", ""), "--description: must be text of 1 to 200"),
        (("create", "a", "--description", " "), "--description: "),
        (("create", "a", "--description", "one\ntwo"), "--description: "),
        (("create", "a", "--description", "x" * 201), "--description: "),
        (("create", "offline_access", "--description", "x"), "scope 'offline_access': is always there"),
        (("delete", "offline_access"), "scope 'offline_access': is always there"),
        (("delete", "nothing"), "no scope 'nothing'; `gateway scope list` shows all"),
        (("delete", "notes:read"), "scope 'notes:read': is defined under [scopes] in"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    gateway: Terminal, arguments: Sequence[str], told: str
) -> None:
    gateway("scope", "create", "mail:send", "--description", "Send mail for you")
    before = gateway("scope", "list", "--json").json
    assert told in gateway("scope", *arguments).fault
    assert gateway("scope", "list", "--json").json == before


@pytest.mark.parametrize("arguments", [("create", "a"), ("create", "--description", "x"), ("delete",)])
def test_wrong_usage_is_exit_2(gateway: Terminal, arguments: Sequence[str]) -> None:
    assert gateway("scope", *arguments).code == 2


def test_delete_ends_what_carries_the_scope(gateway: Terminal) -> None:
    gateway("scope", "create", "mail:send", "--description", "Send mail for you")
    client_id = gateway.client("--scope", "mail:send", "--scope", "notes:read")["client_id"]
    issued = [
        gateway("token", "issue", "--client", client_id, "--scope", scope, "--json").json["access_token"]
        for scope in ("mail:send", "notes:read")
    ]
    deleted = gateway("scope", "delete", "mail:send")
    assert f"gateway: clients may still ask for it: {client_id} (An app); " in deleted.err
    assert "`gateway client update ID --scope …`" in deleted.err
    active = [gateway("token", "inspect", token, "--json").json["active"] for token in issued]
    assert active == [False, True]
    assert "no scope 'mail:send'" in gateway("scope", "delete", "mail:send").fault


def test_a_deleted_scope_that_the_configuration_offers_too_ends_nothing(gateway: Terminal) -> None:
    gateway("scope", "create", "mail:send", "--description", "Send mail for you")
    client_id = gateway.client("--scope", "mail:send")["client_id"]
    token = gateway("token", "issue", "--client", client_id, "--json").json["access_token"]
    gateway.rewrite({"scopes": {"mail:send": "Send mail"}})
    assert gateway("scope", "delete", "mail:send", "--json").json == {"name": "mail:send", "deleted": True}
    assert gateway("token", "inspect", token, "--json").json["active"]
    assert "scope 'mail:send': is defined under [scopes] in" in gateway("scope", "delete", "mail:send").fault
