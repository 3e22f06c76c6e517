"""`gateway events`: what happened and by whom, however hostile what strangers put into it, and whether it is whole."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from gateway.store.events import KINDS
from tests.cli.conftest import Terminal, matches
from tests.cli.direct import in_database
from tests.serving import ROOT

HOSTILE = '\x1b]0;owned\x07\x1b[2J\x1b[31mroot\x9b\u202etxt\r\n{"forged": true}\x7f'

# The gateway with Ctrl-C as at a terminal, also where whoever runs the tests has it ignored.
PROGRAM = (
    "import signal; from gateway.__main__ import main; signal.signal(signal.SIGINT, signal.default_int_handler); main()"
)


def altered(gateway: Terminal, statement: str) -> None:
    """What somebody did who has the database alone."""
    asyncio.run(in_database(gateway, statement))


def test_events_tell_what_was_done_to_whom_and_by_which_operator(gateway: Terminal) -> None:
    client, user = gateway.client(), gateway.user()
    gateway("token", "issue", "--client", client["client_id"], "--user", "ada")
    gateway("token", "revoke", "--user", "ada")
    told = gateway("events", "--json").json
    assert [one["kind"] for one in told] == ["client.created", "user.created", "token.issued", "token.revoked"]
    issued = told[2]
    assert (issued["username"], issued["client_name"], issued["detail"]["by"]) == ("ada", "An app", "operator")
    assert all(re.fullmatch(r"operator:[^@]+@.+", one["actor"]) for one in told)
    lines = gateway("events").out.splitlines()
    assert lines[0].split() == ["TIME", "KIND", "WHO", "USER", "CLIENT", "ADDRESS", "REQUEST_ID", "DETAIL"]
    assert len(lines) == 5
    assert matches(r"Z  token.issued +operator:\S+ +ada +c\w+ .*by=operator", lines[3])
    assert user["subject"] == issued["subject"]


def test_events_are_found_by_whom_what_and_when(gateway: Terminal) -> None:
    client, other, user = gateway.client(), gateway.client(), gateway.user()
    for one in (client, other):
        gateway("token", "issue", "--client", one["client_id"], "--user", "ada")

    def kinds(*options: str) -> list[str]:
        return [one["kind"] for one in gateway("events", "--json", *options).json]

    assert kinds("--user", "ADA", "--client", other["client_id"]) == ["token.issued"]
    assert kinds("--user", user["subject"]) == ["user.created", "token.issued", "token.issued"]
    assert kinds("--kind", "client") == ["client.created", "client.created"]
    assert kinds("--kind", "token.issued", "--since", "1h") == ["token.issued", "token.issued"]
    assert kinds("--user", "u" + "a" * 16) == []
    answer = gateway("events", "--limit", "1", "--json")
    assert ([one["kind"] for one in answer.json], "more than 1" in answer.err) == (["token.issued"], True)
    altered(gateway, "update events set at = at - interval '2 hours' where kind = 'token.issued'")
    assert kinds("--since", "1h") == ["client.created", "client.created", "user.created"]


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--user", "eve"), 1, "--user: no user 'eve'; `gateway user list` shows all"),
        (("--client", "x"), 1, "--client: no client 'x'; `gateway client list` shows all"),
        (("--kind", "tokens"), 2, "--kind 'tokens': there is no such kind of event; did you mean token"),
        (("--since", "soon"), 1, "--since: must be a duration .*, not 'soon'"),
        (("--limit", "0"), 2, "--limit: 0 is not a whole number from 1 on;"),
        (("verify", "--anchor", "12"), 1, "--anchor '12': is not such as"),
        (("show",), 2, "'show': is not a command of 'gateway events'"),
    ],
)
def test_events_refuse_what_cannot_be(gateway: Terminal, options: tuple[str, ...], code: int, told: str) -> None:
    assert matches(told, gateway("events", *options).refused_with(code))


def test_no_hostile_value_reaches_a_terminal_or_breaks_a_line(gateway: Terminal) -> None:
    client = gateway.client()["client_id"]
    hostile = HOSTILE.replace("'", "''")
    altered(
        gateway,
        f"insert into events (at, kind, client_id, subject, actor, address, request_id, detail) values (now(), "
        f"E'{hostile}', '{client}', '{hostile}', '{hostile}', '{hostile}', '{hostile}', "
        f"jsonb_build_object('{hostile}', '{hostile}', 'list', array['{hostile}']))",
    )
    altered(gateway, f"update clients set name = '{hostile}'")
    text, as_json, broken = gateway("events"), gateway("events", "--json"), gateway("events", "verify")
    for out in (text.out, as_json.out, broken.err):
        assert all(mark.isprintable() or mark == "\n" for mark in out)
    assert len(text.out.splitlines()) == 3
    assert len(as_json.out.splitlines()) == 1
    assert as_json.json[1]["actor"] == HOSTILE
    assert broken.code == 1
    assert all(mark.isprintable() or mark == "\n" for mark in gateway("events", "verify", "--json").out)


def test_verify_prints_an_anchor_that_still_holds_later(gateway: Terminal) -> None:
    gateway.client()
    first = gateway("events", "verify", "--json").json
    assert (first["whole"], first["events"], first["waiting"]) == (True, 1, 0)
    gateway.user()
    assert gateway("events", "verify", "--anchor", first["anchor"], "--json").json["events"] == 2
    assert matches("^whole +yes$", gateway("events", "verify").out.splitlines()[0])


def test_verify_names_the_newest_that_was_removed_and_a_new_chain_goes_on(gateway: Terminal) -> None:
    gateway.client()
    gateway.user()
    altered(gateway, "delete from events where event_id = (select max(event_id) from events)")
    assert gateway("events", "verify").fault == "gateway: events: the event number 2 was removed"
    answer = gateway("events", "verify", "--json")
    assert answer.code == 1
    assert json.loads(answer.out)["faults"] == [
        {"fault": "removed", "number": 2, "event_id": None, "text": "the event number 2 was removed"}
    ]
    assert gateway("events", "begin-anew").out == "The record is proven from here on.\n"
    assert gateway("events", "verify", "--json").json["events"] == 1


@contextmanager
def follow(gateway: Terminal, *options: str) -> Iterator[Callable[[], str]]:
    """The next line of those that go on; Ctrl-C ends it, and it has said no more than what was read."""
    command = [sys.executable, "-c", PROGRAM, "events", "--follow", *options, "--config", str(gateway.config)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as following:
        assert following.stdout is not None
        try:
            yield following.stdout.readline
            following.send_signal(signal.SIGINT)
            rest, told = following.communicate(timeout=30)
            assert (rest, told, following.returncode) == ("", "", 0)
        finally:
            following.kill()


def test_follow_goes_on_with_what_happens_an_object_a_line(gateway: Terminal) -> None:
    gateway.client()
    with follow(gateway, "--json") as line:
        assert json.loads(line())["kind"] == "client.created"
        gateway.user()
        assert json.loads(line())["kind"] == "user.created"
        gateway("user", "disable", "ada")
        assert json.loads(line())["kind"] == "user.disabled"


def test_follow_goes_on_as_text_with_what_it_was_asked_for_alone(gateway: Terminal) -> None:
    client, _ = gateway.client(), gateway.user()
    with follow(gateway, "--kind", "user") as line, follow(gateway, "--kind", "token.issued") as other:
        assert matches(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  user.created  operator:\S+  ada  -  -  ", line())
        for verb in ("disable", "enable"):
            gateway("user", verb, "ada")
            gateway("token", "issue", "--client", client["client_id"], "--user", "ada")
            assert f"  user.{verb}d  operator:" in line()
        assert matches(rf"Z  token.issued  operator:\S+  ada  {client['client_id']}  .*by=operator", other())


def test_help_names_the_kinds_that_there_are(gateway: Terminal) -> None:
    line = gateway("events", "--kind", "zzz").refused_with(2)
    assert all(kind in line for kind in KINDS)
