"""The access plane's IO: a front for each connection, an exchange for each request, an engine for each worker."""

from gateway.proxy.handover import Handover
from gateway.proxy.limits import Limits
from gateway.proxy.proxy import Proxy

__all__ = ["Handover", "Limits", "Proxy"]
