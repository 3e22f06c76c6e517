"""The address of an external database: what asyncpg, which reads it, would refuse only at the start, or overlook.

What is said names a part of the address and never repeats it, since it may hold a password.
"""

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from gateway.spelling import near

SCHEMES: Final = ("postgresql://", "postgres://")

_MARKS: Final = "percent-encode / ? # @ : and % in a password"
_HOST = re.compile(r"([^\s/?#@\[\]:,%]+|\[[^\[\]]+\])(?::([0-9]*))?")
_PORT = re.compile(r"[0-9]{1,5}")

_CHOICES: Final = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "target_session_attrs": ("any", "primary", "read-write"),  # the others lead to servers that take no writes
}
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_OTHERS: Final = ("host", "port", "dbname", "database", "user", "password", "sslpassword", "service")
_KNOWN: Final = (*_OTHERS, *_CHOICES, *_FILES, "krbsrvname", "gsslib")
# What libpq reads by itself; asyncpg would hand it to the server as a setting, and no server has such a one.
_LIBPQ: Final = frozenset({
    "channel_binding", "connect_timeout", "fallback_application_name", "gssdelegation", "gssencmode", "hostaddr",
    "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "load_balance_hosts", "replication",
    "require_auth", "requirepeer", "requiressl", "sslcertmode", "sslcompression", "sslcrldir", "sslsni",
    "tcp_user_timeout",
})  # fmt: skip


def fault_of(url: str) -> str | None:
    """The fault of an address that begins with one of SCHEMES, and the mend."""
    if url in SCHEMES:
        return "it names no database; write postgresql://USER@HOST/DATABASE, or postgresql:///DATABASE for one here"
    if not url.isprintable() or " " in url or "%00" in url:
        return f"contains a space or a control character; take it out, or {_MARKS}"
    if "#" in url:
        return f'everything after its "#" would be ignored; {_MARKS}'
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"an IPv6 host must be in brackets, such as [::1]; {_MARKS}"
    if parts.netloc.count("@") > 1 or ("@" in parts.path and "@" not in parts.netloc):
        return f'its "@" is in the wrong place; {_MARKS}'
    try:
        query = _query(parts)
    except ValueError:
        return f'after its "?", write NAME=VALUE, several separated by "&"; {_MARKS}'
    return next(_faults(parts.netloc.rpartition("@")[2], query), None)


def files_of(url: str) -> Mapping[str, str]:
    """The files that an address without a fault names, by the name of the parameter."""
    return {name: file for name, file in _query(urlsplit(url)).items() if name in _FILES}


def wants_authority(url: str) -> bool:
    """Whether the server's certificate is held against an authority that the address does not name."""
    query = _query(urlsplit(url))
    return query.get("sslmode", "").startswith("verify-") and "sslrootcert" not in query


def wants_no_encryption(url: str) -> bool:
    """Whether the address says that the connection is to be in the clear."""
    return _query(urlsplit(url)).get("sslmode") == "disable"


def _query(parts: SplitResult) -> dict[str, str]:
    found = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    return {name: values[-1] for name, values in found.items()}


def _faults(netloc: str, query: Mapping[str, str]) -> Iterator[str]:
    yield from _hosts(netloc, query)
    yield from _parameters(query)


def _hosts(netloc: str, query: Mapping[str, str]) -> Iterator[str]:
    if netloc and "host" in query:
        yield 'it names the host twice, before and after its "?"; keep one'
    if netloc and "port" in query:
        yield "a port in ?port= would be ignored; write it after the host, as in HOST:5432"
    if not netloc and not {"host", "service"} & query.keys():
        return  # the usual sockets of this machine
    stated = netloc or query.get("host", "")
    hosts = stated.split(",") if stated else []
    for host in hosts:
        yield from _host(unquote(host) if netloc else host)
    ports = query["port"].split(",") if "port" in query else []
    if not all(map(_is_port, ports)):
        yield "a port is a number from 1 to 65535"
    if len(ports) > 1 and hosts and len(ports) != len(hosts):
        yield f"it names {len(ports)} ports for {len(hosts)} hosts; give one for all of them, or one for each"


def _host(text: str) -> Iterator[str]:
    if text.startswith("/"):  # the folder of a socket
        return
    found = _HOST.fullmatch(text)
    if not text or (found is None and text.startswith(":")):
        yield "a host is missing before or after a comma or a port"
    elif found is None and _HOST.fullmatch(text.partition(":")[0]) is None:
        yield f"a host is a name, an address, [IPv6] in brackets, or the folder of a socket; {_MARKS}"
    elif found is None or (found[2] and not _is_port(found[2])):
        yield f"a port is a number from 1 to 65535; {_MARKS}"
    elif found[1].startswith("["):
        try:
            IPv6Address(found[1][1:-1])
        except ValueError:
            yield "the text in brackets is not an IPv6 address; correct it"


def _is_port(text: str) -> bool:
    return _PORT.fullmatch(text) is not None and 1 <= int(text) <= 65535


def _parameters(query: Mapping[str, str]) -> Iterator[str]:
    for name, choices in _CHOICES.items():
        if name in query and query[name] not in choices:
            yield f"{name} is one of {', '.join(choices)}"
    if query.get("sslnegotiation") == "direct" and query.get("sslmode") not in _CHOICES["sslmode"][3:]:
        yield "sslnegotiation=direct needs sslmode=require, verify-ca or verify-full; add one"
    for name in sorted(query.keys() - set(_KNOWN)):
        if name in _LIBPQ:
            yield f"{name} is for other programs, and the server would refuse it; leave it out"
        elif (meant := near(name, _KNOWN)) is not None:
            yield f"one of its parameters is unknown; did you mean {meant}?"
