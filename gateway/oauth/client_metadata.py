"""What a client says about itself to people: its links and its logo (RFC 7591, section 2)."""

import hashlib
import re
from typing import Final

from gateway.oauth import redirect_uris

LARGEST_LOGO: Final = 256 * 1024  # bytes
_LONGEST_LINK: Final = 2000
_FRAGMENT = re.compile(r"(?:[A-Za-z0-9._~:/?@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_LOGO_NAME = re.compile(r"[0-9a-f]{32}\.(?:gif|jpg|png|svg|webp)")
_SIGNATURES: Final = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png"),
    (re.compile(rb"\xff\xd8\xff"), "jpg"),
    (re.compile(rb"GIF8[79]a"), "gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "webp"),
)
_TYPES: Final = {
    "gif": "image/gif",
    "jpg": "image/jpeg",
    "png": "image/png",
    "svg": "image/svg+xml",
    "webp": "image/webp",
}
_SVG_ROOT: Final = "http://www.w3.org/2000/svg svg"


def logo_name(content: bytes) -> str | None:
    """The name by which a logo is served: its content's digest, so that nobody guesses it and browsers may keep it.

    None if the content is no picture of a kind that browsers show; its size is for the caller to check.
    """
    kind = next((kind for signature, kind in _SIGNATURES if signature.match(content)), None)
    if kind is None and _is_svg(content):
        kind = "svg"
    return None if kind is None else f"{hashlib.sha256(content).hexdigest()[:32]}.{kind}"


def logo_type(name: str) -> str | None:
    """The media type of the logo of that name; None where `name` can be no logo's."""
    return _TYPES[name.rpartition(".")[2]] if _LOGO_NAME.fullmatch(name) else None


def link_fault(url: str) -> str | None:
    """The reason why people cannot be led to `url`, in words that name the mend; None when they can."""
    page, _, fragment = url.partition("#")
    good = redirect_uris.registration_fault(page) is None and not redirect_uris.is_private(page)
    if good and len(url) <= _LONGEST_LINK and _FRAGMENT.fullmatch(fragment):
        return None
    return (
        f"write it as https://HOST/PATH, in plain ASCII of at most {_LONGEST_LINK} characters, without a username; "
        "http is only for loopback"
    )


def _is_svg(content: bytes) -> bool:
    """Whether the content is well-formed XML whose root is an SVG."""
    # Only commands need it, a worker never; the XML is an operator's own, and expat bounds what entities may grow to.
    from xml.parsers import expat

    roots = list[str]()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = lambda name, _: roots.append(name) if not roots else None
    try:
        parser.Parse(content, True)
    except expat.ExpatError:
        return False
    return roots == [_SVG_ROOT]
