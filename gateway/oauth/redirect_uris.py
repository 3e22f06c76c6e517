"""Redirect URIs: which may be registered, which match, and how an answer is put into one.

registered               presented                        match?
https://app.example/cb   the same bytes                   yes, nothing else does (RFC 9700, section 2.1)
http://127.0.0.1/cb      http://127.0.0.1:49152/cb        yes: the port of a loopback IP literal or of
http://localhost:1/cb    http://localhost:2/cb            `localhost` varies (RFC 8252, section 7.3)
http://127.0.0.1/cb      http://localhost/cb, …/cb?x, /CB no: host, path and query do not vary
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

# RFC 3986, section 2: what may stand in a URI; a fragment is excluded, since a redirect URI has none.
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):((?:[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PORT = r"(?::([1-9][0-9]{0,4}))?"
_LOOPBACK = re.compile(rf"http://(localhost|\[::1\]|127\.{_OCTET}\.{_OCTET}\.{_OCTET}){_PORT}((?:[/?].*)?)", re.DOTALL)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_WEB = re.compile(rf"(https?)://((?:{_LABEL}\.)*{_LABEL}|\[[0-9A-Fa-f:.]+\]){_PORT}(?:[/?].*)?", re.DOTALL)
_LONGEST: Final = 2000

# Schemes that a browser or a desktop acts on by itself: sending a code there runs, saves or mails it.
_DANGEROUS: Final = frozenset(
    {
        "about",
        "blob",
        "chrome",
        "chrome-extension",
        "content",
        "data",
        "edge",
        "file",
        "filesystem",
        "ftp",
        "intent",
        "jar",
        "javascript",
        "mailto",
        "moz-extension",
        "ms-settings",
        "resource",
        "safari-web-extension",
        "search-ms",
        "sms",
        "ssh",
        "tel",
        "vbscript",
        "view-source",
        "ws",
        "wss",
    }
)


def registration_fault(uri: str) -> str | None:
    """The reason why `uri` may not be registered (RFC 6749, section 3.1.2), with the mend; None when it may."""
    if "#" in uri:
        return "a redirect URI must have no fragment; leave out the # and what follows it"
    found = _URI.fullmatch(uri)
    if found is None or len(uri) > _LONGEST:
        return f"a redirect URI must be absolute, at most {_LONGEST} ASCII characters, such as https://app.example/cb"
    scheme = found[1].lower()
    if scheme in _DANGEROUS:
        return f"{scheme}: is not a safe place to send a code to; use https, a loopback address or the scheme of an app"
    if scheme not in ("http", "https"):
        return None if scheme == found[1] else "write the scheme in lower case"
    if _WEB.fullmatch(uri) is None or not _good_port(_WEB, uri, 3):
        return "write it as https://HOST[:PORT]/PATH, in plain ASCII, without a username or wildcard"
    if scheme == "http" and _LOOPBACK.fullmatch(uri) is None:
        return "http is only for loopback (127.0.0.1, [::1] or localhost); use https"
    return None


def matches(registered: str, presented: str) -> bool:
    """Whether a presented redirect URI is the registered one: byte for byte, but for a loopback port."""
    if registered == presented:
        return True
    ours, theirs = _LOOPBACK.fullmatch(registered), _LOOPBACK.fullmatch(presented)
    if ours is None or theirs is None or not _good_port(_LOOPBACK, presented, 2):
        return False
    return (ours[1], ours[3]) == (theirs[1], theirs[3])


def is_registered(registered: Iterable[str], presented: str) -> bool:
    """Whether `presented` matches one of a client's redirect URIs, and is one that might be registered today."""
    return registration_fault(presented) is None and any(matches(uri, presented) for uri in registered)


def with_parameters(uri: str, parameters: Iterable[tuple[str, str | bytes]], *, fragment: bool = False) -> str:
    """`uri` with parameters added to its query, or as its fragment, every byte escaped that could mean anything else.

    The URI's own query is retained (RFC 6749, section 3.1.2).
    """
    pairs = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in parameters)
    if fragment:
        return f"{uri}#{pairs}"  # a redirect URI has none
    if "?" not in uri:
        return f"{uri}?{pairs}"
    return uri + pairs if uri.endswith(("?", "&")) else f"{uri}&{pairs}"


def sector(uris: Iterable[str]) -> str | None:
    """The host of all of these URIs (OpenID Connect Core, section 8.1); None where they have several, or none."""
    hosts = {found[2].lower() if (found := _WEB.fullmatch(uri)) else None for uri in uris}
    return hosts.pop() if len(hosts) == 1 else None


def form_action_source(uri: str) -> str:
    """The CSP source that lets a form's answer redirect to `uri`: its origin, or its scheme.

    An IPv6 literal is no valid host source (CSP 3, section 2.3.1), and a private scheme has no origin.
    """
    found = _WEB.fullmatch(uri)
    if found is None or found[2].startswith("["):
        return uri.partition(":")[0] + ":"
    port = f":{found[3]}" if found[3] else ""
    return f"{found[1]}://{found[2]}{port}"


def is_loopback(uri: str) -> bool:
    """Whether `uri` leads to a program on the person's own computer."""
    return _LOOPBACK.fullmatch(uri) is not None


def is_private(uri: str) -> bool:
    """Whether `uri` leads to an app by a scheme of its own (RFC 8252, section 7.1)."""
    return uri.partition(":")[0].lower() not in ("http", "https")


def shown_host(uri: str) -> str:
    """The part of `uri` that tells a person where it leads: host and port, or the scheme of an app."""
    found = _WEB.fullmatch(uri)
    if found is None:
        return uri.partition(":")[0]
    return f"{found[2]}:{found[3]}" if found[3] else found[2]


def place(uri: str) -> str:
    """Where `uri` leads, in a person's words."""
    if is_loopback(uri):
        return "a program on this computer"
    return f"the app ({shown_host(uri)})" if is_private(uri) else shown_host(uri)


def _good_port(grammar: re.Pattern[str], uri: str, group: int) -> bool:
    found = grammar.fullmatch(uri)
    return found is not None and (found[group] is None or int(found[group]) <= 65535)
