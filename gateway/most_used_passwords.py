"""The passwords that everybody tries first: the list that the library zxcvbn ships, by how often each was found leaked.

Importing this reads that list without its package, whose other lists and tables would stay in memory with it, nine
times as much. So it is imported when a password is judged, which most processes never do.
"""

from importlib.metadata import distribution
from runpy import run_path
from typing import Final

MOST_USED: Final = 10_000


def _read() -> frozenset[str]:
    lists = distribution("zxcvbn").locate_file("zxcvbn/frequency_lists.py")
    ranked: list[str] = run_path(str(lists))["FREQUENCY_LISTS"]["passwords"]
    return frozenset(ranked[:MOST_USED])


PASSWORDS: Final = _read()
"""All of them in small letters."""
