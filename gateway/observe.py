"""The log for the operator: one JSON object a line on stderr, and never a secret in it.

Every line, also those of libraries that use the standard library's logging, warnings and unhandled exceptions,
goes through one renderer. It removes credentials, escapes all that is not printable ASCII (so that a CR, LF or
ESC from a stranger can neither forge a line nor reach a terminal), and keeps a line below the size that a pipe
takes whole (4,096 bytes), so that the lines of several workers never mix.

Fields: `time` (UTC), `level`, `logger`, `event`, `process`, `pid`, then the event's own; `request_id` ties the
lines of one request together and is what the upstream and the client got; an exception is `exception` and
`traceback`, a list of places, never lines of their own.
"""

import json
import logging
import os
import re
import sys
import threading
import traceback
from base64 import b64decode
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, Literal, cast

from gateway.hidden_packages import without

with without("rich"):  # where that is installed, structlog loads it for consoles: a fifth of a worker's start
    import structlog
    from structlog.contextvars import bound_contextvars, merge_contextvars
    from structlog.typing import FilteringBoundLogger

Level = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error")

_REMOVED: Final = "[removed]"
_LONGEST_TEXT: Final = 1000
_LONGEST_LINE: Final = 4096 - 1
_MOST_FRAMES: Final = 12
_MOST_ITEMS: Final = 50  # of a list or a table: more fit into no line

# -- scrubbing -----------------------------------------------------------------------------------------------

# fmt: off
_SECRET_NAMES: Final = frozenset((  # of fields, form members, parameters and JSON members
    "access_token", "refresh_token", "id_token", "token", "code_verifier", "client_secret", "client_assertion",
    "assertion", "password", "passwd", "secret", "mac_key", "master_key", "api_key", "apikey", "csrf_token",
    "device_code", "user_code", "authorization", "proxy-authorization", "cookie", "set-cookie", "dsn", "jwt",
))
_SECRET_PARAMETERS: Final = _SECRET_NAMES | {"code", "key", "sig", "signature", "auth", "session", "sid", "mac"}
_SAFE_WORDS: Final = frozenset((  # what follows "bearer" or "token" in a sentence
    "token", "tokens", "credential", "credentials", "auth", "authentication", "authorization", "challenge", "scheme",
    "schemes", "route", "routes", "request", "requests", "endpoint", "revocation", "introspection", "signature",
))
# fmt: on


def _spelled(names: frozenset[str]) -> str:
    """A pattern for any of the names, each character as it is or percent-encoded, and compared once for all of them."""

    def one(character: str) -> str:
        upper, lower = f"{ord(character.upper()):02x}", f"{ord(character):02x}"
        encoded = lower if upper == lower else f"[{upper[0]}{lower[0]}]{lower[1]}"  # of a letter: 4 or 6, or 5 or 7
        return f"(?:{re.escape(character)}|%{encoded})"

    def after(first: str) -> str:
        return one(first) + _spelled(frozenset(name[1:] for name in names if name[:1] == first)) if first else ""

    firsts = sorted({name[:1] for name in names}, reverse=True)
    return after(firsts[0]) if len(firsts) == 1 else f"(?:{'|'.join(map(after, firsts))})"


