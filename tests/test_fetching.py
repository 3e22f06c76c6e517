"""Documents of strangers: no inner network is reached, and no answer holds us up or fills us (RFC 6890)."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from gateway.fetching import Fetched, Fetcher, FetchFailed, is_public
from gateway.lookup import Found, Resolver
from tests.certificates import certify
from tests.serving import until
from tests.streams import accepting
from tests.zone import Zone

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]
HOST = "client.example"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def document(content: bytes = b"{}", fields: bytes = b"") -> bytes:
    return OK + fields + b"Content-Length: %d\r\n\r\n" % len(content) + content


@dataclass
class Site:
    """A web site on this machine, by https, and a fetcher that may reach it."""

    port: int
    fetcher: Fetcher
    answers: dict[str, Answer] = field(default_factory=dict)
    heads: list[bytes] = field(default_factory=list)
    names: dict[str, Sequence[str]] = field(default_factory=dict)
    lookups: list[str] = field(default_factory=list)

    def url(self, path: str, host: str = HOST) -> str:
        return f"https://{host}:{self.port}{path}"

    async def get(self, path: str = "/", host: str = HOST, most: int = 1000) -> Fetched:
        return await self.fetcher.json(self.url(path, host), most)


@asynccontextmanager
async def a_site(folder: Path, *, deadline: float = 30.0, address: str = "127.0.0.1") -> AsyncIterator[Site]:
    """The seam is here alone: a fetcher whose names lead to this machine, and that may reach it."""
    chain, key = certify(folder / "site", HOST, f"www.{HOST}")
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(chain, key)

    async def resolve(host: str, _port: int) -> Sequence[str]:
        served.lookups.append(host)
        return served.names.get(host, [address])

    fetcher = Fetcher(
        may_reach=lambda found: found == ip_address(address) or is_public(found),
        resolve=resolve,
        context=ssl.create_default_context(cafile=str(chain)),
        deadline=deadline,
    )
    served = Site(0, fetcher)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ssl.SSLError):
            head = await reader.readuntil(b"\r\n\r\n")
            served.heads.append(head)
            answer = served.answers.get(head.split(b" ")[1].decode(), b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)

    try:
        async with accepting(serve, host=address, tls=server_context) as served.port:
            yield served
    finally:
        fetcher.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(tmp_path) as served:
        yield served


async def refusal(getting: Awaitable[object]) -> str:
    with pytest.raises(FetchFailed) as caught:
        await getting
    return str(caught.value)


# -- addresses -----------------------------------------------------------------------------------------------------

INNER = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254"),
    *("172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.1.1"),
    *("198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
    *("255.255.255.255", "::", "::1", "::127.0.0.1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
    *("::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe"),
    *("64:ff9b:1::8.8.8.8", "100::1", "2001::1", "2001:0:7f00:1::", "2001:2::1", "2001:10::1", "2001:20::1"),
    *("2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1", "3fff::1", "fc00::1", "fd12:3456::1"),
    *("fe80::1", "fe80::1%1", "fec0::1", "ff02::1", "5f00::1", "2620:4f:8000::1", "2600::1%1", "2001:1ff:ffff::1"),
    *("192.31.196.1", "192.52.193.1", "192.175.48.1", "0.255.255.255", "10.255.255.255", "100.127.255.255"),
    *("169.254.0.0", "169.254.255.255", "192.0.0.255", "192.168.255.255", "239.255.255.255", "254.1.1.1"),
]
PUBLIC = [
    *("8.8.8.8", "1.1.1.1", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.32.0.1", "192.0.1.1"),
    *("9.255.255.255", "11.0.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0"),
    *("172.15.255.255", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"),
    *("2606:4700::1111", "2a00:1450:4001::200e", "2001:4860:4860::8888", "64:ff9b::8.8.8.8", "2600::1"),
    *("2001:200::1", "2003::1", "2001:db9::1"),
]


@pytest.mark.parametrize("text", INNER)
def test_an_address_of_no_public_host_is_none(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_an_address_of_a_public_host_is_one(text: str) -> None:
    assert is_public(ip_address(text))


async def unreached(host: str) -> str:
    """Why our own fetcher, with the machine's own look-up, does not go there; nothing listens that would be asked."""
    fetcher = Fetcher(deadline=20)
    try:
        return await refusal(fetcher.json(f"https://{host}/", 100))
    finally:
        fetcher.close()


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001"),
        *("0", "0.0.0.0", "169.254.169.254", "0xa9fea9fe", "2852039166", "10.0.0.1", "localhost", "LOCALHOST"),
        *("127.0.0.1.", "localhost."),
    ],
)
async def test_no_notation_of_an_inner_address_is_reached(host: str) -> None:
    why = await unreached(host)
    assert why in ("the host's address is not one of the public internet", "the host has no address"), why


@pytest.mark.parametrize("host", ["[::1]", "[::ffff:127.0.0.1]", "[fe80::1%251]", "a@127.0.0.1", "a:b@c.example", ""])
async def test_what_is_no_plain_name_is_refused(host: str) -> None:
    assert await unreached(host) == "the address is no plain https URL"


