"""The canonical target: refused, or forwarded byte for byte, and never matched as something else."""

import random
import re
import timeit
from collections import Counter
from urllib.parse import unquote_to_bytes

import pytest

from gateway.routing import NoRoute, Origin, Route, RouteTable, TargetError, canonical


def route(
    path: str, *, host: str | None = None, methods: tuple[str, ...] = (), strip: str = "", exact: bool = False
) -> Route:
    return Route(
        name=path,
        path=path.encode(),
        host=None if host is None else host.encode(),
        methods=frozenset(method.encode() for method in methods),
        upstreams=(Origin("127.0.0.1", 9),),
        upstream_host=None,
        strip_prefix=strip.encode(),
        schemes=(),
        scopes={},
        timeout=15.0,
        max_body=1024,
        forward_authorization=False,
        resource="",
        exact=exact,
    )


REFUSED = [
    b"", b"*", b"a", b"a/b", b"http:/a", b"ftp://a/", b"http://u@a/", b"http://",
    b"/a b", b"/a#b", b"/a\tb", b"/a\x00b", b"/a\x7fb", b"/?a b", b"/?a#b",
    b"//", b"//a", b"/a//b", b"/a//", b"/.", b"/..", b"/a/.", b"/a/..", b"/a/../b", b"/./a",
    b"/%2e", b"/%2E%2e/a", b"/.%2e/a", b"/%2e./a", b"/a/%2e%2e", b"/..;/a", b"/a/.;x/b", b"/..;", b"/..%3b/a",
    b"/a%2fb", b"/a%2Fb", b"/a%5cb", b"/a%5Cb", b"/a\\b", b"/..\\a", b"/a%00", b"/a%0a", b"/a%0D%0A", b"/a%7f",
    b"/a%1b",
    b"/a%", b"/a%2", b"/a%zz", b"/a%2x", b"/%u002e",
]  # fmt: skip

PASSED = [
    b"/", b"/a", b"/a/", b"/a/b", b"/a?", b"/a?b", b"/a?b=//..%2f%zz\\", b"/a??", b"/a%20b", b"/a%C3%A4",
    b"/a;x", b"/a;x=1/b", b"/%252e%252e/a", b"/...", b"/.a", b"/a..", b"/..a", b'/a{b}|^"<>`', "/ä".encode(),
    b"/a%3Bb",
    b"/~a", b"/%7Ea", b"/a:b@c", b"/a,b", b"/*", b"/!$&'()*+,;=",
]  # fmt: skip


@pytest.mark.parametrize("raw", REFUSED)
def test_an_ambiguous_target_is_refused(raw: bytes) -> None:
    with pytest.raises(TargetError):
        canonical(raw)


@pytest.mark.parametrize("raw", PASSED)
def test_a_legal_target_keeps_every_byte(raw: bytes) -> None:
    target = canonical(raw)
    assert target.path + target.query == raw
    assert target.authority is None


@pytest.mark.parametrize(
    ("raw", "authority", "forwarded"),
    [
        (b"http://a/b?c", b"a", b"/b?c"),
        (b"HTTPS://a:8443/b", b"a:8443", b"/b"),
        (b"http://a", b"a", b"/"),
        (b"http://a?b", b"a", b"/?b"),
    ],
)
def test_an_absolute_target_is_split(raw: bytes, authority: bytes, forwarded: bytes) -> None:
    # RFC 9112, section 3.2.2
    target = canonical(raw)
    assert (target.authority, target.path + target.query) == (authority, forwarded)


def named(found: Route | NoRoute) -> str | None:
    return found.name if isinstance(found, Route) else None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"/api", "/api"),
        (b"/api/", "/api"),
        (b"/api/x", "/api"),
        (b"/api/notes", "/api/notes"),
        (b"/api/notes/1", "/api/notes"),
        (b"/api/notesx", "/api"),
        (b"/apiary", "/"),
        (b"/", "/"),
        (b"/exact", "/exact"),
        (b"/exact/x", "/"),
        (b"/API", "/"),
    ],
)
def test_whole_segments_match_and_the_longest_path_wins(path: bytes, name: str) -> None:
    table = RouteTable([route("/"), route("/api"), route("/api/notes"), route("/exact", exact=True)])
    assert named(table.match(b"h", b"GET", path)) == name


