"""`gateway key`: another master key while the gateway serves, and the end of the old one.

Whatever step a rotation is killed at, its file says how far it has come, and `gateway key rotate` goes on from there:

    KEY                           a new key is written beside it
    KEY, FRESH next               reload: every worker accepts FRESH, and none uses it
    FRESH, KEY retiring           reload: what is new rests on FRESH, and what rests on KEY still passes
    FRESH, KEY until TIME         MAC keys are sealed anew in batches; from now on the data demands FRESH
    FRESH                         `gateway key drop`, once nothing that lives rests on KEY

Signing keys, whose public halves stand at /.well-known/jwks.json, are changed with it: `store.signing_keys` has the
steps of that, which the clock takes by itself.

Two reloads and not one, since workers of both configurations run side by side for a moment, as other machines do for
longer: none may refuse what another one has just made.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click
from msgspec import Struct
from msgspec.structs import asdict

from gateway import config
from gateway.cli.common import in_store, note, show, show_all, with_config, with_json
from gateway.cli.usage import Noun
from gateway.config import Settings
from gateway.crypto import Keyring, key_id_of, new_master_key, parse_master_key
from gateway.faults import OperatorError
from gateway.store import Store
from gateway.store.signing_keys import PublishedKey
from gateway.supervisor import keys
from gateway.supervisor.control import NoGateway, ask_to_reload
from gateway.supervisor.users import system_user_for

MARGIN: Final = timedelta(days=1)
"""How long after its end a key may still be used: by calls under way, in pages that are open (a session lasts 12 h),
and on other machines, which get the file by hand."""

_ELSEWHERE: Final = "where other machines serve with a copy of {file}, copy it there and reload them within a day"
_AGAIN: Final = "nothing is lost: mend it and run the command again, which goes on from here"

Say = Callable[[str], None]


class Key(Struct, frozen=True, kw_only=True):
    """A master key by its name, and what still needs it."""

    key: str
    state: str  # current, next, retiring, retired, or previous where the configuration lists it
    until: datetime | None = None  # when it ceased to be used
    access_tokens: int = 0
    refresh_tokens: int = 0
    mac_keys: int = 0  # that it seals
    needed_until: datetime | None = None
    droppable: bool = False

    @property
    def needs(self) -> str:
        """A sentence that says what the key is still needed by, and until when at most."""
        counts = {
            "access tokens": self.access_tokens,
            "refresh tokens": self.refresh_tokens,
            "MAC keys": self.mac_keys,
        }
        found = [f"{count} {name}" for name, count in counts.items() if count] or ["pages that are still open"]
        until = "" if self.needed_until is None else f", until {self.needed_until:%Y-%m-%d %H:%M}Z at most"
        return f"{self.key} is still needed by {', '.join(found)}{self._counted}{until}"

    @property
    def _counted(self) -> str:
        """Which tokens are counted: which key one rests on is known from its time alone."""
        if not (self.access_tokens or self.refresh_tokens):
            return ""
        if self.until is None:
            return " (all tokens count)"
        return f" (those issued before {_minute(self.until + MARGIN)} count, a day longer than the key was used)"


@click.group(cls=Noun, epilog="Example: gateway key rotate")
def command() -> None:
    """Rotate the master key and the signing keys, and see what still needs the old ones."""


@command.command(epilog="Example: gateway key rotate")
@click.option("--prepare", is_flag=True, help="Only have the new key accepted, so that other machines can be given it.")
@click.option("--signing", is_flag=True, help="Only the signing keys, whose public halves stand at jwks.json.")
@click.option("--at-once", is_flag=True, help="With --signing: what the old keys signed is worth nothing from now on.")
@with_config
@with_json
def rotate(path: Path, prepare: bool, signing: bool, at_once: bool, as_json: bool) -> None:
    """Put a new master key in the place of the old one while the gateway serves, or go on with that.

    Nothing that is good is refused meanwhile. It says until when the old key is needed; run it again to see that.
    New signing keys are published ten minutes before they sign, and old ones until all that they signed has expired.
    """
    if at_once and not signing:
        raise click.UsageError("--at-once is for signing keys that somebody else has; add --signing")
    if prepare and signing:
        raise click.UsageError("--prepare is for the master key; leave out --signing")

    def say(line: str) -> None:
        if not as_json:
            click.echo(line)

    if signing:
        _rotate_signing(path, say, at_once=at_once, as_json=as_json)
        return
    settings = _settings(path)
    file = settings.master_key_file
    if file is None:
        _require_previous(settings)
    else:
        with keys.locked(file) as opened:
            under_way = asyncio.run(_change(settings, opened, say, prepare=prepare))
            if prepare:
                show({"key": under_way}, as_json=True) if as_json else None
                return
    resealed, found, signing_keys = _with_data(path, say, rotates=True)
    current = next(key.key for key in found if key.state == "current")
    if as_json:
        show(
            {
                "key": current,
                "resealed": resealed,
                "keys": [asdict(key) for key in found],
                "signing_keys": [_record(key) for key in signing_keys],
            },
            as_json=True,
        )
        return
    _say_signing(signing_keys, say)
    for key in found:
        if key.state in ("retired", "previous"):
            say(f"{key.key} is no longer needed: {_drop(key)}" if key.droppable else key.needs)
    if file is not None:
        say(_ELSEWHERE.format(file=file))


def _rotate_signing(path: Path, say: Say, *, at_once: bool, as_json: bool) -> None:
    async def act(store: Store, _: Settings) -> tuple[list[PublishedKey], list[PublishedKey]]:
        return await store.signing_keys.rotate(at_once=at_once), await store.signing_keys.all()

    made, found = in_store(path, act)
    if as_json:
        show({"made": [key.kid for key in made], "signing_keys": [_record(key) for key in found]}, as_json=True)
        return
    if not made:
        say("the signing keys were changed lately; once all that the former ones signed has expired they can be again")
    _say_signing(found, say)


def _say_signing(found: Sequence[PublishedKey], say: Say) -> None:
    for key in found:
        if key.state == "next":
            say(f"{key.kid} ({key.algorithm}) is published, and signs from {_minute(key.signs_from)} on")
        elif key.published_until is not None:
            say(f"{key.kid} ({key.algorithm}) stays published until {_minute(key.published_until)} at least")


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z"


def _record(key: PublishedKey) -> dict[str, object]:
    return {**asdict(key), "sealed_by": key.sealed_by.hex()}


@command.command("list", epilog="Example: gateway key list")
@click.option("--signing", is_flag=True, help="The signing keys, whose public halves stand at jwks.json, instead.")
@with_config
@with_json
def list_(path: Path, signing: bool, as_json: bool) -> None:
    """List the master keys by their names, and what still needs each."""
    if signing:
        keys_of_ours = in_store(path, lambda store, _: store.signing_keys.all())
        named = ("kid", "algorithm", "state", "signs_from", "signs_until", "published_until", "sealed_by")
        show_all([_record(key) for key in keys_of_ours], named, as_json=as_json)
        return
    found = in_store(path, _examined)
    columns = ("key", "state", "until", "access_tokens", "refresh_tokens", "mac_keys", "needed_until", "droppable")
    show_all([asdict(key) for key in found], columns, as_json=as_json)


@command.command(epilog="Example: gateway key drop")
@click.option("--force", is_flag=True, help="Also keys that are needed: what rests on them is refused from then on.")
@with_config
@with_json
def drop(path: Path, force: bool, as_json: bool) -> None:
    """Stop accepting retired master keys that nothing needs.

    What needs one is counted by its time: all that was issued until a day after the key's end, since another machine
    may have used the key until then.
    """
    settings = _settings(path)
    if settings.master_key_file is None:
        raise OperatorError("keys.master: stands in the environment; take old keys out of keys.previous, and reload")
    with keys.locked(settings.master_key_file) as file:
        state = file.read()
        if state.next is not None or any(key.until is None for key in state.retired):
            raise OperatorError("a rotation is under way; end it with `gateway key rotate`")
        _, found, _ = _with_data(path, lambda _: None)
        retired = [key for key in found if key.state == "retired"]
        gone = [key.key for key in retired if key.droppable or force]
        if retired and not gone:
            mend = "wait until then, or --force ends it with all that rests on it"
            raise OperatorError("\n".join(f"{key.needs}; {mend}" for key in retired))
        file.write(state.without(map(bytes.fromhex, gone)))
        asyncio.run(_reload(settings, note))  # also where one before was killed before it did
    if as_json:
        show({"dropped": gone}, as_json=True)
    else:
        click.echo(f"dropped: {', '.join(gone)}" if gone else "there is no retired key")


def _drop(key: Key) -> str:
    return "`gateway key drop` ends it" if key.state == "retired" else "take it out of keys.previous, and reload"


def _settings(path: Path) -> Settings:
    settings = config.load(path.absolute())
    if settings.keyring is None:
        if os.geteuid() != 0:
            system_user_for(settings.data_dir)  # who cannot see the key is told what bars the way
        raise OperatorError("keys.master: there is none yet; the first start of the embedded database makes it")
    return settings


def _require_previous(settings: Settings) -> None:
    if settings.keyring is not None and len(settings.keyring.key_ids) == 1:
        raise OperatorError(
            "keys.master: stands in the environment, where only you can change it; put the new key there and the old "
            "one under keys.previous, reload, and run this again to seal MAC keys anew; signing keys alone are changed "
            "by `gateway key rotate --signing`"
        )


async def _change(settings: Settings, file: keys.MasterKeyFile, say: Say, *, prepare: bool) -> str:
    """Take the file and the gateway that serves to a new key, from wherever they stand; gives its name."""
    state, keyring = file.read(), settings.keyring
    by_hand = keyring is not None and len(keyring.key_ids) > len(state.keys)
    if state.next is None and not state.retired and not by_hand:
        fresh = new_master_key()
        state = state.with_next(fresh)
        file.write(state)
        say(f"{_name(fresh)} is made")
    if state.next is not None:
        await _reload(settings, say, accepted=_name(state.next))
        say(f"{_name(state.next)} is accepted, and not used yet")
        if prepare:
            say(f"copy {settings.master_key_file} to the other machines, reload them, and run `gateway key rotate`")
            return _name(state.next)
        state = state.promoted()
        file.write(state)
    elif prepare:
        raise OperatorError("--prepare: the new key is used already; `gateway key list` shows how things stand")
    if any(key.until is None for key in state.retired):
        await _reload(settings, say, current=_name(state.current))
        state = state.settled(datetime.now(UTC))
        file.write(state)
        say(f"{_name(state.current)} is used from now on")
    return _name(state.current)


async def _reload(settings: Settings, say: Say, *, accepted: str = "", current: str = "") -> None:
    """Have the gateway that serves take the keys over; one that starts later does so by itself.

    Raises OperatorError where it does not have one of these names then, as what it reads is a copy of the file.
    """
    try:
        outcome, _ = await ask_to_reload(settings.path)
    except NoGateway:
        say("no gateway runs here with this configuration: it takes the keys when it starts")
        return
    if outcome.faults:
        raise OperatorError("\n".join((*outcome.faults, _AGAIN)))
    wanted, found = accepted or current, outcome.keys if accepted else outcome.keys[:1]
    if wanted and wanted not in found:
        raise OperatorError(
            f"keys.master: the gateway that serves reads a copy of {settings.master_key_file}, which lacks {wanted}; "
            "restart it where the copy is a credential that systemd made at its start, else copy the file anew; "
            f"{_AGAIN}"
        )
    for line in outcome.changed:
        if not line.startswith("keys: "):
            say(f"the reload took over as well: {line}")


def _with_data(path: Path, say: Say, *, rotates: bool = False) -> tuple[int, list[Key], list[PublishedKey]]:
    """Seal anew what other keys than the current one seal: how many, and what the keys are still needed for; and the
    signing keys, which are changed too where it `rotates`."""

    async def act(store: Store, settings: Settings) -> tuple[int, list[Key], list[PublishedKey]]:
        total = 0
        async for count in store.master_keys.reseal():
            total += count
            say(f"{total} MAC keys are sealed anew")
        await store.chain.reseal()
        await store.signing_keys.reseal()
        once = not await store.master_keys.is_current_noted() or not await store.signing_keys.all()
        if rotates and once:  # for each master key
            await store.signing_keys.rotate()
        await store.master_keys.note_current()
        return total, await _examined(store, settings), await store.signing_keys.all()

    return in_store(path, act)


async def _examined(store: Store, settings: Settings) -> list[Key]:
    """All master keys, and what still needs each."""
    keyring: Keyring | None = settings.keyring
    assert keyring is not None  # noqa: S101  # the store is open
    file = settings.master_key_file
    state = None if file is None else keys.MasterKeyFile(file).read()
    current = keyring.key_id if state is None else _id(state.current)  # which a rotation may have changed just now
    now, sealed = datetime.now(UTC), await store.master_keys.sealed_by_others(current)
    found = [Key(key=current.hex(), state="current")]
    ends: dict[bytes, tuple[str, datetime | None]] = {}
    if state is not None:
        if state.next is not None:
            found.append(Key(key=_name(state.next), state="next", mac_keys=sealed[_id(state.next)]))
        ends = {key.key_id: ("retired" if key.until else "retiring", key.until) for key in state.retired}
    others = keyring.key_ids - {current, *([_id(state.next)] if state and state.next else [])}
    for key_id in sorted(others, key=lambda one: list(ends).index(one) if one in ends else len(ends)):
        kind, until = ends.get(key_id, ("previous", None))
        end = (until or now) + MARGIN
        resting = await store.master_keys.issued_before(end)
        needed_until = max(filter(None, (resting.until, None if until is None else end)), default=None)
        unneeded = not (resting.access_tokens or resting.refresh_tokens or sealed[key_id])
        found.append(
            Key(
                key=key_id.hex(),
                state=kind,
                until=until,
                access_tokens=resting.access_tokens,
                refresh_tokens=resting.refresh_tokens,
                mac_keys=sealed[key_id],
                needed_until=needed_until,
                droppable=unneeded and kind != "retiring" and (until is None or end <= now),
            )
        )
    return found


def _id(text: str) -> bytes:
    return key_id_of(parse_master_key(text))


def _name(text: str) -> str:
    return _id(text).hex()
