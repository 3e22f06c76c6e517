"""What is known of each scheme beforehand, and that all who ask for it are told the same."""

import pytest

from gateway.config.values import AUTH_SCHEMES
from gateway.model import DPOP
from gateway.schemes import BESIDE_AUTHORIZATION, BY_BEARER_TOKEN, IN_AUTHORIZATION, IN_BROWSERS, SCHEMES, SIGNING
from gateway.schemes.presenting import wanted


def test_every_scheme_has_a_name_in_the_configuration() -> None:
    assert {*AUTH_SCHEMES, DPOP} == SCHEMES.keys()  # which a route takes by its key `dpop`


def test_facts_of_the_schemes_are_what_their_specifications_say() -> None:
    assert {"bearer", "dpop", "mac"} == IN_AUTHORIZATION  # RFC 6750, section 2.1; RFC 9449, section 7.1; MAC, section 3
    assert {b"signature", b"signature-input"} == BESIDE_AUTHORIZATION  # RFC 9421, section 4
    assert {"session"} == IN_BROWSERS
    assert {"dpop", "mac", "signature"} == SIGNING
    assert {"bearer", "dpop"} == BY_BEARER_TOKEN


@pytest.mark.parametrize(
    ("schemes", "told"),
    [
        (("bearer",), "needs an access token in the Authorization field."),
        (("bearer", "dpop"), "needs an access token in the Authorization field."),
        (("bearer", "session"), "needs an access token in the Authorization field."),
        (("dpop",), "bound to a key (the scheme DPoP in Authorization), and a proof of that key in the DPoP field"),
        (("session", "dpop"), "and a proof of that key in the DPoP field"),
        (("mac",), "signed with a MAC token"),
        (("mac", "session"), "signed with a MAC token"),
        (("signature",), "needs a signed request (RFC 9421)"),
        (("bearer", "signature"), "or as the keyid of a signature"),
        (("session",), "for people who have signed in"),
    ],
)
def test_a_call_without_a_credential_is_told_what_its_route_takes(schemes: tuple[str, ...], told: str) -> None:
    assert told in wanted([SCHEMES[name] for name in schemes])
