"""Who the client is where proxies that we trust stand between it and us: X-Forwarded-For, read from the right.

Each trusted hop vouches for the address before it and for nothing beyond, so the first that is not trusted is the
client, and what stands left of it is what the client says of itself: it is dropped. So is all that lies behind an
entry which is no address.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Network = IPv4Network | IPv6Network

_MOST_HOPS: Final = 32  # trusted proxies before ours; nobody has so many, and each costs time


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """An IP address without a zone, and an IPv4 one that came through an IPv6 socket as itself; None for no address."""
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    if isinstance(ip, IPv4Address):
        return ip
    return None if ip.scope_id is not None else ip.ipv4_mapped or ip


def is_trusted(ip: IPv4Address | IPv6Address, trusted: Iterable[Network]) -> bool:
    """Whether an address lies in one of the networks."""
    return any(ip.version == network.version and ip in network for network in trusted)


def hops(values: Iterable[bytes], trusted: Sequence[Network]) -> tuple[str, ...]:
    """The addresses that a trusted peer says a request came by, the client first; none where it says nothing usable.

    `values` are those of all X-Forwarded-For fields, in their order.
    """
    found: list[str] = []
    for entry in reversed(b",".join(values).split(b",")):
        ip = parse_address(entry.strip(b" \t").decode("latin-1"))
        if ip is None or len(found) == _MOST_HOPS:
            break
        found.append(str(ip))
        if not is_trusted(ip, trusted):
            break
    return tuple(reversed(found))


@lru_cache(maxsize=4096)
def neighbourhood(address: str) -> str:
    """Those that are counted together with an address: an IPv4 address is alone, an IPv6 one with its /64 (RFC 4291,
    2.5.4)."""
    ip = parse_address(address.partition("%")[0])
    if not isinstance(ip, IPv6Address):
        return address if ip is None else str(ip)
    return f"{IPv6Address(int(ip) >> 64 << 64)}/64"


def site(neighbours: str) -> str:
    """Those that may all be one: a neighbourhood alone with IPv4, and with IPv6 its /48, the most that one customer is
    given as a rule (RFC 6177, section 2)."""
    prefix, slash, _ = neighbours.partition("/")
    return f"{IPv6Address(int(IPv6Address(prefix)) >> 80 << 80)}/48" if slash else neighbours