@pytest.mark.parametrize(
    "url",
    [
        "http://client.example/", "HTTPS://client.example/", "file:///etc/passwd", "gopher://client.example/",
        "https:client.example", "https:///x", "//client.example/", "https://client.example:0/",
        "https://client.example:65536/", "https://client.example/#f", "https://client.example/a b",
        "https://client.example/\r\nHost: x", "https://client.example\\@127.0.0.1/", "https://cli\u00e9nt.example/", "",
    ],
)  # fmt: skip
async def test_what_is_no_plain_https_url_is_refused_unasked(site: Site, url: str) -> None:
    assert await refusal(site.fetcher.json(url, 100)) == "the address is no plain https URL"
    assert site.lookups == []


@pytest.mark.parametrize(
    "addresses", [["127.0.0.2"], ["::1"], ["::ffff:127.0.0.2"], ["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"]]
)
async def test_a_name_that_leads_to_an_inner_network_is_not_followed(site: Site, addresses: list[str]) -> None:
    site.answers["/"] = document()
    site.names[HOST] = addresses
    assert await refusal(site.get()) == "the host's address is not one of the public internet"
    assert site.heads == []


async def test_what_dns_says_later_changes_nothing(site: Site) -> None:
    """DNS rebinding: the name is looked up once, and just that address is connected to."""
    site.answers["/"] = document(b'{"a": 1}')
    assert (await site.get()).content == b'{"a": 1}'
    assert site.lookups == [HOST]
    site.names[HOST] = ["127.0.0.3"]
    assert "public" in await refusal(site.get())
    assert site.lookups == [HOST, HOST]


