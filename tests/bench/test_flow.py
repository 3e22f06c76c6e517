"""The code flow of the bench: its browser, its forms, its figures; and that it comes to a token at a gateway."""

import asyncio

import pytest

from bench.flow import Broken, Browser, Round, filled, lines, lines_of_requests


def test_form_is_sent_as_a_person_sends_it_who_allows() -> None:
    page = """<form action="/other"></form><form method="post" action="/a?b=1&amp;c=2">
    <input type="hidden" name="csrf_token" value="x&quot;y"><input type=checkbox name=scope value=read checked>
    <input type="checkbox" name="more" value="1"><input name="username"><input name='password' type='password'>
    <button name="decision" value="deny">No</button><button name="decision" value="allow">Yes</button></form>"""
    action, sent = filled(page, "http://127.0.0.1:1/page")
    assert action == "http://127.0.0.1:1/a?b=1&c=2"
    assert sent["csrf_token"] == 'x"y'
    assert (sent["scope"], sent["decision"], sent["username"]) == ("read", "allow", "ada")
    assert "more" not in sent
    assert filled(page, "http://127.0.0.1:1/page", "grace")[1]["username"] == "grace"


def test_form_without_an_action_goes_to_its_page() -> None:
    assert filled("<form></form>", "http://127.0.0.1:1/page?a=1") == ("http://127.0.0.1:1/page?a=1", {})
    with pytest.raises(Broken, match="a page without a form"):
        filled("<p>oops</p>", "http://127.0.0.1:1/page")


def test_figures_are_of_a_thousand_flows() -> None:
    (line,) = lines({"A": [Round((0.1,) * 10, 0.05, 0.02), Round((0.2,) * 10, 0.1, 0.02)]})
    assert line == [
        "A",
        "150.0 (100.0 to 200.0)",
        "150.0 (100.0 to 200.0)",
        "7.50 (5.00 to 10.00)",
        "9.50 (7.00 to 12.00)",
    ]


def test_requests_of_the_slowest_flows_stand_beside_those_of_all() -> None:
    quick, slow = (0.001, 0.002, 0.003), (0.001, 0.092, 0.003)
    rounds = [
        Round((0.006,) * 49, 0, 0, (quick,) * 49),
        Round((0.006,) * 49 + (0.096,) * 2, 0, 0, (quick,) * 49 + (slow,) * 2),
    ]
    (line,) = lines_of_requests({"A": rounds})
    assert line == ["A", "1.0, 3.8, 3.0", "1.0, 92.0, 3.0"]


async def test_browser_keeps_cookies_by_path_and_reads_chunks() -> None:
    asked, chunks = list[bytes](), b"2\r\nhe\r\n1\r\ny\r\n0\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for said in (
            b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2; Path=/x\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nSet-Cookie: a=; Max-Age=0\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks,
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        ):
            head = await reader.readuntil(b"\r\n\r\n")
            asked.append(head)
            if b"Content-Length: 3" in head:
                await reader.readexactly(3)
            writer.write(said)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    browser = Browser("127.0.0.1", server.sockets[0].getsockname()[1])
    async with server:
        assert (await browser.send("GET", "/x")).body == b"ok"
        assert (await browser.send("POST", "/y", {"a": "b"})).body == b"hey"
        assert (await browser.call("/x/z", {"c": "d"})).status == 200
    assert b"Cookie" not in asked[0]
    assert b"Cookie: a=1\r\n" in asked[1]
    assert b"Cookie: b=2\r\n" in asked[2]
    assert [b"Origin" in head for head in asked] == [False, True, False]
    assert len(browser.waits) == 3
