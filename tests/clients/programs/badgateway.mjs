// @badgateway/oauth2-client: it finds everything by the metadata, and authenticates as is named there first.
import { OAuth2Client, generateCodeVerifier } from "@badgateway/oauth2-client";
import { API, CLIENT_ID, CLIENT_SECRET, ISSUER, REDIRECT_URI, done, opened, refused } from "./talking.mjs";

const client = new OAuth2Client({
  server: `${ISSUER}/`,
  clientId: CLIENT_ID,
  clientSecret: CLIENT_SECRET,
  discoveryEndpoint: "/.well-known/oauth-authorization-server",
});
const call = async (token) =>
  (await fetch(API, { headers: { Authorization: `Bearer ${token.accessToken}` } })).status;

const codeVerifier = await generateCodeVerifier();
const shared = { redirectUri: REDIRECT_URI, state: "a state", codeVerifier };
const url = await client.authorizationCode.getAuthorizeUri({ ...shared, scope: ["notes:read"], resource: API });
const first = await client.authorizationCode.getTokenFromCodeRedirect(await opened(url), { ...shared, resource: API });
const second = await client.refreshToken(first);
const told = await client.introspect(second);
const calls = [await call(first), await call(second)];
await client.revoke(second);
calls.push(await refused(() => call(second)));
const itself = await client.clientCredentials({ scope: ["notes:read"] });
done({ active: told.active, aud: told.aud, scope: told.scope, calls: [...calls, await call(itself)] });
