"""Documents of strangers, fetched so that nobody reaches an inner network through us (RFC 6890, RFC 9700 section 4.16).

    name → addresses     looked up once, with no thread that stays longer than we wait, where DNS knows the name;
                         one that is not on the public internet refuses them all
    address → connection just that address: what DNS says a moment later changes nothing
    connection → answer  https, the name's certificate, 200, JSON, no redirect, no encoding, so much and no longer

Whatever notation an address had (decimal, octal, hexadecimal, mapped into IPv6), it is judged by the number that the
machine would connect to. Proxies that the environment names are not used: they would look the name up anew.

Everything that a stranger can make us fetch or tell goes through here: metadata of clients, keys, other issuers, and
the ends of sessions.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, TypeVar

import aiohttp
from msgspec import Struct
from yarl import URL

from gateway import __version__
from gateway.errors import GatewayError
from gateway.lookup import Resolver

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host's name, for a port; raises OSError when there are none."""
Answer = TypeVar("Answer")
Read = Callable[[aiohttp.ClientResponse], Awaitable[Answer]]

DEADLINE: Final = 5.0  # seconds from the first look-up to the last byte
_MOST_ADDRESSES: Final = 3  # that are tried one after the other
_THREADS: Final = 8  # for strangers' names that DNS does not know: who holds them holds up no name that it knows
_JSON: Final = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json", re.IGNORECASE)
_FORM: Final = "application/x-www-form-urlencoded"
_REST_OF_URL: Final = r"://([A-Za-z0-9.-]+)(?::([1-9][0-9]{0,4}))?([/?][\x21\x24-\x7e]*)?"
_URL: Final = re.compile(rf"(https){_REST_OF_URL}")
_ANY_URL: Final = re.compile(rf"(https?){_REST_OF_URL}")

# The IANA registry of special-purpose addresses (RFC 6890), and multicast.
_INNER_V4: Final = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
            *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)
