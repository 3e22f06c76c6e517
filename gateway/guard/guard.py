"""May this call pass? The checks, in this order; the first that fails answers:

     1  a public route passes, whatever the request carries
     2  a token in the query, two Authorization fields, or two methods at once     400 invalid_request
     3  no credential, or one of a scheme that the route does not accept           401 without error
     4  the credential follows its grammar, and the request can be signed          400 invalid_request
        (one of MAC drafts 03 to 05, which are told what is accepted here          401 invalid_token)
     5  the token was not invented (keyed check; no database call)                 401 invalid_token
     6  the token is known and live                                                401 invalid_token
     7  its kind fits the scheme                                                   401 invalid_token
     8  signed: the proof is right, by the token's algorithm                       401 invalid_token
     9  signed: the algorithm and the draft may be used                            401 invalid_token
    10  signed: the timestamp is fresh (not for MAC draft 00)                      401 invalid_token
    11  signed: a hash of the body is stated where the route demands one           401 invalid_token
    12  the token is meant for this route (RFC 8707)                               401 invalid_token
    13  it carries the scopes of the method                                        403 insufficient_scope
    14  signed: the body fits the hash that is stated (the engine takes it in)     401 invalid_token
    15  signed: the nonce is spent, for the first time                             401 invalid_token

So a forged or stale request never writes, and one without the scope keeps its nonce. Unknown, revoked and forged
read alike; what a client is told about its clock, draft or nonce, it is told after its signature was right. A body
that is too long to be held is the one exception to the order: its nonce is spent before it is passed on, and its end
is withheld until its hash is known.
What has its usual form is judged in one step (`Guard.enter`), and step by step if anything might be wrong with it.
Where the database gives no answer: 503, never a pass.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Final, TypeVar

from gateway.config import Settings
from gateway.credentials import Malformed, bearer, in_query, mac, scheme_of, signatures, split
from gateway.credentials.components import Message, authority
from gateway.credentials.signed import BodyCheck, Signed, from_mac
from gateway.crypto import digest
from gateway.errors import OperatorError, StoreUnavailable
from gateway.guard import signing
from gateway.guard.batches import Overloaded
from gateway.guard.cache import Held
from gateway.guard.follower import follow
from gateway.guard.ledger import Ledger
from gateway.guard.nonces import Nonces, Outcome, Pending, Spending, key_of
from gateway.guard.refusing import Refusing, no_answer
from gateway.guard.tokens import Tokens
from gateway.guard.verdict import Allowed, BodyAwaited, Call, Door, Principal, Refused, Verdict
from gateway.model import format_scope
from gateway.routing import Route
from gateway.store import Store
from gateway.store.clock import since_boot

_BEARER: Final = "bearer"
_DEADLINE: Final = 2.1  # seconds for all database work of one call, so that its 503 is out within 2.5 s

_PUBLIC: Final = Allowed(principal=Principal(identity=None, scopes=frozenset(), token_type=""), digest=b"")
_ONE_CREDENTIAL: Final = "Send one credential, in one Authorization field, and never put a token in the query."
_NO_CREDENTIAL: Final = "This resource needs an access token in the Authorization field."
_NO_MAC: Final = "This resource needs a request that is signed with a MAC token (the scheme MAC in Authorization)."
_NO_SIGNATURE: Final = "This resource needs a signed request (RFC 9421), with an access token as the keyid."
_NO_CREDENTIAL_OR_SIGNATURE: Final = (
    "This resource needs an access token in the Authorization field, or as the keyid of a signature (RFC 9421)."
)
_DEAD: Final = "The access token is unknown, expired or revoked."
_MISFIT: Final = "The body does not match the signed hash."

Found = TypeVar("Found")


class Guard:
    """Judges calls by what the store knows now, or knew within the lease of the change log (`guard.ledger`).

    `clock` gives seconds since 1970, the store's unless another is given; `elapsed` seconds that never go back. Between
    `start` and `close` the change log is followed and tokens are cached; without, the database is asked each time.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        clock: Callable[[], float] | None = None,
        elapsed: Callable[[], float] = since_boot,
    ) -> None:
        if settings.keyring is None:
            raise OperatorError("keys.master: there is no master key yet, so no token can be judged")
        self._store = store
        self._ledger = Ledger(stale_for=settings.config.tokens.stale_for, elapsed=elapsed)
        self._tokens = Tokens(store, self._ledger)
        cache = self._tokens.cache
        self._cached, self._counts = cache.get, cache.counts
        self._is_invented = settings.keyring.is_invented
        self._is_forged = settings.keyring.is_forged
        self._mac = settings.config.mac
        self._now = store.seconds if clock is None else _never_back(clock)
        self._nonces = Nonces(store, self._mac.skew, self._now)
        self._scheme = "https" if settings.config.server.secure else "http"
        self._elapsed = elapsed
        self._following: asyncio.Task[None] | None = None
        self._refused = Refusing(settings.config.server.host)

    async def start(self) -> None:
        """Follow the change log and keep the nonces' floor from now on, also if the database is not there yet."""
        self._following = asyncio.create_task(follow(self._store, self._ledger), name="guard-follower")
        await self._nonces.start()

    async def close(self) -> None:
        """Do so no longer; who still waits for an answer gets none."""
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        await self._tokens.close()
        await self._nonces.close()

    def check(self, call: Call) -> Verdict | BodyAwaited | Awaitable[Verdict | BodyAwaited]:
        """The verdict, at once where no database is needed, else to be awaited. No call makes it raise."""
        schemes = call.route.schemes
        if not schemes:
            return _PUBLIC
        if len(call.authorization) == 1:
            door = self.door(call)
            verdict = None if door is None else self.enter(door, call.authorization[0])
            if verdict is not None:
                return verdict
        return self.examine(call)

    def door(self, call: Call) -> Door | None:
        """How credentials get in at once at the call's route and method, for `enter`; None if they can't.

        It rests on neither time nor store, nor on the call's Authorization: the engine keeps it for calls alike.
        """
        route = call.route
        bearer, signed = "bearer" in route.schemes, None
        if "mac" in route.schemes and not (call.has_body and route.mac_body_hash):
            with suppress(Malformed):
                signed = mac.covered_lines(_covered(call)) + b"\n"
        if not (bearer or signed) or call.signature_fields or in_query(call.target):
            return None
        forged = self._invalid(call, _BEARER, _DEAD, "invented token")
        return Door(call=call, scopes=route.scopes_for(call.method), bearer=bearer, forged=forged, signed=signed)

    def enter(self, door: Door, authorization: bytes) -> Verdict | Pending[Verdict] | None:
        """What `check` says of a call with this one Authorization field, where that is plain to see; else None.

        The common case of all checks: a token in the cache, which was read from such a field before, one that was
        never issued, and a MAC with a token in the cache that is right, so that only its nonce is left to be judged.
        """
        if not (door.bearer and authorization.startswith(b"Bearer ")):
            return None if door.signed is None else self._enter_signed(door, door.signed, authorization)
        held = door.held
        if held is None or authorization is not door.authorization or not self._counts(held):
            token = authorization[7:]
            if door.besieged and self._is_forged(token):  # none of these is ever in the cache
                return door.forged
            held = self._cached(sha256(token).digest())
            if held is None:
                door.besieged = self._is_forged(token)
                return door.forged if door.besieged else None
            door.besieged = False
            if held.principal.token_type != _BEARER:
                return None
            door.authorization, door.held = authorization, held
        principal = held.principal
        if door.scopes <= principal.scopes and not principal.audience and held.ends_at > self._now():
            return held
        return self._out_of_bounds(door.call, held, door.scopes, _BEARER) or held

    def _enter_signed(self, door: Door, covered: bytes, authorization: bytes) -> Verdict | Pending[Verdict] | None:
        """Checks 4 to 13 at once; whatever fails is left to be looked at anew, for its cause. Then check 15."""
        found = mac.usual(authorization)
        if found is None:
            return None
        token, ts, nonce, stated = found
        held = self._cached(sha256(token).digest())
        if held is None or held.signer is None:
            return None
        created = int(ts)
        if (
            signing.is_right(b"%b\n%b\n%b" % (ts, nonce, covered), stated, created, held.signer, self._mac, self._now())
            and self._out_of_bounds(door.call, held, door.scopes, "mac") is None
        ):
            try:
                key = key_of(held.digest, b"01", ts, nonce)
                return self._nonces.spend_timed(key, created, partial(self._answer, door.call, held))
            except StoreUnavailable as exc:
                return no_answer(exc, held.identity)
        return None

    async def still_live(self, digests: Collection[bytes]) -> frozenset[bytes]:
        """Which tokens (`Allowed.digest`) may go on using what they opened, a tunnel for instance.

        Raises StoreUnavailable.
        """
        return await self._tokens.still_live(digests, self._now())

    def examine(self, call: Call) -> Verdict | BodyAwaited | Awaitable[Verdict | BodyAwaited]:
        """The verdict step by step, from check 2 on: for whom `enter` does not let in at once."""
        route = call.route
        query = in_query(call.target)
        if query or len(call.authorization) + call.signature_fields > 1:
            cause = "token in the query" if query else "more than one credential"
            return self._refused(call, 400, "invalid_request", _ONE_CREDENTIAL, cause, used=_used(call))
        if not call.authorization and not call.signature_fields:
            return self._refused(call, 401, "", _wanted(route), "no credential")
        try:
            scheme, rest = split(call.authorization[0]) if call.authorization else ("signature", b"")
            if scheme not in route.schemes or (scheme == "signature") != call.signature_fields:
                return self._refused(call, 401, "", _wanted(route), "a scheme that the route does not accept")
            presented = self._presented(call, scheme, rest)
        except mac.OtherDraft as exc:
            told = f"{exc} {mac.accepted(self._mac.drafts, self._mac.algorithms)}"
            return self._invalid(call, "mac", told, "a MAC credential of drafts 03 to 05")
        except Malformed as exc:
            cause = f"malformed credential: {exc}"
            return self._refused(call, 400, "invalid_request", str(exc), cause, used=_used(call))
        token = presented if isinstance(presented, str) else presented.token
        if self._is_invented(token, "gwa_"):
            return self._invalid(call, scheme, _unproven(presented), "invented token")
        held = self._cached(digest(token))
        if held is not None:
            return self._judged(call, held, presented, _DEADLINE)
        return self._bounded(partial(self._judge, call, presented), _DEADLINE)

    async def _bounded(self, judge: Callable[[], Awaitable[Found]], seconds: float) -> Found | Refused:
        """What is found out within so many seconds, else 503."""
        try:
            async with asyncio.timeout(seconds):
                return await judge()
        except (StoreUnavailable, Overloaded, TimeoutError) as exc:
            return no_answer(exc)

    async def _judge(self, call: Call, presented: str | Signed) -> Verdict | BodyAwaited:
        """Checks 6 to 15, of a token that is not in the cache."""
        began = self._elapsed()
        held = await self._tokens.known(presented if isinstance(presented, str) else presented.token)
        judged = self._judged(call, held, presented, _DEADLINE - (self._elapsed() - began))
        return await judged if isinstance(judged, Awaitable) else judged

    def _judged(
        self, call: Call, found: Held | None, presented: str | Signed, seconds: float
    ) -> Verdict | BodyAwaited | Pending[Verdict]:
        """Checks 6 to 15; those of a body that is yet to come are for the engine, within so many seconds."""
        held = self._fits_scheme(call, found, presented)
        if isinstance(held, Refused):
            return held
        if isinstance(presented, str):
            return self._out_of_bounds(call, held, call.route.scopes_for(call.method), _BEARER) or held
        judged = self._signed_rightly(call, held, presented)
        if isinstance(judged, Refused):
            return judged
        if judged is None:
            return self._spend(call, held, presented)
        misfit = self._invalid(call, presented.scheme, _MISFIT, "the body does not fit its hash", held)
        if not call.has_body:
            return self._spend(call, held, presented) if judged.fits() else misfit
        spend = partial(self._bounded, partial(self._judge_anew, call, presented), seconds)
        return BodyAwaited(check=judged, misfit=misfit, spend=spend)

    async def _judge_anew(self, call: Call, signed: Signed) -> Verdict:
        """The same as of now, since the body may have taken its time; then check 15."""
        held = self._fits_scheme(call, await self._tokens.known(signed.token), signed)
        if isinstance(held, Refused):
            return held
        judged = self._signed_rightly(call, held, signed)
        if isinstance(judged, Refused):
            return judged
        spent = self._spend(call, held, signed)
        return await spent if isinstance(spent, Awaitable) else spent

    def _fits_scheme(self, call: Call, held: Held | None, presented: str | Signed) -> Held | Refused:
        """Checks 6 and 7."""
        scheme = _BEARER if isinstance(presented, str) else presented.scheme
        if held is None or held.ends_at <= self._now():
            return self._invalid(call, scheme, _unproven(presented), "unknown, expired or revoked token", held)
        if held.principal.token_type != (_BEARER if scheme == _BEARER else "mac"):
            cause = f"a {held.principal.token_type} token presented as {scheme}"
            return self._invalid(call, scheme, _unproven(presented), cause, held)
        return held

    def _signed_rightly(self, call: Call, held: Held, signed: Signed) -> Refused | BodyCheck | None:
        """Checks 8 to 13; what the body is to be held against where it has to be."""
        if held.signer is None:
            return self._invalid(call, signed.scheme, signing.FORGED, "a MAC token whose key is lost", held)
        judged = signing.judge(call, signed, held.signer, self._mac, self._now())
        if isinstance(judged, signing.Fault):
            return self._invalid(call, signed.scheme, *judged, held)
        return self._out_of_bounds(call, held, call.route.scopes_for(call.method), signed.scheme) or judged

    def _spend(self, call: Call, held: Held, signed: Signed) -> Refused | Pending[Verdict]:
        """Check 15, the last one: what fails before it leaves the nonce unspent."""
        allowed: Allowed = held
        if signed.scheme != held.principal.token_type:
            principal = held.principal
            if principal.by_signature is None:
                principal.by_signature = replace(principal, token_type=signed.scheme, rendered=None)
            allowed = Allowed(principal=principal.by_signature, digest=held.digest, ends_at=held.ends_at)
        try:
            return self._nonces.spend_for(held, signed, partial(self._answer, call, allowed))
        except StoreUnavailable as exc:
            return no_answer(exc, held.identity)

    def _answer(self, call: Call, allowed: Allowed, outcome: Outcome) -> Verdict:
        """What became of the nonce, as a verdict."""
        if outcome is Spending.FIRST:
            return allowed
        if isinstance(outcome, Spending):
            cause = f"{outcome.name.lower()} nonce"
            return self._invalid(call, allowed.token_type, outcome.value, cause, allowed)
        return no_answer(outcome, allowed.identity)

    def _presented(self, call: Call, scheme: str, rest: bytes) -> str | Signed:
        """The bearer token, or what is signed. Raises Malformed, also where the request itself cannot be signed."""
        if scheme == "bearer":
            return bearer.parse(rest)
        if scheme == "mac":
            return from_mac(mac.parse(rest), _covered(call))
        message = Message(
            method=call.method,
            target=call.target,
            scheme=self._scheme,
            authority=authority(self._scheme, call.host, call.port),
            fields=call.fields,
            has_body=call.has_body,
        )
        return signatures.from_message(message)

    def _out_of_bounds(self, call: Call, held: Held, needed: frozenset[str], scheme: str) -> Refused | None:
        """Its time, and checks 12 and 13: why a good token does not open this route."""
        if held.ends_at <= self._now():
            return self._invalid(call, scheme, _DEAD, "expired token", held)
        principal = held.principal
        if principal.audience and call.route.resource not in principal.audience:
            return self._invalid(call, scheme, "The access token is meant for another resource.", "audience", held)
        if needed <= principal.scopes:
            return None
        lacking = format_scope(needed - principal.scopes)
        description = f"The access token lacks the scope {lacking}."
        return self._refused(
            call,
            403,
            "insufficient_scope",
            description,
            f"lacks {lacking}",
            used=(scheme,),
            identity=principal.identity,
            scope=format_scope(needed),
        )

    # -- refusals -------------------------------------------------------------------------------------------

    def _invalid(self, call: Call, scheme: str, description: str, cause: str, found: Allowed | None = None) -> Refused:
        """The refusal of a credential of that scheme; `found` is what is known of its token."""
        identity = None if found is None else found.identity
        return self._refused(call, 401, "invalid_token", description, cause, used=(scheme,), identity=identity)


