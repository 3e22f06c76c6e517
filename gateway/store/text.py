"""Text that strangers send, before it is looked for."""

import re
import string
from typing import Final

_UNKNOWN: Final = re.compile("[\0\ud800-\udfff]")
_SMALL: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def storable(text: str) -> bool:
    """Whether a stranger's text can be looked for at all: Postgres knows no NUL and no lone surrogates."""
    return len(text) <= 4096 and _UNKNOWN.search(text) is None


def folded(login: str) -> str:
    """A username or email address as it is compared: with small letters for A to Z, and no others.

    Postgres folds as we do, by `lower(… collate "C")`: of letters beyond ASCII no two libraries agree.
    """
    return login.translate(_SMALL)


def displayed(text: str, most: int) -> str:
    """A stranger's text as it may be kept and shown: at most so long, without NUL, lone surrogates and the like."""
    return "".join(mark if mark.isprintable() else "\ufffd" for mark in text[:most])
