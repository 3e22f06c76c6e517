"""The schemes by which a call says who makes it: one object each.

    present   what the call claims, from its fields alone; raises MalformedCredential where they break its grammar
    prove     given the token that it names: the first fault, or what its body is to be held against, or None

A further scheme is a further class here and its name in a route's `auth`; what a call without a credential is told
stands in `guard.checks`, the challenge in `credentials.challenges`.
"""

from typing import Final, Protocol, final

from gateway.config import Mac
from gateway.credentials import bearer, mac, signatures
from gateway.credentials.components import Message, authority
from gateway.credentials.signed import BodyCheck, Signed, read_mac
from gateway.guard import signing
from gateway.guard.signing import Signer
from gateway.guard.verdict import Call, Fault


@final
class Presented:
    """What a call claims, by its scheme: the access token as it was sent, and what a signature says of the call."""

    __slots__ = ("scheme", "signed", "token")

    def __init__(self, scheme: "Scheme", token: bytes, signed: Signed | None = None) -> None:
        self.scheme: Final = scheme
        self.token: Final = token
        self.signed: Final = signed


class Scheme(Protocol):
    """One scheme."""

    @property
    def name(self) -> str:
        """What routes call it."""

    @property
    def kind(self) -> str:
        """The type of token that goes with it."""

    @property
    def unproven(self) -> str:
        """What a stranger is told, whichever part of the credential is wrong."""

    def present(self, call: Call, credential: bytes) -> Presented:
        """What the call claims; `credential` is what follows the scheme's name in Authorization.

        Raises MalformedCredential.
        """

    def prove(self, call: Call, signed: Signed | None, signer: Signer | None, now: float) -> Fault | BodyCheck | None:
        """The first fault of the claim, given what the token proves requests by, or what the body must fit."""


class Bearer:
    """RFC 6750: who holds the token may use it."""

    name: Final = "bearer"
    kind: Final = "bearer"
    unproven: Final = "The access token is unknown, expired or revoked."

    def present(self, _call: Call, credential: bytes) -> Presented:
        bearer.check(credential)
        return Presented(self, credential)

    def prove(self, _call: Call, _signed: Signed | None, _signer: Signer | None, _now: float) -> None:
        return None


class _Signing:
    """What the schemes have in common by which the holder of a MAC token's key signs each request."""

    kind: Final = "mac"
    unproven: Final = signing.FORGED

    def __init__(self, rules: Mac, scheme: str) -> None:
        self._rules: Final = rules
        self._scheme: Final = scheme  # of the URL under which clients reach the resource

    def prove(self, call: Call, signed: Signed | None, signer: Signer | None, now: float) -> Fault | BodyCheck | None:
        if signed is None or signer is None:
            return Fault(signing.FORGED, "a MAC token whose key is lost")
        return signing.judge(call, signed, signer, self._rules, now)


class MacScheme(_Signing):
    """draft-ietf-oauth-v2-http-mac, 00 and 01."""

    name: Final = "mac"

    def present(self, call: Call, credential: bytes) -> Presented:
        covered = mac.Covered(method=call.method, target=call.target, host=call.host, port=call.port)
        try:
            signed = read_mac(credential, covered)
        except mac.OtherDraft as exc:
            raise mac.OtherDraft(f"{exc} {mac.accepted(self._rules.drafts, self._rules.algorithms)}") from exc
        return Presented(self, signed.token.encode(), signed)


class SignatureScheme(_Signing):
    """HTTP Message Signatures (RFC 9421) by MAC tokens."""

    name: Final = "signature"

    def present(self, call: Call, _credential: bytes) -> Presented:
        message = Message(
            method=call.method,
            target=call.target,
            scheme=self._scheme,
            authority=authority(self._scheme, call.host, call.port),
            fields=tuple(call.fields),
            has_body=call.has_body,
        )
        signed = signatures.from_message(message)
        return Presented(self, signed.token.encode(), signed)
