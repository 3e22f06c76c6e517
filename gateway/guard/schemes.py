"""The schemes by which a call says who makes it: one object each.

    present   what the call claims, from its fields alone; raises MalformedCredential where they break its grammar
    prove     given the token that it names: the first fault, or what its body is to be held against, or None

That of a browser's session stands in `guard.sessions`. What is known of each beforehand (its fields, the kind of its
tokens, what a call without a credential is told) is a row of `model.SCHEMES`; `docs/architecture.md` says where else a
further scheme has a place.
"""

from typing import Final, Protocol, final

from gateway.config import Mac
from gateway.credentials import bearer, mac, signatures
from gateway.credentials.components import Message, authority
from gateway.credentials.signed import BodyCheck, Once, Signed, read_mac
from gateway.crypto import Keyring
from gateway.guard import causes, proofs
from gateway.guard.proofs import Bound, Signer
from gateway.guard.verdict import INVALID_TOKEN, Fault
from gateway.model import BEARER, DPOP, MAC, SCHEMES, SIGNATURE
from gateway.oauth import dpop
from gateway.routing.call import Call
from gateway.routing.target import origin_form

UNPROVEN: Final = "The access token is unknown, expired or revoked."


@final
class Presented:
    """What a call claims, by its scheme: the access token as it was sent, by what a signed call counts once, which is
    all of the claim for the schemes of MAC tokens, and a DPoP proof."""

    __slots__ = ("once", "proof", "scheme", "token")

    def __init__(
        self, scheme: "Scheme", token: bytes, once: Once | None = None, proof: dpop.Proof | None = None
    ) -> None:
        self.scheme: Final = scheme
        self.token: Final = token
        self.once: Final = once
        self.proof: Final = proof


class Scheme(Protocol):
    """One scheme."""

    @property
    def name(self) -> str:
        """What routes call it."""

    @property
    def kind(self) -> str:
        """The type of token that goes with it."""

    @property
    def lifeless(self) -> causes.Lifeless:
        """Why what is presented may count no more."""

    @property
    def error(self) -> str:
        """The code that a stranger is told."""

    @property
    def unproven(self) -> str:
        """What a stranger is told, whichever part of the credential is wrong."""

    def present(self, call: Call, credential: bytes) -> Presented | Fault:
        """What the call claims; `credential` is what follows the scheme's name in Authorization.

        Raises MalformedCredential.
        """

    def prove(
        self, call: Call, presented: Presented, signer: Signer | Bound | None, now: float
    ) -> Fault | BodyCheck | None:
        """The first fault of the claim, given what the token proves requests by, or what the body must fit."""


class Bearer:
    """RFC 6750: who holds the token may use it."""

    name: Final = BEARER
    kind: Final = SCHEMES[BEARER].token_type
    lifeless: Final = causes.TOKENS
    error: Final = INVALID_TOKEN
    unproven: Final = UNPROVEN

    def present(self, _call: Call, credential: bytes) -> Presented:
        bearer.check(credential)
        return Presented(self, credential)

    def prove(self, _call: Call, _presented: Presented, _signer: Signer | Bound | None, _now: float) -> None:
        return None


class _Signing:
    """What the schemes have in common by which the holder of a MAC token's key signs each request."""

    kind: Final = MAC
    lifeless: Final = causes.TOKENS
    error: Final = INVALID_TOKEN
    unproven: Final = proofs.FORGED

    def __init__(self, rules: Mac, scheme: str) -> None:
        self._rules: Final = rules
        self._scheme: Final = scheme  # of the URL under which clients reach the resource

    def prove(
        self, call: Call, presented: Presented, signer: Signer | Bound | None, now: float
    ) -> Fault | BodyCheck | None:
        signed = presented.once
        if not isinstance(signed, Signed) or not isinstance(signer, Signer):
            return Fault(proofs.FORGED, causes.LOST_KEY)
        return proofs.verify(call, signed, signer, self._rules, now)


class MacScheme(_Signing):
    """draft-ietf-oauth-v2-http-mac, 00 and 01."""

    name: Final = MAC

    def present(self, call: Call, credential: bytes) -> Presented:
        covered = mac.Covered(method=call.method, target=call.target, host=call.host, port=call.port)
        try:
            signed = read_mac(credential, covered)
        except mac.OtherDraft as exc:
            raise mac.OtherDraft(f"{exc} {mac.accepted(self._rules.drafts, self._rules.algorithms)}") from exc
        return Presented(self, signed.token.encode(), signed)


class SignatureScheme(_Signing):
    """HTTP Message Signatures (RFC 9421) by MAC tokens."""

    name: Final = SIGNATURE

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


class DpopScheme:
    """RFC 9449: a bearer token that is bound to a key, and a proof of that key for this request."""

    name: Final = DPOP
    kind: Final = SCHEMES[DPOP].token_type
    lifeless: Final = causes.TOKENS
    error: Final = INVALID_TOKEN
    unproven: Final = "The access token is unknown, expired, revoked, or not bound to the key of the DPoP proof."

    def __init__(self, rules: Mac, scheme: str, keyring: Keyring, *, demands_nonce: bool) -> None:
        self._window: Final = rules.skew
        self._scheme: Final = scheme  # of the URL under which clients reach the resource
        self._nonces: Final = dpop.Nonces(keyring.purpose_keys(dpop.NONCE_PURPOSE), demands_nonce)

    def present(self, call: Call, credential: bytes) -> Presented:
        """The same; raises dpop.InvalidProof too."""
        bearer.check(credential)
        proof = dpop.parse([value.decode("latin-1") for lower, _, value in call.fields if lower == b"dpop"])
        return Presented(self, credential, Once(DPOP, proof.once, proof.iat), proof)

    def prove(self, call: Call, presented: Presented, signer: Signer | Bound | None, now: float) -> Fault | None:
        proof = presented.proof
        if proof is None or not isinstance(signer, Bound):
            return Fault(self.unproven, causes.UNBOUND)
        if proof.jkt != signer.jkt:
            return Fault(self.unproven, causes.WRONG_PROOF.naming("a proof of another key than the token's"))
        found = dpop.fault_of(
            proof,
            method=call.method,
            url=self._url(call),
            now=now,
            window=self._window,
            nonces=self._nonces,
            token=presented.token,
        )
        if found is None:
            return None
        return Fault(found.description, causes.WRONG_PROOF.naming(found.description), found.error)

    def new_nonce(self, now: float) -> bytes:
        """What a client is to make its next proof with."""
        return self._nonces.new(now).encode("ascii")

    def _url(self, call: Call) -> str:
        """The URL of a call, without its query; one in absolute form names the same host (RFC 9112, section 3.2.2)."""
        path = origin_form(call.target.partition(b"?")[0])
        return f"{self._scheme}://{authority(self._scheme, call.host, call.port)}{path.decode('latin-1')}"
