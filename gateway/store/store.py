"""The store: every read and write that Gateway makes, one method a transaction."""

from collections.abc import Sequence
from datetime import datetime

from gateway.crypto import Keyring
from gateway.errors import GatewayError
from gateway.model import AccessToken, Client, Grant, Scope, Session, TokenType, User
from gateway.store.records import Flow, FlowRequest, IssuedTokens, NewClient, SignInCandidate


class Conflict(GatewayError):
    """A name that must be unique is taken; `field` says which (username, email, scope, …)."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is taken")
        self.field = field


class Store:
    """The one door to the database. Every method raises StoreUnavailable when no answer came in time."""

    # -- life -----------------------------------------------------------------------------------------------
    @classmethod
    async def open(cls, dsn: str, keyring: Keyring, *, size: int = 10, name: str = "gateway-pool") -> "Store": ...
    async def close(self) -> None: ...
    async def ping(self) -> None: ...

    # -- users ----------------------------------------------------------------------------------------------
    async def create_user(self, username: str, email: str | None, name: str | None, password_hash: str) -> User: ...
    async def users(self) -> list[User]: ...
    async def user(self, username: str) -> User | None: ...
    async def set_password(self, username: str, password_hash: str) -> bool:
        """Also ends every session of the user."""

    async def disable_user(self, username: str, disabled: bool = True) -> bool: ...
    async def delete_user(self, username: str) -> bool: ...

    # -- clients --------------------------------------------------------------------------------------------
    async def create_client(self, client: NewClient) -> tuple[Client, str | None]:
        """The client, and its secret if it is confidential (the only time it is seen)."""

    async def clients(self) -> list[Client]: ...
    async def client(self, client_id: str) -> Client | None:
        """Also a disabled one; the caller looks at `disabled_at`."""

    async def update_client(self, client_id: str, changes: NewClient) -> Client | None: ...
    async def rotate_secret(self, client_id: str, overlap: float = 0.0) -> str | None: ...
    async def disable_client(self, client_id: str, disabled: bool = True) -> bool: ...
    async def delete_client(self, client_id: str) -> bool: ...
    async def authenticate_client(self, client_id: str, secret: str) -> Client | None:
        """The live client whose secret this is; counts wrong ones (never locks below 100)."""

    # -- scopes (the configuration's own are merged in by the caller) -----------------------------------------
    async def create_scope(self, name: str, description: str) -> Scope: ...
    async def scopes(self) -> list[Scope]: ...
    async def delete_scope(self, name: str) -> bool: ...

    # -- sign-in and sessions ---------------------------------------------------------------------------------
    async def sign_in_candidate(self, login: str) -> SignInCandidate | None:
        """The live user with that user name or e-mail address."""

    async def sign_in_wait(self, account: str, browser: str | None) -> float:
        """Seconds until another attempt for the account is heard: 0 when it may be tried now.

        `account` is the subject, or the lower-case login where no user has it; `browser` is the identifier of
        a browser that signed in to this account before, which has an allowance of its own.
        """

    async def sign_in_failed(self, account: str, browser: str | None) -> None: ...
    async def start_session(self, subject: str, session_token: str, lifetime: float) -> Session | None:
        """A new session under the digest of `session_token`; clears the count of wrong passwords."""

    async def session(self, session_token: str) -> Session | None: ...
    async def end_session(self, session_token: str) -> bool: ...

    # -- flows, consent and codes -----------------------------------------------------------------------------
    async def start_flow(self, session_id: str, request: FlowRequest, lifetime: float = 600.0) -> Flow | None: ...
    async def flow(self, flow_id: str, session_id: str) -> Flow | None:
        """A flow that still awaits a decision, if it belongs to this session."""

    async def granted_scopes(self, subject: str, client_id: str) -> frozenset[str]: ...
    async def allow(self, flow_id: str, session_id: str, scopes: frozenset[str], code_ttl: float) -> str | None:
        """AwaitingConsent → Granted → a code, once; records the grant. None when the flow is not open."""

    async def deny(self, flow_id: str, session_id: str) -> bool: ...
    async def issue_code(self, session_id: str, request: FlowRequest, code_ttl: float, *, remember: bool) -> str | None:
        """A code without asking (remembered consent, or a first-party client: `remember` records the grant)."""

    # -- tokens -------------------------------------------------------------------------------------------------
    # redeem_code, refresh and client_credentials raise OAuthError after the commit where they refuse.
    async def redeem_code(
        self,
        client: Client,
        code: str,
        redirect_uri: str | None,
        code_verifier: str | None,
        resource: tuple[str, ...],
        now: datetime,
    ) -> IssuedTokens: ...
    async def refresh(
        self,
        client: Client,
        refresh_token: str,
        scopes: frozenset[str] | None,
        resource: tuple[str, ...],
        now: datetime,
    ) -> IssuedTokens: ...
    async def client_credentials(
        self, client: Client, scopes: frozenset[str], resource: tuple[str, ...], now: datetime
    ) -> IssuedTokens: ...
    async def issue_token(
        self, client_id: str, username: str | None, scopes: frozenset[str], ttl: float, token_type: TokenType | None
    ) -> IssuedTokens:
        """The operator's own act (`gateway token issue`): no grant type or consent is needed."""

    async def access_token(self, token: str) -> AccessToken | None:
        """The live token, or None when it is unknown, expired, revoked, or its client, user or grant is dead."""

    async def introspect(self, token: str) -> dict[str, object]:
        """RFC 7662 members for an access or refresh token; {"active": False} for anything dead or unknown."""

    async def revoke_token(self, token: str, client: Client | None) -> bool:
        """RFC 7009 for `client`, or the operator's act with None. A refresh token takes its family with it."""

    async def revoke_user(self, username: str) -> int | None: ...
    async def revoke_client(self, client_id: str) -> int | None: ...

    # -- connected applications -----------------------------------------------------------------------------------
    async def grants(self, subject: str) -> list[Grant]: ...
    async def withdraw(self, subject: str, client_id: str) -> bool:
        """Ends the grant and everything that was issued from it."""

    # -- MAC nonces -------------------------------------------------------------------------------------------------
    async def spend_nonces(self, nonces: Sequence[tuple[bytes, datetime]]) -> list[bool]:
        """For each (16-byte key, when it may be forgotten): whether it was spent now, for the first time."""

    # -- housekeeping -----------------------------------------------------------------------------------------------
    async def sweep(self, batch: int = 1000) -> int:
        """Remove what expired, in one bounded batch, by whichever worker holds the advisory lock."""
