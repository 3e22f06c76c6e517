"""`gateway demo`: ready at once, its lines work when pasted, and nothing is left of it."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio

from gateway.cli import demo as demo_command
from tests.cli.conftest import matches
from tests.conftest import new_data_dir
from tests.serving import PATIENCE, ROOT, crowding, free_ports
from tests.system_users import ORDINARY, as_root

CURL = shutil.which("curl")


class Demo:
    """A demo that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def answer(self) -> Any:
        """The one JSON object."""
        return json.loads(await self._line())

    async def _line(self) -> bytes:
        assert self.process.stdout is not None
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        except TimeoutError:
            line = b""
        if not line:
            self.process.kill()
            _, err = await self.process.communicate()
            raise AssertionError(f"the demo did not become ready: {err.decode()}")
        return line

    async def told(self) -> str:
        """Everything that it tells a person."""
        text = b""
        while b"Commands:" not in text:
            text += await self._line()
        return text.decode()

    async def end(self, how: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        self.process.send_signal(how)
        out, err = await asyncio.wait_for(self.process.communicate(), PATIENCE)
        assert out == b""
        return self.process.returncode or 0, err.decode()


@asynccontextmanager
async def demo(*arguments: str) -> AsyncIterator[Demo]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "demo", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
    )
    started = Demo(process)
    try:
        yield started
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def place(data_dir: Path) -> list[str]:
    """Options for a demo of the test's own."""
    return ["--dir", str(data_dir), "--listen", f"127.0.0.1:{free_ports(1)[0]}"]


def left(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(folder) in line:
            found.append(line)
    return found


async def get(url: str, token: str | None = None) -> int:
    headers = {} if token is None else {"Authorization": token}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers, allow_redirects=False) as answer:
        return answer.status


@dataclass(frozen=True)
class Shown:
    """A demo in a new folder, for tests that leave it as it is."""

    folder: Path
    listen: str
    answer: Any
    seconds: float  # until it was ready
    used: float  # seconds of CPU

    @property
    def bearer(self) -> str:
        return f"Bearer {self.answer['token']['access_token']}"

    @property
    def url(self) -> str:
        """What asks for a token."""
        return str(self.answer["routes"][0]["url"])


shares = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown() -> AsyncIterator[Shown]:
    folder = new_data_dir()
    options, before = place(folder / "data"), time.monotonic()
    async with demo(*options, "--json") as running:
        answer = await running.answer()
        own = psutil.Process(running.process.pid)
        used = sum(map(_cpu_seconds, [own, *own.children(recursive=True)]))
        yield Shown(folder / "data", options[-1], answer, time.monotonic() - before, used)
        await running.end()
    shutil.rmtree(folder, ignore_errors=True)


@shares
async def test_json_names_all_that_a_program_needs_and_all_of_it_works(shown: Shown) -> None:
    answer = shown.answer
    assert answer["issuer"] == f"http://{shown.listen}"
    assert set(answer["client"]) == {"client_id", "client_secret", "redirect_uri"}
    assert answer["client"]["redirect_uri"].startswith(answer["issuer"])
    assert set(answer["user"]) == {"username", "password"}
    routes = {route["name"]: route for route in answer["routes"]}
    assert {scheme for route in routes.values() for scheme in route["auth"] if route["auth"] != "none"} == {
        "bearer",
        "mac",
    }
    notes = routes["notes"]["url"]
    assert await get(notes) == 401
    assert await get(notes, shown.bearer) == 200
    assert await get(answer["authorization_request"]["url"]) == 200
    assert await get(f"{answer['admin']}/readyz") == 200


@pytest.mark.measures
@shares
async def test_it_is_ready_soon_even_the_first_time(shown: Shown) -> None:
    """Three seconds on an idle machine; others run beside it here, so its own share is bounded."""
    assert shown.used < 6 * crowding()  # caches that others use too make each step longer
    assert shown.seconds < 30 * crowding()


