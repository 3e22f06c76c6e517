"""May this call pass? One question, answered by what the store knows now."""

from gateway.guard.guard import Guard
from gateway.guard.nonces import Pending
from gateway.guard.verdict import Allowed, BodyAwaited, Call, Door, Principal, Refused, Verdict

__all__ = ["Allowed", "BodyAwaited", "Call", "Door", "Guard", "Pending", "Principal", "Refused", "Verdict"]
