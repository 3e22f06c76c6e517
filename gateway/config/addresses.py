"""Addresses as the configuration writes them, and what they consist of."""

import os
import re
from ipaddress import IPv4Address, IPv6Address

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
LISTEN = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]+):([0-9]{1,5})")
ORIGIN = re.compile(r"(https?)://(\[[^\[\]]*\]|[^:/?#@\[\]]+)(?::([0-9]{1,5}))?/?")


UNIX_UPSTREAM = re.compile(r"http\+unix://(/[^\0]+)")
UNIX_LISTENER = re.compile(r"unix:(/[^\0]+)")
_LONGEST_SOCKET = 107  # bytes of a unix socket's path (unix(7): sun_path)


class Wanted(ValueError):
    """A value that cannot be used. Its text says what would be right, and goes on in the report with "…, not VALUE"."""


def is_host(host: str) -> bool:
    """A host is a name in ASCII, an IPv4 address, or an IPv6 address in brackets and without a zone."""
    try:
        if host.startswith("["):
            return IPv6Address(host[1:-1]).scope_id is None
        if host.rpartition(".")[2].isdecimal():  # no name ends in a number: browsers and resolvers see an address
            return str(IPv4Address(host)) == host
    except ValueError:
        return False
    return _HOST_NAME.fullmatch(host.lower()) is not None


def canonical_host(host: str) -> str:
    """A host as clients write it: in lower case, an IPv6 address in its shortest form (RFC 5952)."""
    return f"[{IPv6Address(host[1:-1])}]" if host.startswith("[") else host.lower()


def split_listen(text: str) -> tuple[str, int]:
    """Host, without brackets, and port of HOST:PORT."""
    found = LISTEN.fullmatch(text)
    if found is None or not is_host(found[1]) or int(found[2]) > 65535:
        raise Wanted('must be HOST:PORT such as "127.0.0.1:8080" or "[::1]:8080"')
    return found[1].strip("[]"), int(found[2])


def split_origin(text: str) -> tuple[str, str, int]:
    """Scheme, host in lower case (an IPv6 literal keeps its brackets) and port of http[s]://HOST[:PORT][/]."""
    if "@" in text:
        raise ValueError("a URL here must not contain a user or a password; take them out")
    found = ORIGIN.fullmatch(text)
    port = 0 if found is None else int(found[3] or (443 if found[1] == "https" else 80))
    if found is None or not is_host(found[2]) or not 1 <= port <= 65535:
        raise Wanted('must be "http://HOST[:PORT]" or "https://HOST[:PORT]", without a path or query')
    return found[1], found[2].lower(), port


def within(path: str, folder: str) -> bool:
    """Whether a path is another one or below it, by whole segments."""
    return folder in ("/", path) or path.startswith(f"{folder}/")


def socket_path(text: str, form: re.Pattern[str]) -> str | None:
    """The path in the address of a unix socket, written in that form; None for another address."""
    found = form.fullmatch(text)
    if found is None:
        return None
    if len(os.fsencode(found[1])) > _LONGEST_SOCKET:
        raise Wanted(f"the path of a unix socket has at most {_LONGEST_SOCKET} bytes")
    return found[1]
