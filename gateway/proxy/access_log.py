"""The access log: a line for each call that has ended, whoever answered it, and also where its client has gone.

No secret is in it: of a query the names alone, of a token whose it is. What strangers chose (target, method, Referer,
User-Agent) is scrubbed and escaped, so that no byte of it ends a line or leaves its quotes, and cut, so that a line is
shorter than what a pipe takes whole.

It is made for each call, and must cost little beside the call. So nearly all of a line are fragments that others had
too (the time, the route, the upstream, who called), and they are put together in one step. Whether anything may be a
secret, or has to be escaped, is seen in one pass over the bytes; only then they are looked at with care. Where the
engine is compiled, `proxy.line` writes lines that ask for none. Lines are made some at a time, since to come
to this code from a call takes a processor longer than to make a line; all that are owed at the latest just before
anything is written (`log_sink`).
"""

import json
import re
import time
from collections.abc import Callable
from random import random
from typing import Final, Literal, TypeVar

from gateway.figures import LOG_LINES_LOST
from gateway.http1 import RequestHead
from gateway.http1.grammar import ALPHANUMERIC, table
from gateway.http1.scan import COMPILED
from gateway.observe import get_logger, scrub
from gateway.proxy.finished import Finished
from gateway.routing import Route

if COMPILED:
    from gateway.proxy.line import Page

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
_TOGETHER: Final = 16  # lines: of heads that ask for care they take some milliseconds
_LARGE: Final = 4096  # bytes of a head that is not kept until there are so many
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
_THREE_DIGITS: Final = tuple([b"%03d" % number for number in range(1000)])

_log = get_logger("gateway.access")


def _epoch() -> float:
    """What the monotonic clock lacks of the seconds since 1970."""
    return time.time() - time.monotonic()


def _first(head: RequestHead, name: bytes) -> bytes | None:
    values = head.fields.values(name)
    return values[0] if values else None


