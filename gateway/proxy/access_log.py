"""The access log: a line for each call that has ended, whoever answered it, and also where its client has gone.

No secret is in it: of a query the names alone, of a token whose it is. What strangers chose (target, method, Referer,
User-Agent) is scrubbed and escaped, so that no byte of it ends a line or leaves its quotes, and cut, so that a line is
shorter than what a pipe takes whole.

It is made for each call, so most of what stands in a line is a fragment that others had too: the second, the route, the
upstream, who called.
"""

import json
import re
import time
from collections.abc import Callable
from random import random
from typing import Final, Literal, TypeVar

from gateway.guard import Allowed
from gateway.http1 import RequestHead
from gateway.observe import scrub
from gateway.proxy.finished import Finished
from gateway.routing import Route

Key = TypeVar("Key")
Fragment = TypeVar("Fragment")
Format = Literal["json", "combined"]

_LONGEST: Final = 1000  # characters of a target, as it came
_LONGEST_QUERY: Final = 400
_LONGEST_FIELD: Final = 300  # of a field
_LONGEST_METHOD: Final = 40
_LONGEST_LINE: Final = 4096
_KEPT: Final = 2048  # fragments of a kind
_GONE: Final = "the client left"
_QUERY_OR_FRAGMENT: Final = re.compile(r"[?#]")
_UNQUOTABLE: Final = re.compile(r"[^!#-\[\]-~]")
# What can neither be a secret nor leave its quotes: no "=" that names a value, no "://user:", no escape.
_PLAIN: Final = re.compile(rb"[A-Za-z0-9/._~!$&()*+,;%-]{0,1000}")
_PLAIN_REFERER: Final = re.compile(
    rb"https?://[A-Za-z0-9.-]{1,200}(?::[0-9]{1,5})?(?:/[A-Za-z0-9/._~!$&()*+,;%-]{0,300})?"
)
_VALUE: Final = re.compile(rb"=(?!=)[^&]+")
_NAME: Final = re.compile(rb"(?:^|&)([A-Za-z0-9_.\[\]-]{1,40})=\*")
_TOKEN: Final = re.compile(rb"gw[a-z]_", re.IGNORECASE)
_NOBODY: Final = b'"client":null,"subject":null,"scheme":null'


