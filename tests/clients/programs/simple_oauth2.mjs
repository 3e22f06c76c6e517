// simple-oauth2: no PKCE at all, and the secret percent-encoded in the Basic field.
import simple from "simple-oauth2";
import { API, CLIENT_ID, CLIENT_SECRET, ISSUER, REDIRECT_URI, done, opened, refused } from "./talking.mjs";

const known = { id: CLIENT_ID, secret: CLIENT_SECRET };
const auth = { tokenHost: ISSUER, tokenPath: "/oauth2/token", revokePath: "/oauth2/revoke" };
const call = async ({ token }) =>
  (await fetch(API, { headers: { Authorization: `Bearer ${token.access_token}` } })).status;

const client = new simple.AuthorizationCode({ client: known, auth: { ...auth, authorizePath: "/oauth2/authorize" } });
const url = client.authorizeURL({ redirect_uri: REDIRECT_URI, scope: "notes:read", state: "a state" });
const code = new URL(await opened(url)).searchParams.get("code");
const first = await client.getToken({ code, redirect_uri: REDIRECT_URI });
const calls = [await call(first)];
const second = await first.refresh();
calls.push(await call(second));
await second.revokeAll();
calls.push(await refused(() => call(second)));

const itself = await new simple.ClientCredentials({ client: known, auth }).getToken({ scope: "notes:read" });
done({ scope: first.token.scope, expired: first.expired(), calls: [...calls, await call(itself)] });
