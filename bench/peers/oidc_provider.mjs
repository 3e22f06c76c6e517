// node oidc-provider with its own pages, what it keeps in Postgres: ISSUER, FLOW_DSN, FLOW_CLIENT, FLOW_REDIRECT.
import Provider from "oidc-provider";
import pg from "pg";

const { FLOW_CLIENT, FLOW_DSN, FLOW_REDIRECT, ISSUER } = process.env;
const pool = new pg.Pool({ connectionString: FLOW_DSN, max: 4 });
await pool.query(`
  create table if not exists oidc_payloads (
    id text not null, type text not null, payload jsonb not null, grant_id text, uid text, user_code text,
    expires_at timestamptz, consumed_at timestamptz, primary key (id, type)
  );
  create index if not exists oidc_payloads_uid on oidc_payloads (uid);
  create index if not exists oidc_payloads_grant_id on oidc_payloads (grant_id);
`);

// The adapter of the project's own example for a table of JSON documents.
class Adapter {
  constructor(type) {
    this.type = type;
  }

  async upsert(id, payload, expiresIn) {
    await pool.query(
      `insert into oidc_payloads (id, type, payload, grant_id, uid, user_code, expires_at)
       values ($1, $2, $3, $4, $5, $6, now() + $7 * interval '1 second')
       on conflict (id, type) do update set payload = $3, grant_id = $4, uid = $5, user_code = $6,
         expires_at = now() + $7 * interval '1 second'`,
      [id, this.type, payload, payload.grantId, payload.uid, payload.userCode, expiresIn],
    );
  }

  async #one(column, value) {
    const { rows } = await pool.query(
      `select payload, consumed_at from oidc_payloads
       where ${column} = $1 and type = $2 and (expires_at is null or expires_at > now())`,
      [value, this.type],
    );
    if (!rows.length) return undefined;
    return { ...rows[0].payload, ...(rows[0].consumed_at ? { consumed: true } : {}) };
  }

  find = (id) => this.#one("id", id);
  findByUid = (uid) => this.#one("uid", uid);
  findByUserCode = (code) => this.#one("user_code", code);
  consume = (id) =>
    pool.query("update oidc_payloads set consumed_at = now() where id = $1 and type = $2", [id, this.type]);
  destroy = (id) => pool.query("delete from oidc_payloads where id = $1 and type = $2", [id, this.type]);
  revokeByGrantId = (grantId) => pool.query("delete from oidc_payloads where grant_id = $1", [grantId]);
}

const provider = new Provider(ISSUER, {
  adapter: Adapter,
  clients: [
    {
      client_id: FLOW_CLIENT,
      grant_types: ["authorization_code"],
      redirect_uris: [FLOW_REDIRECT],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
    },
  ],
  cookies: { keys: ["obviously-a-fake-cookie-key"] },
  findAccount: (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  pkce: { required: () => true },
  scopes: ["read"],
});
provider.listen(Number(new URL(ISSUER).port), "127.0.0.1");
