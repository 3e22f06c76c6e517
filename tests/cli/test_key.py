"""`gateway key`: a new master key step by step, whatever step it is killed at, and the end of the old one."""

import asyncio
import fcntl
import os
import re
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gateway import config
from gateway.cli import key as key_command
from gateway.config.key_file import KeyFile
from gateway.crypto import Keyring, new_master_key
from gateway.model import SIGNING_ALGORITHMS, TokenType
from gateway.store import Store
from gateway.store.master_keys import MasterKeys
from gateway.supervisor.keys import MasterKeyFile
from tests.cli.conftest import Terminal
from tests.counts import LONG
from tests.serving import serving, write_key
from tests.store.rig import fetch

T = TypeVar("T")
EVERY_STEP = range(1, 100) if LONG else range(1, 100, 7)
LONG_AGO = datetime.now(UTC) - timedelta(days=3)


def file_of(gateway: Terminal) -> Path:
    return gateway.config.with_name("master.key")


def state_of(gateway: Terminal) -> KeyFile:
    return KeyFile.parse(file_of(gateway).read_text())


def keyring_of(gateway: Terminal) -> Keyring:
    """The keys that a gateway which starts now has."""
    keyring = config.load(gateway.config).keyring
    assert keyring is not None
    return keyring


def issued(gateway: Terminal, kind: str = "bearer", ttl: str = "1h") -> Any:
    client = gateway.client("--grant-type", "client_credentials", "--scope", "notes:read")["client_id"]
    return gateway("token", "issue", "--client", client, "--type", kind, "--ttl", ttl, "--json").json


def found(gateway: Terminal, token: str) -> bytes | None:
    """What a token signs with, b"" for a bearer token, None where it is dead, to a gateway that starts now."""
    return with_store(gateway, partial(keys_of, [token])).get(token)


def with_store(gateway: Terminal, act: Callable[[Store], Awaitable[T]]) -> T:
    """What `act` gives with a store that has the keys as they are in the file now."""

    async def run() -> T:
        store = Store.over(gateway.config.with_name("dsn").read_text(), keyring_of(gateway), size=1)
        try:
            return await act(store)
        finally:
            await store.close()

    return asyncio.run(run())


async def issue_some(client: str, store: Store) -> dict[str, bytes]:
    """Fresh tokens, by what each signs with; nothing for a bearer token."""
    kinds: tuple[TokenType, ...] = ("bearer", "mac", "mac", "mac")
    made = [await store.tokens.issue(client, None, frozenset(), 3600, kind) for kind in kinds]
    return await keys_of([one.access_token for one in made], store)


async def keys_of(tokens: Iterable[str], store: Store) -> dict[str, bytes]:
    """What those of some tokens sign with that live."""
    known = {token: await store.access_tokens.find(token) for token in tokens}
    return {token: found.mac_key or b"" for token, found in known.items() if found is not None}


def sql(gateway: Terminal, statement: str) -> list[Any]:
    return asyncio.run(fetch(gateway.config.with_name("dsn").read_text(), statement))


def sealed_with(gateway: Terminal) -> set[bytes]:
    """The names of the master keys that the MAC keys are sealed with."""
    rows = sql(gateway, "select substring(mac_key for 4) from access_tokens where mac_key is not null")
    return {row[0] for row in rows}


def retire_long_ago(gateway: Terminal) -> None:
    """Let the keys that are retired have ceased to be used long ago."""
    text = re.sub(r"until \S+", f"until {LONG_AGO:%Y-%m-%dT%H:%M:%SZ}", file_of(gateway).read_text())
    file_of(gateway).write_text(text)


def test_key_rotate_uses_a_new_key_seals_mac_keys_anew_and_keeps_the_old_one_while_it_is_needed(
    gateway: Terminal,
) -> None:
    bearer, mac = issued(gateway), issued(gateway, "mac")
    key, old = found(gateway, mac["access_token"]), keyring_of(gateway).key_id
    file_of(gateway).chmod(0o600)
    done = gateway("key", "rotate")
    assert done.code == 0, done.err
    new = keyring_of(gateway).key_id
    assert new != old
    assert f"{new.hex()} is used from now on" in done.out
    assert "1 MAC keys are sealed anew" in done.out
    assert f"{old.hex()} is still needed by 2 access tokens (those issued before " in done.out
    assert sealed_with(gateway) == {new}
    assert (found(gateway, bearer["access_token"]), found(gateway, mac["access_token"])) == (b"", key)
    assert file_of(gateway).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in gateway.config.parent.iterdir() if path.name.startswith(".master")] == []
    assert keyring_of(gateway).is_ours(issued(gateway)["access_token"], "gwa_")

    again = gateway("key", "rotate", "--json").json  # no other key: it goes on with this one
    assert (again["key"], again["resealed"]) == (new.hex(), 0)
    [current, retired] = gateway("key", "list", "--json").json
    assert (current["key"], current["state"]) == (new.hex(), "current")
    assert (retired["key"], retired["state"], retired["droppable"]) == (old.hex(), "retired", False)
    assert re.search(rf"{old.hex()} is still needed by \d access tokens", gateway("key", "drop").fault)
    assert keyring_of(gateway).key_ids == {old, new}


