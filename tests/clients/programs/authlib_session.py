"""Authlib over requests: no PKCE unless told, the secret raw in the Basic field; introspection and revocation too."""

from authlib.integrations.requests_client import OAuth2Session
from talking import API, CLIENT_ID, CLIENT_SECRET, OAUTH, REDIRECT_URI, done, opened, refused

client = OAuth2Session(
    CLIENT_ID, CLIENT_SECRET, redirect_uri=REDIRECT_URI, scope="notes:read", token_endpoint=f"{OAUTH}/token"
)
url, _ = client.create_authorization_url(f"{OAUTH}/authorize")
token = client.fetch_token(authorization_response=opened(url))
called = client.get(API).status_code
refreshed = client.refresh_token(f"{OAUTH}/token")
again = client.get(API).status_code
told = client.introspect_token(f"{OAUTH}/introspect", token=refreshed["access_token"]).json()
revoked = client.revoke_token(f"{OAUTH}/revoke", token=refreshed["refresh_token"])
done(
    scope=token["scope"],
    rotated=token["refresh_token"] != refreshed["refresh_token"],
    active=told["active"],
    revoked=[revoked.status_code, revoked.json()],
    calls=[called, again, refused(lambda: client.get(API).status_code)],
)
