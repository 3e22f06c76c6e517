"""The known name that a mistyped one may have meant."""

from collections.abc import Iterable
from importlib import import_module
from typing import Final

_NEAR: Final = 0.75  # of 1: a letter or two; what is farther off is another word, which was not meant
_WORD: Final = 3  # letters that tell a name by its beginning


def near(given: str, names: Iterable[str]) -> str | None:
    """The name that `given` is nearly, begins, or is a word of; None where it may as well be something else."""
    names = list(names)
    compare = import_module("difflib").get_close_matches  # loaded where somebody has mistyped a name
    close: list[str] = compare(given, names, n=1, cutoff=_NEAR)
    if close:
        return close[0]
    bare = given.lstrip("-")
    if len(bare) < _WORD:
        return None
    begun = [name for name in names if name.lstrip("-").startswith(bare) or bare in name.lstrip("-").split("-")]
    return begun[0] if len(begun) == 1 else None
