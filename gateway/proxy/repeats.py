"""Requests that come again byte for byte, as those of whoever polls do: for a moment they are known.

What a request says and where it goes hang on its bytes and the configuration alone, never on who sends it or when. The
guard judges each call anew. One request of some is remembered until the next tick: one that comes again and again is
soon among them, those that come once cost next to nothing, and no credential stays for long.

Nothing hangs on this but the time that such a call takes (`bench/RESULTS.md`). Without it, `Front.buffer_updated` would
ask the reader and the dispatcher itself, as `Repeats.read` does.
"""

from typing import Final

from gateway.guard import Refused
from gateway.http1 import RequestHead, RequestReader
from gateway.proxy.dispatch import Destination, Dispatcher

Read = tuple[RequestHead, bytes, Destination | Refused]
"""A request with its whole body, and where it goes, or why nowhere."""

_ONE_OF: Final = 64  # requests is remembered
_LONGEST: Final = 4096  # bytes of one that is remembered
MOST: Final = 512  # of them


class Repeats:
    """The requests that one worker remembers."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher: Final = dispatcher
        self._known: dict[bytes, Read] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._known)

    def read(self, reader: RequestReader, data: bytes) -> Read | None:
        """The request that `data` is with its whole body, where nothing else waits in its connection's `reader`."""
        known = self._known.get(data)
        if known is not None and reader.pass_by():
            return known
        whole = reader.whole(data)
        if whole is None:
            return None
        head, body = whole
        read = head, body, self._dispatcher.destination(head)
        self._count += 1
        if self._count >= _ONE_OF:
            self._count = 0
            if len(data) <= _LONGEST and len(self._known) < MOST:
                self._known[data] = read
        return read

    def forget(self) -> None:
        """Remember nothing of what has come so far."""
        self._known.clear()
