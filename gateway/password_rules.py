"""Rules for new passwords: long enough, and none that everybody tries first (NIST SP 800-63B, section 3.1.1.2).

No rule asks for kinds of characters, which makes passwords worse. The list is what the library zxcvbn ships, by how
often each was found among leaked ones. It takes some megabytes, so it is loaded when a password is checked, which the
workers never do.
"""

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import Final

LONGEST: Final = 1024  # characters
_MOST_USED: Final = 10_000


def fault_of(password: str, least: int, names: Iterable[str] = ()) -> str | None:
    """The fault of a new password of a person with these names, None if it has none. `least` is in characters."""
    if not least <= len(password) <= LONGEST or "\0" in password:
        return f"a password must be {least} to {LONGEST} characters long (passwords.min_length)"
    folded = password.casefold()
    if folded in {part for name in names for part in (name.casefold(), name.casefold().partition("@")[0])}:
        return "it is the person's own name or email address, which is guessed first; choose another"
    if folded in _most_used():
        return f"it is among the {_MOST_USED:,} most used passwords, which are guessed first; choose another"
    return None


@cache
def _most_used() -> frozenset[str]:
    """All in small letters."""
    ranked: list[str] = import_module("zxcvbn.frequency_lists").FREQUENCY_LISTS["passwords"]
    return frozenset(ranked[:_MOST_USED])