class AccessLog:
    """Makes lines and gives them to `write`; of what passed, the share `sample`, and of what failed, all.

    Several together, where there is `soon`, which calls what it is given in some moments; each at once without. Until
    then what is told of a call is kept, with its head unless that is large.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        form: Format,
        sample: float = 1.0,
        epoch: Callable[[], float] = _epoch,
        soon: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._write, self._sample, self._epoch, self._soon = write, sample, epoch, soon
        self._waiting: list[Finished] = []  # calls whose lines are yet to be made
        self._since = 0.0  # what the monotonic clock lacks of the seconds since 1970, for them
        self._is_json: Final = form == "json"
        self._begins: Final = _json_time if form == "json" else _common_time
        self._page: Final = Page(self._begins, _IN_PATH, _IN_NAME) if COMPILED else None
        self._put_json: Final = None if self._page is None else self._page.json  # looked up once
        self._put_combined: Final = None if self._page is None else self._page.combined
        self._second, self._time = -1, b""  # since 1970, and how it stands in a line
        self._addresses: dict[str, bytes] = {}
        self._routes: dict[Route | None, bytes] = {}
        self._texts: dict[str, bytes] = {"": b"null"}  # in JSON
        self._agents: dict[bytes, bytes] = {}
        self._subjects: dict[str | None, bytes] = {None: b"-"}
        self._callers: dict[tuple[str | None, str | None, str | None], bytes] = {}

    def hear(self, finished: Finished) -> None:
        """Note what became of a call, if it is to be told of."""
        if self._sample < 1.0 and finished.complete and finished.status < 400 and random() >= self._sample:  # noqa: S311
            return
        waiting, head = self._waiting, finished.head
        waiting.append(finished)
        is_large = head is not None and len(head.target) + head.fields.end > _LARGE
        if is_large or self._soon is None or len(waiting) >= _TOGETHER:
            self._write_waiting()
        elif len(waiting) == 1:
            self._soon(self._write_waiting)

    def _write_waiting(self) -> None:
        """Make the lines of the calls that wait for theirs, and have them written."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        self._since = self._epoch()
        parts: list[bytes] = []
        for finished in waiting:
            try:
                line = self._json(finished) if self._is_json else self._combined(finished)
            except Exception:  # noqa: BLE001  # of one call, for which the others do not go without theirs
                LOG_LINES_LOST.add(1.0)
                _log.exception("a call has no line", request_id=finished.request_id.decode())
                continue
            if line is not None:
                if self._page is not None:
                    parts.append(self._page.taken())
                parts.append(line)
        if self._page is not None:
            parts.append(self._page.taken())
        if lines := b"".join(parts):
            self._write(lines)

    # -- JSON -------------------------------------------------------------------------------------------------------

    def _json(self, finished: Finished) -> bytes | None:
        """A line, or None where it is on the page already."""
        now = self._since + finished.ended
        head, upstream, allowed, refused = finished.head, finished.upstream, finished.allowed, finished.refused
        client_id: str | None = None
        subject: str | None = None
        scheme: str | None = None
        if allowed is not None and allowed.digest:
            client_id, subject, scheme = allowed.client_id, allowed.subject, allowed.scheme
        elif refused is not None and refused.identity is not None:
            client_id, subject = refused.identity.client_id or None, refused.identity.subject
        why = refused.why if refused is not None else "" if finished.complete else _GONE
        named = self._routes.get(finished.route) or self._name(finished.route)
        cause = (self._texts.get(why) or self._text(why)) if why else b"null"
        answering = self._texts.get(upstream) or self._text(upstream)
        at_upstream = (finished.answered or finished.seconds) - finished.connected if upstream else None
        if (
            self._put_json is not None
            and head is not None
            and self._put_json(
                now, finished.request_id, finished.client, head.method, head.target, named, finished.status, cause,
                finished.received, finished.sent, finished.seconds, at_upstream, answering, client_id, subject, scheme,
            )
        ):  # fmt: skip
            return None
        millis = int(now * 1000)
        line = (
            b'%b%03dZ","event":"call","request_id":"%b","address":%b,"method":%b,"route":%b,"status":%b,"cause":%b,'
            b'"received":%d,"sent":%d,"seconds":%b,"upstream_seconds":%b,"upstream":%b,%b'
            % (
                self._time_of(millis // 1000),
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
                b"null" if at_upstream is None else _decimals(at_upstream),
                answering,
                self._caller(client_id, subject, scheme),
            )
        )
        return line if len(line) <= _LONGEST_LINE else _shortened(line)

    def _time_of(self, second: int) -> bytes:
        if second != self._second:
            self._second, self._time = second, self._begins(second)
        return self._time

    def _address(self, client: str) -> bytes:
        return _kept(self._addresses, client, b'"%b"' % _quoted(client) if client else b"null")

    def _text(self, text: str) -> bytes:
        """A JSON string, of which there are few in this place."""
        return _kept(self._texts, text, b'"%b"' % _quoted(text) if text else b"null")

    def _name(self, route: Route | None) -> bytes:
        name = "" if route is None else route.name
        return _kept(self._routes, route, self._texts.get(name) or self._text(name))

    def _caller(self, client_id: str | None, subject: str | None, scheme: str | None) -> bytes:
        who = (client_id, subject, scheme)
        found = self._callers.get(who)
        if found is None:
            client, person, by = map(json.dumps, who)
            text = f'"client":{client},"subject":{person},"scheme":{by}}}\n'
            found = _kept(self._callers, who, text.encode())
        return found

    # -- combined ---------------------------------------------------------------------------------------------------

    def _combined(self, finished: Finished) -> bytes | None:
        """A line, or None where it is on the page already."""
        now, head, address = self._since + finished.ended, finished.head, finished.client
        subject = None if finished.allowed is None else finished.allowed.subject
        referer: bytes | None = None
        agent = b"-"
        if head is not None:
            referer, sent = _first(head, b"referer"), _first(head, b"user-agent")
            if sent is not None:
                agent = self._agents.get(sent) or self._agent(sent)
            if self._put_combined is not None and self._put_combined(
                now, address, subject, head.method, head.target, head.minor_version, finished.status, finished.sent,
                referer, agent,
            ):  # fmt: skip
                return None
        request = b"-"
        if head is not None:
            request = b"%b %b HTTP/1.%d" % (_method(head.method), _target(head.target), head.minor_version)
        return b'%b - %b%b%b" %b %d "%b" "%b"\n' % (
            self._addresses.get(address) or self._bare_address(address),
            self._subjects.get(subject) or self._word(subject or ""),
            self._time_of(int(now)),
            request,
            b"%d" % finished.status if finished.status else b"-",
            finished.sent,
            b"-" if referer is None else _referer(referer),
            agent,
        )

    def _bare_address(self, client: str) -> bytes:
        return _kept(self._addresses, client, _quoted(client) or b"-")

    def _word(self, subject: str) -> bytes:
        """Who called, as one word."""
        return _kept(self._subjects, subject, _UNQUOTABLE.sub("_", subject[:_LONGEST_FIELD]).encode() or b"-")

    def _agent(self, value: bytes) -> bytes:
        agent = _quoted(value.decode("latin-1"))
        return _kept(self._agents, value, agent) if len(value) <= _LONGEST_FIELD else agent


def _json_time(second: int) -> bytes:
    """How a line begins, up to the milliseconds: as RFC 3339 has it, section 5.6."""
    return time.strftime('{"time":"%Y-%m-%dT%H:%M:%S.', time.gmtime(second)).encode()


def _common_time(second: int) -> bytes:
    """What stands between the subject and the request: as the Common Log Format has it, whose months are English
    wherever the gateway runs."""
    moment = time.gmtime(second)
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * moment.tm_mon - 3 : 3 * moment.tm_mon]
    clock = time.strftime("%H:%M:%S", moment)
    return f' [{moment.tm_mday:02d}/{month}/{moment.tm_year}:{clock} +0000] "'.encode()


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


def _referer(value: bytes) -> bytes:
    """Where a browser came from, without its query and fragment."""
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
