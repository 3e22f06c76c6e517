"""Redirect URIs (RFC 6749, section 3.1.2; RFC 8252, section 7; RFC 9700, section 2.1)."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oauth import redirect_uris as uris


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/cb",
        "https://app.example",
        "https://app.example:8443/cb?tenant=1",
        "https://app.example/cb%20x/",
        "https://[2001:db8::1]/cb",
        "http://127.0.0.1/cb",
        "http://127.0.0.1:8000/cb",
        "http://127.1.2.3:1/",
        "http://[::1]:8000/cb",
        "http://localhost:3000/",
        "com.example.app:/cb",
        "com.example.app://cb",
        "vscode://ext/cb",
    ],
)
def test_a_redirect_uri_of_a_web_native_or_loopback_client_may_be_registered(uri: str) -> None:
    assert uris.registration_fault(uri) is None


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("https://app.example/cb#f", "fragment"),
        ("https://app.example/cb#", "fragment"),
        ("javascript:alert(1)", "javascript"),
        ("JavaScript:alert(1)", "javascript"),
        ("data:text/html,x", "data"),
        ("file:///etc/passwd", "file"),
        ("blob:https://x", "blob"),
        ("http://app.example/cb", "loopback"),
        ("http://localhost.evil.example/cb", "loopback"),
        ("http://127.0.0.1.evil.example/cb", "loopback"),
        ("http://128.0.0.1/cb", "loopback"),
        ("http://127.0.0.256/cb", "loopback"),
        ("http://0.0.0.0/cb", "loopback"),
        ("https://user@app.example/cb", "username"),
        ("https://user:secret@app.example/cb", "username"),
        ("http://127.0.0.1:80@evil.example/", "username"),
        ("https://*.app.example/cb", "wildcard"),
        ("https:///cb", "HOST"),
        ("https:app.example/cb", "HOST"),
        ("https://app.example:0/cb", "HOST"),
        ("https://app.example:65536/cb", "HOST"),
        ("https://app.example:080/cb", "HOST"),
        ("https://app_x.example/cb", "HOST"),
        ("HTTPS://app.example/cb", "HOST"),
        ("Com.Example.App:/cb", "lower case"),
        ("/cb", "absolute"),
        ("app.example/cb", "absolute"),
        ("", "absolute"),
        ("https://app.example/a b", "absolute"),
        ("https://app.example/\\evil", "absolute"),
        ("https://app.example/cb\n", "absolute"),
        ("https://app.example/\r\nSet-Cookie:x", "absolute"),
        ("https://app.example/\0", "absolute"),
        ("https://bücher.example/cb", "absolute"),
        ("https://app.example/%zz", "absolute"),
        ("https://app.example/" + "a" * 2000, "absolute"),
    ],
)
def test_a_dangerous_or_unclear_redirect_uri_is_refused_with_its_reason(uri: str, word: str) -> None:
    fault = uris.registration_fault(uri)
    assert fault is not None
    assert word in fault


@pytest.mark.parametrize(
    ("registered", "presented", "good"),
    [
        ("https://app.example/cb", "https://app.example/cb", True),
        ("https://app.example/cb", "https://app.example/cb/", False),
        ("https://app.example/cb", "https://app.example/CB", False),
        ("https://app.example/cb", "https://APP.example/cb", False),
        ("https://app.example/cb", "https://app.example/cb?x", False),
        ("https://app.example/cb?x=1", "https://app.example/cb?x=1", True),
        ("https://app.example/cb", "https://app.example:443/cb", False),
        ("https://app.example/cb", "https://app.example/cb/../evil", False),
        ("https://app.example/cb", "http://app.example/cb", False),
        ("https://app.example/cb", "https://app.example.evil/cb", False),
        ("https://app.example/cb", "https://app.example@evil/cb", False),
        ("https://app.example/cb", "http://127.0.0.1/cb", False),
        ("https://app.example/cb", "http://localhost/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:49152/cb", True),
        ("http://127.0.0.1:1/cb", "http://127.0.0.1/cb", True),
        ("http://127.0.0.1:1/cb", "http://127.0.0.1:65535/cb", True),
        ("http://127.0.0.1:1/cb", "http://127.0.0.1:65536/cb", False),
        ("http://127.0.0.1:1/cb", "http://127.0.0.1:0/cb", False),
        ("http://127.0.0.1:1/cb", "http://127.0.0.1:/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:8000/CB", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:8000/cb?x", False),
        ("http://127.0.0.1/cb", "http://127.0.0.2/cb", False),
        ("http://127.0.0.1/cb", "http://localhost/cb", False),
        ("http://localhost/cb", "http://localhost:8000/cb", True),
        ("http://localhost/cb", "http://LOCALHOST:8000/cb", False),
        ("http://localhost/cb", "https://localhost:8000/cb", False),
        ("http://[::1]/cb", "http://[::1]:8000/cb", True),
        ("http://[::1]/cb", "http://[::2]:8000/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:80@evil.example/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:8000\\@evil.example/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:8000/cb#x", False),
        ("com.example.app:/cb", "com.example.app:/cb", True),
        ("com.example.app:/cb", "com.example.app:/cb2", False),
    ],
)
def test_redirect_uris_match_exactly_but_for_a_loopback_port(registered: str, presented: str, good: bool) -> None:
    assert uris.is_registered((registered,), presented) is good


def test_what_could_not_be_registered_never_matches() -> None:
    assert not uris.is_registered(("javascript:alert(1)",), "javascript:alert(1)")


@given(st.text(max_size=60), st.sampled_from(["https://app.example/cb", "com.example.app:/cb"]))
def test_nothing_but_the_registered_bytes_match(tail: str, registered: str) -> None:
    assert uris.is_registered((registered,), registered)
    assert uris.is_registered((registered,), registered + tail) is (tail == "")
    assert not uris.is_registered((registered,), tail + registered) or tail == ""


@given(st.text(alphabet="0123456789:@/\\?#.a[]", max_size=12))
def test_whatever_stands_after_a_loopback_host_leads_to_that_host(tail: str) -> None:
    presented = f"http://127.0.0.1{tail}"
    if uris.is_registered(("http://127.0.0.1/cb",), presented):
        found = urlsplit(presented)
        assert (found.hostname, found.path, found.query, found.username) == ("127.0.0.1", "/cb", "", None)


@given(st.integers(1, 65535))
def test_any_port_matches_on_loopback(port: int) -> None:
    assert uris.is_registered(("http://[::1]:7/cb?x=1",), f"http://[::1]:{port}/cb?x=1")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://app.example/cb", "https://app.example/cb?code=c%26%3D&state=s"),
        ("https://app.example/cb?x=1", "https://app.example/cb?x=1&code=c%26%3D&state=s"),
        ("https://app.example/cb?", "https://app.example/cb?code=c%26%3D&state=s"),
        ("com.example.app:/cb", "com.example.app:/cb?code=c%26%3D&state=s"),
    ],
)
def test_an_answer_keeps_the_uris_own_query(uri: str, expected: str) -> None:
    assert uris.with_parameters(uri, [("code", "c&="), ("state", b"s")]) == expected


@given(st.binary(min_size=1))
def test_state_comes_back_byte_for_byte(state: bytes) -> None:
    location = uris.with_parameters("https://app.example/cb?keep=1", [("state", state), ("iss", "https://x")])
    assert location.isascii()
    found = dict(parse_qsl(urlsplit(location).query, encoding="latin-1", strict_parsing=True))
    assert found["state"].encode("latin-1") == state
    assert found["keep"] == "1"


@pytest.mark.parametrize(
    ("uri", "source", "shown"),
    [
        ("https://app.example/cb?x#", "https://app.example", "app.example"),
        ("https://app.example:8443/cb", "https://app.example:8443", "app.example:8443"),
        ("http://127.0.0.1:9/cb", "http://127.0.0.1:9", "127.0.0.1:9"),
        ("http://[::1]:9/cb", "http:", "[::1]:9"),
        ("https://[2001:db8::1]/cb", "https:", "[2001:db8::1]"),
        ("com.example.app:/cb", "com.example.app:", "com.example.app"),
    ],
)
def test_the_way_back_is_a_valid_csp_source_and_can_be_shown(uri: str, source: str, shown: str) -> None:
    assert uris.form_action_source(uri) == source
    assert uris.shown_host(uri) == shown