def _cpu_seconds(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(sum(process.cpu_times()[:2]))
    return 0.0


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
async def test_the_printed_lines_work_when_pasted(data_dir: Path) -> None:
    async with demo(*place(data_dir)) as running:
        told = await running.told()
        lines = [line.strip() for line in told.splitlines() if line.startswith("   curl ") and "$CODE" not in line]
        statuses = []
        for line in lines:
            _, out = await pasted(line.replace("curl -s ", "curl -si ", 1))
            statuses.append(out.split(" ", 2)[1])
        assert statuses == ["401", "200", "200", "403", "200"]
        (command,) = [line.removeprefix("Commands: ") for line in told.splitlines() if line.startswith("Commands: ")]
        code, out = await pasted(command)
        assert code == 0
        assert "Demo notes app" in out
        (redeem,) = [line.strip() for line in told.splitlines() if "$CODE" in line]
        _, out = await pasted(f"CODE=gwc_invented; {redeem}")
        assert json.loads(out)["error"] == "invalid_grant"  # the client is authenticated: only the code is wrong
        assert (await running.end(signal.SIGTERM))[0] == 0
    assert left(data_dir) == []


async def pasted(line: str) -> tuple[int, str]:
    shell = await asyncio.create_subprocess_shell(
        line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, cwd=ROOT
    )
    out, _ = await shell.communicate()
    return shell.returncode or 0, out.decode()


async def test_a_second_run_in_the_same_folder_finds_its_clients_again(data_dir: Path) -> None:
    answers = []
    for _ in range(2):
        async with demo(*place(data_dir), "--json") as running:
            answers.append(await running.answer())
            token = answers[-1]["token"]["access_token"]
            assert await get(answers[-1]["routes"][0]["url"], f"Bearer {token}") == 200
            if len(answers) == 2:  # what the first one gave out, a day's token, has ended
                assert await get(answers[1]["routes"][0]["url"], f"Bearer {answers[0]['token']['access_token']}") == 401
            assert await running.end() == (0, "")
        assert left(data_dir) == []
    first, second = answers
    assert first["client"]["client_id"] == second["client"]["client_id"]
    assert first["client"]["client_secret"] != second["client"]["client_secret"]
    assert first["user"]["password"] != second["user"]["password"]


@as_root
async def test_a_demo_of_root_lives_with_another_user_who_can_start_it_again(data_dir: Path) -> None:
    """In a folder of somebody's, as after `sudo make demo` in a checkout, all of it is theirs."""
    data_dir.mkdir()
    shutil.chown(data_dir, ORDINARY)
    async with demo(*place(data_dir / "demo"), "--json") as running:
        answer = await running.answer()
        assert await get(answer["routes"][0]["url"], f"Bearer {answer['token']['access_token']}") == 200
        below = [process for process in psutil.Process(running.process.pid).children() if "worker" in process.cmdline()]
        assert {process.username() for process in below} == {ORDINARY}
        assert {path.owner() for path in data_dir.rglob("*") if not path.is_symlink()} == {ORDINARY}
        assert (await running.end())[0] == 0


async def test_a_demo_that_is_killed_leaves_no_process_and_starts_again(data_dir: Path) -> None:
    async with demo(*place(data_dir), "--json") as running:
        await running.answer()
        below = psutil.Process(running.process.pid).children(recursive=True)
        running.process.kill()
        await running.process.communicate()
        _, alive = psutil.wait_procs(below, timeout=PATIENCE)
        assert alive == []
    async with demo(*place(data_dir), "--json") as running:
        await running.answer()
        assert (await running.end())[0] == 0


async def refused(*arguments: str) -> str:
    async with demo(*arguments) as running:
        out, err = await asyncio.wait_for(running.process.communicate(), PATIENCE)
        assert (running.process.returncode, out) == (1, b"")
        assert b"Traceback" not in err
        return err.decode().splitlines()[-1]


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1", "127.0.0.1:99999", ":80", "[::1"])
async def test_a_bad_listen_address_is_refused_before_anything_is_made(data_dir: Path, listen: str) -> None:
    assert matches(
        f"gateway: --listen: .*not {re.escape(repr(listen))}", await refused("--listen", listen, "--dir", str(data_dir))
    )
    assert not data_dir.exists()


@shares
async def test_a_port_that_was_asked_for_and_is_taken_is_refused(shown: Shown, data_dir: Path) -> None:
    taken = shown.answer["issuer"].removeprefix("http://")
    assert matches(f"{taken}.*in use", await refused("--listen", taken, "--dir", str(data_dir)))
    assert await get(f"http://{taken}/oauth2/login") == 200


def test_two_demos_that_start_at_once_get_ports_of_their_own() -> None:
    place = demo_command._address(None)
    with (
        demo_command._listening(place, asked_for=False) as one,
        demo_command._listening(place, asked_for=False) as other,
    ):
        assert len({sock.getsockname() for sock in (*one, *other)}) == 4


@shares
async def test_a_second_demo_in_one_folder_is_refused_and_the_first_goes_on(shown: Shown) -> None:
    before = (shown.folder / "config.toml").read_text()
    assert "another demo is running there; stop it or choose another folder" in await refused(*place(shown.folder))
    assert (shown.folder / "config.toml").read_text() == before
    assert await get(shown.url, shown.bearer) == 200


async def test_a_configuration_that_is_not_the_demos_is_left_alone(data_dir: Path) -> None:
    data_dir.mkdir()
    config = data_dir / "config.toml"
    config.write_text("# mine\n")
    assert "is not the demo's; choose another" in await refused(*place(data_dir))
    assert config.read_text() == "# mine\n"


async def test_a_folder_that_cannot_be_made_is_refused(data_dir: Path) -> None:
    data_dir.write_text("")
    assert matches("--dir .*choose another", await refused(*place(data_dir / "demo")))
