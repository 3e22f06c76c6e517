"""A line of the access log that is written in one step, compiled, is the one that Python writes, to the byte."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.guard import Allowed
from gateway.http1 import Fields, RequestHead
from gateway.model import Identity
from gateway.proxy import access_log
from gateway.proxy.access_log import _TOGETHER, AccessLog, Format
from gateway.proxy.dispatch import Peer
from gateway.proxy.finished import Finished
from tests.compiled import compiled
from tests.counts import scaled
from tests.proxy.test_access_log import HOSTILE, TEXTS

pytestmark = pytest.mark.plain  # which of both writes is said from outside; compiled, it cannot be

FORMS: tuple[Format, ...] = ("json", "combined")
MOMENT = 1795934567.0421
ADA = Allowed(subject="u1", client_id="c1", scheme="bearer", digest=b"d" * 32)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The compiled lines."""
    return compiled("gateway.proxy.line", tmp_path_factory.mktemp("line"))


def ended(
    target: bytes = b"/open/a?page=2&q=1",
    method: bytes = b"GET",
    fields: bytes = b"Host: a\r\n",
    client: str = "192.0.2.7",
    allowed: Allowed | None = ADA,
    upstream: str = "127.0.0.1:9",
    status: int = 200,
    refused: Refused | None = None,
    complete: bool = True,
    received: int = 0,
    sent: int = 1234567,
    times: tuple[float, float, float] = (0.001, 0.0125, 0.0130004),
    moment: float = MOMENT,
    agent: bytes = b"",
) -> Finished:
    fields += b"User-Agent: %b\r\n" % agent if agent else b""
    head = RequestHead(method, target, 1, Fields.of(fields), 0, b"a", True, frozenset(), None, False)
    connected, answered, seconds = times
    return Finished(
        b"0123456789abcdef000000", head, Peer(client, False), client, None, allowed, upstream, status, refused,
        complete, received, sent, 0.0, connected, answered, seconds, moment,
    )  # fmt: skip


def compiled_log(line: Any, write: Callable[[bytes], None], form: Format, soon: Any = None) -> AccessLog:
    """The log as it is where the engine is compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access_log, "COMPILED", True)
        patch.setattr(access_log, "Page", line.Page, raising=False)
        return AccessLog(write, form, 1.0, lambda: 0.0, soon)


def written(line: Any, finished: Finished, form: Format) -> tuple[bytes, bytes, bool]:
    """The line by Python, the one that is written where the engine is compiled, and whether that was in one step."""
    lines = list[bytes]()
    AccessLog(lines.append, form, 1.0, lambda: 0.0).hear(finished)
    log = compiled_log(line, lines.append, form)
    at_once = make(log, form)(finished) is None
    assert log._page is not None
    assert bool(log._page.taken()) == at_once
    log.hear(finished)
    python, made = lines
    return python, made, at_once


def make(log: AccessLog, form: Format) -> Callable[[Finished], bytes | None]:
    """What makes a line of a call, or puts it on the log's page."""
    return log._json if form == "json" else log._combined


