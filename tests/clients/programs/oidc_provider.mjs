// node oidc-provider as an issuer of access tokens that a gateway's routes take: a certified server of somebody else's.
// What it needs: ISSUER, where it is to listen; API, a route that names it; RESOURCE, what it calls that.
import { exportJWK, generateKeyPair } from "jose";
import Provider from "oidc-provider";
import { API, ISSUER, done } from "./talking.mjs";

const { RESOURCE } = process.env;
const SECRET = "obviously-a-fake-secret";
const keys = [];
for (const alg of ["RS256", "ES256"]) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  keys.push({ ...(await exportJWK(privateKey)), alg, use: "sig", kid: alg });
}

/** A client whose tokens are for its own resource, signed by its own algorithm. */
const client = (client_id) => ({
  client_id,
  client_secret: SECRET,
  grant_types: ["client_credentials"],
  redirect_uris: [],
  response_types: [],
});
const resources = {
  [`${RESOURCE}`]: { audience: RESOURCE, scope: "read write", accessTokenFormat: "jwt", jwt: { sign: { alg: "ES256" } } },
  "urn:rsa": { audience: RESOURCE, scope: "read write", accessTokenFormat: "jwt", jwt: { sign: { alg: "RS256" } } },
  "urn:other": { audience: "urn:other", scope: "read write", accessTokenFormat: "jwt", jwt: { sign: { alg: "ES256" } } },
  "urn:opaque": { audience: RESOURCE, scope: "read write", accessTokenFormat: "opaque" },
};
const provider = new Provider(ISSUER, {
  jwks: { keys },
  clients: [client("app")],
  scopes: ["read", "write"],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => RESOURCE,
      getResourceServerInfo: (_ctx, resource) => resources[resource],
    },
  },
  ttl: { ClientCredentials: 600 },
});
await new Promise((listens) => provider.listen(Number(new URL(ISSUER).port), "127.0.0.1", listens));

async function token(resource, scope) {
  const answer = await fetch(`${ISSUER}/token`, {
    method: "POST",
    headers: { Authorization: `Basic ${btoa(`app:${SECRET}`)}` },
    body: new URLSearchParams({ grant_type: "client_credentials", resource, scope }),
  });
  const said = await answer.json();
  if (!said.access_token) throw new Error(JSON.stringify(said));
  return said.access_token;
}

async function call(credential) {
  const answer = await fetch(API, { headers: { Authorization: `Bearer ${credential}` } });
  await answer.text();
  return answer.status;
}

const good = await token(RESOURCE, "read");
const calls = {
  ES256: await call(good),
  again: await call(good),
  RS256: await call(await token("urn:rsa", "read")),
  "another audience": await call(await token("urn:other", "read")),
  "another scope": await call(await token(RESOURCE, "write")),
  opaque: await call(await token("urn:opaque", "read")),
  altered: await call(good.slice(0, -6) + (good.endsWith("AAAAAA") ? "BBBBBB" : "AAAAAA")),
};
done({ calls, typ: JSON.parse(atob(good.split(".")[0])).typ });
