"""May this call pass? One question, answered by what the store knows now."""

from gateway.guard.guard import Guard, settled
from gateway.guard.lane import Pending
from gateway.guard.verdict import PUBLIC, Allowed, BodyAwaited, Call, Judged, Refused, Turn, Verdict

__all__ = [
    "PUBLIC",
    "Allowed",
    "BodyAwaited",
    "Call",
    "Guard",
    "Judged",
    "Pending",
    "Refused",
    "Turn",
    "Verdict",
    "settled",
]
