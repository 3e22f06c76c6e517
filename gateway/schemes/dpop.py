"""DPoP (RFC 9449): a bearer token that is bound to a key, and a proof of that key for this request."""

from collections.abc import Mapping
from typing import ClassVar, Final, final

from gateway.credentials import bearer
from gateway.credentials.components import authority
from gateway.credentials.signed import Once
from gateway.errors import Cause, Refused
from gateway.model import CLIENT_ALGORITHMS, DPOP
from gateway.oauth import dpop
from gateway.routing import Route
from gateway.routing.call import Call
from gateway.routing.target import origin_form
from gateway.schemes.scheme import Bound, Facts, Fault, Presented, Rules, Scheme, Signer

MALFORMED_PROOF: Final = Cause.of(
    "credential",
    "malformed DPoP proof",
    ": ",
    mend="ask the client's developer to correct what it sends in DPoP (RFC 9449)",
)
UNBOUND: Final = Cause.of(
    "token",
    "a token that is bound to no key",
    mend="have the client ask for its token with a DPoP proof, or send it as Bearer",
)
WRONG_PROOF: Final = Cause.of(
    "signature",
    "DPoP: ",
    mend="ask the client's developer to correct its DPoP proofs (RFC 9449); the cause says what is wrong",
)
_SPENT: Final = "The DPoP proof was used before, or is too old to check; make a new one for each request."


@final
class Dpop(Scheme):
    """A bearer token in the Authorization field, and a proof in the field DPoP."""

    facts: ClassVar[Facts] = Facts(
        name=DPOP,
        spelling="DPoP",
        kind=DPOP,
        wanted="This resource needs an access token that is bound to a key (the scheme DPoP in Authorization), and a "
        "proof of that key in the DPoP field (RFC 9449).",
        misused=Cause.of(
            "token",
            "a dpop token presented",
            " as ",
            mend="have the client send the token with the scheme DPoP and a proof: it is bound to its key",
        ),
        fields=("Authorization", "DPoP"),
        variant=True,
        signs=True,
        by_bearer_token=True,
        unproven="The access token is unknown, expired, revoked, or not bound to the key of the DPoP proof.",
    )

    def __init__(self, rules: Rules) -> None:
        super().__init__(rules)
        self._nonces: Final = dpop.Nonces(rules.keyring.purpose_keys(dpop.NONCE_PURPOSE), rules.dpop_nonce)

    def present(self, call: Call, credential: bytes) -> Presented | Fault:
        bearer.check(credential)
        try:
            proof = dpop.parse([value.decode("latin-1") for value in call.values(b"dpop")])
        except dpop.InvalidProof as invalid:
            return Fault(str(invalid), MALFORMED_PROOF.naming(str(invalid)), dpop.INVALID_PROOF)
        return Presented(self, credential, Once(DPOP, proof.once, proof.iat), proof)

    def prove(self, call: Call, presented: Presented, signer: Signer | Bound | None, now: float) -> Fault | None:
        proof = presented.claim
        if not isinstance(proof, dpop.Proof) or not isinstance(signer, Bound):
            return self.dead(UNBOUND)
        if proof.jkt != signer.jkt:
            return self.dead(WRONG_PROOF.naming("a proof of another key than the token's"))
        found = dpop.fault_of(
            proof,
            method=call.method,
            url=self._url(call),
            now=now,
            window=self.rules.skew,
            nonces=self._nonces,
            token=presented.token,
        )
        if found is None:
            return None
        return Fault(found.description, WRONG_PROOF.naming(found.description), found.error)

    def spent(self, description: str, cause: Cause) -> Fault:  # noqa: ARG002  # it has words of its own
        return Fault(_SPENT, cause, dpop.INVALID_PROOF)

    def of_challenge(self, route: Route) -> Mapping[str, str | None]:  # noqa: ARG002
        return {"algs": " ".join(CLIENT_ALGORITHMS)}  # RFC 9449, section 7.1

    def refuse(self, call: Call, refused: Refused, now: float) -> Refused:  # noqa: ARG002
        """With the nonce that the next proof is to be made with (RFC 9449, section 9)."""
        return refused.also(("DPoP-Nonce", self._nonces.new(now))) if refused.error == dpop.USE_NONCE else refused

    def _url(self, call: Call) -> str:
        """The URL of a call, without its query; one in absolute form names the same host (RFC 9112, section 3.2.2)."""
        path = origin_form(call.target.partition(b"?")[0])
        scheme = self.rules.scheme
        return f"{scheme}://{authority(scheme, call.host, call.port)}{path.decode('latin-1')}"
