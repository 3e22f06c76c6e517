"""A browser in plain words, by what it calls itself (User-Agent; RFC 9110, section 10.1.5).

The field is anybody's to choose and full of other browsers' names, so the most particular name goes first. It tells
people which of their browsers is meant, and decides nothing.
"""

from typing import Final

from msgspec import Struct

_BROWSERS: Final = (
    (("Edg/", "EdgA/", "EdgiOS/"), "Edge"),
    (("OPR/", "OPiOS/"), "Opera"),
    (("SamsungBrowser/",), "Samsung Internet"),
    (("Vivaldi/",), "Vivaldi"),
    (("YaBrowser/",), "Yandex Browser"),
    (("Firefox/", "FxiOS/"), "Firefox"),
    (("CriOS/", "Chrome/", "Chromium/"), "Chrome"),
    (("Safari/",), "Safari"),
)
_SYSTEMS: Final = (  # with whether one carries it about
    ("iPhone", "iPhone", True),
    ("iPad", "iPad", True),
    ("Android", "Android", True),
    ("Windows", "Windows", False),
    ("CrOS", "ChromeOS", False),
    ("Macintosh", "Mac", False),
    ("Linux", "Linux", False),
)


class Device(Struct, frozen=True):
    """What people are told of a browser: its name, such as “Firefox on Windows”, and whether one carries it about."""

    name: str
    mobile: bool


def of(user_agent: str | None) -> Device:
    """The browser that calls itself so; “Unknown browser” where that says nothing."""
    text = user_agent or ""
    browser = next((name for marks, name in _BROWSERS if any(mark in text for mark in marks)), None)
    system, mobile = next(((name, mobile) for mark, name, mobile in _SYSTEMS if mark in text), (None, False))
    if system is None:
        return Device(browser or "Unknown browser", mobile)
    return Device(f"{browser or 'Unknown browser'} on {system}", mobile)
