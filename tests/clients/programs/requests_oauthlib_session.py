"""requests-oauthlib, as its documentation has it: no PKCE, and the secret raw in the Basic field."""

import os

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # plain http on this computer

from oauthlib.oauth2 import BackendApplicationClient
from requests_oauthlib import OAuth2Session
from talking import API, CLIENT_ID, CLIENT_SECRET, OAUTH, REDIRECT_URI, done, opened

token_url, credentials = f"{OAUTH}/token", (CLIENT_ID, CLIENT_SECRET)

person = OAuth2Session(CLIENT_ID, redirect_uri=REDIRECT_URI, scope=["notes:read"])
url, _ = person.authorization_url(f"{OAUTH}/authorize")
token = person.fetch_token(token_url, authorization_response=opened(url), client_secret=CLIENT_SECRET)
called = person.get(API).status_code
refreshed = person.refresh_token(token_url, auth=credentials)
again = person.get(API).status_code

itself = OAuth2Session(client=BackendApplicationClient(CLIENT_ID, scope=["notes:read"]))
itself.fetch_token(token_url, auth=credentials)

done(
    scope=" ".join(token["scope"]),
    rotated=token["refresh_token"] != refreshed["refresh_token"],
    calls=[called, again, itself.get(API).status_code],
)
