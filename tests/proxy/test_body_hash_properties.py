"""A signed body on its way, without a wire: whatever it is cut into and whatever may be held, no other body ends."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.credentials.signed import BodyCheck, BodyDigest
from gateway.errors import Refused
from gateway.guard import Allowed, BodyAwaited, Verdict
from gateway.proxy.signed_body import CheckedBody


class Recorder:
    """Carries a body and notes what went up."""

    def __init__(self) -> None:
        self.up = b""
        self.ended = self.spent = False
        self.refused: Refused | None = None
        self._then: list[tuple[Any, Callable[[Verdict], None]]] = []

    def await_verdict(self, verdict: Any, then: Callable[[Verdict], None]) -> None:
        assert not self.spent
        self.spent = True
        with pytest.raises(StopIteration) as stopped:
            verdict.send(None)
        self._then.append((stopped.value.value, then))

    def answer(self) -> None:
        for verdict, then in self._then:
            then(verdict)
        self._then.clear()

    def let_pass(self, allowed: Allowed, held: bytes) -> None:
        assert self.spent
        assert self.up == b""
        self.up = held

    def send_body(self, data: bytes) -> None:
        assert data
        self.up += data

    def send_last(self, data: bytes) -> None:
        assert data
        self.up += data
        self.ended = True

    def fail(self, refused: Refused) -> None:
        self.refused = refused


@given(
    body=st.binary(max_size=40),
    other=st.binary(max_size=40),
    limit=st.integers(0, 30),
    cuts=st.lists(st.integers(1, 12), min_size=1),
    length_is_known=st.booleans(),
)
def test_no_cut_and_no_limit_lets_another_body_end(
    body: bytes, other: bytes, limit: int, cuts: list[int], length_is_known: bool
) -> None:
    allowed = Allowed(scheme="mac")

    async def spend() -> Verdict:
        return allowed

    for sent in (body, other):
        carrier = Recorder()
        misfit = Refused("invalid_token", "")
        stated = [BodyDigest(hashlib.sha256(body).digest())]
        check = BodyCheck(stated, "hmac-sha-256")
        checked = CheckedBody(BodyAwaited(check=check, misfit=misfit, spend=spend), carrier, limit)
        at, turn = 0, 0
        if length_is_known and not checked.holds(len(sent)):
            checked.stream()
            carrier.answer()
        while at < len(sent):
            size = cuts[turn % len(cuts)]
            checked.data(sent[at : at + size])
            carrier.answer()
            at, turn = at + size, turn + 1
        checked.end()
        carrier.answer()
        if sent == body:
            assert (carrier.up, carrier.refused) == (body, None)
            assert carrier.ended is (len(body) > limit)
        else:
            assert carrier.refused is misfit
            assert not carrier.ended
            assert carrier.spent is (len(sent) > limit)
            assert carrier.up == (sent[:-1] if len(sent) > limit else b"")
