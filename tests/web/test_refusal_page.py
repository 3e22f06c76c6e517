"""The engine's own refusals as a page (whole in itself)."""

import base64
import hashlib
import re
from pathlib import Path

from gateway.crypto import Keyring
from gateway.web.refusal import refusal_page
from tests.web.rig import settings_for


def test_a_refusal_is_whole_in_itself(keyring: Keyring, tmp_path: Path) -> None:
    make = refusal_page(settings_for("https://id.example", keyring, tmp_path))
    headers, body = make(502, "req-1", "")
    text = body.decode()
    for words in ("The service isn’t responding", "Try again shortly.", "Reference: <code>req-1</code>", "Example"):
        assert words in text
    assert not re.search(r"""(?:src|action|url)\s*[=(]|<link""", text)
    assert re.findall(r'href="([^"]*)"', text) == ["https://id.example/oauth2/account"]
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"


def test_its_style_is_let_through_by_its_hash(keyring: Keyring, tmp_path: Path) -> None:
    headers, body = refusal_page(settings_for("https://id.example", keyring, tmp_path))(404, "c", "")
    (style,) = re.findall(rb"<style>(.*?)</style>", body, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_what_it_is_told_is_escaped(keyring: Keyring, tmp_path: Path) -> None:
    make = refusal_page(settings_for("https://id.example", keyring, tmp_path, branding={"name": "<i>"}))
    _, body = make(404, "\udcff<u>", "")
    assert not re.search(rb"<(?:i|u)>", body)


def test_one_answer_does_not_change_the_next(keyring: Keyring, tmp_path: Path) -> None:
    make = refusal_page(settings_for("https://id.example", keyring, tmp_path))
    headers, _ = make(404, "c", "")
    headers["Content-Type"] = "changed"
    assert make(404, "c", "")[0]["Content-Type"] == "text/html; charset=utf-8"


def test_it_looks_as_the_other_pages_do(keyring: Keyring, tmp_path: Path) -> None:
    (tmp_path / "own.css").write_text("h1 { color: teal } /* </style> */")
    (tmp_path / "logo.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    branding = {"name": "Example", "stylesheet": "own.css", "logo": "logo.svg"}
    headers, body = refusal_page(settings_for("https://id.example", keyring, tmp_path, branding=branding))(404, "", "")
    styles = re.findall(rb"<style>(.*?)</style>", body, re.DOTALL)
    assert len(styles) == 2
    assert b"teal" in styles[1]
    for style in styles:
        digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
        assert f"'sha256-{digest}'" in headers["Content-Security-Policy"]
    assert b'<img src="data:image/svg+xml;base64,' in body
    assert "img-src data:;" in headers["Content-Security-Policy"]


def test_its_help_is_a_link_where_it_is_an_address(keyring: Keyring, tmp_path: Path) -> None:
    for help_, shown in (
        ("https://help.example/?a=1&b", b'<p><a href="https://help.example/?a=1&amp;b">'),
        ("Call <b>", b"<p>Call &lt;b&gt;</p>"),
    ):
        branding = {"name": "Example", "help": help_}
        _, body = refusal_page(settings_for("https://id.example", keyring, tmp_path, branding=branding))(404, "", "")
        assert shown in body
