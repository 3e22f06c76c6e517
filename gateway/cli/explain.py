"""`gateway explain`."""

import asyncio
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.common import printable, with_config, with_json
from gateway.cli.usage import Verb
from gateway.faults import OperatorError

_PATIENCE: Final = 10.0  # seconds; each worker has two to answer
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_OURS: Final = re.compile(r"[0-9a-f]{22}")
# fmt: off
_HEADING: Final = (
    "outcome", "status", "cause", "mend", "told", "address", "client_id", "username", "subject", "route", "auth",
    "scopes", "upstream",
)
# fmt: on


@click.command(cls=Verb, epilog="Example: gateway explain 5f0e6c1b2a9d4c7e00001f")
@click.argument("request_id")
@with_config
@with_json
def command(request_id: str, path: Path, as_json: bool) -> None:
    """Tell what became of a call, step by step, why, and what to do.

    REQUEST_ID is the `request_id` in the answer, its X-Request-Id, or the reference on the page. Each worker remembers
    for an hour what it refused and what failed, as far as its memory has room, and a few a second of the calls that
    passed. For root, and for the user that the gateway runs as, on the machine where it runs.
    """
    from gateway.supervisor.control import ask, not_a_gateway

    request_id = request_id.strip()
    if not _REQUEST_ID.fullmatch(request_id):
        raise OperatorError(
            f"REQUEST_ID {request_id!r}: is not the identifier of a request; it stands in the answer as request_id, "
            "and in its field X-Request-Id"
        )
    answer, pid = asyncio.run(ask(path.absolute(), f"explain {request_id}", _PATIENCE))
    if answer is None:
        raise OperatorError("the gateway did not answer: it is of an older release, or has just ended")
    if not isinstance(answer, list):
        raise not_a_gateway(pid)
    try:
        workers = [(str(name), _Remembered(said)) for name, said in answer]
        calls = _calls(workers)
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise not_a_gateway(pid) from exc
    if not calls:
        raise OperatorError(_unknown(request_id, workers))
    if as_json:
        click.echo(json.dumps({"request_id": request_id, "calls": calls}))
        return
    for number, call in enumerate(calls):
        if number:
            click.echo()
        for line in lines(call):
            click.echo(printable(line))


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
    """Why nobody knows a call (any more), as exactly as that can be said."""
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


def lines(call: Mapping[str, Any]) -> Iterator[str]:
    """An explanation in lines, for people."""
    heading = {"at": call["at"], "worker": call["worker"]} if "at" in call else {}
    heading |= {name: call.get(name) for name in _HEADING}
    heading |= {"told": None if call["told"] == call["cause"] else call["told"]}
    heading |= {"times": ", ".join(f"{name} {taken * 1000:.1f} ms" for name, taken in _times(call))}
    yield from _columns((name, _text(found)) for name, found in heading.items() if _text(found))
    yield ""
    steps = list[tuple[str, str, str]]()
    for step in call["steps"]:
        if step["outcome"] != "not reached":
            steps.append((step["step"], step["outcome"], step["text"]))
        if step["step"] == "route":
            for look in call["routes"]:
                why = "matches" if look["matches"] else f"does not match: {look['why_not']}"
                steps.append(("", "", f"{look['route']} ({look['host'] or ''}{look['path']}) {why}"))
    yield from _columns(steps)
    unreached = [step["step"] for step in call["steps"] if step["outcome"] == "not reached"]
    if unreached:
        yield f"not reached: {', '.join(unreached)}"


def _times(call: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The times of a call's phases, unless it was over at once."""
    times = [(str(name), float(taken)) for name, taken in call.get("seconds", {}).items()]
    return [] if times == [("all", 0.0)] else times


def _columns(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    made = list(rows)
    widths = [max(map(len, column)) for column in zip(*made, strict=True)]
    for row in made:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _text(found: object) -> str:
    if isinstance(found, list):
        return ", ".join(map(str, found))
    return "" if found is None else str(found)


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
