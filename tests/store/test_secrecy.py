"""A plain dump of the database opens nothing, and a crash of it forgets nothing."""

import asyncio
import os
import signal
import time
from datetime import timedelta

from msgspec.structs import replace

from gateway.crypto import Keyring, digest, random_text
from gateway.errors import StoreUnavailable
from gateway.oauth.device import shown
from gateway.store import Store
from gateway.supervisor import embedded
from tests.serving import PATIENCE
from tests.store.rig import NEW_CLIENT, VERIFIER, Rig, count, counted, everything, outcome


async def test_dump_shows_no_secret_in_any_form(store: Store, database: str) -> None:
    rig = await Rig.build(store, client=replace(NEW_CLIENT, token_type="mac"))
    code = await rig.code()
    first = await rig.redeem(code)
    second = await rig.refresh(first.refresh_token)
    unspent = await rig.code()
    device_code, user_code = await store.devices.start(rig.client.client_id, frozenset(), ()) or ("", "")
    pushed = await store.pushed.add(rig.request(), 60)
    await store.pushed.open(pushed or "", rig.client.client_id, "secret-of-a-browser")
    rotated = await store.clients.rotate_secret(rig.client.client_id, overlap=60)
    for _ in range(2):
        store.guesses.begin("hunter2-typed-as-a-name", None, "browser-of-ada").wrong("wrong password")
    await counted(store)
    typed = {digest(text.format("hunter2-typed-as-a-name")).hex() for text in ("{}", "user\0{}")}
    typed |= {digest(user_code).hex(), digest(shown(user_code)).hex()}
    secrets = [
        rig.secret, rotated, rig.session_token, code, unspent, pushed, VERIFIER, "hunter2", "browser-of-ada",
        "secret-of-a-browser", device_code, user_code,
        first.access_token, first.refresh_token, first.mac_key, second.access_token, second.refresh_token,
        second.mac_key, "obviously-a-fake-key-for-tests!!",
    ]  # fmt: skip
    dump = "\n".join(line for lines in (await everything(database)).values() for line in lines)
    assert rig.user.subject in dump
    assert await count(database, "failed_attempts") == 1
    assert not any(plain in dump for plain in typed), "a plain digest of a password tells it to whoever guesses offline"
    for secret in secrets:
        assert secret
        for form in (secret, secret[4:], secret.encode().hex()):
            assert form not in dump


async def back(store: Store, server: embedded.Server, killed: int) -> None:
    """Wait until a database that was killed answers again, from a new process."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await store.ping()  # what a dying backend still says does not count
                if server.pid not in (None, killed):
                    return await store.ping()
            except StoreUnavailable:
                pass
            await asyncio.sleep(0.02)


async def test_spent_code_and_nonce_stay_spent_when_postgres_is_killed(
    durable_server: embedded.Server, keyring: Keyring
) -> None:
    store = await Store.open(durable_server.dsn, keyring)
    rig = await Rig.build(store)
    later = store.now() + timedelta(minutes=5)
    terms, now = (await store.nonces.terms()).terms, int(time.time())
    for round_ in range(3):
        code, used, nonce = await rig.code(), await rig.tokens(), random_text().encode()[:16]
        await rig.refresh(used.refresh_token)
        tokens = await rig.redeem(code)
        assert await store.nonces.spend([nonce], [now], terms) == ([nonce], True)
        assert await store.nonces.spend_untimed([(nonce, later)]) == [nonce]
        pid = durable_server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await back(store, durable_server, pid)
        assert await store.nonces.spend([nonce], [now], terms) == ([], True), round_
        assert await store.nonces.spend_untimed([(nonce, later)]) == [], round_
        assert await rig.lives(tokens)
        assert await outcome(rig.redeem(code)) == "invalid_grant"
        assert not await rig.lives(tokens)
        assert await outcome(rig.refresh(used.refresh_token)) == "invalid_grant"
    await store.close()


async def test_code_whose_redemption_was_cut_off_gives_at_most_one_pair(
    durable_server: embedded.Server, keyring: Keyring
) -> None:
    store = await Store.open(durable_server.dsn, keyring)
    rig = await Rig.build(store)
    codes = [await rig.code(ttl=600) for _ in range(30)]
    wins = dict.fromkeys(codes, 0)

    async def redeem(code: str) -> None:
        try:
            wins[code] += await outcome(rig.redeem(code)) == "ok"
        except StoreUnavailable:
            return

    pid = durable_server.pid
    assert pid is not None
    asyncio.get_running_loop().call_later(0.01, os.kill, pid, signal.SIGKILL)
    await asyncio.gather(*(redeem(code) for code in codes))
    await back(store, durable_server, pid)
    await asyncio.gather(*(redeem(code) for code in codes))
    assert max(wins.values()) == 1
    rows = await everything(durable_server.dsn)
    assert len(rows["access_tokens"]) == len(rows["families"]) == len(rows["refresh_tokens"]) == 30
    await store.close()
