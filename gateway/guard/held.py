"""A token that the database has vouched for, as the cache holds it."""

from typing import Final

from gateway.guard.verdict import Allowed
from gateway.schemes.scheme import Bound, Signer


class Held:
    """A token that was vouched for: the answer to calls with it, and what proves signed ones, if it is a MAC token or
    bound to a key."""

    __slots__ = ("allowed", "position", "signer")

    def __init__(self, allowed: Allowed, signer: Signer | Bound | None, position: int) -> None:
        self.allowed: Final = allowed
        self.signer: Final = signer
        self.position = position  # up to which its marks are known to be untouched

    def stands(self, position: int) -> None:
        """Its marks are untouched up to there."""
        self.position = position
