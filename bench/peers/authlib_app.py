"""An authorization server with Authlib and Flask at its leanest: pages with forms, and SQL by hand for codes and tokens
in Postgres.

FLOW_DSN names the database, FLOW_CLIENT and FLOW_REDIRECT the public client. Passwords are not looked at: the flow is
measured, not the hash. What it imports stands in the peers' own folder, where the type checker does not look.
"""

import os
import secrets
import time
from typing import Any

import psycopg  # type: ignore[import-not-found]
from authlib.integrations.flask_oauth2 import AuthorizationServer  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, grants  # type: ignore[import-untyped]
from authlib.oauth2.rfc7636 import CodeChallenge  # type: ignore[import-untyped]
from flask import Flask, redirect, request, session
from pages import CONSENT, LOGIN  # type: ignore[import-not-found]
from psycopg.rows import dict_row  # type: ignore[import-not-found]
from psycopg_pool import ConnectionPool  # type: ignore[import-not-found]

SCHEMA = """
create table if not exists people (id text primary key);
create table if not exists oauth_clients (id text primary key, redirect_uris text[] not null, scope text not null);
create table if not exists oauth_codes (
    code text primary key, client_id text not null references oauth_clients, person text not null references people,
    redirect_uri text, scope text not null, code_challenge text, code_challenge_method text, auth_time bigint not null
);
create table if not exists oauth_tokens (
    token text primary key, client_id text not null references oauth_clients, person text references people,
    scope text not null, issued_at bigint not null, expires_in integer not null
);
"""

app = Flask(__name__)
app.secret_key = secrets.token_bytes(32)
login, consent = app.jinja_env.from_string(LOGIN), app.jinja_env.from_string(CONSENT)
pool = ConnectionPool(os.environ["FLOW_DSN"], min_size=4, max_size=4, kwargs={"row_factory": dict_row}, open=True)


class Client(ClientMixin):  # type: ignore[misc]
    """The row of a public client."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row

    def get_client_id(self) -> str:
        return str(self.row["id"])

    def get_default_redirect_uri(self) -> str:
        return str(self.row["redirect_uris"][0])

    def get_allowed_scope(self, scope: str) -> str:
        return " ".join(name for name in scope.split() if name in self.row["scope"].split())

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.row["redirect_uris"]

    def check_client_secret(self, _client_secret: str) -> bool:
        return False

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        return method == "none"

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


class Code(AuthorizationCodeMixin):  # type: ignore[misc]
    """The row of a code; its members have the names that Authlib looks for."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.__dict__ |= row

    def get_redirect_uri(self) -> str:
        return str(self.redirect_uri)

    def get_scope(self) -> str:
        return str(self.scope)


class CodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc]
    """RFC 6749, section 4.1, over the tables."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)

    def save_authorization_code(self, code: str, request: Any) -> None:
        data = request.payload.data
        with pool.connection() as connection:
            connection.execute(
                "insert into oauth_codes values (%s, %s, %s, %s, %s, %s, %s, %s)",
                (code, request.client.get_client_id(), request.user, request.payload.redirect_uri,
                 request.payload.scope or "", data.get("code_challenge"), data.get("code_challenge_method"),
                 int(time.time())),
            )  # fmt: skip

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        with pool.connection() as connection:
            row = connection.execute(
                "select * from oauth_codes where code = %s and client_id = %s and auth_time > %s",
                (code, client.get_client_id(), int(time.time()) - 60),
            ).fetchone()
        return None if row is None else Code(row)

    def delete_authorization_code(self, authorization_code: Code) -> None:
        with pool.connection() as connection:
            connection.execute("delete from oauth_codes where code = %s", (authorization_code.code,))

    def authenticate_user(self, authorization_code: Code) -> str:
        return str(authorization_code.person)


def query_client(client_id: str) -> Client | None:
    """The client of that identifier."""
    with pool.connection() as connection:
        row = connection.execute("select * from oauth_clients where id = %s", (client_id,)).fetchone()
    return None if row is None else Client(row)


def save_token(token: dict[str, Any], request: Any) -> None:
    """Keep a token that goes out."""
    with pool.connection() as connection:
        connection.execute(
            "insert into oauth_tokens values (%s, %s, %s, %s, %s, %s)",
            (token["access_token"], request.client.get_client_id(), request.user, token.get("scope") or "",
             int(time.time()), token["expires_in"]),
        )  # fmt: skip


server = AuthorizationServer(app, query_client=query_client, save_token=save_token)
server.register_grant(CodeGrant, [CodeChallenge(required=True)])
with psycopg.connect(os.environ["FLOW_DSN"]) as made:
    made.execute(SCHEMA)
    made.execute(
        "insert into oauth_clients values (%s, %s, 'read') on conflict do nothing",
        (os.environ["FLOW_CLIENT"], [os.environ["FLOW_REDIRECT"]]),
    )


@app.route("/authorize", methods=["GET", "POST"])
def authorize() -> Any:
    """The authorization endpoint and its pages."""
    person = session.get("person")
    if person is None and request.method == "GET":
        return login.render()
    if person is None:
        session["person"], session["csrf"] = request.form["username"], secrets.token_urlsafe(16)
        with pool.connection() as connection:
            connection.execute("insert into people values (%s) on conflict do nothing", (request.form["username"],))
        return redirect(request.url, 303)
    grant = server.get_consent_grant(end_user=person)
    if request.method == "GET":
        scope = request.args.get("scope", "")
        return consent.render(client=grant.client.get_client_id(), scope=scope, csrf=session["csrf"])
    if not secrets.compare_digest(request.form.get("csrf_token", ""), session["csrf"]):
        return "expired", 403
    allowed = request.form.get("decision") == "allow"
    return server.create_authorization_response(grant=grant, grant_user=person if allowed else None)


@app.post("/token")
def token() -> Any:
    """The token endpoint."""
    return server.create_token_response()
