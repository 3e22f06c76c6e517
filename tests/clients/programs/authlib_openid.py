"""Authlib as an OpenID Connect client: discovery, PKCE, a nonce, the ID token against the keys, UserInfo, a refresh."""

import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.jwk import KeySet
from talking import CLIENT_ID, CLIENT_SECRET, ISSUER, REDIRECT_URI, done, opened

found = requests.get(f"{ISSUER}/.well-known/openid-configuration", timeout=30).json()
keys = KeySet.import_key_set(requests.get(found["jwks_uri"], timeout=30).json())
client = OAuth2Session(
    CLIENT_ID, CLIENT_SECRET, redirect_uri=REDIRECT_URI, scope="openid profile email", code_challenge_method="S256"
)
verifier = "obviously-a-fake-verifier-of-43-characters-x"
url, state = client.create_authorization_url(found["authorization_endpoint"], nonce="once", code_verifier=verifier)
token = client.fetch_token(
    found["token_endpoint"], authorization_response=opened(url), state=state, code_verifier=verifier
)


def verified(id_token: str, access_token: str, nonce: str | None) -> dict[str, object]:
    read = jwt.decode(id_token, keys, algorithms=["RS256"])
    options = {"iss": {"values": [ISSUER]}, "aud": {"values": [CLIENT_ID]}}
    claims = CodeIDToken(
        read.claims, read.header, options, {"nonce": nonce, "client_id": CLIENT_ID, "access_token": access_token}
    )
    claims.validate()
    return dict(read.claims)


claims = verified(token["id_token"], token["access_token"], "once")
known = client.get(found["userinfo_endpoint"]).json()
again = client.refresh_token(found["token_endpoint"])
later = verified(again["id_token"], again["access_token"], None)
done(
    name=known["preferred_username"],
    same_person=claims["sub"] == known["sub"] == later["sub"],
    same_sign_in=claims["auth_time"] == later["auth_time"],
)
