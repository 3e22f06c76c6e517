"""The schemes by which a call says who makes it: one file each, which holds all that is particular to that scheme.

A further scheme is one file more, and its class in `schemes.registry`: the configuration takes it in a route's `auth`,
its fields are kept from upstreams, and the guard judges by it. Nothing here does IO or reads a clock.
"""

from gateway.schemes.registry import (
    ALL,
    BESIDE_AUTHORIZATION,
    BY_BEARER_TOKEN,
    BY_MAC_TOKEN,
    CREDENTIAL_FIELDS,
    IN_AUTHORIZATION,
    IN_BROWSERS,
    SCHEMES,
    SIGNING,
)
from gateway.schemes.scheme import Facts, Fault, Presented, Rules, Scheme

__all__ = [
    "ALL",
    "BESIDE_AUTHORIZATION",
    "BY_BEARER_TOKEN",
    "BY_MAC_TOKEN",
    "CREDENTIAL_FIELDS",
    "IN_AUTHORIZATION",
    "IN_BROWSERS",
    "SCHEMES",
    "SIGNING",
    "Facts",
    "Fault",
    "Presented",
    "Rules",
    "Scheme",
]
