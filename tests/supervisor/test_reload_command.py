"""`gateway reload`: it waits until the new configuration is in force, or tells every fault for which it is not."""

import asyncio
import base64
import json
import os
import pwd
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.crypto import Keyring
from gateway.supervisor.control import _name
from tests.serving import MASTER_KEY, PROGRAM, ROOT, Gateway, serving, until
from tests.streams import accepting
from tests.system_users import ORDINARY, as_root

ROUTE = {"name": "notes", "path": "/notes", "upstreams": ["http://127.0.0.1:9"], "auth": "none"}
PASSES = 502  # nothing listens behind the route
KEY_ID = Keyring(base64.b64decode(MASTER_KEY)).key_id.hex()

# Asks as somebody else; prints what is answered.
_STRANGER = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(os.fsencode(sys.argv[1].replace("@", "\\0", 1)))
try:
    s.sendall(sys.argv[2].encode())
    print(s.makefile().read(), end="")
except ConnectionError:
    pass
"""


async def reload(config: Path, *options: str) -> tuple[int, str, list[str]]:
    """The exit code, what was printed, and the complaints."""
    process = await asyncio.create_subprocess_exec(
        *(*PROGRAM, "reload", "--config", str(config), *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode().splitlines()


def rewrite(gateway: Gateway, *changes: tuple[str, str]) -> None:
    text = gateway.config.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    gateway.config.write_text(text)


async def test_reload_waits_until_what_changed_is_in_force_and_tells_it(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, dsn=database, workers=1, routes=[ROUTE], tokens={"access_ttl": "1h"}) as gateway:
        assert (await reload(gateway.config))[1].endswith(": nothing changed\n")
        route = '\n[[routes]]\nname = "more"\npath = "/more"\nupstreams = ["http://127.0.0.1:9"]\nauth = "none"\n'
        rewrite(gateway, ('"/notes"', '"/others"'), ('"1h"', '"30m"'), ('"workers" = 1', '"workers" = 2'))
        gateway.config.write_text(gateway.config.read_text() + route)
        code, out, err = await reload(gateway.config, "--json")
        assert (code, err) == (0, [])
        assert json.loads(out) == {
            "pid": gateway.process.pid,
            "changed": [
                "server.workers: 1 → 2",
                "tokens.access_ttl: 3600s → 1800s",
                "routes: notes.path: /notes → /others",
                "routes: more added",
            ],
        }
        assert [await gateway.status(path) for path in ("/notes", "/others", "/more")] == [404, PASSES, PASSES]
        (line,) = [line for line in gateway.logs if line["event"] == "reloaded" and line["changed"]]
        assert line["changed"] == json.loads(out)["changed"]


async def test_reload_that_is_refused_fails_with_every_fault_and_changes_nothing(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, dsn=database, workers=1, routes=[ROUTE]) as gateway:
        good = gateway.config.read_text()
        rewrite(gateway, ('"/notes"', '"/oauth2/x"'), ('"auth" = "none"', '"auht" = "none"'))
        code, out, err = await reload(gateway.config)
        assert (code, out) == (1, "")
        assert [line.split(": ")[1].split(" (")[0] for line in err] == [
            "routes[0].auth",
            "routes[0].auht",
            "routes[0].path",
            "nothing has changed",
        ]
        gateway.config.write_text(f"[[{good}")  # that file names no place any more by which a gateway could be found
        code, out, err = await reload(gateway.config)
        assert (code, out, len(err)) == (1, "", 2)
        assert "is not TOML" in err[0]
        assert await gateway.status("/notes") == PASSES
        gateway.config.write_text(good)
        assert (await reload(gateway.config))[0] == 0


async def test_reload_without_a_gateway_says_so(tmp_path: Path) -> None:
    code, out, [line] = await reload(tmp_path / "config.toml")
    assert (code, out) == (1, "")
    assert line.startswith(f"gateway: no gateway is running with {tmp_path}/config.toml")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"{}", "answered nothing that a gateway says"),
        (b"[1]", "answered nothing that a gateway says"),
        (b"no JSON", "answered nothing that a gateway says"),
        (b'{"changed": 1, "faults": []}', "answered nothing that a gateway says"),
        (b"", "ended before it had reloaded"),
    ],
)
async def test_whoever_took_the_gateways_name_is_not_believed(tmp_path: Path, answer: bytes, said: str) -> None:
    async with impostor(tmp_path / "config.toml", answer):
        code, out, [line] = await reload(tmp_path / "config.toml")
    assert (code, out) == (1, "")
    assert said in line


async def test_what_a_gateway_answers_moves_no_terminal(tmp_path: Path) -> None:
    async with impostor(tmp_path / "config.toml", b'{"changed": ["\\u001b]0;title\\u0007"], "faults": []}'):
        code, out, _ = await reload(tmp_path / "config.toml")
    assert code == 0
    assert "\x1b" not in out
    assert "title" in out


# Takes a name as somebody else, and answers whoever asks that nothing changed.
_IMPOSTOR = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(os.fsencode(sys.argv[1].replace("@", "\\0", 1)))
s.listen()
print("listening", flush=True)
while True:
    asking, _ = s.accept()
    if asking.recv(100):
        print("asked", flush=True)
        asking.sendall(b'{"changed": [], "faults": []}\\n')
    asking.close()
"""


