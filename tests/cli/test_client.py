"""`gateway client`: every verb, and everything that it refuses."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields

from gateway.cli import client_checks
from gateway.cli.client import record
from gateway.cli.client_options import ClientOptions
from gateway.model import CLIENT_PROPERTIES
from gateway.oauth import openid
from gateway.store import NewClient
from tests.cli.conftest import Terminal, matches
from tests.cli.direct import in_database
from tests.oauth.clients import CONFIDENTIAL
from tests.oauth.signing import signer

URI = "https://app.example.com/callback"
_ON_TWO_HOSTS = ("--redirect-uri", URI, "--redirect-uri", "https://b.example/", "--subject-type", "pairwise")


LOOKED_INTO = {  # by more than what they say: files, users, hosts
    *("jwks", "jwks_uri", "subject_type", "sector", "allow_group"),
    *("description", "owner", "homepage", "privacy", "terms", "logo"),
}


def test_every_option_says_something_about_the_client() -> None:
    silent: dict[str, Any] = {one.name: () if "tuple" in str(one.type) else None for one in fields(ClientOptions)}
    said: dict[str, Any] = dict.fromkeys(("public", "first_party", "par", "dpop"), True) | {"pkce": False}
    start = NewClient.like(CONFIDENTIAL)
    assert client_checks._merged(ClientOptions(**silent), start) == start
    for name, nothing in silent.items():
        given = said.get(name, "x" if nothing is None else ("x",))
        merged = client_checks._merged(ClientOptions(**(silent | {name: given})), start)
        assert (merged == start) is (name in LOOKED_INTO), name


def test_every_property_of_a_client_is_shown() -> None:
    otherwise = {"confidential": "type", "openid": "id_token_alg", "about": "description"}
    unshown = {name for name in CLIENT_PROPERTIES if otherwise.get(name, name) not in record(CONFIDENTIAL)}
    assert unshown == {"default_scopes"}


def test_create_prints_the_identifier_and_the_secret_once(gateway: Terminal) -> None:
    made = gateway.client("--redirect-uri", URI)
    assert made["client_secret"].startswith("gws_")
    shown = gateway("client", "show", made["client_id"], "--json")
    assert made["client_secret"] not in shown.out
    assert shown.json == {name: item for name, item in made.items() if name != "client_secret"}


def test_create_without_options_gives_a_confidential_code_client_with_pkce_and_all_scopes(gateway: Terminal) -> None:
    made = gateway.client("--redirect-uri", URI)
    assert made["type"] == "confidential"
    assert made["grant_types"] == ["authorization_code", "refresh_token"]
    assert made["scopes"] == sorted({"notes:read", "notes:write", *openid.SCOPES} - {"offline_access"})
    assert (made["pkce_required"], made["first_party"], made["verified"]) == (True, False, True)
    assert (made["token_type"], made["mac_drafts"], made["mac_algorithm"]) == ("bearer", ["01"], "hmac-sha-256")


def test_create_takes_every_option(gateway: Terminal) -> None:
    gateway.rewrite(
        {"scopes": {"a": "A"}, "mac": {"algorithms": ["hmac-sha-256", "hmac-sha-1"], "drafts": ["01", "00"]}}
    )
    made = gateway.client(
        *("--redirect-uri", URI, "--redirect-uri", "http://127.0.0.1/cb", "--grant-type", "client_credentials"),
        *("--scope", "a", "--token-type", "mac", "--mac-draft", "00", "--mac-algorithm", "hmac-sha-1"),
        *("--no-pkce", "--first-party"),
    )
    assert made["redirect_uris"] == [URI, "http://127.0.0.1/cb"]
    assert made["grant_types"] == ["client_credentials"]
    assert (made["scopes"], made["token_type"]) == (["a"], "mac")
    assert (made["mac_drafts"], made["mac_algorithm"]) == (["00"], "hmac-sha-1")
    assert (made["pkce_required"], made["first_party"]) == (False, True)


def test_a_client_gets_the_configured_token_type_and_the_first_draft_and_algorithm(gateway: Terminal) -> None:
    gateway.rewrite({"tokens": {"type": "mac"}, "mac": {"algorithms": ["hmac-sha-256", "hmac-sha-1"]}})
    made = gateway.client("--redirect-uri", URI)
    assert (made["token_type"], made["mac_algorithm"]) == ("mac", "hmac-sha-256")


def test_a_public_client_has_no_secret(gateway: Terminal) -> None:
    made = gateway.client("--public", "--redirect-uri", URI)
    assert made["type"] == "public"
    assert "client_secret" not in made


def test_a_client_without_redirect_uri_may_only_use_what_the_operator_issues(gateway: Terminal) -> None:
    done = gateway("client", "create", "--name", "A script", "--json")
    assert done.json["grant_types"] == []
    assert "gateway token issue" in done.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--redirect-uri", "https://app.example/cb#x"), "--redirect-uri 'https://app.example/cb#x': .*no fragment"),
        (("--redirect-uri", "javascript:alert(1)"), "--redirect-uri 'javascript:alert.1.': .*use https"),
        (("--redirect-uri", "http://app.example/cb"), "--redirect-uri .*only for loopback.*use https"),
        (("--redirect-uri", "https:///cb"), "--redirect-uri 'https:///cb': "),
        (("--redirect-uri", "/cb"), "--redirect-uri '/cb': .*absolute"),
        (("--redirect-uri", ""), "--redirect-uri '': "),
        (("--redirect-uri", "https://*.example/cb"), "--redirect-uri .*wildcard"),
        (("--redirect-uri", "https://u:p@app.example/cb"), "--redirect-uri .*without a username"),
        (("--redirect-uri", URI, "--redirect-uri", "data:x"), "--redirect-uri 'data:x': "),
        (("--scope", "notes:delete"), "--scope: there is no scope 'notes:delete'; .*gateway scope create"),
        (("--scope", "notes:read", "--scope", "a b"), "--scope: there is no scope 'a b'"),
        (("--public", "--first-party", "--redirect-uri", URI), "--first-party: only a confidential client"),
        (("--public", "--no-pkce", "--redirect-uri", URI), "--no-pkce: a public client always needs PKCE"),
        (("--public", "--grant-type", "client_credentials"), "--grant-type client_credentials: a public client"),
        (("--grant-type", "authorization_code"), "--redirect-uri: authorization_code needs at least one"),
        (("--grant-type", "refresh_token"), "--grant-type refresh_token: .*add --grant-type authorization_code"),
        (("--token-type", "mac", "--require-dpop"), "--require-dpop: is for bearer tokens"),
        (("--grant-type", "implicit", "--redirect-uri", URI, "--require-dpop"), "--require-dpop: .*no proof of a key"),
        (("--token-type", "mac", "--token-format", "jwt"), "--token-format jwt: is for bearer tokens"),
        (("--mac-draft", "00"), r"--mac-draft 00: is not among \[mac\] drafts = ..01..; add it there"),
        (("--mac-algorithm", "hmac-sha-1"), r"--mac-algorithm hmac-sha-1: is not among \[mac\] algorithms"),
        (("--name", ""), "--name: must be .*printable characters.*, not ''"),
        (("--name", "  "), "--name: "),
        (("--name", "two\nlines"), "--name: "),
        (("--name", "\x1b[31mred"), "--name: "),
        (("--name", "x" * 101), "--name: must be text of 1 to 100"),
        (_ON_TWO_HOSTS, "--subject-type pairwise: .*several hosts need --sector HOST"),
        (("--redirect-uri", URI, "--sector", "a.example"), "--sector: only clients with --subject-type pairwise"),
        ((*_ON_TWO_HOSTS, "--sector", "https://a.example"), "--sector 'https://a.example': write a host alone"),
        ((*_ON_TWO_HOSTS, "--sector", "a.example:8080"), "--sector 'a.example:8080': write a host alone"),
        ((*_ON_TWO_HOSTS, "--sector", ""), "--sector '': write a host alone"),
        (("--redirect-uri", URI, "--backchannel-logout-uri", "data:x"), "--backchannel-logout-uri 'data:x': "),
        (("--redirect-uri", URI, "--frontchannel-logout-uri", "/out"), "--frontchannel-logout-uri '/out': "),
        (("--redirect-uri", URI, "--post-logout-redirect-uri", f"{URI}#x"), "--post-logout-redirect-uri .*no fragment"),
    ],
)
def test_create_refuses_what_cannot_be_and_writes_nothing(gateway: Terminal, options: Sequence[str], told: str) -> None:
    done = gateway("client", "create", "--name", "An app", *options)
    assert matches(told, done.fault)
    assert gateway("client", "list", "--json").json == []


# Every character of one byte, and what turns, hides or breaks a line beyond them.
MARKS = [*map(chr, range(1, 256)), *"\u061c\u200b\u200e\u200f\u2028\u2029\ufeff\U000e0041"]
MARKS += map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))


def test_a_name_is_refused_for_any_mark_that_a_terminal_would_act_on(gateway: Terminal) -> None:
    hidden = [mark for mark in MARKS if not mark.isprintable()]
    assert {"\t", "\n", "\x1b", "\x7f", "\x9b", "\xad", "\u202e"} < {*hidden}
    made = gateway.client()
    for mark in hidden:
        for command in (("create",), ("update", made["client_id"])):
            fault = gateway("client", *command, "--name", f"a{mark}b").fault
            assert fault.isprintable()
            assert fault.startswith("gateway: --name: must be text"), fault
    assert [client["name"] for client in gateway("client", "list", "--json").json] == [made["name"]]


def test_no_mark_in_a_name_reaches_a_terminal_that_would_act_on_it(gateway: Terminal) -> None:
    names = ["".join(mark for mark in MARKS if not mark.isprintable()), "".join(filter(str.isprintable, MARKS))]
    made = [gateway.client()["client_id"] for _ in names]
    for client_id, name in zip(made, names, strict=True):  # as somebody may have put it in who has the database
        written = name.replace("'", "''")
        asyncio.run(in_database(gateway, f"update clients set name = '{written}' where client_id = '{client_id}'"))
    assert {client["name"] for client in gateway("client", "list", "--json").json} == {*names}
    assert [event["client_name"] for event in gateway("events", "--json").json] == names
    listed = gateway("client", "list").out
    assert len(listed.splitlines()) == 3
    assert names[1] in listed
    others = [gateway("client", "show", made[0]), gateway("events"), gateway("client", "list", "--json")]
    for out in (listed, *(done.out for done in others), gateway("events", "--json").out):
        assert out.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "arguments",
    [
        ("create",),
        ("create", "--name", "x", "--token-type", "jwt"),
        ("create", "--name", "x", "--grant-type", "saml2-bearer"),
        ("create", "--name", "x", "--unknown"),
        ("show",),
        ("update", "c1"),
        ("nonsense",),
    ],
)
def test_wrong_usage_is_exit_2(gateway: Terminal, arguments: Sequence[str]) -> None:
    done = gateway("client", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("gateway: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "nobody"),
        ("update", "nobody", "--name", "x"),
        ("rotate-secret", "nobody"),
        ("disable", "nobody"),
        ("enable", "nobody"),
        ("delete", "nobody"),
        ("show", "a\nb\x1b"),
    ],
)
def test_an_unknown_client_is_named_with_the_mend(gateway: Terminal, arguments: Sequence[str]) -> None:
    fault = gateway("client", *arguments).fault
    assert f"no client {arguments[1]!r}; `gateway client list` shows all" in fault


@pytest.mark.parametrize("text", ["\udc80", "a\x00b"])
def test_what_no_database_can_store_is_refused_anywhere(gateway: Terminal, text: str) -> None:
    for arguments in (("delete", text), ("show", text), ("create", "--name", "x", "--redirect-uri", text)):
        assert "is not UTF-8 text" in gateway("client", *arguments).fault


# -- update ----------------------------------------------------------------------------------------------------

_CHANGES = [
    (("--name", "New"), {"name": "New"}),
    (("--redirect-uri", "https://new.example/"), {"redirect_uris": ["https://new.example/"]}),
    (("--grant-type", "authorization_code"), {"grant_types": ["authorization_code"]}),
    (("--scope", "notes:read"), {"scopes": ["notes:read"]}),
    (("--token-type", "mac"), {"token_type": "mac"}),
    (("--token-format", "jwt"), {"token_format": "jwt"}),
    (("--no-pkce",), {"pkce_required": False}),
    (("--require-par",), {"par_required": True}),
    (("--require-dpop",), {"dpop_required": True}),
    (("--first-party",), {"first_party": True}),
    (("--description", "Notes"), {"description": "Notes"}),
    (("--id-token-alg", "ES256"), {"id_token_alg": "ES256"}),
    (("--userinfo-alg", "EdDSA"), {"userinfo_alg": "EdDSA"}),
    (("--subject-type", "pairwise"), {"subject_type": "pairwise", "sector": "app.example.com"}),
    ((*_ON_TWO_HOSTS, "--sector", "B.example"), {
        "redirect_uris": [URI, "https://b.example/"], "subject_type": "pairwise", "sector": "b.example",
    }),
    (("--allow-group", "staff"), {"allow_groups": ["staff"]}),
    (("--post-logout-redirect-uri", URI), {"post_logout_redirect_uris": [URI]}),
    (("--backchannel-logout-uri", f"{URI}?logout"), {"backchannel_logout_uri": f"{URI}?logout"}),
    (("--frontchannel-logout-uri", URI), {"frontchannel_logout_uri": URI}),
]  # fmt: skip


@pytest.mark.parametrize(("options", "changed"), _CHANGES)
def test_update_changes_what_is_mentioned_and_nothing_else(
    gateway: Terminal, options: Sequence[str], changed: dict[str, object]
) -> None:
    made = gateway.client("--redirect-uri", URI)
    secret = made.pop("client_secret")
    after = gateway("client", "update", made["client_id"], *options, "--json").json
    assert after == made | changed
    assert secret not in str(after)


def test_update_takes_back_what_was_switched(gateway: Terminal) -> None:
    made = gateway.client("--redirect-uri", URI, "--no-pkce", "--first-party", "--require-par")
    assert made["par_required"] is True
    after = gateway("client", "update", made["client_id"], "--pkce", "--third-party", "--no-require-par", "--json").json
    assert (after["pkce_required"], after["first_party"], after["par_required"]) == (True, False, False)


def test_update_decides_what_it_names_of_a_client_that_describes_itself(gateway: Terminal) -> None:
    """Also where the client has said the same of itself; nothing is to be decided of a client that an operator made."""
    for verified, decided in ((False, ["dpop_required", "scopes"]), (True, [])):
        client_id = gateway("client", "create", "--name", "App", "--scope", "notes:read", "--json").json["client_id"]
        said = f"update clients set dpop_required = true, verified = {verified} where client_id = '{client_id}'"
        asyncio.run(in_database(gateway, f"{said} returning 1"))
        options = ("--require-dpop", "--scope", "notes:read", "--description", "An app")
        assert gateway("client", "update", client_id, *options).code == 0
        assert gateway("client", "show", client_id, "--json").json["decided"] == decided


def test_a_client_that_becomes_confidential_gets_a_secret_and_loses_it_as_a_public_one(gateway: Terminal) -> None:
    made = gateway.client("--public", "--redirect-uri", URI)
    after = gateway("client", "update", made["client_id"], "--confidential", "--json").json
    assert after["client_secret"].startswith("gws_")
    again = gateway("client", "update", made["client_id"], "--public", "--json").json
    assert "client_secret" not in again


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--redirect-uri", "http://app.example/"), "--redirect-uri"),
        (("--scope", "nobody:knows"), "--scope: there is no scope"),
        (("--name", ""), "--name"),
        (("--public",), "--first-party: only a confidential client"),
        (("--grant-type", "refresh_token"), "--grant-type refresh_token"),
        (("--mac-draft", "00"), "--mac-draft 00"),
    ],
)
def test_update_refuses_what_cannot_be_and_changes_nothing(
    gateway: Terminal, options: Sequence[str], told: str
) -> None:
    made = gateway.client("--redirect-uri", URI, "--first-party")
    before = gateway("client", "show", made["client_id"], "--json").json
    assert told in gateway("client", "update", made["client_id"], *options).fault
    assert gateway("client", "show", made["client_id"], "--json").json == before


_MAC = {"algorithms": ["hmac-sha-256", "hmac-sha-1"], "drafts": ["01", "00"]}


def test_update_changes_how_a_client_signs(gateway: Terminal) -> None:
    gateway.rewrite({"mac": _MAC})
    made = gateway.client("--redirect-uri", URI, "--token-type", "mac")
    assert (made["mac_drafts"], made["mac_algorithm"]) == (["01"], "hmac-sha-256")
    for options, drafts, algorithm in (
        (("--mac-draft", "00"), ["00"], "hmac-sha-256"),
        (("--mac-algorithm", "hmac-sha-1"), ["00"], "hmac-sha-1"),
        (("--mac-draft", "00", "--mac-draft", "01", "--mac-draft", "00"), ["00", "01"], "hmac-sha-1"),
        (("--mac-draft", "02", "--mac-algorithm", "hmac-sha-256"), ["01"], "hmac-sha-256"),
    ):
        after = gateway("client", "update", made["client_id"], *options, "--json")
        assert (after.json["mac_drafts"], after.json["mac_algorithm"]) == (drafts, algorithm)
        assert ("stay as they were issued" in after.err) is ("--mac-algorithm" in options)


@pytest.mark.parametrize("command", [("create", "--name", "x"), ("update", "{client_id}")])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--mac-draft", "03"), "no two implementations agree; use 01 or 00"),
        (("--mac-draft", "05"), "drafts 03 to 05 are not accepted"),
        (("--mac-draft", "1"), "is not one of '00', '01'"),
        (("--mac-draft", ""), "is not one of '00', '01'"),
        (("--mac-algorithm", "hmac-sha-512"), "is not one of 'hmac-sha-256', 'hmac-sha-1'"),
        (("--mac-algorithm", "HMAC-SHA-1"), "is not one of 'hmac-sha-256', 'hmac-sha-1'"),
        (("--mac-algorithm", "none"), "is not one of 'hmac-sha-256', 'hmac-sha-1'"),
    ],
)
def test_unknown_draft_or_algorithm_is_wrong_usage_that_lists_the_known_ones(
    gateway: Terminal, command: Sequence[str], options: Sequence[str], told: str
) -> None:
    client_id = gateway.client()["client_id"]
    done = gateway("client", *(part.format(client_id=client_id) for part in command), *options)
    assert (done.code, done.out) == (2, "")
    assert told in done.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "--token-type mac: the client signs with hmac-sha-1, which is not among [mac] algorithms"),
        (
            ("--mac-algorithm", "hmac-sha-256"),
            '--token-type mac: the client signs by ["00"], none of which is among [mac] drafts = ["01"]',
        ),
        (("--mac-algorithm", "hmac-sha-256", "--mac-draft", "01"), None),
    ],
)
def test_a_client_whose_mac_tokens_would_all_be_refused_does_not_get_them(
    gateway: Terminal, options: Sequence[str], told: str | None
) -> None:
    gateway.rewrite({"mac": _MAC})
    client_id = gateway.client("--mac-draft", "00", "--mac-algorithm", "hmac-sha-1")["client_id"]
    gateway.rewrite({})
    done = gateway("client", "update", client_id, "--token-type", "mac", *options)
    assert (done.code == 0) if told is None else told in done.fault


def test_a_token_keeps_the_algorithm_that_it_came_with_and_follows_the_drafts(gateway: Terminal) -> None:
    gateway.rewrite({"mac": _MAC})
    client_id = gateway.client("--token-type", "mac")["client_id"]
    issued = gateway("token", "issue", "--client", client_id, "--json").json
    gateway("client", "update", client_id, "--mac-algorithm", "hmac-sha-1", "--mac-draft", "00")
    told = gateway("token", "inspect", issued["access_token"], "--json").json
    assert (told["mac_algorithm"], told["mac_drafts"]) == ("hmac-sha-256", ["00"])
    assert gateway("token", "issue", "--client", client_id, "--json").json["mac_algorithm"] == "hmac-sha-1"


def test_a_scope_that_is_defined_no_longer_does_not_hinder_other_changes(gateway: Terminal) -> None:
    made = gateway.client("--redirect-uri", URI)
    gateway.rewrite({})
    assert gateway("client", "update", made["client_id"], "--name", "New", "--json").json["name"] == "New"


# -- the rest --------------------------------------------------------------------------------------------------


def test_rotate_secret_prints_another_one(gateway: Terminal) -> None:
    made = gateway.client("--redirect-uri", URI)
    for overlap in ((), ("--overlap", "1h")):
        rotated = gateway("client", "rotate-secret", made["client_id"], *overlap, "--json").json
        assert set(rotated) == {"client_id", "client_secret"}
        assert rotated["client_secret"] != made["client_secret"]


def test_show_tells_of_a_secret_that_still_counts_beside_the_new_one(gateway: Terminal) -> None:
    client_id = gateway.client()["client_id"]
    assert "old_secret_expires_at" not in gateway("client", "show", client_id, "--json").json
    assert "old_secret_expires_at" not in gateway("client", "show", client_id).out
    gateway("client", "rotate-secret", client_id, "--overlap", "1h")
    after = gateway("client", "show", client_id, "--json").json
    left = datetime.fromisoformat(after["old_secret_expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=55) < left <= timedelta(hours=1)
    assert "old_secret_expires_at" in gateway("client", "show", client_id).out
    gateway("client", "rotate-secret", client_id)
    assert "old_secret_expires_at" not in gateway("client", "show", client_id, "--json").json


@pytest.mark.parametrize("overlap", ["1", "1w", "-1s", "", "0s"])
def test_rotate_secret_refuses_a_bad_overlap_and_keeps_the_secret(gateway: Terminal, overlap: str) -> None:
    made = gateway.client("--redirect-uri", URI)
    fault = gateway("client", "rotate-secret", made["client_id"], "--overlap", overlap).fault
    assert matches("--overlap: must be a duration .*, not", fault)


def test_a_public_client_has_no_secret_to_rotate(gateway: Terminal) -> None:
    made = gateway.client("--public", "--redirect-uri", URI)
    assert "is public and has no secret" in gateway("client", "rotate-secret", made["client_id"]).fault


def test_disable_enable_and_delete_are_seen_in_show_and_list(gateway: Terminal) -> None:
    client_id = gateway.client("--redirect-uri", URI)["client_id"]
    assert gateway("client", "disable", client_id, "--json").json == {"client_id": client_id, "disabled": True}
    assert gateway("client", "show", client_id, "--json").json["disabled_at"] is not None
    assert gateway("client", "enable", client_id).out == f"client {client_id} enabled\n"
    assert gateway("client", "show", client_id, "--json").json["disabled_at"] is None
    assert [one["client_id"] for one in gateway("client", "list", "--json").json] == [client_id]
    assert gateway("client", "delete", client_id, "--json").json == {"client_id": client_id, "deleted": True}
    assert gateway("client", "list", "--json").json == []


def test_list_is_a_table_for_people(gateway: Terminal) -> None:
    client_id = gateway.client("--redirect-uri", URI)["client_id"]
    header, row = gateway("client", "list").out.splitlines()
    assert header.split()[:2] == ["CLIENT_ID", "NAME"]
    assert row.startswith(client_id)
    assert row.index("An app") == header.index("NAME")


# -- what people are told of a client --------------------------------------------------------------------------

_LOGO = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="4"/></svg>'


@pytest.fixture
def logo(tmp_path: Path) -> str:
    file = tmp_path / "logo.svg"
    file.write_bytes(_LOGO)
    return str(file)


def test_create_takes_what_people_are_told_and_show_tells_it(gateway: Terminal, logo: str) -> None:
    gateway.user("ada")
    made = gateway.client(
        *("--description", "Notes for your desk", "--owner", "ADA", "--homepage", "https://app.example.com/#top"),
        *("--privacy-policy", "https://app.example.com/privacy", "--terms", "http://localhost/terms", "--logo", logo),
    )
    shown = gateway("client", "show", made["client_id"], "--json").json
    told = {name: shown[name] for name in ("description", "owner", "homepage", "privacy", "terms")}
    assert told == {
        "description": "Notes for your desk",
        "owner": "ada",
        "homepage": "https://app.example.com/#top",
        "privacy": "https://app.example.com/privacy",
        "terms": "http://localhost/terms",
    }
    assert matches(r"^[0-9a-f]{32}\.svg$", shown["logo"])
    assert "Notes for your desk" in gateway("client", "show", made["client_id"]).out
    assert gateway("client", "list", "--json").json == [shown]


def test_an_empty_value_removes_what_people_were_told_and_nothing_else(gateway: Terminal, logo: str) -> None:
    gateway.user("ada")
    given = {
        "description": "Notes",
        "owner": "ada",
        "homepage": "https://app.example.com/",
        "privacy": "https://app.example.com/p",
        "terms": "https://app.example.com/t",
        "logo": logo,
    }
    options = [part for name, text in given.items() for part in (f"--{name}", text)]
    made = gateway.client(*options)
    secret = made.pop("client_secret")
    for name, text in given.items():
        after = gateway("client", "update", made["client_id"], f"--{name}", "", "--json").json
        assert after == made | {name: None}
        made = gateway("client", "update", made["client_id"], f"--{name}", text, "--json").json
        assert made == after | {name: made[name]}
        assert made[name]
    assert secret not in str(made)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--description", " "), "--description: must be text of 1 to 200 printable characters"),
        (("--description", "x" * 201), "--description: must be text of 1 to 200"),
        (("--description", "two\nlines"), "--description: "),
        (("--description", "\x1b[31mred"), "--description: "),
        (("--description", "free\u202egpj.exe"), "--description: "),
        (("--owner", "nobody"), "--owner 'nobody': no such user; `gateway user list` shows all"),
        (("--owner", "ada@example.com"), "--owner "),
        (("--homepage", "http://app.example/"), "--homepage 'http://app.example/': write it as https://HOST/PATH"),
        (("--privacy", "javascript:alert(1)"), "--privacy 'javascript:alert.1.': write it as"),
        (("--terms", "https://u:p@app.example/"), "--terms .*without a username"),
        (("--terms", "terms"), "--terms 'terms': write it as"),
        (("--logo", "/nowhere/logo.png"), "--logo '/nowhere/logo.png': cannot be read .No such file"),
        (("--logo", "/"), "--logo '/': cannot be read"),
        (("--logo", "/dev/null"), "--logo '/dev/null': is not a picture"),
        (("--logo", "/dev/zero"), "--logo '/dev/zero': is larger than 256 KiB"),
        (("--logo", __file__), "--logo .*: is not a picture that browsers show; use PNG, JPEG, GIF, WebP or SVG"),
    ],
)
def test_what_people_cannot_be_told_is_refused_and_nothing_is_written(
    gateway: Terminal, options: Sequence[str], told: str
) -> None:
    assert matches(told, gateway("client", "create", "--name", "An app", *options).fault)
    assert gateway("client", "list", "--json").json == []
    made = gateway.client()
    assert matches(told, gateway("client", "update", made["client_id"], "--name", "New", *options).fault)
    assert gateway("client", "list", "--json").json[0]["name"] == "An app"


def test_a_client_outlives_its_owner_and_whoever_deletes_the_owner_is_told(gateway: Terminal) -> None:
    gateway.user("ada")
    client_id = gateway.client("--owner", "ada")["client_id"]
    done = gateway("user", "delete", "ada")
    assert done.code == 0
    assert (
        f"client {client_id} has no owner now; `gateway client update {client_id} --owner USER` names one" in done.err
    )
    assert gateway("client", "show", client_id, "--json").json["owner"] is None
    gateway.user("ada")
    assert gateway("client", "show", client_id, "--json").json["owner"] is None, "another person of the same name"


# -- keys --------------------------------------------------------------------------------------------------------


def test_a_client_with_keys_has_no_secret(gateway: Terminal, tmp_path: Path) -> None:
    """RFC 7523: its public keys are all that is registered."""
    one = signer("ES256", kid="1")
    file = tmp_path / "keys.json"
    file.write_text(one.jwks)
    made = gateway("client", "create", "--name", "Signs", "--redirect-uri", URI, "--jwks", str(file), "--json").json
    assert "client_secret" not in made
    assert made["jwks"] == {"keys": [one.jwk]}
    told = gateway("client", "rotate-secret", made["client_id"]).fault
    assert "authenticates by its keys and has no secret" in told
    after = gateway("client", "update", made["client_id"], "--jwks", "", "--json").json
    assert (after["jwks"], after["client_secret"][:4]) == (None, "gws_")
    back = gateway("client", "update", made["client_id"], "--jwks", str(file), "--json").json
    assert "client_secret" not in back


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "cannot be read"),
        ("x", "not a JWK Set"),
        ('{"keys": [{"kty": "oct", "k": "x"}]}', "private or shared; register public keys only"),
        ('{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "x"}]}', "private or shared"),
    ],
)
def test_a_file_of_no_keys_is_refused(gateway: Terminal, tmp_path: Path, content: str | None, fault: str) -> None:
    file = tmp_path / "keys.json"
    if content is not None:
        file.write_text(content)
    told = gateway("client", "create", "--name", "Signs", "--redirect-uri", URI, "--jwks", str(file)).fault
    assert f"--jwks '{file}'" in told
    assert fault in told


def test_a_public_client_has_no_keys(gateway: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(signer("ES256", kid="1").jwks)
    options = ("--name", "Signs", "--redirect-uri", URI, "--public", "--jwks", str(file))
    assert "a public client does not authenticate" in gateway("client", "create", *options).fault


# -- what OAuth 2.1 has given up -----------------------------------------------------------------------------------


def test_a_client_that_may_use_a_legacy_grant_is_marked_and_warned_of(gateway: Terminal) -> None:
    options = ("--redirect-uri", URI, "--grant-type", "implicit", "--grant-type", "password")
    made = gateway("client", "create", "--name", "Old", *options)
    assert "implicit and password" in made.err
    gateway.client("--redirect-uri", URI)
    listed = gateway("client", "list", "--json").json
    assert sorted(client["legacy_grants"] for client in listed) == [[], ["implicit", "password"]]
    shown = gateway("client", "list").out
    assert shown.count("implicit") == 1
    [old] = [client["client_id"] for client in listed if client["legacy_grants"]]
    after = gateway("client", "update", old, "--grant-type", "authorization_code", "--json")
    assert (after.json["legacy_grants"], "warning" in after.err) == ([], False)


def test_the_implicit_grant_needs_somewhere_to_return_to(gateway: Terminal) -> None:
    told = gateway("client", "create", "--name", "Old", "--grant-type", "implicit").fault
    assert "--redirect-uri: implicit needs at least one" in told


def test_the_device_grant_is_named_in_short_or_in_full(gateway: Terminal) -> None:
    full = "urn:ietf:params:oauth:grant-type:device_code"
    for name in ("device_code", full):
        assert gateway.client("--grant-type", name, "--grant-type", "refresh_token")["grant_types"] == [
            "refresh_token",
            full,
        ]


def test_the_keys_of_a_client_may_stand_at_its_own_address(gateway: Terminal) -> None:
    """RFC 7591, section 2."""
    uri = "https://app.example.com/jwks.json"
    made = gateway("client", "create", "--name", "Signs", "--redirect-uri", URI, "--jwks-uri", uri, "--json").json
    assert "client_secret" not in made
    assert (made["jwks"], made["jwks_uri"]) == (None, uri)
    after = gateway("client", "update", made["client_id"], "--jwks-uri", "", "--json").json
    assert (after["jwks_uri"], after["client_secret"][:4]) == (None, "gws_")


@pytest.mark.parametrize(
    "uri", ["http://app.example.com/jwks.json", "app.example.com", "https://a.example/k#x", "https://u@a.example/k"]
)
def test_an_address_that_no_keys_can_be_fetched_from_is_refused(gateway: Terminal, uri: str) -> None:
    told = gateway("client", "create", "--name", "Signs", "--redirect-uri", URI, "--jwks-uri", uri).fault
    assert f"--jwks-uri '{uri}': write it as https://HOST/PATH" in told


def test_keys_in_a_file_and_at_an_address_exclude_each_other(gateway: Terminal, tmp_path: Path) -> None:
    options = ("--jwks", str(tmp_path / "keys.json"), "--jwks-uri", "https://app.example.com/jwks.json")
    told = gateway("client", "create", "--name", "Signs", "--redirect-uri", URI, *options).fault
    assert "leave out one of the two" in told
