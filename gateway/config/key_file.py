"""The master keys as they stand in their file: the current one first, then those that are accepted beside it.

    KEY                                  seals, signs and checks
    KEY next                             accepted already, so that no worker refuses what another one has made with it
    KEY retiring                         no longer to be used, and still used by workers that do not know that yet
    KEY until 2026-11-28T14:31:07Z       used until then

A key is base64 of 32 bytes, and a line that begins with "#" is for people. `gateway key rotate` writes the file.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, Self

from msgspec import Struct
from msgspec.structs import replace

from gateway.crypto import key_id_of, parse_master_key

_NEXT: Final = "next"
_RETIRING: Final = "retiring"
_UNTIL: Final = "until"
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_HEAD: Final = "# Master keys: the first one is used, the others are accepted beside it; see `gateway key list`.\n"


class RetiredKey(Struct, frozen=True):
    """A key that was used once: until when, or None while that has no end yet."""

    text: str
    until: datetime | None

    @property
    def key_id(self) -> bytes:
        """The name of the key."""
        return key_id_of(parse_master_key(self.text))


class KeyFile(Struct, frozen=True):
    """What one file, or one environment variable, holds: master keys in base64. It never shows them."""

    current: str
    next: str | None = None
    retired: tuple[RetiredKey, ...] = ()

    def __repr__(self) -> str:
        return f"KeyFile({len(self.keys)} keys)"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What a file says. Raises ValueError, in words that show nothing of a key."""
        lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if not lines or len(lines[0]) != 1:
            raise ValueError("a master key is base64 of 32 bytes")
        found = cls(lines[0][0])
        for number, line in enumerate(lines[1:], 2):
            match line:
                case [key, word] if word == _NEXT and found.next is None:
                    found = replace(found, next=key)
                case [key, word] if word == _RETIRING:
                    found = replace(found, retired=(*found.retired, RetiredKey(key, None)))
                case [key, word, time] if word == _UNTIL:
                    found = replace(found, retired=(*found.retired, RetiredKey(key, _time(time))))
                case _:
                    raise ValueError(f"behind key {number} stands neither next, nor retiring, nor until and a time")
        keys = found.keys
        if len(set(keys)) < len(keys):
            raise ValueError("a key is given twice")
        return found

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys, the current one first. Raises ValueError where one is none."""
        texts = (self.current, *([] if self.next is None else [self.next]), *(key.text for key in self.retired))
        return tuple(map(parse_master_key, texts))

    def render(self) -> str:
        """The file."""
        lines = [self.current]
        if self.next is not None:
            lines.append(f"{self.next} {_NEXT}")
        lines += [f"{key.text} {_end(key.until)}" for key in self.retired]
        return ("" if len(lines) == 1 else _HEAD) + "\n".join(lines) + "\n"

    # -- the steps of a rotation ------------------------------------------------------------------------------

    def with_next(self, key: str) -> Self:
        """A further key, which is accepted and not used yet."""
        return replace(self, next=key)

    def promoted(self) -> Self:
        """The next key in use, and the current one on its way out."""
        if self.next is None:
            raise ValueError("there is no next key")
        return replace(self, current=self.next, next=None, retired=(RetiredKey(self.current, None), *self.retired))

    def settled(self, now: datetime) -> Self:
        """Every key that was on its way out is used no more from now on."""
        retired = (replace(key, until=now.astimezone(UTC)) if key.until is None else key for key in self.retired)
        return replace(self, retired=tuple(retired))

    def without(self, dropped: Iterable[bytes]) -> Self:
        """The file's keys without those retired ones whose `Keyring.key_id` is among `dropped`."""
        gone = frozenset(dropped)
        return replace(self, retired=tuple(key for key in self.retired if key.key_id not in gone))


def _end(until: datetime | None) -> str:
    return _RETIRING if until is None else f"{_UNTIL} {until.strftime(_TIME)}"


def _time(text: str) -> datetime:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError as exc:
        raise ValueError("a time in it is not like 2026-11-28T14:31:07Z") from exc
