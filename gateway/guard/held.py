"""A token that the database has vouched for, as the cache holds it."""

from typing import Final

from mypy_extensions import mypyc_attr

from gateway.guard.verdict import Allowed
from gateway.schemes.scheme import Bound, Signer


@mypyc_attr(acyclic=True)
class Held:
    """A token that was vouched for: the answer to calls with it by the scheme of its kind, and what proves signed ones,
    if it is a MAC token or bound to a key."""

    __slots__ = ("allowed", "noted_in", "position", "signer")

    def __init__(self, allowed: Allowed, signer: Signer | Bound | None, position: int) -> None:
        self.allowed: Final = allowed
        self.signer: Final = signer
        self.position = position  # up to which its marks are known to be untouched
        self.noted_in = 0  # the period in which its use was noted last (`guard.uses`)

    @property
    def kind(self) -> str:
        """The kind of token, by the scheme that is its own."""
        return self.allowed.scheme

    def stands(self, position: int) -> None:
        """Its marks are untouched up to there."""
        self.position = position

    def noted(self, period: int) -> None:
        """Its use in that period has been noted."""
        self.noted_in = period
