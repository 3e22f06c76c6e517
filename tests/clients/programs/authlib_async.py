"""Authlib over httpx, asynchronous, with PKCE, a resource, and the addresses from the metadata."""

import asyncio

from authlib.common.security import generate_token
from authlib.integrations.httpx_client import AsyncOAuth2Client
from talking import API, CLIENT_ID, CLIENT_SECRET, ISSUER, REDIRECT_URI, done, opened


async def main() -> None:
    async with AsyncOAuth2Client(
        CLIENT_ID,
        CLIENT_SECRET,
        redirect_uri=REDIRECT_URI,
        scope="notes:read notes:write",
        code_challenge_method="S256",
    ) as client:
        found = await client.request("GET", f"{ISSUER}/.well-known/oauth-authorization-server", withhold_token=True)
        known = found.json()
        verifier = generate_token(48)
        url, _ = client.create_authorization_url(known["authorization_endpoint"], code_verifier=verifier, resource=API)
        answered = await asyncio.to_thread(opened, url)
        token = await client.fetch_token(
            known["token_endpoint"], authorization_response=answered, code_verifier=verifier, resource=API
        )
        called = (await client.get(API)).status_code
        told = (await client.introspect_token(known["introspection_endpoint"], token=token["access_token"])).json()
        await client.refresh_token(known["token_endpoint"])
        again = (await client.post(API)).status_code
        revoked = await client.revoke_token(known["revocation_endpoint"], token=client.token["access_token"])
        done(
            scope=token["scope"], aud=told["aud"], revoked=[revoked.status_code, revoked.json()], calls=[called, again]
        )


asyncio.run(main())
