"""Which route a request belongs to and what its fields become: pure functions over bytes."""

from gateway.routing.health import HealthCheck
from gateway.routing.table import Look, NoRoute, Origin, Route, RouteTable, SignIn, UpstreamTls
from gateway.routing.target import Target, TargetError, canonical

__all__ = [
    "HealthCheck",
    "Look",
    "NoRoute",
    "Origin",
    "Route",
    "RouteTable",
    "SignIn",
    "Target",
    "TargetError",
    "UpstreamTls",
    "canonical",
]
