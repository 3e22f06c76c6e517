"""The access log: a line for each call that has ended, whoever answered it, and also where its client has gone.

No secret is in it: of a query the names alone, of a token whose it is. What strangers chose (target, method, Referer,
User-Agent) is scrubbed and escaped, so that no byte of it ends a line or leaves its quotes, and cut, so that a line is
shorter than what a pipe takes whole.

It is made for each call, and must cost little beside the call. So nearly
all of a line are fragments that others had too (the time, the route, the upstream, who called), and they are put
together in one step. Whether anything may be a secret, or has to be escaped, is seen in one pass over the bytes; only
then they are looked at with care. Where the engine is compiled, `proxy.line` does that of lines that ask for none.

Code that runs once between two calls is not in the processor's caches when it does, which takes longer than all that it
has to do. So what is told of some calls is put together in one go: of the first at the latest before anything is
written (`log_sink`).
"""

import json
import re
import time
from collections.abc import Callable
from random import random
from typing import Final, Literal, TypeVar

from gateway.http1 import RequestHead
from gateway.http1.grammar import ALPHANUMERIC
from gateway.http1.scan import COMPILED, table
from gateway.observe import scrub
from gateway.proxy.finished import Finished
from gateway.routing import Route

if COMPILED:
    from gateway.proxy import line as at_once

Key = TypeVar("Key")
Fragment = TypeVar("Fragment")
Format = Literal["json", "combined"]

_LONGEST: Final = 1000  # characters of a target, as it came
_LONGEST_QUERY: Final = 400
_LONGEST_FIELD: Final = 300  # of a field
_LONGEST_METHOD: Final = 40
_LONGEST_LINE: Final = 4096
_SHORT_NAME: Final = 64  # characters of who called, where a line would be too long
_KEPT: Final = 2048  # fragments of a kind
_TOGETHER: Final = 16  # calls; their heads stay as long
_GONE: Final = "the client left"
_QUERY_OR_FRAGMENT: Final = re.compile(r"[?#]")
_UNQUOTABLE: Final = re.compile(r"[^!#-\[\]-~]")
# Of these, but for a token of ours and a JWT, neither a secret is made nor what leaves its quotes: no "=" that names a
# value, no "://user:", no "authorization,", no escape.
_IN_PATH: Final = table(ALPHANUMERIC + b"/._~!$&()*+;%-")
_IN_NAME: Final = table(ALPHANUMERIC + b"_.[]-")
_PLAIN_REFERER: Final = re.compile(
    rb"https?://[A-Za-z0-9.-]{1,200}(?::[0-9]{1,5})?(?:/[A-Za-z0-9/._~!$&()*+;%-]{0,300})?"
)
# What has no name, no value, an odd name or one beginning with "=" (base64 ends so) may be anything.
_NAMED: Final = re.compile(rb"(?:^|&)([A-Za-z0-9_.\[\]-]{1,40}=)(?=[^=&])")
_TOKEN: Final = re.compile(rb"gw[a-z]_", re.IGNORECASE)
_NOT_READ: Final = b'null,"target":null'
_NOBODY: Final = b'"client":null,"subject":null,"scheme":null}\n'
_THREE_DIGITS: Final = tuple([b"%03d" % number for number in range(1000)])


