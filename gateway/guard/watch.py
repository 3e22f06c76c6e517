"""What goes on after its call was let pass, such as a stream, and must end with the token that opened it.

    watch ──▶ known to live ──a change names what it hangs on──▶ asked ──▶ lives
                   ▲   └──────the lease lapses─────────────────▶   │  └──▶ ended: all that it opened is told
                   └───────────────────────────────────────────────┘       as it is without an answer for too long

A change is no verdict: two things may share a mark (`guard.ledger`), and a client whose settings change loses nothing.
So whom a change may concern, the database is asked about, all in one question, and only what it calls dead is ended,
and what its person may open no more: whoever has left the groups of a route.
What begins to be watched is known to live where the cache says so, which a change that came meanwhile would have ended;
else it is asked for too. While the log is not followed, everything is asked for at each beat.

A token of another issuer is none of the database's: it ends when its voucher is withdrawn, which each beat looks at.

The time of a token is not looked at here: who watches knows it.
"""

from collections.abc import Callable, Collection
from functools import partial
from math import inf
from typing import Final, final

from gateway.errors import Cause, StoreUnavailable
from gateway.guard.causes import ENDS, OUT_OF_GROUPS, REVOKED, WITHDRAWN_KEY
from gateway.guard.held import Held
from gateway.guard.ledger import Ledger, parts
from gateway.guard.tokens import Known, Tokens
from gateway.guard.verdict import Allowed
from gateway.model import SESSION, Identity
from gateway.observe import get_logger
from gateway.schemes.scheme import TOKENS
from gateway.schemes.session import SESSIONS
from gateway.store import EndedToken

_UNCONFIRMED: Final = 3.0  # seconds without an answer, beyond the lease
UNANSWERED: Final = "store: the token could not be confirmed for too long"

_log = get_logger("gateway.guard")


Ended = Callable[[Cause | None, Identity | None], None]


@final
class Watched:
    """One thing that goes on; `ended` is called once, with the cause and whose the token was, as far as is known;
    without a cause where the token could not be confirmed for too long.

    `may_go_on` is asked once more for whom that is, when what the token hangs on has changed and it still lives.
    """

    __slots__ = ("_token", "ended", "may_go_on")

    def __init__(
        self,
        token: "_Token",
        ended: Ended,
        may_go_on: Callable[[Allowed], bool] | None,
    ) -> None:
        self.ended: Final = ended
        self.may_go_on: Final = may_go_on
        self._token: Final = token

    def drop(self) -> None:
        """It has ended by itself."""
        self._token.close(self)


@final
class _Token:
    """A token, or a session, and what it has opened; since when it is not known to live, if that is so."""

    __slots__ = ("_asked", "digest", "is_session", "marks", "opened", "unconfirmed_since", "voucher")

    def __init__(self, allowed: Allowed) -> None:
        self.digest: Final = allowed.digest
        self.is_session: Final = allowed.scheme == SESSION
        self.voucher: Final = allowed.voucher
        self.marks = allowed.marks
        self.opened: Final[dict[Watched, None]] = {}
        self.unconfirmed_since = inf
        self._asked = 0  # questions

    def open(self, ended: Ended, may_go_on: Callable[[Allowed], bool] | None) -> Watched:
        """One thing more goes on with it."""
        watched = Watched(self, ended, may_go_on)
        self.opened[watched] = None
        return watched

    def close(self, watched: Watched) -> None:
        """That goes on no longer, if it still did."""
        self.opened.pop(watched, None)

    def close_last(self) -> Watched:
        """What was opened last goes on no longer."""
        return self.opened.popitem()[0]

    def ask(self, now: float) -> int:
        """It has to be confirmed; the number of the question."""
        self.unconfirmed_since = min(self.unconfirmed_since, now)
        self._asked += 1
        return self._asked

    def confirm(self, number: int) -> bool:
        """It lives, by the answer to this question; whether that counts, as the latest one's does."""
        if number != self._asked:
            return False
        self.unconfirmed_since = inf
        return True


