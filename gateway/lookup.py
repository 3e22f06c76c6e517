"""What the addresses of a name are, and for how long that holds.

The system's own resolver tells nobody the TTL of an answer, so c-ares asks instead, in the system's way: `/etc/hosts`
and the servers, search domains and options of `/etc/resolv.conf`. Where it finds nothing, the system is asked after
all, which may know other sources (`/etc/nsswitch.conf`: mDNS, machines).

Each look-up begins anew: it reads what those files say by now, and finds no answer of the one before, which c-ares
would keep for up to an hour. c-ares takes 3 MB of a worker: it is loaded with the first name, and never where upstreams
are addresses.

A look-up that is given up ends at once, however long a name server takes to say nothing. What the system is asked
holds a thread of `threads` for as long as it likes.
"""

import asyncio
import socket
from concurrent.futures import Executor
from contextlib import closing, suppress
from functools import partial
from typing import Any, NamedTuple


class Place(NamedTuple):
    """A socket's address, and its family."""

    family: int
    address: Any

    @property
    def ip(self) -> str:
        """The address alone."""
        return str(self.address[0])


class Found(NamedTuple):
    """The addresses of a name, as the system would sort them (RFC 6724), and the seconds that they hold, or None where
    nobody tells: 0 is what stands in `/etc/hosts`, and what is not to be kept (RFC 1035, section 3.2.1)."""

    places: list[Place]
    holds: float | None


class Resolver:
    """Whom a worker asks. `options` are those of `pycares.Channel`, where they are to be others than the system's."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    async def look_up(self, host: str, port: int, threads: Executor | None = None) -> Found:
        """The addresses of a name, of both families; `threads` are the loop's where it says no others.

        Raises OSError where there is none, or no answer.
        """
        found = await self._ask(host, port)
        if found is not None:
            return found
        loop = asyncio.get_running_loop()
        if threads is None:
            known = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        else:
            known = await loop.run_in_executor(
                threads, partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
            )
        places = [Place(int(family), address) for family, _, _, _, address in known]
        if not places:
            raise OSError(f"{host} has no address")
        return Found(places, None)

    async def _ask(self, host: str, port: int) -> Found | None:
        """What c-ares finds, or None."""
        import pycares

        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def settle(result: Any, error: int | None) -> None:
            if not answer.done():
                answer.set_result(result if error is None else None)

        def heard(result: Any, error: int | None) -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, result, error)

        try:
            channel = pycares.Channel(**self._options)
            with closing(channel):
                channel.getaddrinfo(host, port, type=socket.SOCK_STREAM, callback=heard)
                result = await answer
        except (pycares.AresError, ValueError):
            return None
        if result is None or not result.nodes:
            return None
        places = [Place(int(node.family), (node.addr[0].decode(), *node.addr[1:])) for node in result.nodes]
        # whatever leads there holds no longer than its part that holds the shortest (RFC 2181, section 5.2)
        return Found(places, float(min(part.ttl for part in (*result.nodes, *result.cnames))))