@pytest.mark.parametrize(
    "path",
    [
        b"/ap%69/x", b"/%61pi", b"/api%3bx/y", b"/api;x/y", b"/api;/", b"/ap%69;x", b"/api/note%73/1",
        b"/;/api", b"/;x/api", b"/%3b/api/x", b"/;/;x;y/ap%69", b"/api/;/notes", b"/api/;x=1/notes/1",
    ],
)  # fmt: skip
def test_a_path_that_hides_another_route_s_is_refused(path: bytes) -> None:
    table = RouteTable([route("/"), route("/api"), route("/api/notes")])
    with pytest.raises(TargetError):
        table.match(b"h", b"GET", path)


@pytest.mark.parametrize("path", [b"/api/a%69", b"/api/a;x=1", b"/a%20b", b"/api/%7Euser", b"/api/;x=1", b"/;x"])
def test_escapes_that_change_no_route_pass(path: bytes) -> None:
    table = RouteTable([route("/"), route("/api"), route("/api/notes")])
    assert isinstance(table.match(b"h", b"GET", path), Route)


def test_a_route_that_names_the_host_or_the_method_goes_first() -> None:
    any_route, hosted = route("/a"), route("/a", host="h")
    posted = route("/a", methods=("POST",))
    table = RouteTable([any_route, posted, hosted])
    assert table.match(b"h", b"POST", b"/a") is hosted
    assert table.match(b"x", b"POST", b"/a") is posted
    assert table.match(b"x", b"GET", b"/a") is any_route


@pytest.mark.parametrize("host", [b"h", b"h."])
def test_a_dot_behind_the_host_leads_past_no_route_that_names_it(host: bytes) -> None:
    """nginx takes it off and serves the host: `h.` must not enter by a laxer door than `h`."""
    any_route, hosted = route("/"), route("/", host="h")
    assert RouteTable([any_route, hosted]).match(host, b"GET", b"/a") is hosted


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"/a/b/c", "/a/b"),
        (b"/a/b/", "/a/b"),
        (b"/a/bc", "/"),
        (b"/a/bc/d", "/"),
        (b"/abcdef", "/"),
        (b"/abc/d", "/"),
    ],
)
def test_a_path_longer_than_any_route_s_is_matched_by_whole_segments_too(path: bytes, name: str) -> None:
    assert named(RouteTable([route("/"), route("/a/b")]).match(b"h", b"GET", path)) == name
    assert named(RouteTable([route("/a/b")]).match(b"h", b"GET", path)) == (None if name == "/" else name)
    assert named(RouteTable([route("/")]).match(b"h", b"GET", path)) == "/"


def test_a_path_of_a_thousand_segments_costs_no_more_than_one_of_few() -> None:
    table = RouteTable([route("/"), route("/api")])

    def cost(path: bytes) -> float:
        return min(timeit.repeat(lambda: table.match(b"h", b"GET", path), number=5, repeat=5))

    assert cost(b"/api/%61;" + b"/a" * 4000) < 20 * cost(b"/api/%61;" + b"aa" * 4000)


@pytest.mark.parametrize("method", [b"post", b"Post", b"pOST"])
def test_a_method_is_judged_as_an_upstream_may_read_it(method: bytes) -> None:
    """Werkzeug and Django read methods in upper case: `post` must not enter by a laxer door than POST."""
    posted, any_route = route("/a", methods=("POST",)), route("/a")
    assert RouteTable([any_route, posted]).match(b"h", method, b"/a") is posted
    assert RouteTable([posted]).match(b"h", method, b"/a") is posted


