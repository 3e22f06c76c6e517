"""The operator's name, colour, logo and style sheet on the pages."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto import Keyring
from gateway.faults import OperatorError
from gateway.store import Store
from gateway.web import branding, colour
from gateway.web.branding import Branding
from tests.web.rig import Browser, serving, settings_for

ACCENTS = st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    ("one", "other", "ratio"), [("#000", "#fff", 21.0), ("#777777", "#ffffff", 4.48), ("#fff", "#fff", 1.0)]
)
def test_contrast_is_that_of_wcag(one: str, other: str, ratio: float) -> None:
    assert colour.contrast(colour.parse(one), colour.parse(other)) == pytest.approx(ratio, abs=0.01)


def tokens(accent: colour.Colour) -> tuple[dict[str, str], dict[str, str]]:
    """The tokens of light and of dark pages, with those of the style sheet that they refer to."""
    base = branding.stylesheet(None)
    light, dark = branding.accent_tokens(accent).split("@media")
    found = list[dict[str, str]]()
    for css, mode in ((light, 0), (dark, 1)):
        named: dict[str, str] = dict(re.findall(r"--([a-z-]+): ([^;]+);", css))
        plain: dict[str, str] = {
            f"var(--{name})": re.findall(rf"--{name}: (#[0-9a-f]{{6}})", base)[mode] for name in ("ink", "edge")
        }
        found.append({name: plain.get(value, value) for name, value in named.items()})
    return found[0], found[1]


@given(ACCENTS)
def test_any_accent_reads_on_light_and_on_dark(accent: colour.Colour) -> None:
    for token, surface, page in zip(tokens(accent), ("#ffffff", "#1d1f24"), ("#f4f5f7", "#131519"), strict=True):
        seen = {name: colour.parse(value) for name, value in token.items()}
        assert colour.contrast(seen["on-accent"], seen["accent"]) >= colour.TEXT_CONTRAST
        assert colour.contrast(seen["accent-edge"], colour.parse(surface)) >= colour.SHAPE_CONTRAST
        for under in (surface, page):
            assert colour.contrast(seen["accent-ink"], colour.parse(under)) >= colour.TEXT_CONTRAST


@given(ACCENTS)
def test_a_light_page_has_the_accent_itself(accent: colour.Colour) -> None:
    assert tokens(accent)[0]["accent"] == colour.render(accent)


@pytest.mark.parametrize("accent", ["#ffe600", "#ffcc00", "#ff9900", "#00ff88"])
def test_a_light_accent_is_never_darkened_to_another_colour(accent: str) -> None:
    light, _ = tokens(colour.parse(accent))
    assert light["accent"] == accent
    for name in ("accent-ink", "accent-edge"):
        parts = colour.parse(light[name])
        assert max(parts) - min(parts) < 40, "a grey, since words in olive or brown are no longer the operator's colour"


def test_the_surfaces_are_those_of_the_style_sheet() -> None:
    surfaces = re.findall(r"--surface: (#[0-9a-f]{6})", branding.stylesheet(None))
    assert [colour.parse(text) for text in surfaces] == [(255, 255, 255), (29, 31, 36)]


async def test_the_operators_look_is_on_every_page(store: Store, keyring: Keyring, tmp_path: Path) -> None:
    (tmp_path / "logo.svg").write_text(SVG)
    (tmp_path / "own.css").write_text(":root { --radius: 0 }")
    look = {
        "name": "Büro & Söhne",
        "accent": "#c2185b",
        "logo": "logo.svg",
        "stylesheet": "own.css",
        "help": "Call <7>",
    }
    async with serving(store, keyring, tmp_path, branding=look) as plane:
        browser = Browser(plane.url)
        page = await browser.get("/oauth2/login")
        assert "Büro &amp; Söhne" in page.text
        assert "Call &lt;7&gt;" in page.text
        first, own = re.findall(r'<link rel="stylesheet" href="([^"]+)"', page.text)
        (logo,) = re.findall(r'<img src="([^"]+)"', page.text)
        assert "#c2185b" in (await browser.get(first)).text
        assert "--radius: 0" in (await browser.get(own)).text
        found = await browser.get(logo)
        assert found.headers["Content-Type"] == "image/svg+xml"
        assert "sandbox" in found.headers["Content-Security-Policy"]  # its script must not run as a page of ours
        await browser.close()


async def test_files_are_kept_for_good_under_the_name_of_their_content(
    store: Store, keyring: Keyring, tmp_path: Path
) -> None:
    names = list[str]()
    for accent in ("#112233", "#112233", "#332211"):
        async with serving(store, keyring, tmp_path, branding={"accent": accent}) as plane:
            browser = Browser(plane.url)
            page = await browser.get("/oauth2/login")
            (href,) = re.findall(r'<link rel="stylesheet" href="([^"]+)"', page.text)
            answer = await browser.get(href)
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert answer.headers["Content-Type"].startswith("text/css")
            names.append(href)
            for other in ("gateway.css", "../gateway.css", "%2e%2e/gateway.css", "base.html", "x"):
                assert (await browser.get(f"/oauth2/static/{other}")).status == 404
            await browser.close()
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    ("look", "word"), [({"logo": "logo.txt"}, "branding.logo"), ({"stylesheet": "missing.css"}, "branding.stylesheet")]
)
def test_a_file_that_cannot_be_used_is_one_clear_line(
    keyring: Keyring, tmp_path: Path, look: dict[str, str], word: str
) -> None:
    (tmp_path / "logo.txt").write_text("no image")
    with pytest.raises(OperatorError, match=word):
        Branding.load(settings_for("https://id.example", keyring, tmp_path, branding=look))