def _never_back(clock: Callable[[], float]) -> Callable[[], float]:
    """The same clock, except that one which is set back revives no token and no signature."""
    latest = 0.0

    def now() -> float:
        nonlocal latest
        latest = max(latest, clock())
        return latest

    return now


def _wanted(route: Route) -> str:
    """What a call without a credential is told."""
    if "signature" not in route.schemes:
        return _NO_MAC if route.schemes == ("mac",) else _NO_CREDENTIAL
    return _NO_SIGNATURE if route.schemes == ("signature",) else _NO_CREDENTIAL_OR_SIGNATURE


def _covered(call: Call) -> mac.Covered:
    return mac.Covered(method=call.method, target=call.target, host=call.host, port=call.port)


def _used(call: Call) -> tuple[str, ...]:
    """The schemes of a call whose credential is malformed, stands at the wrong place, or is not the only one."""
    schemes = {scheme_of(value) for value in call.authorization}
    if in_query(call.target):
        schemes.add(_BEARER)
    if call.signature_fields:
        schemes.add("signature")
    return tuple(sorted(schemes.intersection(call.route.schemes)))


def _unproven(presented: str | Signed) -> str:
    """What a stranger is told, whichever part of the credential is wrong."""
    return _DEAD if isinstance(presented, str) else signing.FORGED
