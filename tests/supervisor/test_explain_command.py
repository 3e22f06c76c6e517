"""`gateway explain` of a gateway that serves: what all its workers remember, and plainly when none does."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import pytest
from click.testing import CliRunner
from yarl import URL

from gateway.cli import root
from gateway.store import Store
from gateway.supervisor.control import _name
from tests.serving import Gateway, serving
from tests.streams import accepting
from tests.web.rig import REDIRECT, SCOPES, basic, new_client

ROUTE = {"name": "notes", "path": "/notes", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer"]}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def explain(gateway: Gateway, *arguments: str) -> tuple[int, str, list[str]]:
    """The exit code, what was printed, and the complaints."""
    return await asyncio.to_thread(typed, gateway.config, *arguments)


def typed(config: Path, *arguments: str) -> tuple[int, str, list[str]]:
    """What the command does in this process."""
    done = CliRunner().invoke(root, ("explain", *arguments, "--config", str(config)))
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, done.stderr.splitlines()


async def explained(gateway: Gateway, request_id: str) -> Any:
    """What is told of the one call of an identifier."""
    code, out, err = await explain(gateway, request_id, "--json")
    assert (code, err) == (0, [])
    [told] = json.loads(out)["calls"]
    return told


async def call(
    gateway: Gateway, method: str, path: str, fields: Mapping[str, str] | None = None, body: str | None = None
) -> tuple[int, str]:
    """The status and the request_id of an answer."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, gateway.url + path, headers=fields, data=body, allow_redirects=False) as answer,
    ):
        return answer.status, answer.headers["X-Request-Id"]


async def test_refusals_of_the_authorization_server_are_explained(
    tmp_path: Path, database: str, store: Store, subtests: pytest.Subtests
) -> None:
    client, secret = await new_client(store)
    own, wrong = ({**FORM, **basic(client.client_id, given)} for given in (secret, "hush"))
    code = urlencode({"grant_type": "authorization_code", "code": "gwc_hush", "redirect_uri": REDIRECT})
    asked = urlencode(
        {"response_type": "code", "client_id": client.client_id, "redirect_uri": "https://elsewhere.test/"}
    )
    kinds: dict[str, tuple[int, str, str, tuple[Any, ...]]] = {
        "no such path": (404, "", "correct the address", ("GET", "/oauth2/nothing")),
        "no form": (400, "application/x-www-form-urlencoded", "client's developer", ("POST", "/oauth2/token")),
        "wrong secret": (401, "", "rotate-secret", ("POST", "/oauth2/token", wrong, code)),
        "no code": (400, "", "", ("POST", "/oauth2/token", own, code)),
        "grant type": (400, "", "", ("POST", "/oauth2/token", own, "grant_type=hush")),
        "unknown client": (400, "unknown client_id", "client list", ("GET", "/oauth2/authorize?client_id=eve")),
        "return address": (400, "unregistered redirect_uri", "--redirect-uri", ("GET", f"/oauth2/authorize?{asked}")),
    }
    async with serving(tmp_path, dsn=database, workers=1, routes=[ROUTE], scopes=SCOPES) as gateway:
        for name, (status, cause, mend, arguments) in kinds.items():
            with subtests.test(name):
                got, request_id = await call(gateway, *arguments)
                assert got == status
                told = await explained(gateway, request_id)
                assert (told["status"], told["outcome"], told["route"]) == (status, "refused", "authorization")
                assert told["cause"]
                assert cause in told["cause"]
                assert told["mend"]
                assert mend in told["mend"]
                [step] = [step for step in told["steps"] if step["outcome"] == "refused"]
                assert step["step"] == "upstream"
                assert told["cause"] in step["text"]
                assert "hush" not in json.dumps(told)


async def test_whichever_worker_answered_is_asked_and_what_none_remembers_is_said_plainly(
    tmp_path: Path, database: str
) -> None:
    async with serving(tmp_path, dsn=database, workers=2, routes=[ROUTE]) as gateway:
        calls = [await call(gateway, "GET", "/notes/1?key=hush") for _ in range(4)]  # the workers take turns
        told = {request_id: await explained(gateway, request_id) for _, request_id in calls}
        assert {each["cause"] for each in told.values()} == {"no credential"}
        request_id = calls[0][1]

        code, out, err = await explain(gateway, request_id)
        assert (code, err) == (0, [])
        lines = [line.split(maxsplit=1) for line in out.splitlines() if line]
        assert ["cause", "no credential"] in lines
        assert any(line[0] == "mend" and "get a token" in line[1] for line in lines)
        assert "not reached: token, signature, scope, body, nonce, limit, upstream, answer" in out
        assert "hush" not in out

        foreign, forgotten = await explain(gateway, "0" * 22), await explain(gateway, request_id[:16] + "ffffff")
        assert [answer[:2] for answer in (foreign, forgotten)] == [(1, ""), (1, "")]
        assert "no worker that runs now gave it; their memory begins at " in foreign[2][0]
        worker = told[request_id]["worker"]
        assert f"{worker} gave it to a call that it does not remember" in forgotten[2][0]
        assert all("look for the request_id there" in answer[2][-1] for answer in (foreign, forgotten))

        # The workers with their pids are in no line of theirs: one is stopped, and the other one answers.
        stopped, other = gateway.workers
        os.kill(stopped.pid, signal.SIGSTOP)
        try:
            silent = await explain(gateway, "0" * 22)
        finally:
            os.kill(stopped.pid, signal.SIGCONT)
        assert "gave no answer, and may know it; try again" in silent[2][1]
        other.kill()
        stopped.kill()
        await gateway.replaced(stopped, other)
        code, _, err = await explain(gateway, request_id)
        assert code == 1
        assert "no worker that runs now gave it" in err[0]
    code, _, [fault] = await explain(gateway, request_id)
    assert code == 1
    assert "no gateway is running with" in fault