# What any of them looks like, so that few places are compared with all of them; and what stands before a value.
_NAME: Final = r"[a-z%] [a-z0-9_%-]{2,60}+"
_IS: Final = r"""(?: \\*+['"] \s*+ : \s*+ | ['"]? \s? = \s? )"""
_BEGINS: Final = (
    r"(?: \b | (?<= %[0-9a-f]{2} ))"  # a word, also behind what is percent-encoded, as in an address within one
)
# Each of these looks at a character a bounded number of times, whatever the text: what they see, strangers chose.
# An address with a password: what stands behind ":" up to the last "@" of the word.
_ADDRESS: Final = re.compile(r"""(://[^\s/:@'"]*+:)(\S*+)""")
# What says by its beginning that it is secret, so that it is seen also where the end is cut off.
_SECRETS: Final = re.compile(
    rf"""
      (?P<token> {_BEGINS} gw[a-z]_) [A-Za-z0-9_-]++                                # our tokens and secrets
    | (?P<jwt> {_BEGINS} (?-i:eyJ)) [A-Za-z0-9_.-]{{17,}}+                          # a JWT: {{ and " in base64url
    | (?P<field> \b (?:(?:proxy-)?authorization | (?:set-)?cookie) \b ['"]? \s*+ [:=,] \s*+) (?s:.*)
    | (?P<mac> \b mac \s++ [a-z_]++ \s*+ =) (?s:.*)                                # a MAC credential's attributes
    | (?<![\w.-]) (?P<cookie> __(?:Host|Secure)- [\w.-]++ =) [^\s;'"]*+
    | (?P<named> (?: [?&] (?={_NAME} =) {_spelled(_SECRET_PARAMETERS)} =
                 | (?<![\w%.-]) ['"]? (?={_NAME} {_IS}) {_spelled(_SECRET_NAMES)} {_IS}))
      (?: \\*+"[^"]*+"? | '[^']*+'? | \[removed\] | (?: \[removed\] | [^\s&;,'")}}\]] )*+ )
    """,
    re.VERBOSE | re.IGNORECASE,
)
# What may be a credential or the rest of a sentence.
_SCHEMES: Final = re.compile(
    r"((?:\b(?:bearer|basic|dpop|token)\s++)+)([A-Za-z0-9._~+/=-]++(?:\[removed\])?)", re.IGNORECASE
)
# What no secret of the above fits into: most values of most lines, passed without the long patterns.
_HARMLESS: Final = re.compile(r"(?:(?!eyJ)[A-Za-z0-9/.-])*+|(?!gw._)[a-z]+_[a-z]+")


def scrub(text: str, *, cut: bool = False) -> str:
    """`text` without tokens, passwords, cookies, Authorization values and credentials of a query or form.

    With `cut` it is the beginning of a longer one, whose last word may be half a secret that shows by its end only.
    """

    def address(found: re.Match[str]) -> str:
        front, rest = found.groups()
        host = "" if cut and found.end() == len(text) else rest[rest.rfind("@") :] if "@" in rest else None
        return found.group() if host is None else front + _REMOVED + host

    def scheme(found: re.Match[str]) -> str:
        schemes, value = found.groups()
        half = cut and found.end() == len(found.string)
        return schemes + _REMOVED if half or _is_credential(schemes.split()[-1], value) else found.group()

    return _SCHEMES.sub(scheme, _SECRETS.sub(_without_secret, _ADDRESS.sub(address, text)))


def _without_secret(found: re.Match[str]) -> str:
    return found[cast("str", found.lastgroup)] + _REMOVED


def _is_credential(scheme: str, value: str) -> bool:
    """Whether the word after a scheme's name is a credential and not the rest of a sentence."""
    if len(value) < 4:
        return False
    if scheme.lower() == "basic":
        try:
            return b":" in b64decode(value + "=" * (-len(value) % 4))
        except ValueError:
            return False
    if value.rstrip(".").lower() in _SAFE_WORDS:
        return False
    return len(value) >= 12 or not (value.isalpha() and value.islower())


def _clean(value: object, depth: int = 3) -> object:
    if type(value) is str and len(value) <= _LONGEST_TEXT and _HARMLESS.fullmatch(value):
        return value
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping) and depth:
        return {
            str(_clean(str(key))): _REMOVED if str(key).lower() in _SECRET_NAMES else _clean(item, depth - 1)
            for key, item in islice(value.items(), _MOST_ITEMS)
        }
    if isinstance(value, list | tuple | set | frozenset) and depth:
        more = ["…"] if len(value) > _MOST_ITEMS else []
        return [_clean(item, depth - 1) for item in islice(value, _MOST_ITEMS)] + more
    text = value if isinstance(value, str) else value.decode("latin-1") if isinstance(value, bytes) else repr(value)
    # The cut comes first: what a stranger makes long must not cost more to read than what is written of it.
    return scrub(text) if len(text) <= _LONGEST_TEXT else f"{scrub(text[:_LONGEST_TEXT], cut=True)}…"


# -- rendering -----------------------------------------------------------------------------------------------


