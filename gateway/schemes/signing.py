"""What the schemes have in common by which the holder of a MAC token's key signs each request.

Checks 8 to 11 of the guard: all but the body itself and the nonce.

The signature is judged first: what a client is told of its algorithm, draft, clock or body hash, a forger is not.
"""

from typing import Final

from gateway.credentials.signed import BodyCheck, Signed
from gateway.errors import Cause
from gateway.model import MacAlgorithm
from gateway.routing.call import Call
from gateway.schemes.scheme import Bound, Fault, Presented, Rules, Scheme, Signer

FORGED: Final = "The MAC token is unknown, expired or revoked, or its signature does not match the request."

EXPLAIN: Final = "`gateway mac verify --explain` shows what the client signed beside what the gateway expects"
CLOCKS: Final = "correct the client's clock, or this machine's; they may differ by mac.skew"
LOST_KEY: Final = Cause.of(
    "token",
    "a MAC token whose key",
    " is lost",
    mend="add the master key that sealed it to keys.previous, or have the client get a new token",
)
WRONG_MAC: Final = Cause.of("signature", "wrong MAC", mend=EXPLAIN)
OTHER_ALGORITHM: Final = Cause.of(
    "signature",
    "algorithm is not",
    " in mac.algorithms",
    mend="add the token's algorithm to mac.algorithms, or have the client get a new token",
)
DRAFT_NOT_ACCEPTED: Final = Cause.of(
    "signature",
    "draft is not",
    " the client's or not in mac.drafts",
    mend="`gateway client update ID --mac-draft …`; mac.drafts lists what may be used",
)
TIMESTAMP: Final = Cause.of("signature", "timestamp", " ", mend=CLOCKS)
SIGNATURE_EXPIRED: Final = Cause.of(
    "signature",
    "signature expired",
    mend="have the client sign each request when it sends it; compare its clock with this machine's",
)
NO_BODY_HASH: Final = Cause.of(
    "signature",
    "no body hash",
    ", and the route has mac_body_hash",
    mend="have the client sign a hash of the body, or remove mac_body_hash from the route",
)
WRONG_HASH: Final = Cause.of(
    "signature", "body hash", mend=f"have the client hash with the token's algorithm; {EXPLAIN}"
)
MISUSED: Final = Cause.of(
    "token",
    "a mac token presented",
    " as ",
    mend="have the client sign its requests, or give it bearer tokens: `gateway client update ID --token-type bearer`",
)


class Signing(Scheme):
    """A scheme by MAC tokens."""

    def prove(
        self, call: Call, presented: Presented, signer: Signer | Bound | None, now: float
    ) -> Fault | BodyCheck | None:
        signed = presented.once
        if not isinstance(signed, Signed) or not isinstance(signer, Signer):
            return self.dead(LOST_KEY)
        return verify(call, signed, signer, self.rules, now)


def verify(call: Call, signed: Signed, signer: Signer, rules: Rules, now: float) -> Fault | BodyCheck | None:
    """The first fault, or what the body is to be held against if a hash of it is stated.

    `now` is in seconds since 1970. The algorithm is the token's: a request cannot choose one.
    """
    algorithm = signer.algorithm
    if not signed.proven_by(signer.key, algorithm):
        return Fault(FORGED, WRONG_MAC)
    if algorithm not in rules.algorithms:
        return Fault(f"The algorithm {algorithm} is not accepted.", OTHER_ALGORITHM)
    return _of_draft(signed, signer, rules) or _of_time(signed, rules, now) or _of_body_hash(call, signed, algorithm)


def _of_draft(signed: Signed, signer: Signer, rules: Rules) -> Fault | None:
    accepted = [draft for draft in signer.drafts if draft in rules.drafts]
    if signed.draft is None or signed.draft in accepted:
        return None
    description = f"Draft {signed.draft} is not accepted; accepted: {', '.join(accepted) or 'none'}."
    return Fault(description, DRAFT_NOT_ACCEPTED)


def _of_time(signed: Signed, rules: Rules, now: float) -> Fault | None:
    if signed.created is not None:
        late = int(now) - signed.created
        if abs(late) > rules.skew:
            description = f"The timestamp is more than {rules.skew:g} seconds off; compare your clock with Date."
            return Fault(description, TIMESTAMP.naming(f"{abs(late)} s {'behind' if late > 0 else 'ahead'}"))
    if signed.expires is not None and now >= signed.expires:
        return Fault("The signature has expired; compare your clock with Date.", SIGNATURE_EXPIRED)
    return None


def _of_body_hash(call: Call, signed: Signed, algorithm: MacAlgorithm) -> Fault | BodyCheck | None:
    if not signed.digests:
        if not (call.has_body and call.route.mac_body_hash):
            return None
        description = "This resource requires a signed hash of the body."
        return Fault(description, NO_BODY_HASH)
    check = BodyCheck(signed.digests, algorithm)
    return check if check.possible else Fault("The body must be hashed with the token's algorithm.", WRONG_HASH)
