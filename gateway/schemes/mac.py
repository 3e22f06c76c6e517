"""Requests signed with a MAC token (draft-ietf-oauth-v2-http-mac, 00 and 01)."""

from typing import ClassVar, Final, final

from gateway.credentials import mac
from gateway.credentials.signed import read_mac
from gateway.errors import Cause
from gateway.model import MAC
from gateway.routing.call import Call
from gateway.schemes.scheme import Facts, Fault, Presented
from gateway.schemes.signing import FORGED, MISUSED, Signing

OTHER_DRAFT: Final = Cause.of(
    "credential",
    "a MAC credential of drafts",
    " 03 to 05",
    mend="have the client sign by a draft that mac.drafts lists; see docs/signing.md",
)


@final
class Mac(Signing):
    """A token and its signature in the Authorization field."""

    facts: ClassVar[Facts] = Facts(
        name=MAC,
        spelling="MAC",
        kind=MAC,
        wanted="This resource needs a request that is signed with a MAC token (the scheme MAC in Authorization).",
        misused=MISUSED,
        signs=True,
        unproven=FORGED,
    )

    def present(self, call: Call, credential: bytes) -> Presented | Fault:
        covered = mac.Covered(method=call.method, target=call.target, host=call.host, port=call.port)
        try:
            signed = read_mac(credential, covered)
        except mac.OtherDraft as other:
            return Fault(f"{other} {mac.accepted(self.rules.drafts, self.rules.algorithms)}", OTHER_DRAFT)
        return Presented(self, signed.token.encode(), signed)