class Watch:
    """All that goes on in this process, by the tokens that opened it."""

    def __init__(self, tokens: Tokens, ledger: Ledger) -> None:
        self._tokens, self._ledger = tokens, ledger
        self._watched: dict[bytes, _Token] = {}
        self._by_mark: dict[int, dict[_Token, None]] = {}
        ledger.subscribe(self._touched)

    def __len__(self) -> int:
        return len(self._watched)

    def add(
        self,
        allowed: Allowed,
        ended: Ended,
        may_go_on: Callable[[Allowed], bool] | None = None,
    ) -> Watched:
        """Watch for the end of what `allowed` rests on. Never calls `ended` at once."""
        token = self._watched.get(allowed.digest)
        if token is None:
            token = self._watched[allowed.digest] = _Token(allowed)
            for mark in parts(allowed.marks):
                self._by_mark.setdefault(mark, {})[token] = None
        if self._tokens.cache.get(allowed.digest) is None:
            self._ask(token)
        return token.open(ended, may_go_on)

    def beat(self) -> None:
        """Ask again for what is not known to live, and end what has not been for too long: once a second."""
        now, holds = self._ledger.elapsed(), self._ledger.holds
        for token in list(self._watched.values()):
            if not token.opened:
                self._forget(token)
            elif token.voucher is not None:
                if token.voucher.withdrawn:
                    self._end(token, WITHDRAWN_KEY.naming(token.voucher.issuer), None)
            elif now - token.unconfirmed_since > _UNCONFIRMED:
                self._end(token, None, None)
            elif not holds or token.unconfirmed_since < inf:
                self._ask(token)

    def _touched(self, marks: Collection[int] | None) -> None:
        """The log has named these, or with None anything may have changed."""
        if marks is None:
            concerned = list(self._watched.values())
        else:
            concerned = [token for mark in set(marks) for token in self._by_mark.get(mark, ())]
        for token in dict.fromkeys(concerned):
            if token.opened:
                self._ask(token)

    def _ask(self, token: _Token) -> None:
        """Ask the database, unless it knows nothing of it; what was asked before may be answered as of before."""
        if token.voucher is not None:
            return
        answered = partial(self._answered, token, token.ask(self._ledger.elapsed()))
        try:
            pending = self._tokens.ask_primary(token.digest, answered, session=token.is_session)
        except StoreUnavailable:  # too many wait: the next beat asks again
            return
        pending.then(lambda answer: answer.result())

    def _answered(self, token: _Token, number: int, known: Known) -> None:
        if self._watched.get(token.digest) is not token or isinstance(known, StoreUnavailable):
            return
        if isinstance(known, EndedToken):
            self._end(token, ENDS.get(known.how, REVOKED), known.identity)
        elif known is None:
            self._end(token, (SESSIONS if token.is_session else TOKENS).unknown, None)
        elif token.confirm(number) and isinstance(known, Held):
            self._ask_again(token, known.allowed)

    def _ask_again(self, token: _Token, allowed: Allowed) -> None:
        """End what whoever is behind a token that lives may open no more."""
        for watched in list(token.opened):
            if watched.may_go_on is not None and not watched.may_go_on(allowed):
                token.close(watched)
                _notify(watched, OUT_OF_GROUPS, allowed.identity)

    def _end(self, token: _Token, cause: Cause | None, identity: Identity | None) -> None:
        self._forget(token)
        while token.opened:
            _notify(token.close_last(), cause, identity)

    def _forget(self, token: _Token) -> None:
        self._watched.pop(token.digest, None)
        for mark in parts(token.marks):
            tokens = self._by_mark.get(mark)
            if tokens is not None:
                tokens.pop(token, None)
                if not tokens:
                    del self._by_mark[mark]


def _notify(watched: Watched, cause: Cause | None, identity: Identity | None) -> None:
    try:
        watched.ended(cause, identity)
    except Exception as exc:  # noqa: BLE001  # none of the others' faults
        _log.error("what a token has opened could not be ended", exc_info=exc)
