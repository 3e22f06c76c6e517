"""`gateway key rotate` while the gateway serves: nothing that is good is refused, and no call is cut, also where it is
killed on its way."""

import asyncio
import itertools
import re
import subprocess
import time
from functools import partial
from pathlib import Path

import aiohttp

from gateway.config.key_file import KeyFile
from gateway.credentials import mac
from gateway.store import Store
from gateway.store.records import IssuedTokens
from tests.counts import LONG, scaled
from tests.guard.conftest import new_client
from tests.serving import PATIENCE, PROGRAM, ROOT, Gateway, serving, until
from tests.store.rig import fetch
from tests.supervisor.conftest import SlowUpstream
from tests.supervisor.test_handover import OFTEN, Caller
from tests.web.rig import PASSWORD_HASH, SCOPES, Browser, basic, code_fields, code_for
from tests.web.rig import new_client as new_app

MAC_TOKENS = 600  # more than a batch


async def rotate(gateway: Gateway, *, killed_behind: int | None = None) -> tuple[list[str], bool]:
    """The lines that the command prints; with `killed_behind`, it is killed behind so many of them, and whether it was
    before it had come to its end."""
    process = await asyncio.create_subprocess_exec(
        *(*PROGRAM, "key", "rotate", "--config", str(gateway.config)), stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    lines = list[str]()
    while line := await process.stdout.readline():
        lines.append(line.decode())
        if len(lines) == killed_behind:
            process.kill()
    code = await process.wait()
    assert code == 0 or (code == -9 and killed_behind is not None)
    return lines, code == -9


class SignedCaller(Caller):
    """Signs each call by a MAC token."""

    def __init__(self, url: str, tokens: IssuedTokens) -> None:
        super().__init__(url, tokens.access_token)
        self._key, self._numbers = tokens.mac_key or "", itertools.count()

    def request(self, body: int = 0) -> bytes:
        covered = mac.Covered(method="GET", target=b"/x", host="127.0.0.1", port=self._address.port or 0)
        ts, nonce = str(int(time.time())), f"n{next(self._numbers)}"
        text = mac.normalized_string(covered, ts=ts, nonce=nonce, ext=None, bodyhash=None)
        signature = mac.sign(self._key.encode(), "hmac-sha-256", text)
        field = f'MAC id="{self._token}", ts="{ts}", nonce="{nonce}", mac="{signature}"'
        return super().request(body).replace(f"Bearer {self._token}".encode(), field.encode())


async def refuses_what_rests_on_a_dropped_key(gateway: Gateway, browser: aiohttp.ClientSession, old: str) -> None:
    """And the gateway that serves does so, without a word from anybody else."""

    async def is_answered(status: int) -> bool:
        async with browser.get(f"{gateway.url}/x", headers={"Authorization": f"Bearer {old}"}) as answer:
            return answer.status == status

    assert await is_answered(200)
    assert (await gateway.run("key", "drop", "--force"))["dropped"]
    await until(partial(is_answered, 401))


async def test_key_rotation_refuses_nothing_good_and_cuts_no_call(
    tmp_path: Path, store: Store, database: str, upstream: SlowUpstream
) -> None:
    client, secret = await store.clients.create(new_client())
    other, _ = await store.clients.create(new_client())
    old = (await store.tokens.issue(other.client_id, None, frozenset({"read"}), 3600, None)).access_token
    mac_tokens = [await store.tokens.issue(other.client_id, None, frozenset(), 3600, "mac") for _ in range(MAC_TOKENS)]
    route = {**upstream.route(), "auth": ["bearer", "mac"]}
    async with (
        serving(tmp_path, dsn=database, routes=[route]) as gateway,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser,
    ):
        signed = SignedCaller(gateway.url, mac_tokens[0])
        bearers, fresh = [Caller(gateway.url, old) for _ in range(6)], Caller(gateway.url, old)
        callers = [signed, *bearers, fresh]
        for caller in callers:
            await caller.connect()
        ends = asyncio.Event()

        async def call_with_new_tokens() -> int:
            """What one worker has just issued, another one takes."""
            calls = 0
            while not ends.is_set():
                form = {
                    "grant_type": "client_credentials",
                    "client_id": client.client_id,
                    "client_secret": secret or "",
                }
                async with browser.post(gateway.url + "/oauth2/token", data=form) as answer:
                    assert answer.status == 200
                    fresh._token = (await answer.json())["access_token"]
                fresh.send(fresh.request())
                await fresh.answered()
                calls += 1
                await asyncio.sleep(OFTEN)
            return calls

        async with browser.get(gateway.url + "/oauth2/login") as page:
            csrf_tokens = re.findall(r'name="csrf_token" value="([^"]+)"', await page.text())
        calls = [
            asyncio.create_task(call_with_new_tokens()),
            asyncio.create_task(signed.call_until(ends, 0, pause=OFTEN)),
        ]
        calls += [
            asyncio.create_task(caller.call_until(ends, 3000 * (n % 2), pause=OFTEN))
            for n, caller in enumerate(bearers)
        ]
        try:
            cut = list[bool]()
            for killed_behind in (1, 2, *([1] * scaled(8) if LONG else [])):
                cut.append((await rotate(gateway, killed_behind=killed_behind))[1])
                for call in calls:
                    if call.done():
                        call.result()
            lines, _ = await rotate(gateway)
            assert any(cut)  # those that had little left to do may have been quicker
            ends.set()
            assert all(await asyncio.wait_for(asyncio.gather(*calls), PATIENCE))
        finally:
            for call in calls:
                call.cancel()
            for caller in callers:
                caller.close()
        assert any("is still needed by" in line for line in lines)
        form = {"username": "nobody", "password": "wrong", "csrf_token": csrf_tokens[0]}
        async with browser.post(gateway.url + "/oauth2/login", data=form) as answer:
            assert "Incorrect" in await answer.text()  # and not that the page has expired
        keys = KeyFile.parse((tmp_path / "master.key").read_text())
        assert len(keys.keys) == 2
        rows = await fetch(
            database, "select distinct substring(mac_key for 4) from access_tokens where mac_key is not null"
        )
        assert len(rows) == 1

        await refuses_what_rests_on_a_dropped_key(gateway, browser, old)
        assert not [line for line in gateway.logs if line["level"] in ("error", "critical")]


async def test_a_session_a_refresh_token_and_a_code_of_before_a_key_rotation_count_during_it_and_afterwards(
    tmp_path: Path, store: Store, database: str, upstream: SlowUpstream
) -> None:
    await store.users.create("ada", "ada@example.org", "Ada", PASSWORD_HASH)
    client, secret = await new_app(store)
    route = {**upstream.route(), "path": "/desk", "auth": ["session"]}
    async with serving(tmp_path, dsn=database, routes=[route], scopes=SCOPES) as gateway:
        browser, credentials, ends = Browser(gateway.url), basic(client.client_id, secret), asyncio.Event()

        async def tokens(fields: list[tuple[str, str]]) -> str:
            """The refresh token that is given for these."""
            answer = await browser.send("POST", "/oauth2/token", fields, credentials)
            assert answer.status == 200, answer.text
            return str(answer.json["refresh_token"])

        async def stays_signed_in() -> int:
            for times in itertools.count(1):
                assert [(await browser.get(path)).status for path in ("/oauth2/account", "/desk")] == [200, 200]
                if ends.is_set():
                    return times
                await asyncio.sleep(OFTEN)
            raise AssertionError("it counts without end")

        async def refreshes(token: str) -> int:
            for times in itertools.count(1):
                token = await tokens([("grant_type", "refresh_token"), ("refresh_token", token)])
                if ends.is_set():
                    return times
                await asyncio.sleep(OFTEN)
            raise AssertionError("it counts without end")

        try:
            assert (await browser.sign_in()).status == 303
            first, kept = [await tokens(code_fields(await code_for(browser, client), client)) for _ in range(2)]
            code = await code_for(browser, client)
            before = KeyFile.parse((tmp_path / "master.key").read_text()).keys
            during = [asyncio.create_task(stays_signed_in()), asyncio.create_task(refreshes(first))]
            try:
                await rotate(gateway)
            finally:
                ends.set()
                times = await asyncio.wait_for(asyncio.gather(*during), PATIENCE)
            assert min(times) > 2
            after = KeyFile.parse((tmp_path / "master.key").read_text()).keys
            assert (len(before), len(after), before[0] in after[1:]) == (1, 2, True)
            await tokens([("grant_type", "refresh_token"), ("refresh_token", kept)])
            await tokens(code_fields(code, client))
            assert [(await browser.get(path)).status for path in ("/oauth2/account", "/desk")] == [200, 200]
        finally:
            await browser.close()
        assert not [line for line in gateway.logs if line["level"] in ("error", "critical")]
