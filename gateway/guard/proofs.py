"""Whether a signed call is right, given its token: checks 8 to 11 of the guard, all but the body itself and the nonce.

The signature is judged first: what a client is told of its algorithm, draft, clock or body hash, a forger is not.
"""

from dataclasses import dataclass, field

from gateway.config import Mac
from gateway.credentials.signed import BodyCheck, Signed
from gateway.guard import causes
from gateway.guard.verdict import Fault
from gateway.model import MacAlgorithm, MacDraft
from gateway.routing.call import Call

FORGED = "The MAC token is unknown, expired or revoked, or its signature does not match the request."


@dataclass(frozen=True, slots=True)
class Signer:
    """What a MAC token proves requests by: its key, and how its client may sign."""

    key: bytes = field(repr=False)
    algorithm: MacAlgorithm
    drafts: tuple[MacDraft, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """What a DPoP-bound token proves requests by: the thumbprint of its client's key (RFC 9449, section 6)."""

    jkt: str


def verify(call: Call, signed: Signed, signer: Signer, rules: Mac, now: float) -> Fault | BodyCheck | None:
    """The first fault, or what the body is to be held against if a hash of it is stated.

    `now` is in seconds since 1970. The algorithm is the token's: a request cannot choose one.
    """
    algorithm = signer.algorithm
    if not signed.proven_by(signer.key, algorithm):
        return Fault(FORGED, causes.WRONG_MAC)
    if algorithm not in rules.algorithms:
        return Fault(f"The algorithm {algorithm} is not accepted.", causes.OTHER_ALGORITHM)
    return _of_draft(signed, signer, rules) or _of_time(signed, rules, now) or _of_body_hash(call, signed, algorithm)


def _of_draft(signed: Signed, signer: Signer, rules: Mac) -> Fault | None:
    accepted = [draft for draft in signer.drafts if draft in rules.drafts]
    if signed.draft is None or signed.draft in accepted:
        return None
    description = f"Draft {signed.draft} is not accepted; accepted: {', '.join(accepted) or 'none'}."
    return Fault(description, causes.DRAFT_NOT_ACCEPTED)


def _of_time(signed: Signed, rules: Mac, now: float) -> Fault | None:
    if signed.created is not None:
        late = int(now) - signed.created
        if abs(late) > rules.skew:
            description = f"The timestamp is more than {rules.skew:g} seconds off; compare your clock with Date."
            return Fault(description, causes.TIMESTAMP.naming(f"{abs(late)} s {'behind' if late > 0 else 'ahead'}"))
    if signed.expires is not None and now >= signed.expires:
        return Fault("The signature has expired; compare your clock with Date.", causes.SIGNATURE_EXPIRED)
    return None


def _of_body_hash(call: Call, signed: Signed, algorithm: MacAlgorithm) -> Fault | BodyCheck | None:
    if not signed.digests:
        if not (call.has_body and call.route.mac_body_hash):
            return None
        description = "This resource requires a signed hash of the body."
        return Fault(description, causes.NO_BODY_HASH)
    check = BodyCheck(signed.digests, algorithm)
    return check if check.possible else Fault("The body must be hashed with the token's algorithm.", causes.WRONG_HASH)
