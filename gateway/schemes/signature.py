"""HTTP Message Signatures (RFC 9421) by MAC tokens."""

from typing import ClassVar, final

from gateway.credentials import signatures, structured
from gateway.credentials.components import Message, authority
from gateway.errors import FieldPair
from gateway.model import MAC
from gateway.routing.call import Call
from gateway.schemes.scheme import Facts, Presented, Rules
from gateway.schemes.signing import FORGED, MISUSED, Signing


@final
class Signature(Signing):
    """A signature in fields of its own, never in Authorization, whose keyid is the token."""

    facts: ClassVar[Facts] = Facts(
        name="signature",
        spelling="Signature",
        kind=MAC,
        wanted="This resource needs a signed request (RFC 9421), with an access token as the keyid.",
        also=", or as the keyid of a signature (RFC 9421)",
        misused=MISUSED,
        fields=("Signature", "Signature-Input"),
        besides=("Content-Digest",),
        signs=True,
        unproven=FORGED,
    )

    def __init__(self, rules: Rules) -> None:
        super().__init__(rules)
        structured.load()

    def present(self, call: Call, credential: bytes) -> Presented:  # noqa: ARG002  # there is none
        message = Message(
            method=call.method,
            target=call.target,
            scheme=self.rules.scheme,
            authority=authority(self.rules.scheme, call.host, call.port),
            fields=tuple(call.fields),
            has_body=call.has_body,
        )
        signed = signatures.from_message(message)
        return Presented(self, signed.token.encode(), signed)

    def fields(self, *, has_body: bool) -> tuple[FieldPair, ...]:
        """What to sign (RFC 9421, section 5.1)."""
        return (("Accept-Signature", signatures.accepted(has_body=has_body)),)