async def test_admin_listener_says_the_same_where_that_is_wanted_and_nothing_else(
    tmp_path: Path, database: str, subtests: pytest.Subtests
) -> None:
    async with serving(tmp_path, dsn=database, routes=[ROUTE], admin={"explain": True}) as gateway:
        _, request_id = await call(gateway, "GET", "/notes/1?key=hush")
        status, told = await asked(gateway, request_id)
        assert (status, told["calls"]) == (200, [await explained(gateway, request_id)])
        for name, fields, refused in (
            ("a name that leads here", {"Host": "rebound.example.com"}, 421),
            ("a page of another origin", {"Origin": "https://example.com"}, 403),
        ):
            with subtests.test(name):
                status, told = await asked(gateway, request_id, fields)
                assert (status, [*told]) == (refused, ["error"])
        for name, unknown, why in (
            ("foreign", "0" * 22, "no worker that runs now gave it"),
            ("forgotten", request_id[:16] + "ffffff", "it does not remember"),
            ("not ours", "x/../metrics", "is not a request_id"),
            ("with a space", "a b", "is not the identifier of a request"),
            ("with a line feed", "a\nb", "is not the identifier of a request"),
            ("not of ASCII", "\u202e", "is not the identifier of a request"),
            ("too long", "x" * 129, "is not the identifier of a request"),
        ):
            with subtests.test(name):
                status, told = await asked(gateway, unknown)
                assert (status, [*told]) == (404, ["error"])
                assert why in told["error"]
        stopped = gateway.workers[0]
        os.kill(stopped.pid, signal.SIGSTOP)
        try:
            status, told = await asked(gateway, "0" * 22)
        finally:
            os.kill(stopped.pid, signal.SIGCONT)
        assert (status, [*told]) == (503, ["error"])
        assert "gave no answer, and may know it; try again" in told["error"]


async def test_admin_listener_says_nothing_unless_it_is_asked_to_and_a_reload_counts(
    tmp_path: Path, database: str
) -> None:
    async with serving(tmp_path, dsn=database, workers=1, routes=[ROUTE]) as gateway:
        status, told = await asked(gateway, "0" * 22)
        assert (status, [*told]) == (403, ["error"])
        assert "admin.explain" in told["error"]
        named = {"Host": "gateway.example.com"}
        assert (await asked(gateway, "0" * 22, named))[0] == 421
        text = gateway.config.read_text()
        gateway.config.write_text(
            text.replace("[admin]\n", '[admin]\nexplain = true\nhosts = ["gateway.example.com"]\n')
        )
        changed = (await gateway.run("reload"))["changed"]
        assert [line.split(":")[0] for line in changed] == ["admin.hosts", "admin.explain"]
        _, request_id = await call(gateway, "GET", "/notes/1")
        assert [(await asked(gateway, request_id, fields))[0] for fields in ({}, named)] == [200, 200]


async def asked(gateway: Gateway, request_id: str, fields: Mapping[str, str] | None = None) -> tuple[int, Any]:
    """What the admin listener answers, and its status."""
    place = URL(f"{gateway.admin_url}/explain/{quote(request_id, safe='')}", encoded=True)
    async with aiohttp.ClientSession() as session, session.get(place, headers=fields) as answer:
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        return answer.status, await answer.json()


@pytest.mark.parametrize("malformed", ["", "a b", "é", "a\nreload", "\x1b[31mx", "x" * 129])
def test_malformed_identifier_is_refused_in_one_line(tmp_path: Path, malformed: str) -> None:
    code, out, err = typed(tmp_path / "config.toml", malformed)
    assert (code, out, len(err)) == (1, "", 1)
    assert "is not the identifier of a request" in err[0]
    assert err[0].isprintable()


@asynccontextmanager
async def impostor(config: Path, answer: bytes) -> AsyncIterator[None]:
    """A process of our own user that has taken the gateway's name."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(_name(config))

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        await writer.drain()

    async with accepting(say, sock=sock):
        yield


@pytest.mark.parametrize(
    "answer", [b"{}\n", b"1\n", b'[["x", 1]]\n', b'[["x", {"calls": [1]}]]\n', b"\xff\n", b"[" * 100_000 + b"\n"]
)
async def test_answer_of_something_else_is_refused_in_one_line(tmp_path: Path, answer: bytes) -> None:
    config = tmp_path / "config.toml"
    config.touch()
    async with impostor(config, answer):
        code, out, err = await asyncio.to_thread(typed, config, "0" * 22)
    assert (code, out, len(err)) == (1, "", 1)
    assert "answered nothing that a gateway says" in err[0]


async def test_hostile_answer_reaches_no_terminal(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.touch()
    hostile = "\x1b[31m\r\n\u202e" + "".join(map(chr, range(32)))
    call = {
        "at": hostile,
        "outcome": hostile,
        "cause": hostile,
        "told": hostile,
        "route": hostile,
        "routes": [{"route": hostile, "host": None, "path": hostile, "matches": True, "why_not": None}],
        "steps": [{"step": "route", "outcome": "passed", "text": hostile}],
    }
    async with impostor(config, json.dumps([[hostile, {"calls": [call]}]]).encode() + b"\n"):
        code, out, _ = await asyncio.to_thread(typed, config, "0" * 22)
    assert code == 0
    assert all(line.isprintable() for line in out.splitlines())