def test_key_drop_ends_what_nothing_needs_and_the_data_then_demands_the_new_key(gateway: Terminal) -> None:
    old = file_of(gateway).read_text()
    assert gateway("key", "rotate").code == 0
    assert "pages that are still open" in gateway("key", "drop").fault  # for a day
    token = issued(gateway)["access_token"]
    retire_long_ago(gateway)
    assert "is no longer needed: `gateway key drop` ends it" in gateway("key", "rotate").out
    [dropped] = gateway("key", "drop", "--json").json["dropped"]
    assert [*state_of(gateway).keys] == [*KeyFile.parse(file_of(gateway).read_text().strip()).keys]
    assert dropped not in {one.hex() for one in keyring_of(gateway).key_ids}
    assert found(gateway, token) == b""
    assert gateway("key", "drop").out == "there is no retired key\n"
    write_key(file_of(gateway), old)
    assert "does not fit the data" in gateway("client", "list").refused_with(os.EX_CONFIG)


def test_key_drop_force_ends_a_key_that_is_needed_and_refuses_what_rests_on_it(gateway: Terminal) -> None:
    token = issued(gateway)["access_token"]
    assert gateway("key", "rotate").code == 0
    assert found(gateway, token) == b""
    assert gateway("key", "drop", "--force").code == 0
    assert found(gateway, token) is None


def test_key_rotate_prepare_only_has_the_new_key_accepted(gateway: Terminal) -> None:
    old = keyring_of(gateway).key_id
    prepared = gateway("key", "rotate", "--prepare")
    assert "copy " in prepared.out
    keyring = keyring_of(gateway)
    assert (keyring.key_id, len(keyring.key_ids)) == (old, 2)
    assert [key["state"] for key in gateway("key", "list", "--json").json] == ["current", "next"]
    assert "a rotation is under way" in gateway("key", "drop").fault
    again = gateway("key", "rotate", "--prepare", "--json").json["key"]
    assert again in {one.hex() for one in keyring.key_ids}
    assert gateway("key", "rotate", "--json").json["key"] == again
    assert "is used already" in gateway("key", "rotate", "--prepare").fault


def test_key_rotate_has_new_signing_keys_published_before_they_sign(gateway: Terminal) -> None:
    first = gateway("key", "rotate", "--json").json["signing_keys"]
    assert {(key["algorithm"], key["state"]) for key in first} == {(name, "current") for name in SIGNING_ALGORITHMS}
    again = gateway("key", "rotate", "--signing")
    for key in gateway("key", "list", "--signing", "--json").json:
        mark = f"{key['kid']} ({key['algorithm']})"
        if key["state"] == "next":
            assert f"{mark} is published, and signs from 2" in again.out
        else:
            assert f"{mark} stays published until 2" in again.out
    assert "were changed lately" in gateway("key", "rotate", "--signing").out
    assert gateway("key", "rotate", "--signing", "--json").json["made"] == []
    at_once = gateway("key", "rotate", "--signing", "--at-once", "--json").json
    assert {key["kid"] for key in at_once["signing_keys"]} == set(at_once["made"])
    assert {key["state"] for key in at_once["signing_keys"]} == {"current"}


def test_key_rotate_seals_signing_keys_anew(gateway: Terminal) -> None:
    assert gateway("key", "rotate", "--signing").code == 0
    old = {key["kid"] for key in gateway("key", "list", "--signing", "--json").json}
    done = gateway("key", "rotate", "--json").json
    found = gateway("key", "list", "--signing", "--json").json
    assert old < {key["kid"] for key in found}
    assert {key["sealed_by"] for key in found} == {done["key"]}


@pytest.mark.parametrize("options", [("--at-once",), ("--prepare", "--signing")])
def test_key_rotate_refuses_options_that_do_not_go_together(gateway: Terminal, options: tuple[str, ...]) -> None:
    assert "--signing" in gateway("key", "rotate", *options).refused_with(2)


class Killed(BaseException):
    """The end of a process at some step."""


