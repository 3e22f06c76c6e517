"""Tokens of other issuers: proven here, by keys that the issuers publish.

    a token comes ──▶ its claims are good ──▶ its key is known ──▶ proven, and held as any other token is
                                                    │
                                                    └─ else the keys are asked for, and the call waits; not
                                                       within 30 s of the last time: then it is refused

    keys   never had ──▶ had ──before they are old: at most 5 minutes──▶ asked for again ──▶ had
                          ▲  └──no answer──▶ kept for a day, asked for each 30 s ──▶ lapsed ──┐
                          └───────────────────────────────────────────────────────────────────┘

So nobody who invents key identifiers makes us ask more than twice a minute; an issuer that is away stops nothing whose
key is known; and what a key has proven ends with the key: five minutes after the issuer has taken it back, a day after
the issuer was heard of for the last time. Nothing is asked for before the first token comes.

A key that was taken back is remembered by its thumbprint (RFC 7638): what it has proven counts again when it returns.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, Never, TypeVar

from gateway.errors import Cause, GatewayError
from gateway.figures import ISSUER_FETCHES, ISSUER_KEYS_AGE
from gateway.guard.causes import FOREIGN, FOREIGN_ISSUER, FOREIGN_KEY, FOREIGN_SIGNATURE
from gateway.guard.lane import Pending
from gateway.guard.verdict import Voucher
from gateway.oauth import foreign
from gateway.oauth.foreign import Claimed, Trusted, Unfit
from gateway.oauth.jws import MOST_TRIED, Compact
from gateway.observe import get_logger

if TYPE_CHECKING:
    from gateway.fetching import Fetcher
    from gateway.guard.published import Published
    from gateway.oauth.jwk import Key

LONGEST_KEPT: Final = 300.0  # seconds until keys are asked for again
AGAIN: Final = 30.0  # seconds between two tries
LAPSE: Final = 86400.0  # seconds that keys count without an answer
_AHEAD: Final = (0.7, 0.9)  # of what they may be kept: workers do not come all at once, and nobody waits for them
_DEADLINE: Final = 5.0  # seconds for metadata and keys together
_MOST_WAITING: Final = 1000  # calls, for one issuer
_MOST_VOUCHERS: Final = 200  # keys of an issuer that are remembered

Answer = TypeVar("Answer")

_log = get_logger("gateway.guard")


class Unasked(GatewayError):
    """The keys cannot be had now; the text says why."""


class Issuers:
    """The issuers of the configuration, in one worker. `elapsed` gives seconds that never go back, and `make` what
    fetches documents."""

    def __init__(
        self,
        trusted: Iterable[Trusted],
        elapsed: Callable[[], float],
        make: "Callable[[], Fetcher] | None" = None,
    ) -> None:
        self._make = make
        self._fetcher: Fetcher | None = None
        self._sources = {one.url: Source(one, elapsed, self._published) for one in trusted}

    def read(self, token: bytes) -> "tuple[Source, Compact] | None":
        """The issuer that a token names, and its parts, unproven; None for what names none of them."""
        found = foreign.read(token.decode("ascii"))
        source = None if found is None else self._sources.get(found[0])
        return None if found is None or source is None else (source, found[1])

    def stranger(self, token: bytes) -> Cause | None:
        """Why a token does not count that nobody here knows, if it is another issuer's."""
        found = foreign.read(token.decode("ascii"))
        if found is None:
            return None
        return FOREIGN_ISSUER.naming(f"{foreign.shown(found[0])} is none that is configured")

    def report(self) -> None:
        """Say in the figures how old the keys are."""
        for source in self._sources.values():
            source.report()

    async def close(self) -> None:
        """Ask no issuer any more; who still waits is told that there are no keys."""
        await asyncio.gather(*(source.close() for source in self._sources.values()))
        if self._fetcher is not None:
            self._fetcher.close()

    async def _published(self, issuer: Trusted) -> "Published":
        # In a thread, since the first time loads what takes a tenth of a second.
        module = await asyncio.to_thread(import_module, "gateway.guard.published")
        if self._fetcher is None:
            from gateway.fetching import Fetcher

            self._fetcher = Fetcher() if self._make is None else self._make()
        try:
            async with asyncio.timeout(_DEADLINE):
                found: Published = await module.published(self._fetcher, issuer)
                return found
        except TimeoutError as exc:
            raise Unasked("it took too long") from exc
        except module.Unpublished as exc:
            raise Unasked(str(exc)) from exc


