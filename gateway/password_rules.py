"""Rules for new passwords: long enough, and none that everybody tries first (NIST SP 800-63B, section 3.1.1.2).

No rule asks for kinds of characters, which makes passwords worse.
"""

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

LONGEST: Final = 1024  # characters


class Weakness(Enum):
    """The reason why a new password is refused."""

    LENGTH = auto()  # shorter than the least, longer than LONGEST, or with a NUL
    NAME = auto()  # the person's own username or email address
    MOST_USED = auto()  # among those that everybody tries first


def weakness_of(password: str, least: int, names: Iterable[str] = ()) -> Weakness | None:
    """The weakness of a new password of a person with these names, None if it has none. `least` is in characters."""
    if not least <= len(password) <= LONGEST or "\0" in password:
        return Weakness.LENGTH
    folded = password.casefold()
    if folded in {part for name in names for part in (name.casefold(), name.casefold().partition("@")[0])}:
        return Weakness.NAME
    from gateway.most_used_passwords import PASSWORDS  # of some megabytes, which few processes need

    return Weakness.MOST_USED if folded in PASSWORDS else None
