"""`gateway explain`."""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.common import printable, with_config, with_json
from gateway.cli.usage import Verb
from gateway.faults import OperatorError

_PATIENCE: Final = 10.0  # seconds; each worker has two to answer
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
    from gateway.supervisor.recalling import calls_of, require_request_id

    request_id = request_id.strip()
    require_request_id(request_id)
    answer, pid = asyncio.run(ask(path.absolute(), f"explain {request_id}", _PATIENCE))
    if answer is None:
        raise OperatorError("the gateway did not answer: it is of an older release, or has just ended")
    if not isinstance(answer, list):
        raise not_a_gateway(pid)
    try:
        calls = calls_of(request_id, answer)
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise not_a_gateway(pid) from exc
    if as_json:
        click.echo(json.dumps({"request_id": request_id, "calls": calls}))
        return
    for number, call in enumerate(calls):
        if number:
            click.echo()
        for line in lines(call):
            click.echo(printable(line))


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
