// The MCP SDK's client for TypeScript, told nothing but the server's address.
import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { MCP, REDIRECT_URI, done, opened } from "./talking.mjs";

const kept = {};
const sentTo = [];
let answer;
const authProvider = {
  redirectUrl: REDIRECT_URI,
  clientMetadata: {
    client_name: "TypeScript SDK",
    redirect_uris: [REDIRECT_URI],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  state: () => "a state",
  clientInformation: () => kept.client,
  saveClientInformation: (client) => void (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => void (kept.tokens = tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
  redirectToAuthorization: async (url) => {
    const asked = ["scope", "resource", "prompt"].filter((name) => url.searchParams.has(name));
    sentTo.push(Object.fromEntries(asked.map((name) => [name, url.searchParams.get(name)])));
    answer = new URL(await opened(url));
  },
};

async function connected() {
  const transport = new StreamableHTTPClientTransport(new URL(MCP), { authProvider });
  const client = new Client({ name: "a test", version: "1" });
  try {
    await client.connect(transport);
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    await transport.finishAuth(answer.searchParams.get("code"));
    return connected();
  }
  return client;
}

const client = await connected();
const steps = [];
const sum = await client.callTool({ name: "add", arguments: { a: 19, b: 23 } });
const onprogress = ({ progress }) => steps.push(progress);
const counted = await client.callTool({ name: "count", arguments: { to: 3 } }, undefined, { onprogress });
const results = [sum, counted].map((result) => result.structuredContent.result);
await client.close();
done({ results, steps, sent_to: sentTo, scope: kept.tokens.scope });
