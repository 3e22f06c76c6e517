"""`gateway user`: every verb, and everything that it refuses."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence

import pytest

from gateway.crypto import password_matches
from tests.cli.conftest import Terminal
from tests.cli.direct import in_database
from tests.serving import ROOT


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
        ("no secret", "no secret"),
        ("no secret\n", "no secret"),
        ("no secret\r\n", "no secret"),
        ("no secret\n\n", "no secret\n"),
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
        (("--username", "ada"), b"no secret", "--username 'ada': another user has it; choose another"),
        (("--username", "ADA"), b"no secret", "--username 'ADA': another user has it"),
        (
            ("--username", "eve", "--email", "ada@example.com"),
            b"not a secret",
            "--email 'ada@example.com': another user has it",
        ),
        (("--username", ""), b"no secret", "--username: must be 1 to 64 letters"),
        (("--username", "a b"), b"no secret", "--username: must be 1 to 64 letters"),
        (("--username", "a@b"), b"no secret", "--username: must be 1 to 64 letters"),
        (("--username", "x" * 65), b"no secret", "--username: must be 1 to 64 letters"),
        (("--username", "-rf"), b"no secret", "--username: must be 1 to 64 letters"),
        (
            ("--username", "eve", "--email", "nonsense"),
            b"not a secret",
            "--email: must be an address such as ada@example.com",
        ),
        (("--username", "eve", "--name", ""), b"no secret", "--name: "),
        (("--username", "eve", "--name", "a\x1bb"), b"no secret", "--name: "),
        *[
            (("--username", "eve"), text, "--password-stdin: a password must be 8 to 1024 characters long")
            for text in (b"", b"\n", b"seven..", "sieben\u00fc".encode(), b"x" * 1025, b"with\0NUL within")
        ],
        *[
            (("--username", "eve"), text, "--password-stdin: it is among the 10,000 most used passwords")
            for text in (b"password", b"Password\n", b"12345678", b"QWERTYUIOP", b"trustno1")
        ],
        *[
            (("--username", "evelovelace", "--email", "eve.lovelace@example.org"), text, "the person's own name")
            for text in (b"evelovelace", b"EveLovelace", b"eve.lovelace@example.org", b"Eve.Lovelace")
        ],
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
        ("update", "ada"),
        ("update", "--name", "Ada"),
        ("unlock",),
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
     ("delete", "eve"), ("unlock", "eve"), ("update", "eve", "--name", "Eve")],
)  # fmt: skip
def test_an_unknown_user_is_named_with_the_mend(gateway: Terminal, arguments: Sequence[str]) -> None:
    fault = gateway("user", *arguments).fault
    assert f"no user {arguments[1]!r}; `gateway user list` shows all" in fault


def test_unlock_tells_who_may_try_again(gateway: Terminal) -> None:
    gateway.user()
    assert gateway("user", "unlock", "ada", "--json").json == {"username": "ada", "unlocked": True}
    assert gateway("user", "unlock", "ada").out == "user ada may try again\n"


def test_set_password_replaces_the_old_one(gateway: Terminal) -> None:
    old = gateway.user()["password"]
    assert gateway("user", "set-password", "ada", "--password-stdin", text="fake two\n").code == 0
    assert password_matches(stored_hash(gateway), "fake two")
    assert not password_matches(stored_hash(gateway), old)
    new = gateway("user", "set-password", "ada", "--generate-password", "--json").json
    assert password_matches(stored_hash(gateway), new["password"])


@pytest.mark.parametrize(("least", "good"), [(8, "8 letters"[:8]), (15, "fifteen letters")])
def test_shortest_password_is_configured(gateway: Terminal, least: int, good: str) -> None:
    gateway.rewrite({"passwords": {"min_length": least}})
    gateway.user()
    fault = gateway("user", "set-password", "ada", "--password-stdin", text=good[1:]).fault
    assert f"a password must be {least} to 1024 characters long (passwords.min_length)" in fault
    assert gateway("user", "set-password", "ada", "--password-stdin", text=good).code == 0


def test_set_password_refuses_what_is_guessed_first_and_keeps_the_old_one(gateway: Terminal) -> None:
    old = gateway("user", "create", "--username", "grace.hopper", "--generate-password", "--json").json["password"]
    for text in ("Baseball", "Grace.Hopper"):
        assert "guessed first" in gateway("user", "set-password", "GRACE.hopper", "--password-stdin", text=text).fault
    assert password_matches(stored_hash(gateway, "grace.hopper"), old)


def test_list_of_used_passwords_is_loaded_by_no_worker() -> None:
    planes = "import sys, gateway.app.authorization, gateway.app.access"
    loaded = f"{planes}; print('gateway.most_used_passwords' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "False\n"


def test_update_changes_what_is_given_and_nothing_else(gateway: Terminal) -> None:
    made = gateway(
        *("user", "create", "--username", "ada", "--email", "ada@example.com", "--name", "Ada", "--generate-password"),
        "--json",
    ).json
    before, password = gateway("user", "show", "ada", "--json").json, stored_hash(gateway)
    for options, changes in (
        (("--email", "countess@example.org"), {"email": "countess@example.org"}),
        (("--name", "Ada Lovelace"), {"name": "Ada Lovelace"}),
        (("--username", "ADA"), {"username": "ADA"}),
        (
            ("--username", "countess", "--email", "", "--name", ""),
            {"username": "countess", "email": None, "name": None},
        ),
    ):
        after = gateway("user", "update", before["username"], *options, "--json").json
        assert after.pop("updated_at") >= before.pop("updated_at")
        assert after == before | changes
        before = gateway("user", "show", after["username"], "--json").json
        assert before.items() >= after.items()
    assert before["subject"] == made["subject"]
    assert stored_hash(gateway, "countess") == password
    assert gateway("user", "show", "ada").code == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--username", "EVE"), "--username 'EVE': another user has it; choose another"),
        (("--email", "eve@example.COM"), "--email 'eve@example.COM': another user has it; choose another"),
        (("--username", ""), "--username: must be 1 to 64 letters"),
        (("--username", "a@b"), "--username: must be 1 to 64 letters"),
        (("--email", "nonsense"), "--email: must be an address such as ada@example.com"),
        (("--name", "a\x1bb"), "--name: "),
        (("--name", "Ada", "--username", "eve"), "--username 'eve': another user has it"),
    ],
)
def test_update_refuses_what_cannot_be_and_writes_nothing(gateway: Terminal, options: Sequence[str], told: str) -> None:
    gateway("user", "create", "--username", "eve", "--email", "eve@example.com", "--generate-password")
    gateway.user()
    before = gateway("user", "list", "--json").json
    assert told in gateway("user", "update", "ada", *options).fault
    assert gateway("user", "list", "--json").json == before


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