async def test_a_name_without_an_address_is_said_so(site: Site) -> None:
    async def no_address(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(-2, "Name or service not known")

    fetcher = Fetcher(resolve=no_address)
    assert await refusal(fetcher.json(site.url("/"), 10)) == "the host has no address"
    site.names[HOST] = []
    assert await refusal(site.get()) == "the host has no address"


async def test_the_next_address_is_tried_where_one_cannot_be_connected_to(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.answers["/"] = document()
        dead = [f"127.0.0.{number}" for number in (77, 78, 79)]
        few, many = (
            Fetcher(
                may_reach=lambda _: True,
                resolve=lambda _host, _port, some=some: _found(*some, "127.0.0.1"),  # type: ignore[misc]
                context=site.fetcher._context,
            )
            for some in (dead[:2], dead)
        )
        assert (await few.json(site.url("/"), 10)).content == b"{}"
        assert await refusal(many.json(site.url("/"), 10)) == "the host cannot be connected to"  # three are enough


async def _found(*addresses: str) -> Sequence[str]:
    return addresses


async def test_ipv6_is_fetched_too(tmp_path: Path) -> None:
    async with a_site(tmp_path, address="::1") as site:
        site.answers["/"] = document()
        assert (await site.get()).content == b"{}"


# -- what is asked and what is answered ----------------------------------------------------------------------------


async def test_a_document_comes_as_it_is_with_what_says_how_long_it_is_good(site: Site) -> None:
    site.answers["/a/%41;b?x=%2e"] = document(b'{"a": "\xc3\xa9"}', b"Cache-Control: max-age=60\r\nAge: 3\r\n")
    found = await site.get("/a/%41;b?x=%2e")
    assert found == Fetched(b'{"a": "\xc3\xa9"}', "max-age=60", "3")
    (head,) = site.heads
    assert f"Host: {HOST}:{site.port}\r\n".encode() in head
    assert b"Cookie" not in head
    assert b"Accept-Encoding: identity" in head


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/x.y+json"])
async def test_every_json_type_is_taken(site: Site, kind: str) -> None:
    site.answers["/"] = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    assert (await site.get()).content == b"{}"


@pytest.mark.parametrize("kind", [b"", b"text/html", b"text/json", b"application/json5", b"application/x+jsonp"])
async def test_another_type_is_refused(site: Site, kind: bytes) -> None:
    site.answers["/"] = b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nContent-Length: 2\r\n\r\n{}"
    assert await refusal(site.get()) == "the answer is not application/json"


@pytest.mark.parametrize("status", [201, 204, 206, 301, 302, 303, 307, 308, 304, 400, 401, 404, 429, 500, 503])
async def test_no_other_status_than_200_is_good_and_no_redirect_is_followed(site: Site, status: int) -> None:
    line = b"HTTP/1.1 %d X\r\n" % status
    site.answers["/"] = line + b"Location: /other\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n"
    site.answers["/other"] = document()
    assert str(status) in await refusal(site.get())
    assert len(site.heads) == 1


async def test_a_document_is_as_long_as_it_may_be_and_no_longer(site: Site) -> None:
    site.answers["/"] = document(b"x" * 1000)
    assert len((await site.get()).content) == 1000
    site.answers["/"] = document(b"x" * 1001)
    assert await refusal(site.get()) == "the document is longer than 1,000 bytes"


async def test_a_document_without_an_end_is_left_where_it_is_too_long(site: Site) -> None:
    written = 0

    async def forever(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await writer.drain()
            written += 4096

    site.answers["/"] = forever
    assert await refusal(site.get(most=10_000)) == "the document is longer than 10,000 bytes"
    assert written < 20_000_000


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"Content-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def silence(_writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def fields_without_end(writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
    while True:
        writer.write(b"X-A: b\r\n" * 100)
        await writer.drain()


@pytest.mark.parametrize("answer", [drip, silence])
async def test_whoever_is_slow_is_left(tmp_path: Path, answer: Answer) -> None:
    async with a_site(tmp_path, deadline=0.5) as site:
        site.answers["/"] = answer
        assert await refusal(site.get()) == "it took too long"


async def test_whoever_takes_the_connection_and_shakes_no_hand_is_left() -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    async with accepting(hang) as port:
        fetcher = Fetcher(may_reach=lambda _: True, resolve=lambda *_: _found("127.0.0.1"), deadline=0.3)
        assert await refusal(fetcher.json(f"https://{HOST}:{port}/", 10)) == "it took too long"
        fetcher.close()


async def test_fields_without_end_are_left(site: Site) -> None:
    site.answers["/"] = fields_without_end
    assert await refusal(site.get()) == "the answer is broken"


async def test_a_look_up_that_hangs_is_left() -> None:
    async def hang(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return ()

    assert await refusal(Fetcher(resolve=hang, deadline=0.1).json("https://a.example/", 10)) == "it took too long"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_a_broken_answer_is_no_document(site: Site, answer: bytes) -> None:
    site.answers["/"] = answer
    assert await refusal(site.get()) in ("the answer is broken", "the answer is compressed")


async def test_the_certificate_is_that_of_the_name(site: Site) -> None:
    site.answers["/"] = document()
    assert (await site.get(host=f"www.{HOST}")).content == b"{}"
    assert await refusal(site.get(host="other.example")) == "the certificate is not one for that host"
    stranger = Fetcher(may_reach=lambda _: True, resolve=lambda *_: _found("127.0.0.1"))
    assert await refusal(stranger.json(site.url("/"), 10)) == "the certificate is not one for that host"
    assert len(site.heads) == 1


async def test_no_proxy_of_the_environment_is_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    site.answers["/"] = document()
    assert (await site.get()).content == b"{}"


async def test_no_connection_is_kept(site: Site) -> None:
    site.answers["/"] = document()
    for _ in range(3):
        await site.get()
    assert len(site.heads) == 3
    await until(lambda: not [task for task in asyncio.all_tasks() if "serve" in repr(task.get_coro())])


async def test_slow_names_hold_up_no_other(tmp_path: Path) -> None:
    """However many strangers ask for them: a look-up ends with its deadline, and waits for no thread before it."""
    slow = Zone()
    slow.hangs = True
    async with a_site(tmp_path) as site, Zone("127.0.0.1", name=HOST).served() as good, slow.served() as bad:
        site.answers["/"] = document()
        bad._options["timeout"] = 30.0

        class Both(Resolver):
            async def look_up(self, host: str, port: int, threads: Executor | None = None) -> Found:
                return await (good if host == HOST else bad).look_up(host, port, threads)

        fetcher = Fetcher(may_reach=lambda _: True, resolver=Both(), context=site.fetcher._context, deadline=20)
        waiting = [asyncio.create_task(fetcher.json(f"https://a{n}.slow.example/", 10)) for n in range(40)]
        try:
            await until(lambda: len(slow.asked) >= 40)
            async with asyncio.timeout(10):
                assert (await fetcher.json(site.url("/"), 10)).content == b"{}"
            assert not any(task.done() for task in waiting)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            fetcher.close()


async def test_names_that_dns_does_not_know_hold_up_none_that_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the system's to know, whose look-ups cannot be given up."""
    released, known = threading.Event(), socket.getaddrinfo

    def slowly(host: str, port: int, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:  # noqa: A002
        if host.endswith(".slow.example") and not flags:
            released.wait(30)
        return known("127.0.0.1" if host == "machine" and not flags else host, port, family, type, proto, flags)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    async with a_site(tmp_path) as site, Zone("127.0.0.1", name=HOST).served() as resolver:
        site.answers["/"] = document()
        fetcher = Fetcher(may_reach=lambda _: True, resolver=resolver, context=site.fetcher._context, deadline=20)
        asked = fetcher.json(site.url("/", "machine"), 10)
        assert await refusal(asked) == "the certificate is not one for that host", "the system knew it"
        waiting = [asyncio.create_task(fetcher.json(f"https://a{n}.slow.example/", 10)) for n in range(20)]
        try:
            await until(lambda: fetcher._threads._work_queue.qsize() == 12)
            assert (await fetcher.json(site.url("/"), 10)).content == b"{}"
            inner = fetcher.json(site.url("/", "machine"), 10, inner=True)
            assert await refusal(inner) == "the certificate is not one for that host", "an operator's waits for none"
        finally:
            for task in waiting:
                task.cancel()
            released.set()
            await asyncio.gather(*waiting, return_exceptions=True)
            fetcher.close()
