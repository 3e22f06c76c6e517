"""`gateway user`: every verb, and everything that it refuses."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.crypto import password_matches
from tests.cli.conftest import Terminal
from tests.cli.direct import in_database


def stored_hash(gateway: Terminal, username: str = "ada") -> str:
    return str(asyncio.run(in_database(gateway, f"select password_hash from users where username = '{username}'")))


def test_create_with_a_generated_password_prints_it_once(gateway: Terminal) -> None:
    made = gateway("user", "create", "--username", "ada", "--generate-password", "--json").json
    assert len(made["password"]) >= 16
    assert made["password"].isalnum()
    assert password_matches(stored_hash(gateway), made["password"])
    assert made["password"] not in gateway("user", "show", "ada", "--json").out


def test_create_keeps_all_that_is_given(gateway: Terminal) -> None:
    made = gateway(
        *("user", "create", "--username", "ada", "--email", "ada@example.com", "--name", "Ada Ł", "--password-stdin"),
        "--json",
        text="obviously fake",
    ).json
    assert (made["username"], made["email"], made["name"]) == ("ada", "ada@example.com", "Ada Ł")
    assert made["subject"].startswith("u")
    assert "password" not in made


@pytest.mark.parametrize(
    ("text", "password"),
    [
        ("secret", "secret"),
        ("secret\n", "secret"),
        ("secret\r\n", "secret"),
        ("secret\n\n", "secret\n"),
        (" with blanks \n", " with blanks "),
        ("pässwörd\n", "pässwörd"),
    ],
)
def test_password_stdin_drops_one_line_end(gateway: Terminal, text: str, password: str) -> None:
    assert gateway("user", "create", "--username", "ada", "--password-stdin", text=text.encode()).code == 0
    assert password_matches(stored_hash(gateway), password)


@pytest.mark.parametrize(
    ("arguments", "text", "told"),
    [
        (("--username", "ada"), b"x", "--username 'ada': another user has it; choose another"),
        (("--username", "ADA"), b"x", "--username 'ADA': another user has it"),
        (("--username", "eve", "--email", "ada@example.com"), b"x", "--email 'ada@example.com': another user has it"),
        (("--username", ""), b"x", "--username: 1 to 64 letters"),
        (("--username", "a b"), b"x", "--username: 1 to 64 letters"),
        (("--username", "a@b"), b"x", "--username: 1 to 64 letters"),
        (("--username", "x" * 65), b"x", "--username: 1 to 64 letters"),
        (("--username", "-rf"), b"x", "--username: 1 to 64 letters"),
        (("--username", "eve", "--email", "nonsense"), b"x", "--email: an address such as ada@example.com is wanted"),
        (("--username", "eve", "--name", ""), b"x", "--name: "),
        (("--username", "eve", "--name", "a\x1bb"), b"x", "--name: "),
        (("--username", "eve"), b"", "--password-stdin: a password of 1 to 1024 characters is wanted"),
        (("--username", "eve"), b"\n", "--password-stdin: a password of 1 to 1024 characters is wanted"),
        (("--username", "eve"), b"x" * 1025, "--password-stdin: a password of 1 to 1024 characters is wanted"),
        (("--username", "eve"), b"\xff\xfe", "not UTF-8"),
    ],
)
def test_create_refuses_what_cannot_be_and_writes_nothing(
    gateway: Terminal, arguments: Sequence[str], text: bytes, told: str
) -> None:
    made = gateway("user", "create", "--username", "ada", "--email", "ada@example.com", "--generate-password")
    assert made.code == 0
    fault = gateway("user", "create", *arguments, "--password-stdin", text=text).fault
    assert told in fault
    assert [one["username"] for one in gateway("user", "list", "--json").json] == ["ada"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--username", "eve"),
        ("create", "--username", "eve", "--password-stdin", "--generate-password"),
        ("create", "--generate-password"),
        ("create", "--username", "eve", "--password", "visible"),
        ("set-password", "ada"),
        ("show",),
    ],
)
def test_wrong_usage_is_exit_2_and_writes_nothing(gateway: Terminal, arguments: Sequence[str]) -> None:
    done = gateway("user", *arguments, text="x")
    assert (done.code, done.out) == (2, "")
    assert gateway("user", "list", "--json").json == []


@pytest.mark.parametrize(
    "arguments",
    [("show", "eve"), ("set-password", "eve", "--generate-password"), ("disable", "eve"), ("enable", "eve"),
     ("delete", "eve")],
)  # fmt: skip
def test_an_unknown_user_is_named_with_the_mend(gateway: Terminal, arguments: Sequence[str]) -> None:
    fault = gateway("user", *arguments).fault
    assert f"user {arguments[1]!r}: there is none; `gateway user list` shows all" in fault


def test_set_password_replaces_the_old_one(gateway: Terminal) -> None:
    old = gateway.user()["password"]
    assert gateway("user", "set-password", "ada", "--password-stdin", text="fake two\n").code == 0
    assert password_matches(stored_hash(gateway), "fake two")
    assert not password_matches(stored_hash(gateway), old)
    new = gateway("user", "set-password", "ada", "--generate-password", "--json").json
    assert password_matches(stored_hash(gateway), new["password"])


def test_disable_enable_and_delete_are_seen_in_show_and_list(gateway: Terminal) -> None:
    gateway.user()
    assert gateway("user", "disable", "ada", "--json").json == {"username": "ada", "disabled": True}
    assert gateway("user", "show", "ada", "--json").json["disabled_at"] is not None
    assert gateway("user", "enable", "ada").out == "user ada enabled\n"
    assert gateway("user", "show", "ada", "--json").json["disabled_at"] is None
    assert gateway("user", "delete", "ada", "--json").json == {"username": "ada", "deleted": True}
    assert gateway("user", "list", "--json").json == []


def test_a_user_name_that_comes_back_is_another_subject(gateway: Terminal) -> None:
    first = gateway.user()["subject"]
    gateway("user", "delete", "ada")
    assert gateway.user()["subject"] != first
