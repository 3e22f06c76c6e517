// oauth4webapi: every answer is checked by the letter, the secret is percent-encoded in the Basic field, and the server is
// found from the API's own document (RFC 9728).
import * as oauth from "oauth4webapi";
import { API, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, done, opened, refused } from "./talking.mjs";

const insecure = { [oauth.allowInsecureRequests]: true }; // plain http on this computer
const resource = new URL(API);
const described = await oauth.resourceDiscoveryRequest(resource, insecure);
const { authorization_servers, scopes_supported } = await oauth.processResourceDiscoveryResponse(resource, described);
const issuer = new URL(authorization_servers[0]);
const discovered = await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure });
const as = await oauth.processDiscoveryResponse(issuer, discovered);
const client = { client_id: CLIENT_ID };
const authentication = oauth.ClientSecretBasic(CLIENT_SECRET);

const challenged = [];
async function call(token) {
  try {
    return (await oauth.protectedResourceRequest(token, "GET", resource, undefined, undefined, insecure)).status;
  } catch (error) {
    if (!(error instanceof oauth.WWWAuthenticateChallengeError)) throw error;
    challenged.push(...error.cause.map(({ scheme, parameters }) => [scheme, parameters.error, parameters.scope]));
    return error.status;
  }
}

const verifier = oauth.generateRandomCodeVerifier();
const state = oauth.generateRandomState();
const url = new URL(as.authorization_endpoint);
const parameters = {
  client_id: CLIENT_ID,
  redirect_uri: REDIRECT_URI,
  response_type: "code",
  scope: "notes:read",
  state,
  resource: API,
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  code_challenge_method: "S256",
};
for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
const answer = oauth.validateAuthResponse(as, client, new URL(await opened(url)), state); // also RFC 9207's iss
const redeemed = await oauth.authorizationCodeGrantRequest(
  as, client, authentication, answer, REDIRECT_URI, verifier, { additionalParameters: { resource: API }, ...insecure },
);
const first = await oauth.processAuthorizationCodeResponse(as, client, redeemed);
const rotated = await oauth.refreshTokenGrantRequest(as, client, authentication, first.refresh_token, insecure);
const second = await oauth.processRefreshTokenResponse(as, client, rotated);
const asked = await oauth.introspectionRequest(as, client, authentication, second.access_token, insecure);
const told = await oauth.processIntrospectionResponse(as, client, asked);
const calls = [await call(first.access_token), await call(second.access_token)];
const revoked = await oauth.revocationRequest(as, client, authentication, second.access_token, insecure);
await oauth.processRevocationResponse(revoked);
calls.push(await refused(() => call(second.access_token)));

done({ scope: first.scope, scopes_supported, aud: told.aud, calls, challenged });
