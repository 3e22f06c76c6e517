"""May this call pass?

The checks, in this order; the first that fails answers:

     1  a public route passes, whatever the request carries
     2  a token in the query, two Authorization fields, or two methods at once     400 invalid_request
     3  no credential, or one of a scheme that the route does not accept           401 without error
        (a browser without a session, where the route takes them                   303, or 401 login_required
        a call with one that another site has made, and that may change something  403 cross_site_request)
     4  the credential follows its grammar, and the request can be signed          400 invalid_request
        (one of MAC drafts 03 to 05, which are told what is accepted here          401 invalid_token)
     5  the token was not invented (keyed check; no database call)                 401 invalid_token
        (one of another issuer, where the route names some: proven by a key of its, 401 invalid_token
        which may have to be asked for: without an answer                          503 temporarily_unavailable)
     6  the token is known and live                                                401 invalid_token
     7  its kind fits the scheme                                                   401 invalid_token
     8  signed: the proof is right, by the token's algorithm                       401 invalid_token
        (DPoP: by the key that the token is bound to, for this request, and fresh, 401 invalid_dpop_proof
        with a nonce of ours where one is demanded                                 401 use_dpop_nonce)
     9  signed: the algorithm and the draft may be used                            401 invalid_token
    10  signed: the timestamp is fresh (not for MAC draft 00)                      401 invalid_token
    11  signed: a hash of the body is stated where the route demands one           401 invalid_token
    12  the token is meant for this route (RFC 8707)                               401 invalid_token
    13  it carries the scopes of the method                                        403 insufficient_scope
        (and its person is in a group of the route, where that names some          403 access_denied)
        (and signed in as lately, and so, as the route demands                     401 insufficient_user_auth…)
    14  signed: the body fits the hash that is stated (see `proxy.signed_body`)        401 invalid_token
    15  signed: the nonce is spent, for the first time                             401 invalid_token
    16  it is within the limits of the route                                       429 too_many_requests
        (as many are under way as may be                                           503 temporarily_unavailable)

Before all of them, where a route has a rate by address: whoever calls from there is within it, 429.

So a forged or stale request never writes, and one without the scope keeps its nonce. Unknown, revoked and forged
read alike; what a client is told about its clock, draft or nonce, it is told after its signature was right. A body
that is too long to be held is the one exception to the order: its nonce is spent before it is passed on, and its end
is withheld until its hash is known.

The checks themselves are pure: 2 to 4 stand in `schemes.presenting`, 6 to 13 in `guard.checks`, and what differs from
scheme to scheme in `schemes`, one file for each. The guard looks tokens up and spends nonces between them. A token in
the cache was not invented, so check 5 is made of others only. What is refused takes nothing of a limit, but for a rate
by address: so nobody uses up what is another's. Where the database gives no answer: 503, never a pass.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from time import monotonic
from typing import Final

from gateway import figures
from gateway.config import Settings
from gateway.credentials.signed import Once
from gateway.errors import Cause, Refused, StoreUnavailable
from gateway.faults import OperatorError
from gateway.figures import CHANGE_LOG_AGE, TOKEN_LOOKUPS, TOKENS_HELD, TOKENS_HELD_BYTES
from gateway.guard import causes, checks
from gateway.guard.follower import follow, follow_at_standbys
from gateway.guard.held import Held
from gateway.guard.issuers import Issuers, Unasked
from gateway.guard.lane import Pending
from gateway.guard.ledger import Ledger
from gateway.guard.limiting import Limiting
from gateway.guard.nonces import Outcome, Spending
from gateway.guard.refusing import Refusing, no_answer, no_keys
from gateway.guard.spread import Spread
from gateway.guard.tokens import AskPrimary, Known, Tokens
from gateway.guard.uses import Used
from gateway.guard.verdict import PUBLIC, Allowed, BodyAwaited, Judged, Verdict
from gateway.guard.watch import UNANSWERED, Watch
from gateway.model import Identity
from gateway.routing.call import Call
from gateway.schemes.presenting import Schemes
from gateway.schemes.registry import ALL
from gateway.schemes.scheme import Fault, Presented, Rules, Scheme
from gateway.store import EndedToken, Store
from gateway.store.clock import since_boot
from gateway.underway import Place

_MISFIT: Final = Fault("The body does not match the signed hash.", causes.MISFIT)


async def settled(judged: Judged) -> Verdict | BodyAwaited:
    """What comes of a call in the end, however often the database is asked for it."""
    while isinstance(judged, Pending):
        judged = await judged
    return judged


class Guard:
    """Judges calls by what the store knows now, or knew within the lease of the change log (`guard.ledger`).

    `clock` gives seconds since 1970, the store's unless another is given; `elapsed` seconds that never go back. Between
    `start` and `close` the change log is followed and tokens are cached; without, the database is asked each time.
    One that does not spend judges calls that are not made: their nonces stay. `place` is where calls under way are
    counted together with those of other workers. It judges by `schemes`.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        clock: Callable[[], float] | None = None,
        elapsed: Callable[[], float] = since_boot,
        spends: bool = True,
        place: Place | None = None,
        schemes: tuple[type[Scheme], ...] = ALL,
    ) -> None:
        if settings.keyring is None:
            raise OperatorError("keys.master: there is no master key yet, so no token can be judged")
        server, signing = settings.config.server, settings.config.mac
        rules = Rules(
            origin=server.origin,
            secure=server.secure,
            host=server.host,
            port=server.port,
            skew=signing.skew,
            algorithms=signing.algorithms,
            drafts=signing.drafts,
            keyring=settings.keyring,
            dpop_nonce=settings.config.tokens.dpop_nonce,
        )
        self._schemes = Schemes([scheme(rules) for scheme in schemes])
        self._store = store
        self._ledger = Ledger(stale_for=settings.config.tokens.stale_for, elapsed=elapsed)
        asked_for = any(route.max_age or route.acr for route in settings.config.routes)
        self._tokens = Tokens(store, self._ledger, keeps_sign_ins=asked_for)
        self._cached = self._tokens.cache.get
        self.watch: Final = Watch(self._tokens, self._ledger)
        self._counts = figures.cells()
        self._held_at, self._invented_at = TOKEN_LOOKUPS.at("held"), TOKEN_LOOKUPS.at("invented")
        self._is_invented = settings.keyring.is_invented
        trusted = settings.config.trusted_issuers
        self._issuers = Issuers(trusted, elapsed) if trusted else None
        self._now = store.seconds if clock is None else _never_back(clock)
        self._nonces = Spread(store, rules.skew, self._now)
        self._elapsed = elapsed
        self._spends = spends
        self._uses = Used(store)
        self._limiting = Limiting(store, settings.config, elapsed, place) if spends else None
        self._following: list[asyncio.Task[None]] = []
        self._stale_for: Final = settings.config.tokens.stale_for
        self._make_refusal = Refusing(server.host, self._schemes)

    async def start(self) -> None:
        """Follow the change log and keep the nonces' floor from now on, also if the database is not there yet."""
        self._following = [asyncio.create_task(follow(self._store, self._ledger), name="guard-follower")]
        standbys = self._store.access_tokens.replicas
        if standbys is not None and self._stale_for:
            following = follow_at_standbys(standbys, self._ledger)
            self._following.append(asyncio.create_task(following, name="guard-standbys"))
        if self._spends:  # whoever looks on has no say in what is remembered of nonces and uses
            await self._nonces.start()
            self._uses.start()
        if self._limiting is not None:
            self._limiting.start()

    async def close(self) -> None:
        """Do so no longer; who still waits for an answer gets none."""
        for following in self._following:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
        if self._issuers is not None:
            await self._issuers.close()
        await self._tokens.close()
        await self._nonces.close()
        await self._uses.close()
        if self._limiting is not None:
            await self._limiting.close()

    def check(self, call: Call) -> Judged:
        """The verdict, at once where no database is needed, else pending. No call makes it raise."""
        if call.turn is not None and self._limiting is not None:
            over = self._limiting.arrived(call.turn)
            if over is not None:
                return over
        if not call.route.schemes:
            return self._apply_limits(call, PUBLIC)
        presented = self._schemes.presented(call)
        if isinstance(presented, Fault):
            return self._refusal(call, presented)
        return self._look_up(call, presented)

    def report(self) -> None:
        """Say in the figures what is held of tokens, and how far behind the change log it is."""
        cache = self._tokens.cache
        TOKENS_HELD.set(len(cache))
        TOKENS_HELD_BYTES.set(cache.size)
        CHANGE_LOG_AGE.set(self._ledger.age)
        if self._issuers is not None:
            self._issuers.report()
        if self._limiting is not None:
            self._limiting.report()

    def left(self, allowed: Allowed) -> float:
        """Seconds until the token's own end."""
        return allowed.ends_at - self._now()

    def ended(self, call: Call, allowed: Allowed, cause: Cause | None, identity: Identity | None = None) -> Refused:
        """The refusal of a call that was let pass, whose right has ended meanwhile by the cause that `watch` tells."""
        if cause is None:
            return no_answer(UNANSWERED, allowed.identity)
        scheme = self._schemes[allowed.scheme]
        fault = checks.NOT_FOR_THEM if cause is causes.OUT_OF_GROUPS else scheme.dead(cause)
        return self._refusal(call, fault, scheme.name, identity or allowed.identity)

    # -- the checks, in their order ---------------------------------------------------------------------------

    def _look_up(self, call: Call, presented: Presented, since: float | None = None, *, fits: bool = False) -> Judged:
        """Checks 5 to 16: the token is in the cache, or asked for; `fits` says that the body is known to fit its hash.

        `since` is when the call began to wait, if it did.
        """
        digest = sha256(presented.token).digest()
        held = self._cached(digest)
        if held is not None:
            self._counts[self._held_at] += 1.0
            return self._judge(call, presented, held, since, fits=fits)
        if call.route.issuers and (judged := self._ask_issuer(call, presented, digest, since, fits=fits)) is not None:
            return judged
        scheme = presented.scheme
        if self._is_invented(presented.token, scheme.facts.prefix):
            self._counts[self._invented_at] += 1.0
            return self._refusal(call, scheme.dead(scheme.facts.lifeless.invented), scheme.name)
        TOKEN_LOOKUPS.add(1.0, "asked")
        return self._ask_store(call, presented, digest, monotonic() if since is None else since, fits=fits)

    def _ask_issuer(
        self, call: Call, presented: Presented, digest: bytes, since: float | None, *, fits: bool
    ) -> Judged | None:
        """Checks 5 to 16, of a token of another issuer; None for what is no such token."""
        issuers, scheme = self._issuers, presented.scheme
        if issuers is None or presented.token.find(b".") < 0 or not scheme.facts.by_bearer_token:
            return None  # it is no JWT: a flood of what claims to be ours ends here
        held = self._tokens.cache.get_vouched(digest)  # whose issuer answers for it, whatever the database does
        if held is not None:
            self._counts[self._held_at] += 1.0
            return self._judge(call, presented, held, since, fits=fits)
        named = issuers.read(presented.token)
        if named is None:
            return None
        source, token = named
        if source.trusted.name not in call.route.issuers:
            cause = causes.FOREIGN_ROUTE.naming(f"{source.trusted.name} is none of its issuers")
            return self._refusal(call, scheme.dead(cause), scheme.name)
        try:
            found = source.verify(token, self._now())
            if found is None:
                return source.wait(lambda _: self._look_up(call, presented, since, fits=fits), since)
        except Unasked as exc:
            return no_keys(str(exc))
        if isinstance(found, Cause):
            return self._refusal(call, scheme.dead(found), scheme.name)
        TOKEN_LOOKUPS.add(1.0, "proven")
        claimed, voucher = found
        made = self._tokens.cache.vouched(claimed, voucher, digest)
        self._tokens.cache.put(made)
        return self._judge(call, presented, made, since, fits=fits)

    def _ask_store(
        self, call: Call, presented: Presented, digest: bytes, since: float, *, fits: bool, near: bool = True
    ) -> Judged:
        """Checks 6 to 16, once the store has said what it knows of the token; of the primary unless `near`."""
        answer = partial(self._on_answer, call, presented, since, fits=fits)
        try:
            if presented.scheme.facts.cookie:
                return self._tokens.ask_session(digest, answer, since)
            return self._tokens.ask(presented.token, digest, answer, since, near=near)
        except StoreUnavailable as exc:
            return no_answer(exc)

    def _on_answer(self, call: Call, presented: Presented, since: float, known: Known, *, fits: bool) -> Judged:
        """Checks 6 to 16, of a token that the store was asked for."""
        if isinstance(known, StoreUnavailable):
            return no_answer(known)
        if isinstance(known, AskPrimary):
            return self._ask_store(call, presented, sha256(presented.token).digest(), since, fits=fits, near=False)
        scheme = presented.scheme
        if isinstance(known, EndedToken):
            fault = scheme.dead(causes.ENDS.get(known.how, causes.REVOKED))
            return self._refusal(call, fault, scheme.name, known.identity)
        if known is None:
            issuers = self._issuers if call.route.issuers else None
            stranger = None if issuers is None else issuers.stranger(presented.token)
            return self._refusal(call, scheme.dead(stranger or scheme.facts.lifeless.unknown), scheme.name)
        if not self._tokens.counts(known):
            return self._look_up(call, presented, since, fits=fits)  # it met a change of what it hangs on: asked again
        return self._judge(call, presented, known, since, fits=fits)

    def _judge(self, call: Call, presented: Presented, held: Held, since: float | None, *, fits: bool) -> Judged:
        """Checks 6 to 16; those of a body that is yet to come are for whoever takes it in."""
        proven, scheme = checks.judge(call, presented, held, self._now()), presented.scheme.name
        if isinstance(proven, Fault):
            return self._refusal(call, proven, scheme, held.allowed.identity)
        token, body = proven
        if scheme != token.scheme:  # one of several for tokens of its kind
            token = replace(token, scheme=scheme)
        self._uses.note(held, call)
        once = presented.once
        if once is None:
            return self._apply_limits(call, token)
        if body is None or fits:
            return self._spend_nonce(call, token, once, since)
        misfit = self._refusal(call, _MISFIT, scheme, token.identity)
        if not call.has_body:
            return self._spend_nonce(call, token, once, since) if body.fits() else misfit
        return BodyAwaited(check=body, misfit=misfit, spend=partial(self._spend_later, call, presented))

    async def _spend_later(self, call: Call, presented: Presented) -> Verdict:
        """Checks 5 to 13 as of now, since the body may have taken its time; then 15 and 16."""
        judged = await settled(self._look_up(call, presented, fits=True))
        if isinstance(judged, BodyAwaited):
            raise TypeError("a body that fits is awaited no more")
        return judged

    def _spend_nonce(self, call: Call, token: Allowed, once: Once, since: float | None) -> Judged:
        """Checks 15 and 16: what fails before them leaves the nonce unspent."""
        if not self._spends:
            return token
        try:
            return self._nonces.spend_for(token, once, partial(self._on_spent, call, token), since)
        except StoreUnavailable as exc:
            return no_answer(exc, token.identity)

    def _on_spent(self, call: Call, allowed: Allowed, outcome: Outcome) -> Judged:
        """What became of the nonce, as a verdict."""
        if outcome is Spending.FIRST:
            return self._apply_limits(call, allowed)
        if isinstance(outcome, Spending):
            cause = causes.STALE if outcome is Spending.STALE else causes.REPLAYED
            fault = self._schemes[allowed.scheme].spent(outcome.value, cause)
            return self._refusal(call, fault, allowed.scheme, allowed.identity)
        return no_answer(outcome, allowed.identity)

    def _apply_limits(self, call: Call, allowed: Allowed) -> Judged:
        """Check 16."""
        turn = call.turn
        return allowed if turn is None or self._limiting is None else self._limiting.admit(turn, allowed)

    def _refusal(self, call: Call, fault: Fault, scheme: str = "", identity: Identity | None = None) -> Refused:
        """The refusal for a fault of a credential of that scheme, on behalf of whom its token names, if it is known."""
        refused = self._make_refusal(
            call,
            fault,
            used=(scheme,) if scheme else self._schemes.used(call) if fault.error else (),
            identity=identity,
        )
        now = self._now()
        for one in self._schemes.of(call.route.schemes):
            refused = one.refuse(call, refused, now)
        return refused


def _never_back(clock: Callable[[], float]) -> Callable[[], float]:
    """The same clock, except that one which is set back revives no token and no signature."""
    latest = 0.0

    def now() -> float:
        nonlocal latest
        time = clock()
        if time > latest:  # noqa: PLR1730  # `max` takes three times as long
            latest = time
        return latest

    return now
