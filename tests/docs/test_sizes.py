"""The sizes of what is issued, and the default scope, are documented (RFC 6749, sections 2.2, 3.3, 4.1.2 and 5.1)."""

from gateway.crypto import Keyring, TokenPrefix, new_identifier, random_text
from gateway.oauth import device, grants, openid
from gateway.oauth.authorize import LONGEST_IDENTIFIER
from gateway.store.access_tokens import LONGEST
from tests.oauth.clients import client
from tests.serving import ROOT

PAGE = (ROOT / "docs" / "authorize.md").read_text(encoding="utf-8")
PREFIXES: tuple[TokenPrefix, ...] = ("gwa_", "gwr_", "gwc_", "gwd_")


def test_sizes_are_those_of_the_page(keyring: Keyring) -> None:
    token, secret = {len(keyring.new_token(prefix)) for prefix in PREFIXES}, len("gws_" + random_text())
    (identifier,) = {len(new_identifier(kind)) for kind in ("c", "u", "p")}  # "p": a subject that is pairwise
    assert token == {44}
    for row in (
        "| access token, opaque; refresh token, code, device code | 44 |",
        f"| access token as a JWT | up to {LONGEST:,} |",
        f"| user code | {len(device.shown(device.new_user_code(min)))}, its dash included |",
        f"| client_id | {identifier}; up to {LONGEST_IDENTIFIER} where it is the URL of a document |",
        f"| client secret, registration access token | {secret} |",
        f"| `sub` | {identifier} |",
    ):
        assert row in PAGE


def test_the_default_scope_is_on_the_page() -> None:
    assert "Without `scope` a client asks for what it is registered with" in PAGE
    known = frozenset({"a", "b", *openid.SCOPES})
    assert grants.requested_scopes(None, client(scopes=known), known) == {"a", "b"}
    assert grants.requested_scopes(None, client(scopes=known, default_scopes=frozenset({"b"})), known) == {"b"}
