"""The contexts by which TLS is spoken with upstreams and with clients."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from gateway.faults import OperatorError
from gateway.routing import UpstreamTls

_HTTP: Final = ["http/1.1"]


@cache
def upstream_context(tls: UpstreamTls | None) -> ssl.SSLContext:
    """What an upstream's certificate is checked with, and what we show it; reading the system's takes 15 ms.

    Raises OperatorError for files that cannot be used.
    """
    ca = None if tls is None else tls.ca or None
    try:
        context = ssl.create_default_context(cafile=ca)
        if tls is not None and not tls.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if tls is not None and tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key or None, password=_nobody)
    except (OSError, ValueError) as exc:  # an SSLError is an OSError
        raise OperatorError(f"upstream_tls: {exc}") from exc
    context.set_alpn_protocols(_HTTP)
    return context


def _nobody() -> str:
    """The passphrase of an encrypted key: there is nobody to ask."""
    return ""


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate with its chain and its key, both in PEM, and the names that it is for."""

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)
    names: tuple[str, ...]


def server_context(shown: Certified) -> ssl.SSLContext:
    """What shows a certificate to clients, by TLS 1.2 or newer. Raises OSError and ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(_HTTP)
    with _in_memory(shown.chain) as chain, _in_memory(shown.key) as key:
        context.load_cert_chain(chain, key, password=_nobody)
    return context


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A file of ours that is on no disk, for what takes file names only."""
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
