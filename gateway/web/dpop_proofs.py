"""DPoP proofs at the endpoints where clients get tokens (RFC 9449, sections 5 and 10)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from gateway.model import Client
from gateway.oauth import dpop
from gateway.web.plane import Plane, endpoint_of, plane_of

_MARGIN: Final = 60  # seconds by which the clocks of workers and of the database may differ


def nonces_of(plane: Plane) -> dpop.Nonces:
    """The nonces that proofs here may hold; the same as at routes."""
    keyring = plane.settings.keyring
    assert keyring is not None  # noqa: S101  # the plane serves
    return dpop.Nonces(keyring.purpose_keys(dpop.NONCE_PURPOSE), plane.settings.config.tokens.dpop_nonce)


async def key_of(request: web.Request, client: Client) -> str | None:
    """The thumbprint of the key that an authenticated client proves to have, once over all workers; None where it sends
    no proof and needs none.

    Raises OAuthError (invalid_dpop_proof, use_dpop_nonce).
    """
    values = request.headers.getall("DPoP", [])
    if not values:
        if client.dpop_required:
            raise dpop.refused("This client's tokens are bound to a key: send a DPoP proof.")
        return None
    return await _proven(request, values, None)


async def key_with(request: web.Request, token: str) -> str:
    """The same for a request with an access token, of which the proof must be too (section 7).

    Raises OAuthError (invalid_dpop_proof, use_dpop_nonce) with status 401.
    """
    return await _proven(request, request.headers.getall("DPoP", []), token.encode())


async def _proven(request: web.Request, values: Sequence[str], token: bytes | None) -> str:
    plane, status = plane_of(request), 400 if token is None else 401
    try:
        proof = dpop.parse(values)
    except dpop.InvalidProof as exc:
        raise dpop.refused(str(exc), status=status) from exc
    server, store, window = plane.settings.config.server, plane.store, plane.settings.config.mac.skew
    fault = dpop.fault_of(
        proof,
        method=request.method,
        url=f"{server.origin}{plane.prefix}/{endpoint_of(request)}",
        now=store.seconds(),
        window=window,
        nonces=nonces_of(plane),
        token=token,
    )
    if fault is not None:
        raise dpop.refused(fault.description, fault.error, status=status)
    once, until = bytes.fromhex(proof.once), datetime.fromtimestamp(proof.iat + 2 * window + _MARGIN, UTC)
    if once not in await store.nonces.spend_untimed([(once, until)]):
        raise dpop.refused("The DPoP proof was used before: make a new one for each request.", status=status)
    return proof.jkt


def offered(request: web.Request) -> dict[str, str]:
    """The field by which a client that makes proofs is given its next nonce, where it needs one (section 8.2)."""
    nonces = nonces_of(plane_of(request))
    if not nonces.demanded or "DPoP" not in request.headers:
        return {}
    return fresh(request)


def fresh(request: web.Request) -> dict[str, str]:
    """The field that gives a client a nonce for its next proof, whether or not one is demanded (section 8)."""
    plane = plane_of(request)
    return {"DPoP-Nonce": nonces_of(plane).new(plane.store.seconds())}