@as_root
async def test_root_asks_no_process_that_merely_took_the_gateways_name(tmp_path: Path) -> None:
    account = pwd.getpwnam(ORDINARY)
    config, key = tmp_path / "config.toml", tmp_path / "master.key"
    config.write_text('[keys]\nmaster = { file = "master.key" }\n')
    key.touch(0o600)
    squatter = await asyncio.create_subprocess_exec(
        *("/usr/bin/python3", "-c", _IMPOSTOR, _name(config).replace("\0", "@")),
        stdout=subprocess.PIPE,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        cwd="/",
    )
    assert squatter.stdout is not None
    try:
        assert await squatter.stdout.readline() == b"listening\n"
        for text in (config.read_text(), "[[no TOML", "[keys]\nmaster = 1\n"):
            config.write_text(text)
            code, out, [line] = await reload(config)
            assert (code, out) == (1, "")
            assert f"process {squatter.pid} of {ORDINARY} has taken the gateway's name" in line
        config.write_text('[database]\ndata_dir = "."\n')
        for path, group in ((key, account.pw_gid), (config, account.pw_gid), (key, 0), (tmp_path, 0), (config, 0)):
            if group:
                os.chown(path, 0, group)
                path.chmod(0o640)  # as for a service that runs as an ordinary user
            else:
                os.chown(path, account.pw_uid, 0)
            assert await reload(config) == (0, f"reloaded by process {squatter.pid}: nothing changed\n", [])
            assert await squatter.stdout.readline() == b"asked\n"  # for the first time: nothing else was sent to it
            os.chown(path, 0, 0)
    finally:
        squatter.kill()
        await squatter.wait()


@asynccontextmanager
async def impostor(config: Path, answer: bytes) -> AsyncIterator[None]:
    """A program that took the name which the gateway of a configuration has."""

    async def told(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer + b"\n" if answer else b"")

    sock = socket.socket(socket.AF_UNIX)
    sock.bind(_name(config))
    async with accepting(told, sock=sock):
        yield


@as_root
async def test_only_root_and_the_gateways_own_user_can_reload_it(tmp_path: Path, database: str) -> None:
    account = pwd.getpwnam(ORDINARY)
    async with serving(tmp_path, dsn=database, workers=1, routes=[ROUTE]) as gateway:
        await until(lambda: any(line["event"] == "serving" for line in gateway.logs))
        name = _name(gateway.config).replace("\0", "@")
        asked = ["/usr/bin/python3", "-c", _STRANGER, name, "reload\n"]
        answers = [await asyncio.to_thread(_as, user, asked) for user in (account.pw_uid, 0)]
        assert answers[0] == ""
        assert json.loads(answers[1]) == {"changed": [], "faults": [], "keys": [KEY_ID]}
        assert len([line for line in gateway.logs if line["event"] == "reloaded"]) == 1


def _as(user: int, command: list[str]) -> str:
    """What a command prints that a user runs."""
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, user=user, group=user, extra_groups=[], cwd="/"
    )
    return done.stdout
