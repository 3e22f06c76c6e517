// A site that signs people in by the lines on openid-client in docs/openid-connect.md; it has one session.
import { createServer } from "node:http";
import { signIn, signOut, signedIn } from "./settings.mjs";

const { PORT } = process.env;
let session = {};

const pages = {
  "/": async () => [200, {}, JSON.stringify(session.who ?? null)],
  "/login": async () => [302, { location: String(await signIn(session)) }, ""],
  "/callback": async (url) => {
    session.who = await signedIn(session, url);
    return [302, { location: "/" }, ""];
  },
  "/logout": async () => {
    const location = String(signOut(session));
    session = {};
    return [302, { location }, ""];
  },
};

createServer(async (message, answer) => {
  const url = new URL(message.url, `http://127.0.0.1:${PORT}`);
  const [status, headers, body] = await pages[url.pathname](url).catch((error) => [500, {}, String(error)]);
  answer.writeHead(status, headers).end(body);
}).listen(PORT, "127.0.0.1");
