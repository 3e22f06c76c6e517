"""May this call pass? One question, answered by what the store knows now."""

from gateway.guard.guard import Guard
from gateway.guard.verdict import Allowed, Call, Principal, Refused, Verdict

__all__ = ["Allowed", "Call", "Guard", "Principal", "Refused", "Verdict"]