class _Renderer:
    """One line for one event; the last processor of structlog's chain."""

    def __init__(self, process: str) -> None:
        self._process = process

    def __call__(self, logger: "_Stderr", level: str, event: MutableMapping[str, Any]) -> str:
        line: dict[str, object] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": level,
            "logger": logger.name,
            "event": _clean(event.pop("event", "")),
            "process": self._process,
            "pid": os.getpid(),
        }
        failure = _failure(event.pop("exc_info", None))
        for name, value in event.items():
            line[name] = _REMOVED if name in _SECRET_NAMES else _clean(value)
        if failure is not None:
            line["exception"] = _clean(_described(failure))
            line["traceback"] = _places(failure)
        return _fitted(line)


def _fitted(line: dict[str, object]) -> str:
    text = _escaped(line)
    if len(text) <= _LONGEST_LINE:
        return text
    kept = ("time", "level", "logger", "process", "pid", "request_id")
    short = {name: str(line[name])[:200] for name in kept if name in line}
    short |= {name: str(line[name])[:400] for name in ("event", "exception") if name in line}
    short["pid"] = str(os.getpid())
    return _escaped({**short, "truncated": True})


def _escaped(line: dict[str, object]) -> str:
    return json.dumps(line).replace("\x7f", "\\u007f")


def _failure(exc_info: object) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return cast("BaseException | None", exc_info[1])
    return sys.exc_info()[1] if exc_info else None


def _described(failure: BaseException) -> str:
    parts = list[str]()
    cause: BaseException | None = failure
    while cause is not None and len(parts) < 4:
        parts.append(f"{type(cause).__name__}: {cause}")
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        else:
            cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return " < ".join(parts)


def _places(failure: BaseException) -> list[str]:
    while isinstance(failure, BaseExceptionGroup):  # the group's own places tell who waited, not what went wrong
        failure = failure.exceptions[0]
    frames = traceback.extract_tb(failure.__traceback__)[-_MOST_FRAMES:]
    return [f"{'/'.join(frame.filename.rsplit('/', 3)[-3:])}:{frame.lineno} {frame.name}" for frame in frames]


class _Stderr:
    """The stream of log lines: whatever sys.stderr is at that moment; a stderr that is gone stops nobody."""

    __slots__ = ("name",)

    def __init__(self, name: str = "gateway") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        try:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = warn = error = critical = exception = log = fatal = failure = msg


class _Routed(logging.Handler):
    """Brings what libraries log to the same renderer."""

    def __init__(self, renderer: _Renderer) -> None:
        super().__init__()
        self._renderer = renderer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception as exc:  # noqa: BLE001  # a library's malformed call must not cost us the request
            message = f"{record.msg!r} ({type(exc).__name__} in its arguments)"
        event = merge_contextvars(None, "", {"event": message, "exc_info": record.exc_info})
        logger = _Stderr(record.name)
        logger.msg(self._renderer(logger, record.levelname.lower(), event))


def get_logger(name: str) -> FilteringBoundLogger:
    """The logger of a module: `log.info("event in words", field=value, …)`; exceptions by `exc_info=exc`."""
    return cast("FilteringBoundLogger", structlog.get_logger(name))


def request(request_id: str) -> AbstractContextManager[None]:
    """Within this context every line of the current task carries `request_id`."""
    return cast("AbstractContextManager[None]", bound_contextvars(request_id=request_id))


def start(process: str, level: Level = "info") -> None:
    """Make this process log: from now on nothing it writes by itself on stderr is anything but these lines."""
    renderer = _configure(process, level)
    logging.basicConfig(handlers=[_Routed(renderer)], level=level.upper(), force=True)
    for chatty in ("aiohttp.access", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    log = get_logger("gateway")

    def unhandled(kind: type[BaseException], failure: BaseException, _traceback: object) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            log.critical("unhandled exception", exc_info=failure)

    def unraisable(hook: "sys.UnraisableHookArgs") -> None:
        log.error(hook.err_msg or "exception ignored", exc_info=hook.exc_value, where=repr(hook.object))

    def in_thread(hook: threading.ExceptHookArgs) -> None:
        log.error("exception in a thread", exc_info=hook.exc_value)

    sys.excepthook, sys.unraisablehook, threading.excepthook = unhandled, unraisable, in_thread


def _configure(process: str, level: Level) -> _Renderer:
    renderer = _Renderer(process)
    structlog.configure(
        processors=[merge_contextvars, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Stderr,
        cache_logger_on_first_use=True,
    )
    return renderer


_configure("gateway", "info")