class Source:
    """One issuer, and its keys as far as they are known."""

    def __init__(
        self, trusted: Trusted, elapsed: Callable[[], float], ask: "Callable[[Trusted], Awaitable[Published]]"
    ) -> None:
        self.trusted: Final = trusted
        self._elapsed, self._ask = elapsed, ask
        self._keys: Sequence[tuple[Key, Voucher]] = ()
        self._vouchers: dict[str, Voucher] = {}
        self._had_at = self._tried_at = -inf
        self._kept_for = 0.0
        self._why = ""  # they could not be had when they were asked for last
        self._wanted = asyncio.Event()
        self._asking = self._closed = False
        self._waiting: list[Pending[object]] = []
        self._following: asyncio.Task[Never] | None = None

    def verify(self, token: Compact, now: float) -> tuple[Claimed, Voucher] | Cause | None:
        """What a token stands for, or why it does not count; None where the keys are to be asked for first (`wait`).
        Raises Unasked where they cannot be had now."""
        claimed = foreign.verify(token, self.trusted, now)
        name = self.trusted.name
        if isinstance(claimed, Unfit):
            return FOREIGN[claimed.check].naming(f"{claimed.why} ({name})")
        candidates = [
            one
            for one in self._keys
            if claimed.algorithm in one[0].algorithms
            and (claimed.kid is None or one[0].kid is None or one[0].kid == claimed.kid)
        ]
        if not candidates:
            if self._asking or (not self._closed and self._elapsed() - self._tried_at >= AGAIN):
                return None
            if not self._keys:
                raise Unasked(f"{name}: {self._why or 'the gateway ends'}")
            return FOREIGN_KEY.naming(f"none of {name} is {foreign.shown(claimed.kid)} for {claimed.algorithm}")
        if len(candidates) > MOST_TRIED:
            return FOREIGN_KEY.naming(f"it names none, and {name} has {len(candidates)} for {claimed.algorithm}")
        for key, voucher in candidates:
            if key.verifies(claimed.algorithm, token.signed, token.signature):
                return claimed, voucher
        return FOREIGN_SIGNATURE.naming(f"by no key of {name}")

    def wait(self, answer: Callable[[object], Answer], since: float | None) -> Pending[Answer]:
        """Ask for the keys, unless that is under way; what `answer` makes of it then. Raises Unasked where too many
        wait already."""
        if len(self._waiting) >= _MOST_WAITING:
            raise Unasked(f"{self.trusted.name}: {_MOST_WAITING} calls wait for its keys already")
        pending = Pending(None, answer, monotonic() if since is None else since)
        self._waiting.append(pending)  # type: ignore[arg-type]  # of whatever answer
        self._asking = True
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="guard-issuer")
        self._wanted.set()
        return pending

    def report(self) -> None:
        """Say in the figures how old the keys are, once there were any."""
        if self._had_at > -inf:
            ISSUER_KEYS_AGE.set(self._elapsed() - self._had_at, self.trusted.name)

    async def close(self) -> None:
        self._closed = True
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        self._wake()

    async def _follow(self) -> Never:
        """Have the keys, and have them again before they are old, for as long as the worker lives."""
        while True:
            self._asking = True
            self._wanted.clear()
            await self._renew()
            self._wake()
            pause = AGAIN if self._why else min(self._kept_for, LONGEST_KEPT) * random.uniform(*_AHEAD)  # noqa: S311
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()

    async def _renew(self) -> None:
        name = self.trusted.name
        try:
            found = await self._ask(self.trusted)
        except Unasked as exc:
            why = str(exc)
        except Exception as exc:  # noqa: BLE001  # a fault of ours proves nothing
            why = type(exc).__name__
            _log.error("the keys of an issuer cannot be asked for", issuer=name, exc_info=exc)
        else:
            why = self._take(found)
        self._tried_at = self._elapsed()
        ISSUER_FETCHES.add(1.0, name, "failed" if why else "had")
        if why and not self._why:
            _log.warning(
                "the keys of an issuer cannot be had; those that are known count for a day", issuer=name, cause=why
            )
        elif self._why and not why:
            _log.info("the keys of an issuer are had again", issuer=name)
        self._why = why
        if why and self._keys and self._tried_at - self._had_at >= LAPSE:
            _log.error("the keys of an issuer were had too long ago; its tokens do not count any more", issuer=name)
            self._hold(())

    def _take(self, found: "Published") -> str:
        """Let these keys count, and no others; what is wrong, if none of them is for an algorithm that counts."""
        algorithms = set(self.trusted.algorithms)
        keys = [(thumbprint, key) for thumbprint, key in found.keys if algorithms.intersection(key.algorithms)]
        self._had_at, self._kept_for = self._elapsed(), found.lifetime
        self._hold(keys)
        return "" if keys else f"{found.jwks_uri}: no key for {', '.join(self.trusted.algorithms)}"

    def _hold(self, keys: "Sequence[tuple[str, Key]]") -> None:
        there = {thumbprint for thumbprint, _ in keys}
        for thumbprint, voucher in self._vouchers.items():
            if thumbprint in there:
                voucher.publish()
            elif not voucher.withdrawn:
                _log.info("an issuer has withdrawn a key", issuer=self.trusted.name, thumbprint=thumbprint)
                voucher.withdraw()
        for thumbprint in there:
            self._vouchers.setdefault(thumbprint, Voucher(self.trusted.name))
        gone = [thumbprint for thumbprint, voucher in self._vouchers.items() if voucher.withdrawn]
        for thumbprint in gone[: max(0, len(self._vouchers) - _MOST_VOUCHERS)]:
            del self._vouchers[thumbprint]
        self._keys = [(key, self._vouchers[thumbprint]) for thumbprint, key in keys]

    def _wake(self) -> None:
        """All who wait verify anew, by what is known now."""
        self._asking = False
        waiting, self._waiting = self._waiting, []
        for pending in waiting:
            try:
                pending.settle(None)
            except Exception as exc:  # noqa: BLE001  # a fault of one who waits is none of the others'
                _log.error("a call could not be told that the keys of its issuer are there", exc_info=exc)
