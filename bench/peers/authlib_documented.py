"""An authorization server as Authlib's documentation has one written: Flask-SQLAlchemy, with the models and functions
that the library brings for it. FLOW_DSN, FLOW_CLIENT and FLOW_REDIRECT are those of `authlib_app.py`.

It keeps a row of what it issues, like the other one; beside it stand the documentation's `User` and `OAuth2Client`.
"""

import os
import secrets
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer  # type: ignore[import-untyped]
from authlib.integrations.sqla_oauth2 import (  # type: ignore[import-untyped]
    OAuth2AuthorizationCodeMixin,
    OAuth2ClientMixin,
    OAuth2TokenMixin,
    create_query_client_func,
    create_save_token_func,
)
from authlib.oauth2.rfc6749 import grants  # type: ignore[import-untyped]
from authlib.oauth2.rfc7636 import CodeChallenge  # type: ignore[import-untyped]
from flask import Flask, redirect, request, session
from flask_sqlalchemy import SQLAlchemy  # type: ignore[import-not-found]
from pages import CONSENT, LOGIN  # type: ignore[import-not-found]

app = Flask(__name__)
app.secret_key = secrets.token_bytes(32)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["FLOW_DSN"].replace("postgresql://", "postgresql+psycopg://", 1)
db = SQLAlchemy(app)


class User(db.Model):  # type: ignore[misc,name-defined]
    """Whoever signs in."""

    id = db.Column(db.Integer, primary_key=True)
    username = db.Column(db.String(40), unique=True)

    def get_user_id(self) -> int:
        return int(self.id)


class Of:
    """Whose a client, a code or a token is."""

    id = db.Column(db.Integer, primary_key=True)
    user_id = db.Column(db.Integer, db.ForeignKey("user.id", ondelete="CASCADE"))


class OAuth2Client(Of, db.Model, OAuth2ClientMixin):  # type: ignore[misc,name-defined]
    """The library's client."""

    __tablename__ = "oauth2_client"


class OAuth2AuthorizationCode(Of, db.Model, OAuth2AuthorizationCodeMixin):  # type: ignore[misc,name-defined]
    """The library's code."""

    __tablename__ = "oauth2_code"


class OAuth2Token(Of, db.Model, OAuth2TokenMixin):  # type: ignore[misc,name-defined]
    """The library's token."""

    __tablename__ = "oauth2_token"


class CodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc]
    """RFC 6749, section 4.1."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)

    def save_authorization_code(self, code: str, request: Any) -> None:
        data, payload = request.payload.data, request.payload
        item = OAuth2AuthorizationCode(
            code=code,
            client_id=request.client.client_id,
            redirect_uri=payload.redirect_uri,
            scope=payload.scope,
            user_id=request.user.id,
            code_challenge=data.get("code_challenge"),
            code_challenge_method=data.get("code_challenge_method"),
        )
        db.session.add(item)
        db.session.commit()

    def query_authorization_code(self, code: str, client: OAuth2Client) -> OAuth2AuthorizationCode | None:
        item = OAuth2AuthorizationCode.query.filter_by(code=code, client_id=client.client_id).first()
        return None if item is None or item.is_expired() else item

    def delete_authorization_code(self, authorization_code: OAuth2AuthorizationCode) -> None:
        db.session.delete(authorization_code)
        db.session.commit()

    def authenticate_user(self, authorization_code: OAuth2AuthorizationCode) -> User | None:
        return db.session.get(User, authorization_code.user_id)  # type: ignore[no-any-return]


server = AuthorizationServer(
    app,
    query_client=create_query_client_func(db.session, OAuth2Client),
    save_token=create_save_token_func(db.session, OAuth2Token),
)
server.register_grant(CodeGrant, [CodeChallenge(required=True)])
login, consent = app.jinja_env.from_string(LOGIN), app.jinja_env.from_string(CONSENT)
with app.app_context():
    db.create_all()
    known = OAuth2Client(client_id=os.environ["FLOW_CLIENT"], client_id_issued_at=0)
    known.set_client_metadata(
        {
            "client_name": "Flow",
            "grant_types": ["authorization_code"],
            "redirect_uris": [os.environ["FLOW_REDIRECT"]],
            "response_types": ["code"],
            "scope": "read",
            "token_endpoint_auth_method": "none",
        }
    )
    db.session.add(known)
    db.session.commit()


@app.route("/authorize", methods=["GET", "POST"])
def authorize() -> Any:
    """The authorization endpoint and its pages."""
    user = db.session.get(User, session["id"]) if "id" in session else None
    if user is None and request.method == "GET":
        return login.render()
    if user is None:
        user = User.query.filter_by(username=request.form["username"]).first()
        if user is None:
            user = User(username=request.form["username"])
            db.session.add(user)
            db.session.commit()
        session["id"], session["csrf"] = user.id, secrets.token_urlsafe(16)
        return redirect(request.url, 303)
    grant = server.get_consent_grant(end_user=user)
    if request.method == "GET":
        scope = request.args.get("scope", "")
        return consent.render(client=grant.client.client_name, scope=scope, csrf=session["csrf"])
    if not secrets.compare_digest(request.form.get("csrf_token", ""), session["csrf"]):
        return "expired", 403
    allowed = request.form.get("decision") == "allow"
    return server.create_authorization_response(grant=grant, grant_user=user if allowed else None)


@app.post("/token")
def token() -> Any:
    """The token endpoint."""
    return server.create_token_response()
