"""Which route a request belongs to and what its headers become: pure functions over bytes."""

from gateway.routing.table import Origin, Route

__all__ = ["Origin", "Route"]
