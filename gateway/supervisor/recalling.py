"""What the workers together remember of a call: for `gateway explain`, and for who asks the admin listener."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from gateway.faults import OperatorError

_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_OURS: Final = re.compile(r"[0-9a-f]{22}")

Answers = Iterable[tuple[str, Any]]
"""What each worker remembers of a call, by its name: an object of JSON, None where it does not say so in time."""


class Unanswered(OperatorError):
    """No worker that answered knows of a call, and one that did not may."""


def require_request_id(text: str) -> None:
    """Raises OperatorError for what is the identifier of no request."""
    if not _REQUEST_ID.fullmatch(text):
        raise OperatorError(
            f"REQUEST_ID {text!r}: is not the identifier of a request; it stands in the answer as request_id, "
            "and in its field X-Request-Id"
        )


def calls_of(request_id: str, answers: Answers) -> list[dict[str, Any]]:
    """What is known of the calls of this identifier, the latest first.

    Raises OperatorError where nobody knows of any (any more), Unanswered where somebody was not heard, and says why as
    exactly as that can be said; ValueError, TypeError, KeyError or AttributeError for answers that no worker gives.
    """
    workers = [(str(name), _Remembered(said)) for name, said in answers]
    calls = _calls(workers)
    if not calls:
        kind = OperatorError if all(said.answered for _, said in workers) else Unanswered
        raise kind(_unknown(request_id, workers))
    return calls


class _Remembered:
    """What one worker remembers of a call; nothing where it did not answer."""

    def __init__(self, said: Mapping[str, Any] | None) -> None:
        self.answered = said is not None
        said = said or {}
        self.calls: list[dict[str, Any]] = list(said.get("calls", ()))
        self.notes: list[dict[str, Any]] = list(said.get("notes", ()))
        self.gave = bool(said.get("gave"))
        self.since = float(said.get("since", 0.0))
        self.forgotten = int(said.get("forgotten", 0))


def _calls(workers: list[tuple[str, _Remembered]]) -> list[dict[str, Any]]:
    """What all workers together know of the calls, the latest first. Why a page or an endpoint of the gateway's own
    refused one is known to those who answer there."""
    calls = [{"worker": name, **call} for name, said in workers for call in said.calls]
    notes = sorted((note for _, said in workers for note in said.notes), key=lambda note: note["at"])
    for call in calls:
        if call["route"] == "authorization" and notes:
            note = notes[-1]
            call |= {name: note[name] for name in ("cause", "mend", "client_id", "subject") if note.get(name)}
            call["steps"] = [
                step | {"text": f"{step['text']}: {note['cause']}"} if step["step"] == "upstream" else step
                for step in call["steps"]
            ]
    return sorted(calls, key=lambda call: str(call["at"]), reverse=True)


def _unknown(request_id: str, workers: list[tuple[str, _Remembered]]) -> str:
    """Why nobody knows a call (any more)."""
    remembered = [said for _, said in workers if said.answered]
    giver = next(((name, said) for name, said in workers if said.gave), None)
    if giver is not None:
        name, said = giver
        kept = (
            f"of what passes a few calls a second are kept, and what fails for an hour, here since {_time(said.since)}"
        )
        said_why = [f"{request_id}: {name} gave it to a call that it does not remember; {kept}"]
        if said.forgotten:
            more = " or more" if said.forgotten >= 1000 else ""
            said_why.append(f"{name} has forgotten {said.forgotten}{more} refusals of the last hour for want of room")
    else:
        since = min((said.since for said in remembered), default=None)
        memory = "" if since is None else f"; their memory begins at {_time(since)}"
        said_why = [
            f"{request_id}: no worker that runs now gave it{memory}. It is older, another gateway’s, or nobody’s"
        ]
        if not _OURS.fullmatch(request_id):
            said_why = [f"{request_id}: is not a request_id (22 hex digits), unless a proxy in front gave it"]
    silent = [name for name, said in workers if not said.answered]
    if silent:
        said_why.append(f"{', '.join(silent)}: gave no answer, and may know it; try again")
    said_why.append("the log has a line on each refusal, floods excepted: look for the request_id there")
    return "\n".join(said_why)


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
