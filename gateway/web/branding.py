"""The look: one style sheet with design tokens, and what an operator puts over it.

Everything is read once, at the start, and served under a name that holds its digest, so that browsers keep it for
good and never ask another host for anything.
"""

import hashlib
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Final

from msgspec import Struct

from gateway.config import Settings
from gateway.config.tables import IMAGE_TYPES
from gateway.faults import OperatorError
from gateway.resources import folder
from gateway.web import colour
from gateway.web.colour import Colour

_ADDRESS: Final = re.compile(r"(?:https?://|mailto:)[\x21-\x7e]+", re.IGNORECASE)
_DEFAULT_ACCENT: Final = "#2f55c8"
# The card surfaces of gateway.css, against which the accent must be seen.
_LIGHT_SURFACE: Final[Colour] = (255, 255, 255)
_DARK_SURFACE: Final[Colour] = (29, 31, 36)


class Asset(Struct, frozen=True):
    """A file that pages refer to: its name holds its digest."""

    name: str
    content: bytes
    content_type: str


class Branding(Struct, frozen=True):
    """What pages show of the operator; the texts are the configuration's, the files' names are for links."""

    name: str
    help: str | None
    stylesheet: Asset
    own_stylesheet: Asset | None
    logo: Asset | None
    icon: Asset

    @classmethod
    def load(cls, settings: Settings) -> "Branding":
        """Read the files. Raises OperatorError for one that cannot be read or a logo that is no image."""
        branding = settings.config.branding
        own = None if branding.stylesheet is None else settings.base / branding.stylesheet
        logo = None if branding.logo is None else settings.base / branding.logo
        return cls(
            branding.name,
            branding.help,
            _asset("gateway", ".css", stylesheet(branding.accent).encode(), "text/css"),
            None if own is None else _asset("own", ".css", _read(own, "branding.stylesheet"), "text/css"),
            None if logo is None else _asset("logo", logo.suffix, _read(logo, "branding.logo"), _image_type(logo)),
            _asset("icon", ".svg", _icon(branding.name, branding.accent).encode(), "image/svg+xml"),
        )

    @property
    def help_url(self) -> str | None:
        """The help where it is an address rather than a sentence."""
        return self.help if self.help is not None and _ADDRESS.fullmatch(self.help) else None

    @property
    def assets(self) -> dict[str, Asset]:
        found = (self.stylesheet, self.own_stylesheet, self.logo, self.icon)
        return {asset.name: asset for asset in found if asset is not None}


def stylesheet(accent: str | None) -> str:
    """The pages' style sheet, ending in the accent's tokens."""
    base = (folder("templates") / "gateway.css").read_text(encoding="utf-8")
    return base + accent_tokens(colour.parse(accent or _DEFAULT_ACCENT))


def accent_tokens(accent: Colour) -> str:
    """The accent as tokens that can be seen and read on light and on dark surfaces, whatever colour it is."""
    return (
        f":root {{ {_tokens(_on_light(accent))} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_tokens(_on_dark(accent))} }} }}\n"
    )


def _icon(name: str, accent: str | None) -> str:
    """The brand's first letter on its accent, so that a browser does not go looking for /favicon.ico."""
    fill = colour.parse(accent or _DEFAULT_ACCENT)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        f'<rect width="32" height="32" rx="8" fill="{colour.render(fill)}"/>'
        f'<text x="16" y="22" text-anchor="middle" font-family="sans-serif" font-weight="bold" font-size="18" '
        f'fill="{colour.render(colour.text_on(fill))}">{escape(name[0].upper())}</text></svg>'
    )


def _on_light(accent: Colour) -> dict[str, str]:
    """Buttons keep the accent as it is. Where it is too light to be seen, an edge is, and words are in ink: made dark
    enough to be read, a yellow would be an olive."""
    visible = colour.contrast(accent, _LIGHT_SURFACE) >= colour.SHAPE_CONTRAST
    return {
        "accent": colour.render(accent),
        "on-accent": colour.render(colour.text_on(accent)),
        "accent-edge": colour.render(accent) if visible else "var(--edge)",
        "accent-ink": _readable_ink(accent, _LIGHT_SURFACE) if visible else "var(--ink)",
    }


def _on_dark(accent: Colour) -> dict[str, str]:
    """A colour can be made lighter and stays what it is."""
    fill = colour.readable(accent, _DARK_SURFACE, colour.SHAPE_CONTRAST)
    return {
        "accent": colour.render(fill),
        "on-accent": colour.render(colour.text_on(fill)),
        "accent-edge": colour.render(fill),
        "accent-ink": _readable_ink(accent, _DARK_SURFACE),
    }


def _readable_ink(accent: Colour, surface: Colour) -> str:
    return colour.render(colour.readable(accent, surface, 1.15 * colour.TEXT_CONTRAST))  # on the page's tint too


def _tokens(named: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in named.items())


def _asset(stem: str, suffix: str, content: bytes, content_type: str) -> Asset:
    return Asset(f"{stem}.{hashlib.sha256(content).hexdigest()[:16]}{suffix.lower()}", content, content_type)


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise OperatorError(f"{key}: the file {path} cannot be read ({exc.strerror})") from exc


def _image_type(path: Path) -> str:
    found = IMAGE_TYPES.get(path.suffix.lower())
    if found is None:
        raise OperatorError(f"branding.logo: {path} is not an image; name a file that ends in {', '.join(IMAGE_TYPES)}")
    return found
