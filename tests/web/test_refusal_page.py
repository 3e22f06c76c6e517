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
    headers, body = make(502, "The service does not answer", "Please try again.", "req-1")
    text = body.decode()
    for words in ("502", "The service does not answer", "Please try again.", "req-1", "Example"):
        assert words in text
    assert not re.search(r"""(?:src|href|action|url)\s*[=(]""", text)
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"


def test_its_style_is_let_through_by_its_hash(keyring: Keyring, tmp_path: Path) -> None:
    headers, body = refusal_page(settings_for("https://id.example", keyring, tmp_path))(404, "a", "b", "c")
    (style,) = re.findall(rb"<style>(.*?)</style>", body, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_what_it_is_told_is_escaped(keyring: Keyring, tmp_path: Path) -> None:
    make = refusal_page(settings_for("https://id.example", keyring, tmp_path, branding={"name": "<i>"}))
    _, body = make(404, "<b>", "<script>", "\udcff<u>")
    assert not re.search(rb"<(?:b|i|u|script)>", body)


def test_one_answer_does_not_change_the_next(keyring: Keyring, tmp_path: Path) -> None:
    make = refusal_page(settings_for("https://id.example", keyring, tmp_path))
    headers, _ = make(404, "a", "b", "c")
    headers["Content-Type"] = "changed"
    assert make(404, "a", "b", "c")[0]["Content-Type"] == "text/html; charset=utf-8"