class Steps:
    """Ends the command at the step of a number; before and behind whatever lasts is one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self._around(monkeypatch, MasterKeyFile, "write")
        self._around(monkeypatch, Path, "replace")
        reload, reseal, note = key_command._reload, MasterKeys._reseal_page, MasterKeys.note_current

        async def reloaded(*given: Any, **wanted: Any) -> None:
            self.step()
            await reload(*given, **wanted)
            self.step()

        async def resealed(*given: Any) -> Any:
            self.step()
            done = await reseal(*given)
            self.step()
            return done

        async def noted(store: MasterKeys) -> None:
            self.step()
            await note(store)
            self.step()

        monkeypatch.setattr(key_command, "_reload", reloaded)
        monkeypatch.setattr(MasterKeys, "_reseal_page", resealed)
        monkeypatch.setattr(MasterKeys, "note_current", noted)

    def _around(self, monkeypatch: pytest.MonkeyPatch, where: type, name: str) -> None:
        act: Callable[..., Any] = getattr(where, name)

        def around(*given: Any) -> Any:
            self.step()
            done = act(*given)
            self.step()
            return done

        monkeypatch.setattr(where, name, around)

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    reseal = MasterKeys.reseal
    monkeypatch.setattr(MasterKeys, "reseal", lambda keys: reseal(keys, 2))  # two tokens in a batch
    return Steps(monkeypatch)


def killed_at(number: int, steps: Steps, gateway: Terminal, *command: str) -> bool:
    """Whether a command came to the step of that number, and was killed there."""
    steps.left = number
    try:
        assert gateway(*command).code == 0
    except Killed:
        return True
    else:
        return False
    finally:
        steps.left = 0


def test_key_rotation_killed_at_every_step_loses_nothing_and_goes_on(gateway: Terminal, steps: Steps) -> None:
    client = gateway.client("--grant-type", "client_credentials", "--scope", "notes:read")["client_id"]
    for number in EVERY_STEP:
        tokens = with_store(gateway, partial(issue_some, client))
        before = keyring_of(gateway).key_id
        if not killed_at(number, steps, gateway, "key", "rotate"):
            break
        assert with_store(gateway, partial(keys_of, tokens)) == tokens  # what starts now takes all of them
        resumed = gateway("key", "rotate", "--json").json["key"]
        assert {one.hex() for one in keyring_of(gateway).key_ids} == {resumed, before.hex()}, "another key was made"
        assert with_store(gateway, partial(keys_of, tokens)) == tokens
        assert sealed_with(gateway) == {bytes.fromhex(resumed)}
        sql(gateway, "delete from access_tokens")
        file_of(gateway).write_text(f"{state_of(gateway).current}\n")  # as a drop would leave it
    assert number > 25


def test_key_drop_killed_at_every_step_goes_on(gateway: Terminal, steps: Steps) -> None:
    client = gateway.client("--grant-type", "client_credentials", "--scope", "notes:read")["client_id"]
    for number in EVERY_STEP:
        assert gateway("key", "rotate").code == 0
        retire_long_ago(gateway)
        tokens = with_store(gateway, partial(issue_some, client))
        if not killed_at(number, steps, gateway, "key", "drop"):
            break
        assert with_store(gateway, partial(keys_of, tokens)) == tokens
        assert gateway("key", "drop").code == 0
        assert len(keyring_of(gateway).key_ids) == 1
        assert with_store(gateway, partial(keys_of, tokens)) == tokens
        sql(gateway, "delete from access_tokens")
    assert number > 10


def test_key_rotation_by_hand_is_sealed_anew_and_reported(gateway: Terminal) -> None:
    token = issued(gateway, "mac")["access_token"]
    key, old, file = found(gateway, token), file_of(gateway).read_text(), file_of(gateway)
    write_key(file.with_name("old.key"), old)
    gateway.rewrite({"keys": {"master": {"file": str(file)}, "previous": [{"file": "old.key"}]}})
    write_key(file, new_master_key())
    done = gateway("key", "rotate")
    assert done.code == 0, done.err
    assert sealed_with(gateway) == {keyring_of(gateway).key_id}
    assert "is still needed by 1 access tokens" in done.out
    assert [one["state"] for one in gateway("key", "list", "--json").json] == ["current", "previous"]
    assert found(gateway, token) == key


def test_key_in_the_environment_is_the_operators_to_change(gateway: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_MASTER_KEY", file_of(gateway).read_text())
    gateway.rewrite({"keys": {"master": {"env": "TEST_MASTER_KEY"}}})
    assert "stands in the environment" in gateway("key", "rotate").fault
    assert "stands in the environment" in gateway("key", "drop").fault
    assert gateway("key", "rotate", "--signing").code == 0


def test_key_of_which_another_command_has_the_file_is_left_alone(gateway: Terminal) -> None:
    folder = os.open(gateway.config.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        for verb in ("rotate", "drop"):
            assert "another `gateway key` works on" in gateway("key", verb).fault
    finally:
        os.close(folder)


def test_key_file_that_cannot_be_replaced_is_named_with_the_mend(
    gateway: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    before = file_of(gateway).read_text()
    for name in ("fsync", "fchown"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, refuse)
            assert "cannot be replaced (Read-only file system)" in gateway("key", "rotate").fault
    assert file_of(gateway).read_text() == before
    assert [path.name for path in gateway.config.parent.iterdir() if path.name.startswith(".master")] == []


def test_key_of_a_database_that_has_yet_to_be_made_is_not_there(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "config.toml")
    terminal.config.write_text('[server]\npublic_url = "https://api.example.com"\n')
    assert "there is none yet" in terminal("key", "rotate").fault


def test_a_key_that_cannot_be_opened_any_more_holds_nothing_up(gateway: Terminal) -> None:
    issued(gateway, "mac")
    sql(gateway, "update access_tokens set mac_key = mac_key || '\\x00' where mac_key is not null")
    assert gateway("key", "rotate").code == 0


async def test_key_rotate_goes_no_further_than_a_gateway_whose_copy_of_the_file_is_old(
    tmp_path: Path, database: str
) -> None:
    """As of a service with LoadCredential=, which has what the file was at its start."""
    copies = tmp_path / "credentials"
    copies.mkdir(mode=0o700)
    master, copy = tmp_path / "master.key", write_key(copies / "master.key")
    keys = {"master": {"file": "master.key"}}
    environment = {"CREDENTIALS_DIRECTORY": str(copies)}
    async with serving(tmp_path, dsn=database, workers=1, keys=keys, environment=environment) as gateway:
        terminal = Terminal(gateway.config)
        old = master.read_text()
        for step in ("is made", "is accepted"):
            done = await asyncio.to_thread(terminal, "key", "rotate")
            assert done.code == 1
            assert step in done.out
            assert f"reads a copy of {master}, which lacks " in done.err
            assert "restart it" in done.err
            assert "is used from now on" not in done.out
            copy.write_text(master.read_text())  # which a restart does
        done = await asyncio.to_thread(terminal, "key", "rotate")
        assert done.code == 0, done.err
        assert "is used from now on" in done.out
        assert KeyFile.parse(master.read_text()).current != KeyFile.parse(old).current


def test_key_rotate_run_again_changes_no_signing_keys(gateway: Terminal) -> None:
    gateway("key", "rotate", "--signing", "--at-once")
    assert gateway("key", "rotate").code == 0
    sql(gateway, "delete from signing_keys where signs_until is not null")  # all that they signed has expired
    before = gateway("key", "list", "--signing", "--json").json
    again = gateway("key", "rotate", "--json").json
    assert [key["kid"] for key in again["signing_keys"]] == [key["kid"] for key in before]


def test_key_list_says_which_tokens_need_a_retired_key(gateway: Terminal) -> None:
    issued(gateway)
    assert gateway("key", "rotate").code == 0
    issued(gateway)  # by the new key; another machine may have used the old one
    fault = gateway("key", "drop").fault
    assert re.search(r"by 2 access tokens \(those issued before \S+ \S+Z count, a day longer than", fault)
    assert fault.endswith("; wait until then, or --force ends it with all that rests on it")


def test_key_that_comes_into_use_while_it_is_listed_is_not_said_to_be_one_that_nothing_needs(gateway: Terminal) -> None:
    issued(gateway, "mac")
    fresh, settings = gateway("key", "rotate", "--prepare", "--json").json["key"], config.load(gateway.config)
    file_of(gateway).write_text(state_of(gateway).promoted().render())
    listed = with_store(gateway, lambda store: key_command._examined(store, settings))
    assert [(key.key == fresh, key.state, key.droppable, key.mac_keys > 0) for key in listed] == [
        (True, "current", False, False),
        (False, "retiring", False, True),
    ]


def test_a_token_whose_master_key_was_dropped_is_not_said_to_be_somebody_elses(gateway: Terminal) -> None:
    token = issued(gateway)["access_token"]
    assert gateway("key", "rotate").code == 0
    assert gateway("key", "drop", "--force").code == 0
    assert "or it rests on a master key that was dropped" in gateway("token", "inspect", token).out
