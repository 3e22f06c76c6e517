"""The engine's own refusals as a page (whole in itself)."""

import base64
import hashlib
import html
import re
from pathlib import Path

import pytest

from gateway.crypto import Keyring
from gateway.errors import Refused
from gateway.refusals import RefusedVisit
from gateway.web.refusal import refusal_page
from tests.web.rig import Answer, settings_for

NOT_FOUND = Refused("not_found", "")
GONE = RefusedVisit(NOT_FOUND, "")
ACCOUNT: dict[str, str | None] = {"Go to your account": None}


def test_a_refusal_is_whole_in_itself(keyring: Keyring, tmp_path: Path) -> None:
    make = refusal_page(settings_for("https://id.example", keyring, tmp_path))
    headers, body = make(RefusedVisit(Refused("bad_gateway", ""), "req-1"))
    text = body.decode()
    for words in ("The service isn’t responding", "Try again shortly.", "Reference: <code>req-1</code>", "Example"):
        assert words in text
    assert not re.search(r"""(?:src|action|url)\s*[=(]""", text)
    icon, account = re.findall(r'href="([^"]*)"', text)
    assert icon.startswith("data:image/svg+xml;base64,"), "so that no browser looks for /favicon.ico"
    assert "img-src data:;" in headers["Content-Security-Policy"]
    assert account == "https://id.example/oauth2/account"
    assert "Need help? Contact your Example administrator." in text
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"


def test_its_style_is_let_through_by_its_hash(keyring: Keyring, tmp_path: Path) -> None:
    headers, body = refusal_page(settings_for("https://id.example", keyring, tmp_path))(RefusedVisit(NOT_FOUND, "c"))
    (style,) = re.findall(rb"<style>(.*?)</style>", body, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_what_it_is_told_is_escaped(keyring: Keyring, tmp_path: Path) -> None:
    make = refusal_page(settings_for("https://id.example", keyring, tmp_path, branding={"name": "<i>"}))
    _, body = make(RefusedVisit(NOT_FOUND, "\udcff<u>"))
    assert not re.search(rb"<(?:i|u)>", body)


def test_one_answer_does_not_change_the_next(keyring: Keyring, tmp_path: Path) -> None:
    make = refusal_page(settings_for("https://id.example", keyring, tmp_path))
    headers, _ = make(RefusedVisit(NOT_FOUND, "c"))
    headers["Content-Type"] = "changed"
    assert make(RefusedVisit(NOT_FOUND, "c"))[0]["Content-Type"] == "text/html; charset=utf-8"


def test_it_looks_as_the_other_pages_do(keyring: Keyring, tmp_path: Path) -> None:
    (tmp_path / "own.css").write_text("h1 { color: teal } /* </style> */")
    (tmp_path / "logo.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    branding = {"name": "Example", "stylesheet": "own.css", "logo": "logo.svg"}
    headers, body = refusal_page(settings_for("https://id.example", keyring, tmp_path, branding=branding))(GONE)
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
        ("https://help.example/?a=1&b", b'<p><a href="https://help.example/?a=1&amp;b">Need help?</a>'),
        ("Call <b>", b"<p>Need help? Call &lt;b&gt;</p>"),
    ):
        branding = {"name": "Example", "help": help_}
        _, body = refusal_page(settings_for("https://id.example", keyring, tmp_path, branding=branding))(GONE)
        assert shown in body


@pytest.mark.parametrize(
    ("visit", "said", "ways"),
    [
        (
            RefusedVisit(Refused("temporarily_unavailable", ""), "r", again="/wiki?a=1&b=2"),
            "Try again in a moment.",
            {"Try again": "/wiki?a=1&b=2", "Go to your account": "https://id.example/oauth2/account"},
        ),
        (
            RefusedVisit(Refused("too_many_requests", "", retry_after=61), "r"),
            "Try again in 2 minutes.",
            {"Go to your account": None},
        ),
        (RefusedVisit(NOT_FOUND, "r", again="/wiki"), "Check the address", ACCOUNT),
        (
            RefusedVisit(Refused("access_denied", ""), "r", host="ID.example", again="/wiki?a=1&b=2"),
            "Ask your R&D administrator, or use another account.",
            {"Use another account": "https://id.example/oauth2/login?next=/wiki?a%3D1%26b%3D2"},
        ),
        # The path is another host's: nobody comes back to it from the sign-in page.
        (
            RefusedVisit(Refused("access_denied", ""), "r", host="api.example", again="/wiki"),
            "Your account doesn’t have access",
            {"Use another account": "https://id.example/oauth2/login"},
        ),
        (
            RefusedVisit(Refused("forbidden", ""), "r"),
            "isn’t available from your network",
            {"Go to your account": None},
        ),
    ],
)
def test_a_refusal_says_what_to_do_and_leads_back_to_the_address(
    keyring: Keyring, tmp_path: Path, visit: RefusedVisit, said: str, ways: dict[str, str | None]
) -> None:
    _, body = refusal_page(settings_for("https://id.example", keyring, tmp_path, branding={"name": "R&D"}))(visit)
    page = Answer(visit.refused.status, {}, body, [])
    assert said in html.unescape(page.text)
    assert page.ways.keys() == ways.keys()
    for words, href in ways.items():
        assert href is None or page.ways[words] == [href]
