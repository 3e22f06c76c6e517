"""Authorization requests after sign-in, the person's decision, and the code.

    AwaitingConsent ──allow──▶ Granted(scopes) ──▶ a code, once
                    ──deny───▶ Denied

A flow belongs to the person in whose session it began. Until it is answered it is a value that whoever asks the person
keeps, under a signature; nothing is written of it. The answer is its row, so that of two that come at once one counts;
the row keeps it, with its code sealed, for the other to be told the same. Two tabs are two flows. Where the request was
pushed (RFC 9126), its answer spends it in the same transaction, so that of two flows that come of it one is answered.
"""

from datetime import datetime, timedelta
from typing import Final

from gateway.crypto import Keyring, UnsealError, digest, new_identifier
from gateway.oauth.authorize import AuthorizationRequest
from gateway.store.clock import Now
from gateway.store.database import Database, Row, Statements
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
    if row["sealed_code"] is None:  # the device has it
        return None
    try:
        return keyring.unseal(_ANSWER, row["flow_id"], row["sealed_code"]).decode()
    except UnsealError:  # its master key is gone
        return None


class Flows:
    """Flows, and the codes that come of them or of a standing grant."""

    def __init__(self, database: Database, now: Now, keyring: Keyring) -> None:
        self._database, self._now, self._keyring = database, now, keyring

    def start(
        self,
        subject: str,
        request: AuthorizationRequest,
        granted: frozenset[str] = frozenset(),
        lifetime: float = 600.0,
    ) -> Flow:
        """A request that awaits this person's decision; nothing is written."""
        return Flow(
            flow_id=new_identifier("f"),
            subject=subject,
            request=request,
            expires_at=self._now() + timedelta(seconds=lifetime),
            granted=granted,
        )

    async def find(self, flow_id: str, session_id: str) -> Flow | None:
        """A flow that was answered, of the person who is signed in by this session."""
        row = await self._database.row("flow_find", flow_id=flow_id, session_id=session_id, now=self._now())
        return None if row is None else _flow_of(row, self._keyring)

    async def allow(
        self, flow: Flow, session_id: str, scopes: frozenset[str], code_ttl: float, pushed: bytes | None = None
    ) -> str | None:
        """AwaitingConsent → Granted → a code, once; records the grant.

        None when the flow is not open, `scopes` go beyond what was asked for, or the `pushed` request, by its digest,
        was answered already. Scopes that were asked for and not allowed leave the grant, others stay in it; whatever
        was issued with one that left ends. Where none leaves, it is all one statement.
        """
        code, now = self._keyring.new_token("gwc_"), self._now()
        issued = {
            "code": digest(code),
            "expires_at": now + timedelta(seconds=code_ttl),
            "sealed_code": self._keyring.seal(_ANSWER, flow.flow_id, code.encode()),
        }
        if pushed is None and flow.request.scopes <= scopes:
            return code if await _granted(self._database, flow, session_id, scopes, now, **issued) else None
        async with self._database.transaction() as statements:
            if not await _is_open(statements, pushed):
                return None
            allowed = await _allow(statements, flow, session_id, scopes, now, **issued)
            if allowed:
                await _spend(statements, pushed, now)
        return code if allowed else None

    async def allow_device(self, flow: Flow, session_id: str, scopes: frozenset[str]) -> bool:
        """AwaitingConsent → Granted for the device that the flow is about, whose own code becomes the one to redeem
        (RFC 8628).

        False when flow or device were answered already, by whomever, or when it is over.
        """
        device, now = flow.request.device, self._now()
        async with self._database.transaction() as statements:
            expires_at = await statements.value("device_code_lock", digest=device, now=now)
            if expires_at is None:
                return False
            allowed = await _allow(
                statements,
                flow,
                session_id,
                scopes,
                now,
                code=device,
                expires_at=expires_at,
                sealed_code=None,
            )
            if allowed:
                await statements.row("device_code_decide", digest=device, decision="granted", subject=flow.subject)
            return allowed

    async def deny_device(self, flow: Flow, session_id: str) -> bool:
        """AwaitingConsent → Denied for the device that the flow is about; False when flow or device were answered
        already, or the device's time is over."""
        device, now = flow.request.device, self._now()
        async with self._database.transaction() as statements:
            if await statements.value("device_code_lock", digest=device, now=now) is None:
                return False
            denied = await statements.value("flow_deny", **_answered(flow, session_id, now))
            if denied is not None:
                await statements.row("device_code_decide", digest=device, decision="denied", subject=flow.subject)
            return denied is not None

    async def deny(self, flow: Flow, session_id: str, pushed: bytes | None = None) -> bool:
        """AwaitingConsent → Denied, once; False when the flow is not open, or the pushed request answered already."""
        return await self._once(pushed, "flow_deny", **_answered(flow, session_id, self._now())) is not None

    async def issue_code(
        self,
        session_id: str,
        request: AuthorizationRequest,
        code_ttl: float,
        *,
        remember: bool,
        pushed: bytes | None = None,
    ) -> str | None:
        """A code without asking: with `remember` the grant is written (a first-party client), without it a standing
        grant must cover the scopes at this moment.

        None when it does not, when the session, user or client is dead, or the pushed request was answered already.
        """
        code, now = self._keyring.new_token("gwc_"), self._now()
        issued = await self._once(
            pushed,
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

    async def _once(self, pushed: bytes | None, name: str, **parameters: object) -> object:
        """The value of a statement that answers a request, None also where that was pushed and answered already."""
        if pushed is None:
            return await self._database.value(name, **parameters)
        async with self._database.transaction() as statements:
            if not await _is_open(statements, pushed):
                return None
            answered = await statements.value(name, **parameters)
            if answered is not None:
                await _spend(statements, pushed, self._now())
            return answered


async def _allow(
    statements: Statements, flow: Flow, session_id: str, scopes: frozenset[str], now: datetime, **code: object
) -> bool:
    """The flow's decision, its grant, and the code that comes of it; whatever the grant allows no longer ends."""
    grant_id = await _granted(statements, flow, session_id, scopes, now, **code)
    if grant_id is not None and not flow.request.scopes <= scopes:
        await statements.row("grants_end_beyond", grant_ids=[grant_id], now=now)
    return grant_id is not None


async def _granted(
    statements: Statements | Database,
    flow: Flow,
    session_id: str,
    scopes: frozenset[str],
    now: datetime,
    **code: object,
) -> str | None:
    """The grant that has what is allowed; None where the flow is not open."""
    grant_id: str | None = await statements.value(
        "flow_allow",
        allowed=sorted(scopes),
        grant_id=new_identifier("g"),
        **_answered(flow, session_id, now),
        **code,
    )
    return grant_id


def _answered(flow: Flow, session_id: str, now: datetime) -> dict[str, object]:
    """What the row of a flow holds of it, whatever the answer is, and by which session that comes."""
    return {
        "flow_id": flow.flow_id,
        "subject": flow.subject,
        "client_id": flow.request.client_id,
        "request": flow.request.to_json(),
        "flow_expires_at": flow.expires_at,
        "session_id": session_id,
        "now": now,
    }


async def _is_open(statements: Statements, pushed: bytes | None) -> bool:
    """Whether the request may be answered: always where it was not pushed. Nothing else answers it from here on."""
    return pushed is None or await statements.value("pushed_request_lock", digest=pushed) is not None


async def _spend(statements: Statements, pushed: bytes | None, now: datetime) -> None:
    if pushed is not None:
        await statements.value("pushed_request_spend", digest=pushed, now=now)
