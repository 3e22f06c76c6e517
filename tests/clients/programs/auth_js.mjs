// Auth.js over Node's own server, with the settings of docs/openid-connect.md.
import { createServer } from "node:http";
import { Auth } from "@auth/core";
import { settings } from "./settings.mjs";

const { PORT } = process.env;

createServer(async (message, answer) => {
  const parts = [];
  for await (const part of message) parts.push(part);
  const body = message.method === "POST" ? Buffer.concat(parts) : undefined;
  const url = `http://127.0.0.1:${PORT}${message.url}`;
  const response = await Auth(new Request(url, { method: message.method, headers: message.headers, body }), settings);
  const headers = Object.fromEntries(response.headers);
  answer.writeHead(response.status, { ...headers, "set-cookie": response.headers.getSetCookie() });
  answer.end(Buffer.from(await response.arrayBuffer()));
}).listen(PORT, "127.0.0.1");