def test_a_path_without_the_method_names_those_it_has() -> None:
    table = RouteTable([route("/a", methods=("POST", "GET"))])
    found = table.match(b"h", b"DELETE", b"/a/b")
    assert isinstance(found, NoRoute)
    assert found.allow == (b"GET", b"POST")
    assert table.match(b"h", b"GET", b"/b") == NoRoute()


@pytest.mark.parametrize(
    ("strip", "path", "forwarded"),
    [
        ("", b"/api/notes/1", b"/api/notes/1"),
        ("/api", b"/api/notes/1", b"/notes/1"),
        ("/api/notes", b"/api/notes", b"/"),
        ("/api/notes", b"/api/notes/", b"/"),
        ("/", b"/api/notes/a%20b", b"/api/notes/a%20b"),
    ],
)
def test_strip_prefix_takes_whole_segments_off(strip: str, path: bytes, forwarded: bytes) -> None:
    assert route("/api/notes", strip=strip).forwarded(path) == forwarded


@pytest.mark.parametrize(
    ("method", "scopes"),
    [
        ("GET", {"r"}),
        ("HEAD", {"r"}),
        ("POST", {"w"}),
        ("DELETE", {"w"}),
        ("OPTIONS", set()),
        ("get", {"r"}),
        ("Head", {"r"}),
    ],
)
def test_scopes_go_by_method(method: str, scopes: set[str]) -> None:
    table = {"GET": frozenset({"r"}), "*": frozenset({"w"}), "OPTIONS": frozenset[str]()}
    plain = route("/")
    with_scopes = Route(**{name: getattr(plain, name) for name in plain.__slots__} | {"scopes": table})
    assert with_scopes.scopes_for(method) == scopes


TABLE = RouteTable([route("/"), route("/a"), route("/a/b"), route("/b/a;b")])


def generated(chance: random.Random) -> bytes:
    """A target near the routes of the table: their letters, what separates, and escapes of both or of any byte."""

    def atom() -> bytes:
        kind = chance.random()
        if kind < 0.75:
            return chance.choice((b"a", b"b", b"a", b"b", b";", b".", b"~", b"%c" % chance.randint(97, 122)))
        escaped = chance.choice(b"ab;./~") if kind < 0.9 else chance.randrange(256)
        return (b"%%%02x" if chance.random() < 0.5 else b"%%%02X") % escaped

    segments = (b"".join(atom() for _ in range(chance.choice((1, 1, 2, 3, 6)))) for _ in range(chance.randint(1, 4)))
    start = chance.choice((b"/", b"/", b"/a/", b"/a/b/", b"/b/a;b/"))
    return start + b"/".join(segments) + chance.choice((b"", b"?", b"?x=%zz", b"?//.."))


def test_the_path_that_was_matched_is_the_path_that_is_forwarded() -> None:
    chance = random.Random("targets")
    passed, refused, by_route = set[bytes](), set[bytes](), Counter[str]()
    while len(passed) < 50_000:
        raw = generated(chance)
        path = raw.partition(b"?")[0]
        # What an upstream sees that resolves escapes and drops path parameters.
        resolved = re.sub(rb";[^/]*", b"", unquote_to_bytes(path))
        dotted = bool({b".", b".."} & set(resolved.split(b"/")))
        try:
            target = canonical(raw)
            found = TABLE.match(b"h", b"GET", target.path)
        except TargetError:
            refused.add(raw)
            assert dotted or resolved != path, raw  # what can be read in one way only is not refused
            continue
        passed.add(raw)
        assert isinstance(found, Route), raw
        by_route[found.name] += 1
        assert found.forwarded(target.path) + target.query == raw
        assert TABLE.match(b"h", b"GET", resolved) is found, raw  # that upstream is entered by the same door
        assert TABLE.match(b"h", b"GET", re.sub(rb"//+", b"/", resolved)) is found, raw  # and one that joins slashes
        assert not dotted, raw
        assert not re.search(rb"[\x00-\x1f\x7f\\]", resolved), raw
    assert len(refused) > 10_000
    assert min(by_route[path] for path in ("/", "/a", "/a/b")) > 1000
