"""Rules for new passwords: long enough, and none that everybody tries first (NIST SP 800-63B, section 3.1.1.2).

No rule asks for kinds of characters, which makes passwords worse. The list is what the library zxcvbn ships, by how
often each was found among leaked ones. It takes some megabytes, so it is loaded when a password is judged, which most
processes never do.
"""

from collections.abc import Iterable
from enum import Enum, auto
from functools import cache
from importlib import import_module
from typing import Final

LONGEST: Final = 1024  # characters
MOST_USED: Final = 10_000


class Weakness(Enum):
    """The reason why a new password is refused."""

    LENGTH = auto()  # shorter than the least, longer than LONGEST, or with a NUL
    NAME = auto()  # the person's own username or email address
    MOST_USED = auto()  # among the MOST_USED that are guessed first


def weakness_of(password: str, least: int, names: Iterable[str] = ()) -> Weakness | None:
    """The weakness of a new password of a person with these names, None if it has none. `least` is in characters."""
    if not least <= len(password) <= LONGEST or "\0" in password:
        return Weakness.LENGTH
    folded = password.casefold()
    if folded in {part for name in names for part in (name.casefold(), name.casefold().partition("@")[0])}:
        return Weakness.NAME
    return Weakness.MOST_USED if folded in _most_used() else None


@cache
def _most_used() -> frozenset[str]:
    """All in small letters."""
    ranked: list[str] = import_module("zxcvbn.frequency_lists").FREQUENCY_LISTS["passwords"]
    return frozenset(ranked[:MOST_USED])
