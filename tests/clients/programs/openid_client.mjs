// openid-client: it finds the server by openid-configuration, and posts its secret.
import * as client from "openid-client";
import { API, CLIENT_ID, CLIENT_SECRET, ISSUER, REDIRECT_URI, done, opened, refused } from "./talking.mjs";

const insecure = { execute: [client.allowInsecureRequests] }; // plain http on this computer
const config = await client.discovery(new URL(ISSUER), CLIENT_ID, CLIENT_SECRET, undefined, insecure);
const call = async (token) =>
  (await client.fetchProtectedResource(config, token, new URL(API), "GET").catch((error) => error)).status;

async function authorized(address, verifier, state) {
  const url = new URL(await opened(address));
  return client.authorizationCodeGrant(config, url, { pkceCodeVerifier: verifier, expectedState: state });
}

async function request(more = {}) {
  const verifier = client.randomPKCECodeVerifier();
  const state = client.randomState();
  const code_challenge = await client.calculatePKCECodeChallenge(verifier);
  const parameters = { redirect_uri: REDIRECT_URI, scope: "notes:read", state, code_challenge, ...more };
  return [{ ...parameters, code_challenge_method: "S256" }, verifier, state];
}

const [parameters, verifier, state] = await request();
const first = await authorized(client.buildAuthorizationUrl(config, parameters), verifier, state);
const second = await client.refreshTokenGrant(config, first.refresh_token);
const told = await client.tokenIntrospection(config, second.access_token);
const calls = [await call(first.access_token), await call(second.access_token)];
await client.tokenRevocation(config, second.refresh_token);
calls.push(await refused(() => call(second.access_token)));

// Pushed (RFC 9126), for one resource (RFC 8707)
const [pushed, ...proof] = await request({ resource: API });
const third = await authorized(await client.buildAuthorizationUrlWithPAR(config, pushed), ...proof);
const limited = await client.tokenIntrospection(config, third.access_token);

// For itself
const own = await client.clientCredentialsGrant(config, { scope: "notes:read" });

// A device (RFC 8628), which asks for the first time after five seconds
const device = await client.initiateDeviceAuthorization(config, { scope: "notes:read" });
await opened(device.verification_uri_complete);
const shown = await client.pollDeviceAuthorizationGrant(config, device);

// One that registers itself (RFC 7591)
const metadata = { redirect_uris: [REDIRECT_URI], client_name: "Registered", token_endpoint_auth_method: "none" };
const registered = await client.dynamicClientRegistration(new URL(ISSUER), metadata, client.None(), insecure);

done({
  scope: first.scope,
  active: told.active,
  aud: limited.aud,
  calls: [...calls, await call(third.access_token), await call(own.access_token), await call(shown.access_token)],
  registered: Boolean(registered.clientMetadata().client_id),
});
