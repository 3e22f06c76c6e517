"""The access plane's IO: one front for every connection, one engine for every exchange."""

from gateway.proxy.limits import Limits
from gateway.proxy.proxy import Proxy

__all__ = ["Limits", "Proxy"]
