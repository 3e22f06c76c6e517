"""Authorization requests after sign-in, the person's decision, and the code.

    AwaitingConsent ──allow──▶ Granted(scopes) ──▶ a code, once
                    ──deny───▶ Denied

A flow belongs to the person in whose session it began. Each transition stands guarded in its statement, so that of two
answers that come at once one counts; the flow keeps it, with its code sealed, for the other to be told the same. Two
tabs are two flows.
"""

from datetime import timedelta
from typing import Final

from gateway.crypto import Keyring, UnsealError, digest, new_identifier
from gateway.oauth.authorize import AuthorizationRequest
from gateway.store.clock import Now
from gateway.store.database import Database, Row
from gateway.store.records import Flow
from gateway.store.text import storable

_ANSWER: Final = "flow-answer"  # the purpose that a flow's code is sealed for


def _flow_of(row: Row, keyring: Keyring) -> Flow:
    return Flow(
        flow_id=row["flow_id"],
        subject=row["subject"],
        request=AuthorizationRequest.from_json(row["request"]),
        expires_at=row["expires_at"],
        decision=row["decision"],
        allowed=frozenset(row["allowed"] or ()),
        code=_opened(row, keyring) if row["usable"] else None,
        spent=row["spent"],
    )


def _opened(row: Row, keyring: Keyring) -> str | None:
    try:
        return keyring.unseal(_ANSWER, row["flow_id"], row["sealed_code"]).decode()
    except UnsealError:  # its master key is gone
        return None


class Flows:
    """Flows, and the codes that come of them or of a standing grant."""

    def __init__(self, database: Database, now: Now, keyring: Keyring) -> None:
        self._database, self._now, self._keyring = database, now, keyring

    async def start(self, session_id: str, request: AuthorizationRequest, lifetime: float = 600.0) -> Flow | None:
        """A request that awaits its decision; None when the session, user or client is dead."""
        now = self._now()
        row = await self._database.row(
            "flow_start",
            flow_id=new_identifier("f"),
            session_id=session_id,
            client_id=request.client_id,
            request=request.to_json(),
            now=now,
            expires_at=now + timedelta(seconds=lifetime),
        )
        return None if row is None else _flow_of(row, self._keyring)

    async def find(self, flow_id: str, session_id: str) -> Flow | None:
        """A flow of the person who is signed in by this session, answered or not."""
        if not storable(flow_id):
            return None
        row = await self._database.row("flow_find", flow_id=flow_id, session_id=session_id, now=self._now())
        return None if row is None else _flow_of(row, self._keyring)

    async def allow(self, flow_id: str, session_id: str, scopes: frozenset[str], code_ttl: float) -> str | None:
        """AwaitingConsent → Granted → a code, once; records the grant.

        None when the flow is not open, or `scopes` go beyond what was asked for. Scopes that were asked for and
        not allowed leave the grant, others stay in it; whatever was issued with one that left ends.
        """
        if not storable(flow_id):
            return None
        code, now = self._keyring.new_token("gwc_"), self._now()
        async with self._database.transaction() as statements:
            grant_id = await statements.value(
                "flow_allow",
                flow_id=flow_id,
                session_id=session_id,
                allowed=sorted(scopes),
                grant_id=new_identifier("g"),
                now=now,
                code=digest(code),
                expires_at=now + timedelta(seconds=code_ttl),
                sealed_code=self._keyring.seal(_ANSWER, flow_id, code.encode()),
            )
            if grant_id is not None:
                await statements.row("grants_end_beyond", grant_ids=[grant_id], now=now)
        return None if grant_id is None else code

    async def deny(self, flow_id: str, session_id: str) -> bool:
        """AwaitingConsent → Denied, once; False when the flow is not open."""
        if not storable(flow_id):
            return False
        return (
            await self._database.value("flow_deny", flow_id=flow_id, session_id=session_id, now=self._now()) is not None
        )

    async def issue_code(
        self, session_id: str, request: AuthorizationRequest, code_ttl: float, *, remember: bool
    ) -> str | None:
        """A code without asking: with `remember` the grant is written (a first-party client), without it a standing
        grant must cover the scopes at this moment.

        None when it does not, or when the session, user or client is dead.
        """
        code, now = self._keyring.new_token("gwc_"), self._now()
        issued = await self._database.value(
            "code_issue",
            session_id=session_id,
            client_id=request.client_id,
            request=request.to_json(),
            code=digest(code),
            now=now,
            expires_at=now + timedelta(seconds=code_ttl),
            grant_id=new_identifier("g"),
            remember=remember,
        )
        return None if issued is None else code
