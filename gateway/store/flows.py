"""Authorization requests after sign-in, the person's decision, the grants that remember it, and the code.

    AwaitingConsent ──allow──▶ Granted(scopes) ──▶ a code, once
                    ──deny───▶ Denied

A flow belongs to the person in whose session it began. Each transition stands guarded in its statement, so that of two
answers that come at once one counts; the flow keeps it, with its code sealed, for the other to be told the same. Two
tabs are two flows.
"""

from datetime import timedelta
from typing import Final

from gateway.crypto import Keyring, UnsealError, digest, new_identifier
from gateway.model import Grant
from gateway.oauth.authorize import AuthorizationRequest
from gateway.store.base import Base, storable
from gateway.store.clients import about_of
from gateway.store.database import Row
from gateway.store.records import Flow

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


def _grant_of(row: Row) -> Grant:
    return Grant(
        grant_id=row["grant_id"],
        subject=row["subject"],
        client_id=row["client_id"],
        client_name=row["client_name"],
        resource=tuple(row["resource"]),
        scopes=frozenset(row["scopes"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        about=about_of(row),
    )


_LATELY: Final = timedelta(minutes=5)


class Flows(Base):
    """Flows, grants and codes."""

    async def start_flow(self, session_id: str, request: AuthorizationRequest, lifetime: float = 600.0) -> Flow | None:
        """A request that awaits its decision; None when the session, user or client is dead."""
        now = self.now()
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

    async def flow(self, flow_id: str, session_id: str) -> Flow | None:
        """A flow of the person who is signed in by this session, answered or not."""
        if not storable(flow_id):
            return None
        row = await self._database.row("flow_find", flow_id=flow_id, session_id=session_id, now=self.now())
        return None if row is None else _flow_of(row, self._keyring)

    async def granted_scopes(self, subject: str, client_id: str, resource: tuple[str, ...] = ()) -> frozenset[str]:
        """What the user has allowed the client at just these resources and not withdrawn; the order is free."""
        return frozenset(
            await self._database.value("grant_scopes", subject=subject, client_id=client_id, resource=list(resource))
            or ()
        )

    async def allow(self, flow_id: str, session_id: str, scopes: frozenset[str], code_ttl: float) -> str | None:
        """AwaitingConsent → Granted → a code, once; records the grant.

        None when the flow is not open, or `scopes` go beyond what was asked for. Scopes that were asked for and
        not allowed leave the grant, others stay in it; whatever was issued with one that left ends.
        """
        if not storable(flow_id):
            return None
        code, now = self._keyring.new_token("gwc_"), self.now()
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
            await self._database.value("flow_deny", flow_id=flow_id, session_id=session_id, now=self.now()) is not None
        )

    async def issue_code(
        self, session_id: str, request: AuthorizationRequest, code_ttl: float, *, remember: bool
    ) -> str | None:
        """A code without asking: with `remember` the grant is written (a first-party client), without it a standing
        grant must cover the scopes at this moment.

        None when it does not, or when the session, user or client is dead.
        """
        code, now = self._keyring.new_token("gwc_"), self.now()
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

    async def grants(self, subject: str) -> list[Grant]:
        """What the user has allowed, by the applications' names: one for each set of resources."""
        return [_grant_of(row) for row in await self._database.rows("grants_list", subject=subject)]

    async def withdraw(self, subject: str, client_id: str) -> bool:
        """Ends the client's grants and everything that was issued from them; False when there is none."""
        if not storable(client_id):
            return False
        return (
            await self._database.value("grant_withdraw", subject=subject, client_id=client_id, now=self.now())
            is not None
        )

    async def withdrawn_lately(self, subject: str, client_id: str) -> str | None:
        """The name of a client that the user withdrew everything from in the last minutes; None if it has a grant."""
        since = self.now() - _LATELY
        found: str | None = await self._database.value(
            "grant_withdrawn", subject=subject, client_id=client_id, since=since
        )
        return found