PLAIN = {
    "a call": ended(),
    "no query": ended(b"/"),
    "a long path": ended(b"/" + b"a" * 999),
    "a long query": ended(b"/?" + b"&".join([b"a=1"] * 100)),
    "names too long to be shown": ended(b"/?" + b"a" * 40 + b"=1&" + b"b" * 41 + b"=1"),
    "names without a value": ended(b"/?a==1&b=&c&d=1&&=1&e="),
    "no one": ended(allowed=None),
    "a public route": ended(allowed=Allowed()),
    "a client for itself": ended(allowed=Allowed(subject="c1", client_id="c1", scheme="mac", digest=b"d" * 32)),
    "someone in a browser": ended(allowed=Allowed(subject="u1", scheme="session", digest=b"d" * 32)),
    "IPv6": ended(client="2001:db8::7"),
    "a unix socket": ended(client="unix"),
    "no upstream": ended(upstream=""),
    "no answer": ended(status=0, complete=False),
    "a change of protocol": ended(status=101, times=(0.001, 0.002, 86400.5)),
    "much": ended(received=2**63 - 1, sent=2**63 - 1, times=(0.0, 1e9, 1e9)),
    "clocks that went back": ended(times=(0.5, 0.25, -1.0)),
    "the head took no time": ended(times=(0.0, 0.0, 0.0)),
    "refused": ended(
        refused=Refused(
            status=401, error="invalid_token", description="d", cause="revoked token",
            identity=Identity(subject="u1", client_id="c1"),
        ),
        allowed=None, status=401,
    ),
    "fields": ended(
        fields=b"Referer: https://a.example:8443/x/y;z?code=1#there\r\nUser-Agent: Mozilla/5.0 (X11; Linux)\r\n"
    ),
    "a referer of a host alone": ended(fields=b"Referer: http://a.example\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", PLAIN)
def test_call_that_asks_for_no_care_is_written_in_one_step(line: Any, name: str, form: Format) -> None:
    python, made, at_once = written(line, PLAIN[name], form)
    assert python == made
    assert at_once


CAREFUL = {
    "a token in the path": ended(b"/gwa_x"),
    "a JWT in the path": ended(b"/eyJhbGciOiJub25lIn0.e30."),
    "a name that is a token": ended(b"/?gwa_x=1"),
    "an odd byte": ended(b"/\xff"),
    "a quote": ended(b'/"'),
    "a longer path": ended(b"/" + b"a" * 1000),
    "a longer query": ended(b"/?" + b"a" * 401),
    "a name that is no address": ended(client="cafe.example"),
    "no address": ended(client=""),
    "a person's name with an accent": ended(allowed=Allowed(subject="zoë", client_id="c", digest=b"d")),
    "a person's name with a quote": ended(allowed=Allowed(subject='"', client_id="c", digest=b"d")),
    "a name longer than a line": ended(allowed=Allowed(subject="x" * 4000, client_id="c", digest=b"d")),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CAREFUL)
def test_call_that_asks_for_care_is_not_written_in_one_step(line: Any, name: str, form: Format) -> None:
    python, made, at_once = written(line, CAREFUL[name], form)
    assert python == made
    assert not at_once


@pytest.mark.parametrize("form", FORMS)
def test_lines_in_one_step_and_with_care_stand_in_their_order(line: Any, form: Format) -> None:
    alone, together, acts = list[bytes](), list[bytes](), list[Callable[[], None]]()
    each = AccessLog(alone.append, form, 1.0, lambda: 0.0)
    some = compiled_log(line, together.append, form, acts.append)
    targets = [b"/caf\xe9" if number % 5 == 2 else b"/%d" % number for number in range(100)]
    for number, target in enumerate([*targets, *[b"/" + b"a" * 1000] * 100]):
        for log in (each, some):
            log.hear(ended(target, moment=MOMENT + number / 8, agent=b"x" * 300))
    for act in acts:
        act()
    assert len(together) == 1 + 200 // _TOGETHER
    assert b"".join(together) == b"".join(alone)


@pytest.mark.parametrize("form", FORMS)
def test_page_that_is_full_takes_no_line_and_a_new_one_does(line: Any, form: Format) -> None:
    log = compiled_log(line, list[bytes]().append, form)
    assert log._page is not None
    made, finished = make(log, form), ended(b"/" + b"a" * 999)
    [one] = {made(finished) for _ in range(10)}
    assert one is None
    size = len(log._page.taken()) // 10
    count = 0
    while made(finished) is None:
        count += 1
    assert 60 * 1024 - size < count * size <= 64 * 1024
    assert len(log._page.taken()) == count * size
    assert made(finished) is None
    assert len(log._page.taken()) == size
    assert log._page.taken() == b""


def targets() -> st.SearchStrategy[bytes]:
    parts = [b"/", b"a", b"?", b"&", b"=", b"gw", b"G", b"W_", b"eyJ", b"ey", b"J", b"%", b",", b"*", b"\xff"]
    filling = [b"x" * 38, b"x" * 990, b"x=1&" * 99]
    return st.binary(max_size=60) | st.lists(st.sampled_from([*parts, *filling])).map(b"".join)


def field(name: bytes) -> st.SearchStrategy[bytes]:
    words = ["http", "s", "://", "a.b-c", "x" * 199, ":", "8", "/", "?", "#", "eyJ", "gw", "@", '"', "\xff", "/y" * 149]
    values = HOSTILE | st.lists(st.sampled_from(words)).map("".join)
    return values.map(lambda text: b"%b: %b\r\n" % (name, "".join(text.split()).encode("latin-1")))


@given(
    target=targets(),
    method=st.binary(max_size=50).map(bytes.hex).map(str.encode),
    fields=st.lists(field(b"Referer") | field(b"User-Agent"), max_size=3).map(b"".join),
    client=TEXTS | st.text("0123456789abcdef:.unix", max_size=70),
    upstream=TEXTS,
    allowed=st.none()
    | st.builds(
        Allowed,
        subject=st.none() | TEXTS | st.text("a_", min_size=290, max_size=310),
        client_id=st.none() | TEXTS,
        scheme=st.sampled_from(["bearer", "mac"]),
        digest=st.sampled_from([b"", b"1" * 32]),
    ),
    refused=st.none()
    | st.builds(
        Refused,
        status=st.just(401),
        error=st.just("invalid_token"),
        description=TEXTS,
        identity=st.none() | st.builds(Identity, subject=TEXTS, client_id=TEXTS),
    ),
    status=st.sampled_from([0, 101, 200, 404, 999]),
    complete=st.booleans(),
    sizes=st.tuples(*[st.integers(0, 1 << 40)] * 2),
    times=st.tuples(*[st.floats(-10, 1e9)] * 3),
)
@settings(max_examples=scaled(3000), suppress_health_check=[HealthCheck.too_slow])
@example(target=b"g?w=1&g=1&w=1", method=b"", fields=b"", client="::", upstream="", allowed=None, refused=None,
         status=200, complete=True, sizes=(0, 0), times=(0.0, 0.0, 0.0000005))  # fmt: skip
def test_any_call_is_written_alike(
    line: Any, target: bytes, method: bytes, fields: bytes, client: str, upstream: str, allowed: Allowed | None,
    refused: Refused | None, status: int, complete: bool, sizes: tuple[int, int], times: tuple[float, float, float],
) -> None:  # fmt: skip
    finished = ended(target, method, fields, client, allowed, upstream, status, refused, complete, *sizes, times)
    for form in FORMS:
        python, made, _ = written(line, finished, form)
        assert made == python
