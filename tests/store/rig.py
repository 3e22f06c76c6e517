"""A person, a client and a browser, so that a test begins where its own matter begins."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from msgspec import structs

from gateway.crypto import hash_password, random_text
from gateway.errors import OAuthError, StoreUnavailable
from gateway.model import Client, User
from gateway.oauth import pkce
from gateway.oauth.authorize import AuthorizationRequest
from gateway.oauth.grants import CodeGrant, RefreshGrant
from gateway.store import Clock, IssuedTokens, NewClient, Store
from tests.serving import until

PASSWORD_HASH = hash_password("an obviously fake password")
VERIFIER = "obviously-a-fake-verifier-of-43-characters.."
REDIRECT_URI = "https://client.example/cb"
API = "https://api.example.com/notes"

NEW_CLIENT = NewClient(
    name="Example",
    confidential=True,
    redirect_uris=(REDIRECT_URI,),
    grant_types=frozenset({"authorization_code", "refresh_token", "client_credentials"}),
    scopes=frozenset({"read", "write"}),
    token_type="bearer",
    mac_drafts=("01",),
    mac_algorithm="hmac-sha-256",
)


class MovableClock(Clock):
    """The real time plus what a test adds to it; or a moment at which it stands still but for that."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead = timedelta()
        self._stopped_at: datetime | None = None

    def advance(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)

    def stop(self) -> None:
        """Let what a test does from now on take none of the time that it judges."""
        self._stopped_at = super().__call__()

    def __call__(self) -> datetime:
        return (self._stopped_at or super().__call__()) + self._ahead


@dataclass
class Rig:
    """One signed-in person and one client, on one store."""

    store: Store
    user: User
    client: Client
    secret: str
    session_id: str
    session_token: str = field(repr=False)

    @classmethod
    async def build(cls, store: Store, *, username: str = "ada", client: NewClient = NEW_CLIENT) -> "Rig":
        user = await store.users.create(username, f"{username}@example.com", username.title(), PASSWORD_HASH)
        made, secret = await store.clients.create(client)
        token = random_text()
        session = await store.sessions.start(user.subject, token, 3600)
        assert session is not None
        return cls(store, user, made, secret or "", session.session_id, token)

    def request(self, **changes: Any) -> AuthorizationRequest:
        request = AuthorizationRequest(
            client_id=self.client.client_id,
            redirect_uri=REDIRECT_URI,
            scopes=frozenset({"read", "write"}),
            state=b"state",
            code_challenge=pkce.challenge_of(VERIFIER),
        )
        return structs.replace(request, **changes)

    async def code(self, scopes: frozenset[str] | None = None, ttl: float = 60, **changes: Any) -> str:
        request = self.request(**changes)
        flow = self.store.flows.start(self.user.subject, request)
        code = await self.store.flows.allow(flow, self.session_id, scopes or request.scopes, ttl)
        assert code is not None
        return code

    async def redeem(
        self,
        code: str,
        *,
        store: Store | None = None,
        client: Client | None = None,
        now: datetime | None = None,
        **changes: Any,
    ) -> IssuedTokens:
        store = store or self.store
        grant = replace(CodeGrant(code, REDIRECT_URI, VERIFIER), **changes)
        return await store.tokens.redeem(client or self.client, grant, now or store.now())

    async def tokens(self, **changes: Any) -> IssuedTokens:
        return await self.redeem(await self.code(**changes))

    async def refresh(
        self,
        refresh_token: str | None,
        *,
        store: Store | None = None,
        client: Client | None = None,
        now: datetime | None = None,
        **asked: Any,
    ) -> IssuedTokens:
        store = store or self.store
        assert refresh_token is not None
        return await store.tokens.refresh(
            client or self.client, RefreshGrant(refresh_token, **asked), now or store.now()
        )

    async def lives(self, tokens: IssuedTokens) -> bool:
        return await self.store.access_tokens.find(tokens.access_token) is not None


async def fetch(dsn: str, sql: str, *args: object) -> list[asyncpg.Record]:
    """What a second pair of eyes sees in the database."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(sql, *args)
    finally:
        await connection.close()


async def count(dsn: str, table: str) -> int:
    rows = await fetch(dsn, f"select count(*) as n from {table}")
    return int(rows[0]["n"])


async def aged(dsn: str, seconds: float) -> None:
    """Let so much time have passed since everything that the database holds."""
    columns = await fetch(
        dsn,
        "select table_name, string_agg(format('%1$I = %1$I - $1::interval', column_name), ', ') as shifts "
        "from information_schema.columns join information_schema.tables using (table_schema, table_name) "
        "where table_schema = 'public' and table_type = 'BASE TABLE' and data_type = 'timestamp with time zone' "
        "group by table_name",
    )
    for table, shifts in columns:
        await fetch(dsn, f"update {table} set {shifts}", timedelta(seconds=seconds))


async def everything(dsn: str) -> dict[str, list[str]]:
    """Every row of every table, as text: what a plain dump holds."""
    tables = await fetch(dsn, "select tablename from pg_tables where schemaname = 'public'")
    return {
        table: [row["line"] for row in await fetch(dsn, f"select t::text as line from {table} t order by t::text")]
        for (table,) in tables
    }


async def counted(store: Store) -> None:
    """Wait until the database has all that was counted."""
    await until(lambda: store._tally._writer is None)


async def outcome(attempt: Any) -> str:
    """`ok`, the code of the protocol error that an attempt ended in, or `unavailable` where it met its deadline."""
    try:
        await attempt
    except OAuthError as exc:
        return exc.refused.error
    except StoreUnavailable:
        return "unavailable"
    return "ok"