_UNICAST_V6: Final = ip_network("2000::/3")
# 2001::/23 has Teredo, ORCHID and the like; 2002::/16 is 6to4, which leads to an IPv4 address.
_INNER_V6: Final = tuple(map(ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")))
_NAT64: Final = ip_network("64:ff9b::/96")  # RFC 6052: what IPv6-only networks reach IPv4 by


class FetchFailed(GatewayError):
    """There is no such document that may be had; the text says why, and holds nothing that it said."""


class Fetched(Struct, frozen=True):
    """A document, the fields that say how long it may be kept (RFC 9111), and when it was sent."""

    content: bytes
    cache_control: str
    age: str
    date: str = ""


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet, and leads nowhere else by being part of another."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _INNER_V4)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address.scope_id is None and address in _UNICAST_V6 and not any(address in network for network in _INNER_V6)


class Fetcher:
    """Fetches documents. `may_reach`, `resolve`, `resolver` and `context` are for tests: no configuration comes to
    them."""

    def __init__(
        self,
        *,
        may_reach: Callable[[Address], bool] = is_public,
        resolve: Resolve | None = None,
        resolver: Resolver | None = None,
        context: ssl.SSLContext | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        self._may_reach, self._deadline = may_reach, deadline
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="gateway-names")
        self._resolve, self._resolver = resolve, resolver or Resolver()
        self._context = context

    async def json(self, url: str, most: int, *, inner: bool = False) -> Fetched:
        """The JSON document at an https URL, of at most so many bytes; `inner` as for `tell`. Raises FetchFailed."""

        async def document(answer: aiohttp.ClientResponse) -> Fetched:
            _require_document(answer)
            return Fetched(
                await _content(answer, most),
                ", ".join(answer.headers.getall("Cache-Control", [])),
                answer.headers.get("Age", ""),
                answer.headers.get("Date", ""),
            )

        return await self._asked(url, document, inner=inner)

    async def tell(self, url: str, form: bytes, *, inner: bool = False) -> None:
        """Post a form to an https URL, which answers 200 or 204 and is not listened to further. Raises FetchFailed.

        `inner` is for an address that an operator gave: it may be http, and lead to an inner network.
        """

        async def taken(answer: aiohttp.ClientResponse) -> None:
            if answer.status not in (200, 204):
                raise FetchFailed(f"the answer's status is {answer.status}, not 200")

        await self._asked(url, taken, form, inner=inner)

    async def _asked(self, url: str, read: Read[Answer], form: bytes | None = None, *, inner: bool = False) -> Answer:
        found = (_ANY_URL if inner else _URL).fullmatch(url)
        if found is None or int(found[3] or 443) > 65535:
            raise FetchFailed("the address is no plain https URL")
        port = int(found[3] or (443 if found[1] == "https" else 80))
        target = found[4] or "/"
        asked = _Request(found[1], found[2], port, target if target.startswith("/") else f"/{target}", form)
        try:
            async with asyncio.timeout(self._deadline):
                addresses = await self._addresses(asked.host, port, inner=inner)
                return await self._from_any(addresses, asked, read)
        except TimeoutError as exc:
            raise FetchFailed("it took too long") from exc

    def close(self) -> None:
        """Wait for no look-up any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _addresses(self, host: str, port: int, *, inner: bool) -> list[Address]:
        try:
            resolve = self._resolve or partial(self._look_up, inner=inner)
            found = [ip_address(text) for text in await resolve(host, port)]
        except (OSError, UnicodeError, ValueError) as exc:
            raise FetchFailed("the host has no address") from exc
        if not found:
            raise FetchFailed("the host has no address")
        if not inner and not all(map(self._may_reach, found)):
            raise FetchFailed("the host's address is not one of the public internet")
        return list(dict.fromkeys(found))[:_MOST_ADDRESSES]

    async def _look_up(self, host: str, port: int, *, inner: bool) -> Sequence[str]:
        with suppress(socket.gaierror):  # an address, in whatever notation, is nothing to ask anybody for
            flags = socket.AI_NUMERICHOST
            return [str(place[0]) for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)]
        found = await self._resolver.look_up(host, port, None if inner else self._threads)
        return [place.ip for place in found.places]

    async def _from_any(self, addresses: Sequence[Address], asked: "_Request", read: Read[Answer]) -> Answer:
        """The answer of the first address that can be connected to."""
        for number, address in enumerate(addresses, start=1):
            try:
                return await self._from(address, asked, read)
            except aiohttp.ClientConnectorCertificateError as exc:
                raise FetchFailed("the certificate is not one for that host") from exc
            except aiohttp.ClientConnectorError as exc:
                if number == len(addresses):
                    raise FetchFailed("the host cannot be connected to") from exc
            except (aiohttp.ClientError, OSError, ValueError) as exc:
                raise FetchFailed("the answer is broken") from exc
        raise AssertionError("there is at least one address")

    async def _from(self, address: Address, asked: "_Request", read: Read[Answer]) -> Answer:
        host, port = asked.host, asked.port
        literal = f"[{address}]" if address.version == 6 else str(address)
        # The address stands in the URL, so that nothing looks a name up again; the name is for Host and certificate.
        url = URL(f"{asked.scheme}://{literal}:{port}{asked.target}", encoded=True)
        headers = {
            "Host": host if port == (443 if asked.scheme == "https" else 80) else f"{host}:{port}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"gateway/{__version__}",
        }
        if self._context is None:  # most processes never ask anybody, and the authorities take a megabyte
            self._context = ssl.create_default_context()
        connector = aiohttp.TCPConnector(ssl=self._context, force_close=True, use_dns_cache=False)
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
            ) as session,
            session.request(
                "GET" if asked.form is None else "POST",
                url,
                data=asked.form,
                headers=headers if asked.form is None else {**headers, "Content-Type": _FORM},
                allow_redirects=False,
                server_hostname=host if asked.scheme == "https" else None,
            ) as answer,
        ):
            return await read(answer)


class _Request(Struct, frozen=True):
    """What is asked of whom."""

    scheme: str
    host: str
    port: int
    target: str
    form: bytes | None


def _require_document(answer: aiohttp.ClientResponse) -> None:
    if answer.status != 200:
        raise FetchFailed(f"the answer's status is {answer.status}, not 200")
    if _JSON.fullmatch(answer.headers.get("Content-Type", "").partition(";")[0].strip()) is None:
        raise FetchFailed("the answer is not application/json")
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchFailed("the answer is compressed")


async def _content(answer: aiohttp.ClientResponse, most: int) -> bytes:
    content = bytearray()
    async for piece in answer.content.iter_any():
        content += piece
        if len(content) > most:
            raise FetchFailed(f"the document is longer than {most:,} bytes")
    return bytes(content)
