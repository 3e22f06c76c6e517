"""The way to the sign-in page and back: the very address, and never one of somebody else."""

from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.sign_in import LONGEST, is_way_back, sign_in_address

PAGE = b"/oauth2/login"


def back(target: bytes, *, again: bool = False) -> str:
    """Where whoever asked for `target` comes back to, as the page reads it out of its own address."""
    address = sign_in_address(PAGE, target, again=again)
    path, _, query = address.partition("?")
    assert path == PAGE.decode()
    members = parse_qs(query, strict_parsing=True)
    assert set(members) == ({"next", "prompt"} if again else {"next"})
    [found] = members["next"]
    assert is_way_back(found)
    return found


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/wiki",
        "/wiki/",
        "/wiki?page=1&sort=a+b",
        "/wiki?next=/x&next=//y",
        "/wiki/%2e/%C3%A4?q=%20%26%3D",
        "/wiki?q=a=b==&&c",
        "/wiki?q={a}|b^`c'd\\e",
        "/wiki/a;b=c,d@e:f!g$h*i(j)~k",
        "/@evil.example",
        "/wiki?https://evil.example",
        "/.//evil.example",
    ],
)
def test_person_comes_back_to_the_very_address_that_they_asked_for(target: str) -> None:
    assert back(target.encode()) == target
    assert back(target.encode(), again=True) == target


@pytest.mark.parametrize(
    ("target", "written"),
    [
        (b"http://gateway.test/wiki?a=b", "/wiki?a=b"),
        (b"http://evil.example/wiki", "/wiki"),  # which the Host field would have to name too
        (b"http://gateway.test", "/"),
        (b"/wiki?\xc3\xa4", "/wiki?%C3%A4"),  # as browsers write it
        (b'/wiki?"<b>"', "/wiki?%22%3Cb%3E%22"),
    ],
)
def test_what_no_browser_writes_is_come_back_to_as_one_would(target: bytes, written: str) -> None:
    assert back(target) == written


@pytest.mark.parametrize(
    "target",
    [
        b"//evil.example",
        b"//evil.example/wiki",
        b"/\\evil.example",
        b"/wiki\\..\\x",
        b"/" + b"a" * LONGEST,
        b"/?" + b"%" * (LONGEST // 3),
        b"http://gateway.test//evil.example",
    ],
)
def test_what_may_lead_elsewhere_or_is_too_long_is_not_come_back_to(target: bytes) -> None:
    assert sign_in_address(PAGE, target, again=False) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wiki",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/\n/evil.example",
        "/wiki\r\nSet-Cookie: a=b",
        "/wiki\x00",
        "/wiki\x7f",
        "/wiki#evil",
        "/wiki x",
        "/wikiä",
        "/<script>",
        '/wiki?"',
        "/" + "a" * LONGEST,
    ],
)
def test_address_that_a_stranger_wrote_leads_nowhere_else(text: str) -> None:
    assert not is_way_back(text)


@given(st.binary(max_size=60))
def test_whatever_is_asked_for_the_way_back_stays_at_the_origin(tail: bytes) -> None:
    address = sign_in_address(PAGE, b"/" + tail, again=False)
    if not address:
        return
    assert address.isascii()
    assert not set(address) & set('\r\n\t <>"\\#')
    found = back(b"/" + tail)
    resolved = urlsplit(urljoin("https://gateway.test/oauth2/login", found))
    assert (resolved.scheme, resolved.netloc) == ("https", "gateway.test")
