// What a client's program says to the test that runs it: JSON, a line each.
import { createInterface } from "node:readline";

export const { ISSUER, API, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, MCP } = process.env;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** The address at which a person's browser ends that was sent to `url`. */
export async function opened(url) {
  console.log(JSON.stringify({ open: String(url) }));
  return (await lines.next()).value;
}

/** What a call is answered once its token is revoked, which is so within a second. */
export async function refused(call) {
  const ends = Date.now() + 1000;
  let status;
  do status = await call();
  while (status === 200 && Date.now() < ends);
  return status;
}

/** What came of it. */
export function done(facts) {
  console.log(JSON.stringify({ done: facts }));
  process.exit(0);
}
