"""What a client says about itself: its links and its logo (RFC 7591, section 2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oauth import client_metadata

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>'


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example",
        "https://app.example/about?lang=en",
        "https://app.example/legal#privacy",
        "https://app.example:8443/%C3%BC",
        "http://127.0.0.1:8000/",
        "http://localhost/terms",
    ],
)
def test_a_link_leads_people_to_a_web_page(url: str) -> None:
    assert client_metadata.link_fault(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "#",
        "/about",
        "app.example/about",
        "http://app.example/",
        "javascript:alert(1)",
        "JAVASCRIPT:alert(1)",
        "data:text/html,x",
        "com.example.app:/about",
        "mailto:ada@app.example",
        "https://u:p@app.example/",
        "https://app.example@evil.example/",
        "https://app.example\\@evil.example/",
        "https://müller.example/",
        "https://app.example/ü",
        "https://app.example/\u202egpj.exe",
        "https://app.example/a b",
        "https://app.example/\n",
        "https://app.example/#a#b",
        "https://app.example/#ü",
        "https://app.example/\"onclick='x'",
        "https://app.example:99999/",
        "https:///about",
        "https://app.example/" + "x" * 2000,
    ],
)
def test_a_link_to_anything_else_is_refused_with_the_mend(url: str) -> None:
    assert "write it as https://HOST/PATH" in (client_metadata.link_fault(url) or "")


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(9), "image/jpeg"),
        (b"GIF89a" + bytes(9), "image/gif"),
        (b"GIF87a" + bytes(9), "image/gif"),
        (b"RIFF\x0a\x00\x00\x00WEBPVP8 ", "image/webp"),
        (SVG, "image/svg+xml"),
        (b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd">' + SVG[21:], "image/svg+xml"),
        (b'<s:svg xmlns:s="http://www.w3.org/2000/svg"><s:g/></s:svg>', "image/svg+xml"),
    ],
)
def test_a_logo_is_known_by_its_content(content: bytes, media_type: str) -> None:
    name = client_metadata.logo_name(content)
    assert name is not None
    assert client_metadata.logo_type(name) == media_type
    assert client_metadata.logo_name(content) == name
    assert client_metadata.logo_name(content + b" ") != name


_BILLION = (
    b'<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%b">' % (c + 1, b"&%c;" % c * 10) for c in range(97, 110))
    + b']><svg xmlns="http://www.w3.org/2000/svg">&n;</svg>'
)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"%PDF-1.7",
        b"\x89PNG\r\n\x1a",
        b"<html></html>",
        b"<svg/>",
        b"<html xmlns='http://www.w3.org/1999/xhtml'><svg xmlns='http://www.w3.org/2000/svg'/></html>",
        SVG[:-1],
        SVG + b"<script/>",
        b"\x00\x00\x01\x00",
        b"MZ",
        _BILLION,
    ],
)
def test_what_is_no_picture_is_no_logo(content: bytes) -> None:
    assert client_metadata.logo_name(content) is None


@given(st.binary(max_size=64))
def test_no_content_is_a_fault(content: bytes) -> None:
    client_metadata.logo_name(content)


@pytest.mark.parametrize(
    "name",
    ["", "x.png", "0" * 32, "0" * 32 + ".html", "0" * 31 + ".png", "../x.png", "0" * 32 + ".png\n", "A" * 32 + ".png"],
)
def test_no_other_name_is_a_logos(name: str) -> None:
    assert client_metadata.logo_type(name) is None