class AccessLog:
    """Makes lines and gives them to `write`; of what passed, the share `sample`, and of what failed, all.

    Several together, where there is `soon`, which calls what it is given in some moments; each at once without.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        form: Format,
        sample: float = 1.0,
        clock: Callable[[], float] = time.time,
        soon: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._write, self._sample, self._clock, self._soon = write, sample, clock, soon
        self._held: list[Finished] = []
        self._ended_at: list[float] = []  # when each of them did
        self._is_json: Final = form == "json"
        self._second, self._time = -1, b""  # since 1970, and how it stands in a line
        self._addresses: dict[str, bytes] = {}
        self._routes: dict[Route | None, bytes] = {}
        self._texts: dict[str, bytes] = {"": b"null"}  # in JSON
        self._agents: dict[bytes, bytes] = {}
        self._subjects: dict[str | None, bytes] = {None: b"-"}
        self._callers: dict[bytes, tuple[str, bytes]] = {}  # by the token's digest: its scheme, and whose it is

    def hear(self, finished: Finished) -> None:
        """Write what became of a call, if it is to be told of."""
        if self._sample < 1.0 and finished.complete and finished.status < 400 and random() >= self._sample:  # noqa: S311
            return
        held = self._held
        held.append(finished)
        self._ended_at.append(self._clock())
        if self._soon is None or len(held) >= _TOGETHER:
            self._write_held()
        elif len(held) == 1:
            self._soon(self._write_held)

    def _write_held(self) -> None:
        if not self._held:
            return
        held, ended_at = self._held, self._ended_at
        self._held, self._ended_at = [], []
        if self._is_json:
            lines = [self._json(finished, now) for finished, now in zip(held, ended_at, strict=True)]
        else:
            lines = [self._combined(finished, now) for finished, now in zip(held, ended_at, strict=True)]
        self._write(b"".join(lines))

    # -- JSON -------------------------------------------------------------------------------------------------------

    def _json(self, finished: Finished, now: float) -> bytes:
        millis, head, route, upstream = int(now * 1000), finished.head, finished.route, finished.upstream
        if millis // 1000 != self._second:
            self._take_second(millis // 1000)
        named, cause, connected = self._routes.get(route) or self._name(route), b"null", None
        if finished.refused is not None or not finished.complete:
            cause = self._cause(finished)
        if upstream:
            connected = (finished.answered or finished.seconds) - finished.connected
        answering = self._texts.get(upstream) or self._text(upstream)
        if COMPILED and head is not None:
            client_id = subject = scheme = None
            allowed, refused = finished.allowed, finished.refused
            if allowed is not None and allowed.digest:
                client_id, subject, scheme = allowed.client_id, allowed.subject, allowed.token_type
            elif refused is not None and refused.identity is not None:
                client_id, subject = refused.identity.client_id or None, refused.identity.subject
            made = at_once.json(
                self._time, millis % 1000, finished.request_id, finished.client, head.method, head.target, _IN_PATH,
                _IN_NAME, named, finished.status, cause, finished.received, finished.sent, finished.seconds, connected,
                answering, client_id, subject, scheme,
            )  # fmt: skip
            if made is not None:
                return made
        line = (
            b'%b%03dZ","event":"call","request_id":"%b","address":%b,"method":%b,"route":%b,"status":%b,"cause":%b,'
            b'"received":%d,"sent":%d,"seconds":%b,"upstream_seconds":%b,"upstream":%b,%b'
            % (
                self._time,
                millis % 1000,
                finished.request_id,
                self._addresses.get(finished.client) or self._address(finished.client),
                _NOT_READ if head is None else b'"%b","target":"%b"' % (_method(head.method), _target(head.target)),
                named,
                b"%d" % finished.status if finished.status else b"null",
                cause,
                finished.received,
                finished.sent,
                _decimals(finished.seconds),
                b"null" if connected is None else _decimals(connected),
                answering,
                _NOBODY if finished.allowed is None and finished.refused is None else self._caller(finished),
            )
        )
        return line if len(line) <= _LONGEST_LINE else _shortened(line)

    def _take_second(self, second: int) -> None:
        """Make anew what stands of this moment in a line: as RFC 3339 has it, to its milliseconds, or as the Common Log
        Format has it, whose months are English wherever the gateway runs."""
        moment = time.gmtime(second)
        self._second = second
        if self._is_json:
            self._time = time.strftime('{"time":"%Y-%m-%dT%H:%M:%S.', moment).encode()
            return
        month = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * moment.tm_mon - 3 : 3 * moment.tm_mon]
        clock = time.strftime("%H:%M:%S", moment)
        self._time = f' [{moment.tm_mday:02d}/{month}/{moment.tm_year}:{clock} +0000] "'.encode()

    def _address(self, client: str) -> bytes:
        return _kept(self._addresses, client, b'"%b"' % _quoted(client) if client else b"null")

    def _text(self, text: str) -> bytes:
        """A JSON string, of which there are few in this place."""
        return _kept(self._texts, text, b'"%b"' % _quoted(text) if text else b"null")

    def _name(self, route: Route | None) -> bytes:
        name = "" if route is None else route.name
        return _kept(self._routes, route, self._texts.get(name) or self._text(name))

    def _cause(self, finished: Finished) -> bytes:
        refused = finished.refused
        cause = _GONE if refused is None else refused.why
        return self._texts.get(cause) or self._text(cause)

    def _caller(self, finished: Finished) -> bytes:
        allowed = finished.allowed
        if allowed is None or not allowed.digest:
            identity = None if finished.refused is None else finished.refused.identity
            return _NOBODY if identity is None else _caller(identity.client_id or None, identity.subject, None)
        kept = self._callers.get(allowed.digest)
        if kept is None or kept[0] != allowed.token_type:
            caller = _caller(allowed.client_id, allowed.subject, allowed.token_type)
            kept = _kept(self._callers, allowed.digest, (allowed.token_type, caller))
        return kept[1]

    # -- combined ---------------------------------------------------------------------------------------------------

    def _combined(self, finished: Finished, now: float) -> bytes:
        second, head, client, allowed = int(now), finished.head, finished.client, finished.allowed
        if second != self._second:
            self._take_second(second)
        request = referer = agent = b"-"
        subject = None if allowed is None else allowed.subject
        if head is not None:
            agent = self._agent(head)
            if COMPILED:
                came_from = head.fields.values(b"referer")
                made = at_once.combined(
                    self._time, client, subject, head.method, head.target, _IN_PATH, _IN_NAME, head.minor_version,
                    finished.status, finished.sent, came_from[0] if came_from else None, agent,
                )  # fmt: skip
                if made is not None:
                    return made
            request = b"%b %b HTTP/1.%d" % (_method(head.method), _target(head.target), head.minor_version)
            referer = _referer(head)
        return b'%b - %b%b%b" %b %d "%b" "%b"\n' % (
            self._addresses.get(client) or self._bare_address(client),
            self._subjects.get(subject) or self._word(subject or ""),
            self._time,
            request,
            b"%d" % finished.status if finished.status else b"-",
            finished.sent,
            referer,
            agent,
        )

    def _bare_address(self, client: str) -> bytes:
        return _kept(self._addresses, client, _quoted(client) or b"-")

    def _word(self, subject: str) -> bytes:
        """Who called, as one word."""
        return _kept(self._subjects, subject, _UNQUOTABLE.sub("_", subject[:_LONGEST_FIELD]).encode() or b"-")

    def _agent(self, head: RequestHead) -> bytes:
        values = head.fields.values(b"user-agent")
        if not values:
            return b"-"
        found = self._agents.get(values[0])
        if found is None:
            agent = _quoted(values[0].decode("latin-1"))
            found = _kept(self._agents, values[0], agent) if len(values[0]) <= _LONGEST_FIELD else agent
        return found


def _kept(fragments: dict[Key, Fragment], key: Key, fragment: Fragment) -> Fragment:
    """The fragment, which is kept for the next line; strangers may make up more of them than are worth keeping."""
    if len(fragments) >= _KEPT:
        fragments.clear()
    fragments[key] = fragment
    return fragment


def _shortened(line: bytes) -> bytes:
    """A line without what may be long in it; of names no more than their beginnings, where that is not enough."""
    fields = {**json.loads(line), "cause": None, "truncated": True}
    for name, longest in (("target", 200), ("client", _SHORT_NAME), ("subject", _SHORT_NAME)):
        if fields[name] is not None:
            fields[name] = fields[name][:longest]
        line = json.dumps(fields, separators=(",", ":")).encode() + b"\n"
        if len(line) <= _LONGEST_LINE:
            break
    return line


def _decimals(seconds: float) -> bytes:
    """Seconds with six decimals, never negative."""
    micros = int(seconds * 1e6 + 0.5) if seconds > 0.0 else 0
    whole, part = micros // 1_000_000, micros % 1_000_000
    return b"%d.%b%b" % (whole, _THREE_DIGITS[part // 1000], _THREE_DIGITS[part % 1000])


def _method(method: bytes) -> bytes:
    return method if len(method) <= _LONGEST_METHOD else method[:_LONGEST_METHOD]


def _target(target: bytes) -> bytes:
    """The path, and of the query the names, for between quotes."""
    shown = _shown_at_once(target)
    return _with_care(target) if shown is None else shown


def _shown_at_once(target: bytes) -> bytes | None:
    """What `_with_care` makes of a target, where nothing in it asks for care."""
    path, asked, query = target.partition(b"?")
    if len(path) > _LONGEST or len(query) > _LONGEST_QUERY or path.translate(_IN_PATH).find(0) >= 0:
        return None
    shown = b"%b?%b" % (path, b"&".join(_NAMED.findall(query))) if asked else target
    return None if b"eyJ" in path or b"gw" in shown.lower() else shown


def _with_care(target: bytes) -> bytes:
    path, asked, query = target.partition(b"?")
    shown = _quoted(path.decode("latin-1"), _LONGEST)
    if not asked:
        return shown
    names = [name for name in _NAMED.findall(query[:_LONGEST_QUERY]) if _TOKEN.search(name) is None]
    return b"%b?%b" % (shown, b"&".join(names))


def _referer(head: RequestHead) -> bytes:
    """Where a browser came from, without its query and fragment."""
    values = head.fields.values(b"referer")
    if not values:
        return b"-"
    value = values[0]
    found = _PLAIN_REFERER.match(value)
    if found is not None and value[found.end() : found.end() + 1] in (b"", b"?", b"#"):
        shown = found[0]
        if b"eyJ" not in shown and b"gw" not in shown.lower():
            return shown
    return _quoted(_QUERY_OR_FRAGMENT.split(value.decode("latin-1"), maxsplit=1)[0])


def _quoted(text: str, longest: int = _LONGEST_FIELD) -> bytes:
    """Text that is scrubbed and cut, for between quotes: in ASCII, and readable as a JSON string."""
    clean = scrub(text) if len(text) <= longest else scrub(text[:longest], cut=True) + "…"
    quoted = json.dumps(clean)[1:-1].replace("\x7f", "\\u007f")
    if len(quoted) > 2 * longest:  # much of it is escaped, six for one
        quoted = json.dumps(clean[: longest // 4] + "…")[1:-1].replace("\x7f", "\\u007f")
    return quoted.encode()


def _caller(client_id: str | None, subject: str | None, scheme: str | None) -> bytes:
    return (
        f'"client":{json.dumps(client_id)},"subject":{json.dumps(subject)},"scheme":{json.dumps(scheme)}}}\n'.encode()
    )
