"""May this call pass? One question, answered by what the store knows now."""

from gateway.guard.guard import Guard
from gateway.guard.verdict import Allowed, BearerDoor, BodyAwaited, Call, Principal, Refused, Verdict

__all__ = ["Allowed", "BearerDoor", "BodyAwaited", "Call", "Guard", "Principal", "Refused", "Verdict"]