class AccessLog:
    """Makes lines and gives them to `write`; of what passed, the share `sample`, and of what failed, all."""

    def __init__(
        self,
        write: Callable[[bytes], None],
        form: Format,
        sample: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._write, self._sample, self._clock = write, sample, clock
        self._line, self._stamp_of = (self._json, _iso) if form == "json" else (self._combined, _common)
        self._stamp, self._stamp_from, self._stamp_until = b"", 0.0, 0.0
        self._texts: dict[str, bytes] = {"": b"null"}  # in JSON
        self._routes: dict[Route | None, bytes] = {None: b"null"}
        self._queries: dict[bytes, bytes] = {}  # without their values
        self._agents: dict[bytes, bytes] = {}
        self._callers: dict[bytes, tuple[str, bytes]] = {}  # by the token's digest: its scheme, and whose it is

    def hear(self, finished: Finished) -> None:
        """Write what became of a call, if it is to be told of."""
        if self._sample < 1.0 and finished.complete and finished.status < 400 and random() >= self._sample:  # noqa: S311
            return
        self._write(self._line(finished))

    def _now(self) -> bytes:
        """The time as it is written, which many calls share."""
        now = self._clock()
        if not self._stamp_from <= now < self._stamp_until:
            self._stamp, self._stamp_from, self._stamp_until = self._stamp_of(now)
        return self._stamp

    def _target(self, target: bytes) -> bytes:
        """The path, and of the query the names, for between quotes."""
        found = _PLAIN.match(target)
        end = 0 if found is None else found.end()
        if b"gw" in target or (end < len(target) and target[end] != 63):  # "?"
            path, asked, query = target.partition(b"?")
            shown = _quoted(path.decode("latin-1"), _LONGEST)
            return b"%b?%b" % (shown, _names(_VALUE.sub(b"=*", query[:_LONGEST_QUERY]))) if asked else shown
        if end == len(target):
            return target
        query = _VALUE.sub(b"=*", target[end + 1 : end + _LONGEST_QUERY])
        names = self._queries.get(query)
        if names is None:
            names = _kept(self._queries, query, _names(query))
        return b"%b?%b" % (target[:end], names)

    # -- JSON -------------------------------------------------------------------------------------------------------

    def _json(self, finished: Finished) -> bytes:
        (
            request_id, head, _, client, route, allowed, upstream, status,
            refused, complete, received, sent, _, connected, answered, seconds, _, _,
        ) = finished  # fmt: skip
        line = (
            b'{"time":"%b","event":"call","request_id":"%b","address":%b,"method":%b,"target":%b,"route":%b,'
            b'"status":%b,"cause":%b,"received":%d,"sent":%d,"seconds":%.6f,"upstream_seconds":%b,"upstream":%b,%b}\n'
            % (
                self._now(),
                request_id,
                self._texts.get(client) or self._text(client),
                b"null" if head is None else b'"%b"' % head.method[:_LONGEST_METHOD],
                b"null" if head is None else b'"%b"' % self._target(head.target),
                self._routes.get(route) or self._name(route),
                b"%d" % status if status else b"null",
                b"null" if refused is None and complete else self._cause(finished),
                received,
                sent,
                seconds,
                b"%.6f" % ((answered or seconds) - connected) if upstream else b"null",
                self._texts.get(upstream) or self._text(upstream),
                _NOBODY if allowed is None and refused is None else self._caller(finished),
            )
        )
        return line if len(line) <= _LONGEST_LINE else _shortened(line)

    def _text(self, text: str) -> bytes:
        """A JSON string, of which there are few in this place."""
        return _kept(self._texts, text, b'"%b"' % _quoted(text))

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

    def _combined(self, finished: Finished) -> bytes:
        head = finished.head
        request = referer = agent = b"-"
        if head is not None:
            method = head.method[:_LONGEST_METHOD]
            request = b"%b %b HTTP/1.%d" % (method, self._target(head.target), head.minor_version)
            referer, agent = _referer(head), self._agent(head)
        client = self._texts.get(finished.client) or self._text(finished.client)
        status = b"%d" % finished.status if finished.status else b"-"
        return b'%b - %b [%b] "%b" %b %d "%b" "%b"\n' % (
            client.strip(b'"'),
            _subject(finished.allowed),
            self._now(),
            request,
            status,
            finished.sent,
            referer,
            agent,
        )

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
    """A line without what may be long in it."""
    fields = json.loads(line)
    short = {**fields, "target": fields["target"][:200], "cause": None, "truncated": True}
    return json.dumps(short, separators=(",", ":")).encode() + b"\n"


def _iso(now: float) -> tuple[bytes, float, float]:
    """A time to the millisecond, and from when until when it is that."""
    millis = int(now * 1000)
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(millis // 1000))}.{millis % 1000:03d}Z"
    return stamp.encode(), millis / 1000, (millis + 1) / 1000


def _common(now: float) -> tuple[bytes, float, float]:
    """As the Common Log Format has it, whose months are English wherever the gateway runs."""
    second = int(now)
    moment = time.gmtime(second)
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * moment.tm_mon - 3 : 3 * moment.tm_mon]
    stamp = f"{moment.tm_mday:02d}/{month}/{moment.tm_year}:{time.strftime('%H:%M:%S', moment)} +0000"
    return stamp.encode(), second, second + 1.0


def _names(query: bytes) -> bytes:
    """The names of a query's parameters; what has none, or an odd one, may be anything. Values have become `*`."""
    return b"&".join([name + b"=" for name in _NAME.findall(query) if _TOKEN.search(name) is None])


def _referer(head: RequestHead) -> bytes:
    """Where a browser came from, without its query and fragment."""
    values = head.fields.values(b"referer")
    if not values:
        return b"-"
    value = values[0]
    found = _PLAIN_REFERER.match(value)
    if found is not None and value[found.end() : found.end() + 1] in (b"", b"?", b"#") and b"gw" not in found[0]:
        return found[0]
    return _quoted(_QUERY_OR_FRAGMENT.split(value.decode("latin-1"), maxsplit=1)[0])


def _quoted(text: str, longest: int = _LONGEST_FIELD) -> bytes:
    """Text that is scrubbed and cut, for between quotes: in ASCII, and readable as a JSON string."""
    clean = scrub(text) if len(text) <= longest else scrub(text[:longest], cut=True) + "…"
    quoted = json.dumps(clean)[1:-1].replace("\x7f", "\\u007f")
    if len(quoted) > 2 * longest:  # much of it is escaped, six for one
        quoted = json.dumps(clean[: longest // 4] + "…")[1:-1].replace("\x7f", "\\u007f")
    return quoted.encode()


def _subject(allowed: Allowed | None) -> bytes:
    """Who called, as one word."""
    if allowed is None or allowed.subject is None:
        return b"-"
    return _UNQUOTABLE.sub("_", allowed.subject).encode()


def _caller(client_id: str | None, subject: str | None, scheme: str | None) -> bytes:
    return f'"client":{json.dumps(client_id)},"subject":{json.dumps(subject)},"scheme":{json.dumps(scheme)}'.encode()
