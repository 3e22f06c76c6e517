"""Requests that come again byte for byte, as those of whoever polls do: for a moment they are known.

What a request says and where it goes hang on its bytes and the configuration alone, never on who sends it or when. The
guard judges each call anew. One request of some is remembered for a moment: one that comes again and again is soon
among them, those that come once cost next to nothing, and no credential stays for long.

Nothing hangs on this but the time that such a call takes (`bench/RESULTS.md`): without this module, and the line of
`proxy.engine` that puts it in front, all requests are read as the first one is.
"""

from asyncio import get_running_loop
from typing import Final

from gateway.http1 import RequestReader
from gateway.proxy.dispatch import Dispatcher, Read, Reading

_ONE_OF: Final = 64  # requests is remembered
_LONGEST: Final = 4096  # bytes of one that is remembered
MOST: Final = 512  # of them


class Repeats(Reading):
    """The requests that one worker remembers, for so many seconds at most."""

    def __init__(self, dispatcher: Dispatcher, seconds: float) -> None:
        super().__init__(dispatcher)
        self._seconds: Final = seconds
        self._known: dict[bytes, Read] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._known)

    def read(self, reader: RequestReader, data: bytes) -> Read | None:
        known = self._known.get(data)
        if known is not None and reader.pass_by():
            return known
        read = super().read(reader, data)
        if read is None:
            return None
        self._count += 1
        if self._count >= _ONE_OF:
            self._count = 0
            if len(data) <= _LONGEST and len(self._known) < MOST:
                self._remember(data, read)
        return read

    def _remember(self, data: bytes, read: Read) -> None:
        if not self._known:
            get_running_loop().call_later(self._seconds, self.forget)
        self._known[data] = read

    def forget(self) -> None:
        """Remember nothing of what has come so far."""
        self._known.clear()
