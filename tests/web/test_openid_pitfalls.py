"""What goes wrong with OpenID Connect elsewhere, as far as the pages' own tests do not hold it (docs/standards.md)."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hmac import HMAC

from gateway.oauth import jws
from gateway.oauth.signing import SigningKey
from gateway.store.users import Known
from tests.web.rig import PASSWORD_HASH, Answer, Browser, basic
from tests.web.test_openid_connect import CLAIMS, EVERYTHING, Party, party, with_settings

__all__ = ["party"]


@dataclass
class Given:
    """The ID token that a client was given, and the key of ours that signed it."""

    key: SigningKey
    claims: dict[str, Any]

    def signed(self, header: Mapping[str, object] = {}, /, **claims: object) -> str:
        """Another token by the same key, with other members; None leaves one out."""
        said = {"alg": "RS256", "typ": "JWT", "kid": self.key.kid, **header}
        return self.spelt(said, claims, self._by_the_key)

    def spelt(self, header: dict[str, object], claims: dict[str, object], sign: Callable[[bytes], bytes]) -> str:
        parts = [
            {name: value for name, value in of.items() if value is not None} for of in (header, self.claims | claims)
        ]
        text = ".".join(jws.encoded(json.dumps(part).encode()) for part in parts)
        return f"{text}.{jws.encoded(sign(text.encode()))}"

    def _by_the_key(self, message: bytes) -> bytes:
        assert isinstance(self.key.private, rsa.RSAPrivateKey)
        return self.key.private.sign(message, padding.PKCS1v15(), hashes.SHA256())

    def by_pss(self, message: bytes) -> bytes:
        assert isinstance(self.key.private, rsa.RSAPrivateKey)
        return self.key.private.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())

    def by_the_public_key(self, message: bytes) -> bytes:
        """HS256 with what everybody knows (RFC 8725, section 2.1)."""
        pem = self.key.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        mac = HMAC(pem, hashes.SHA256())
        mac.update(message)
        return mac.finalize()


async def given_to(party: Party) -> tuple[Given, dict[str, Any]]:
    body = await party.tokens()
    key = await party.plane.store.signing_keys.key("RS256")
    return Given(key, await party.verified(body["id_token"])), body


async def asked_to_sign_out(party: Party, hint: str) -> Answer:
    return await party.browser.get(f"/oauth2/logout?id_token_hint={hint}")


async def test_a_hint_counts_when_it_has_expired_and_is_signed_by_a_key_that_has_been_followed(party: Party) -> None:
    """Core, section 3.1.2.1; RP-Initiated Logout, section 2."""
    given, _ = await given_to(party)
    old = given.signed(iat=int(time.time()) - 900_000, exp=int(time.time()) - 896_400)
    assert "code" in (await party.asked(prompt="none", id_token_hint=old)).members
    await party.plane.store.signing_keys.rotate()
    assert "code" in (await party.asked(prompt="none", id_token_hint=old)).members
    assert (await asked_to_sign_out(party, old)).status == 303


async def test_a_token_of_ours_that_is_no_id_token_of_this_client_is_no_hint(party: Party) -> None:
    """RFC 8725, sections 2.1, 3.1 and 3.11: each signed by our own key, or as if it were."""
    given, _ = await given_to(party)
    events: dict[str, object] = {"http://schemas.openid.net/event/backchannel-logout": {}}
    rs256: dict[str, object] = {"alg": "RS256", "typ": "JWT", "kid": given.key.kid}
    other = rsa.generate_private_key(65537, 2048)
    (other_alg,) = [(await party.plane.store.signing_keys.key("ES256")).kid]

    def by_another(message: bytes) -> bytes:
        return other.sign(message, padding.PKCS1v15(), hashes.SHA256())

    hints = {
        "an access token": given.signed({"typ": "at+jwt"}),
        "a logout token": given.signed({"typ": "logout+jwt"}, events=events, auth_time=None),
        "a logout token that does not say so": given.signed(events=events),
        "a proof": given.signed({"typ": "dpop+jwt"}),
        "what UserInfo answers": given.signed(auth_time=None),
        "of another issuer": given.signed(iss="https://evil.example"),
        "of two clients": given.signed(aud=[party.client.client_id, "c-other"]),
        "of no client": given.signed(aud=None),
        "about nobody": given.signed(sub=None),
        "with what we do not understand": given.signed({"crit": ["b64"], "b64": True}),
        "of another key's name": given.signed({"kid": other_alg}),
        "without a key's name": given.signed({"kid": None}),
        "of a key that it brings along": given.spelt(
            rs256 | {"kid": "evil", "jwk": {"kty": "RSA", "n": jws.encoded(b"\x01" * 256), "e": "AQAB"}}, {}, by_another
        ),
        "of another key by the name of ours": given.spelt(rs256, {}, by_another),
        "by another way of signing with our key": given.spelt(rs256 | {"alg": "PS256"}, {}, given.by_pss),
        "by HMAC with the public key": given.spelt(rs256 | {"alg": "HS256"}, {}, given.by_the_public_key),
        "by a name that is spelt otherwise": given.signed({"alg": "rs256"}),
        "by none": given.spelt(rs256 | {"alg": "none"}, {}, lambda _: b""),
        "no JWS": "a.b",
    }
    taken = [
        why
        for why, hint in hints.items()
        if (await party.asked(prompt="none", id_token_hint=hint)).members.get("error") != "invalid_request"
        or "Sign out?" not in (await asked_to_sign_out(party, hint)).text
    ]
    assert taken == []
    assert "code" in (await party.asked(prompt="none", id_token_hint=given.signed())).members  # as it was


async def test_an_id_token_and_a_logout_token_open_nothing(party: Party) -> None:
    """RFC 8725, section 3.11: neither as an access token, nor where a client proves who it is."""
    given, body = await given_to(party)
    logout = given.signed({"typ": "logout+jwt"}, events={})
    for token in (body["id_token"], logout):
        assert (await party.userinfo(token)).status == 401
        fields = [("grant_type", "refresh_token"), ("refresh_token", token)]
        refused = await party.browser.send("POST", "/oauth2/token", fields, basic(party.client.client_id, party.secret))
        assert (refused.status, refused.json["error"]) == (400, "invalid_grant")
        told = await party.browser.send(
            "POST", "/oauth2/introspect", [("token", token)], basic(party.client.client_id, party.secret)
        )
        assert told.json == {"active": False}


async def test_prompt_none_tells_nothing_of_who_is_signed_in_but_to_whom_they_allowed(
    party: Party, stranger: Browser
) -> None:
    """Core, section 3.1.2.6: the client is told the same of all who have not allowed it, where it is registered."""
    silent = await party.asked(prompt="none")
    assert silent.members["error"] == "consent_required"
    await party.tokens()
    elsewhere = await party.asked(prompt="none", redirect_uri="https://evil.example/cb")
    assert (elsewhere.status, "Location" in elsewhere.headers) == (400, False)
    assert "evil.example" not in elsewhere.text
    nobody = await replace(party, browser=stranger).asked(prompt="none")
    assert nobody.members["error"] == "login_required"


@pytest.mark.parametrize(
    "name",
    [
        *("nonce", "max_age", "claims", "id_token_hint", "login_hint", "prompt", "display", "ui_locales"),
        *("claims_locales", "acr_values", "response_mode", "request", "request_uri"),
    ],
)
async def test_a_parameter_that_is_empty_is_absent_and_one_that_comes_twice_is_refused(party: Party, name: str) -> None:
    """RFC 6749, section 3.1."""
    await party.tokens()
    assert "code" in (await party.asked(**{name: ""})).members
    good = (await party.asked(**{name: None})).location
    assert "code=" in good
    path = f"/oauth2/authorize?response_type=code&client_id={party.client.client_id}&{name}=1&{name}=1"
    twice = await party.browser.get(path)
    assert (twice.status, "repeats a parameter" in twice.text) == (400, True)


@pytest.mark.parametrize(
    "claims",
    [
        "x" * 64_000,
        '{"userinfo":' * 1000 + "{}" + "}" * 1000,
        "[" * 60_000,
        '{"userinfo": {"name": null}, "userinfo": {}}',
    ],
    ids=["long", "nested", "open", "twice"],
)
async def test_claims_of_any_size_are_refused_where_a_client_pushes_them_too(party: Party, claims: str) -> None:
    fields = [
        *(("response_type", "code"), ("redirect_uri", party.client.redirect_uris[0]), ("scope", "openid")),
        *(("code_challenge", "x" * 43), ("code_challenge_method", "S256"), ("claims", claims)),
    ]
    refused = await party.browser.send("POST", "/oauth2/par", fields, basic(party.client.client_id, party.secret))
    assert (refused.status in (400, 413), refused.json["error"]) == (True, "invalid_request")


async def test_an_address_is_verified_only_where_somebody_said_so_and_nothing_is_told_empty(party: Party) -> None:
    """Core, sections 5.1, 5.3.2 and 5.7."""
    store = party.plane.store
    token = (await party.tokens("openid email phone profile"))["access_token"]
    assert (await party.userinfo(token)).json["email_verified"] is True
    await store.users.update("ada", None, "ada@new.example", None)
    assert (await party.userinfo(token)).json["email_verified"] is False, "another address"
    await store.users.update("ada", None, "", "", Known(claims=dict.fromkeys(CLAIMS)))
    known = (await party.userinfo(token)).json
    assert known.keys() == {"sub", "preferred_username", "updated_at"}


async def test_a_username_that_is_somebody_elses_now_is_another_person(party: Party, ada: str) -> None:
    """Core, section 5.7: who somebody is, iss and sub say; `preferred_username` and `email` may change hands."""
    pairwise = await with_settings(party, sector="app.example")
    before = (await pairwise.verified((await pairwise.tokens())["id_token"]))["sub"]
    await party.plane.store.users.delete("ada")
    await party.plane.store.users.create("ada", "ada@example.org", "Ada Lovelace", PASSWORD_HASH)
    assert (await party.browser.sign_in()).status == 303
    after = (await pairwise.verified((await pairwise.tokens())["id_token"]))["sub"]
    plain, secret = await party.plane.client(scopes=EVERYTHING)
    public = replace(party, client=plain, secret=secret)
    assert before != after
    assert (await public.verified((await public.tokens())["id_token"]))["sub"] != ada
