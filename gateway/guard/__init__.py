"""May this call pass? One question, answered by what the store knows now."""

from gateway.guard.guard import Guard, settled
from gateway.guard.lane import Pending
from gateway.guard.verdict import PUBLIC, Allowed, BodyAwaited, Judged, Verdict
from gateway.routing.call import Call, Turn

__all__ = [
    "PUBLIC",
    "Allowed",
    "BodyAwaited",
    "Call",
    "Guard",
    "Judged",
    "Pending",
    "Turn",
    "Verdict",
    "settled",
]
