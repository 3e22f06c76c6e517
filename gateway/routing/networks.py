"""From which networks a route may be called."""

from typing import Final, final

from gateway.routing.forwarded import Network, parse_address


@final
class Networks:
    """A route's `allow` and `deny`. A denied address may not call, allowed or not; with `allow`, no other may."""

    __slots__ = ("_allow", "_deny")

    def __init__(self, allow: tuple[Network, ...], deny: tuple[Network, ...]) -> None:
        self._allow: Final = allow
        self._deny: Final = deny

    def why_not(self, address: str) -> str:
        """The reason for which a client at this address may not call; empty where it may. What is no IP address, such
        as the other end of a unix socket, may not: nobody can say in which network it is."""
        ip = parse_address(address)
        if ip is None:
            return "the client has no address that allow and deny could be held against"
        for network in self._deny:
            if ip.version == network.version and ip in network:
                return f"the address {ip} is in {network}, which the route denies"
        if not self._allow:
            return ""
        for network in self._allow:
            if ip.version == network.version and ip in network:
                return ""
        return f"the address {ip} is in none of the networks that the route allows"
