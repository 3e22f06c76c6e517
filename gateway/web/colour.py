"""Readable colours from an operator's accent (WCAG 2.2, sections 1.4.3 and 1.4.11)."""

from typing import Final

Colour = tuple[int, int, int]

BLACK: Final[Colour] = (0, 0, 0)
WHITE: Final[Colour] = (255, 255, 255)
TEXT_CONTRAST: Final = 4.5
SHAPE_CONTRAST: Final = 3.0


def parse(text: str) -> Colour:
    """`#rgb` or `#rrggbb`; the configuration has checked the form."""
    digits = text.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    return int(digits[0:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)


def render(colour: Colour) -> str:
    """The colour as CSS writes it."""
    return "#" + "".join(f"{part:02x}" for part in colour)


def contrast(one: Colour, other: Colour) -> float:
    """The contrast ratio of two colours, from 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def text_on(background: Colour) -> Colour:
    """White where it reads well enough, else black: one of the two always reaches 4.5."""
    return WHITE if contrast(WHITE, background) >= TEXT_CONTRAST else BLACK


def readable(colour: Colour, background: Colour, ratio: float) -> Colour:
    """`colour`, moved towards black or white just so far that it reads against `background`."""
    towards = WHITE if _luminance(background) < 0.18 else BLACK
    for step in range(51):
        moved = _mix(colour, towards, step / 50)
        if contrast(moved, background) >= ratio:
            return moved
    return towards


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _luminance(colour: Colour) -> float:
    red, green, blue = (_linear(part / 255) for part in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(part: float) -> float:
    return float(part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
