"""The canonical target: refused, or forwarded byte for byte, and never matched as something else."""

import random
import re
import timeit
from collections import Counter
from urllib.parse import unquote_to_bytes

import pytest

from fuzz.values import changed
from gateway.routing import NoRoute, Origin, Route, RouteTable, TargetError, canonical
from tests.counts import scaled


def route(
    path: str,
    *,
    host: str | None = None,
    methods: tuple[str, ...] = (),
    strip: str = "",
    exact: bool = False,
    keeps: bool = False,
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
        resource="",
        exact=exact,
        keeps_slashes=keeps,
    )


REFUSED = [
    b"", b"*", b"a", b"a/b", b"http:/a", b"ftp://a/", b"http://u@a/", b"http://",
    b"/a b", b"/a#b", b"/a\tb", b"/a\x00b", b"/a\x7fb", b"/?a b", b"/?a#b",
    b"/.", b"/..", b"/a/.", b"/a/..", b"/a/../b", b"/./a",
    b"/%2e", b"/%2E%2e/a", b"/.%2e/a", b"/%2e./a", b"/a/%2e%2e", b"/..;/a", b"/a/.;x/b", b"/..;", b"/..%3b/a",
    b"/a%2f..%2fb", b"/..%2fa", b"/a%2F.", b"/a%2f%2E%2e", b"/%2f../a", b"/a%2F.%3bx", b"/a%2F..;x", b"/.%2Fa", b"//..",
    b"/a%5cb", b"/a%5Cb", b"/a%2f%5c", b"/a\\b", b"/..\\a", b"/a%00", b"/a%0a", b"/a%0D%0A", b"/a%7f",
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


SLASHES = [b"//", b"//a", b"/a//b", b"/a//", b"/a%2fb", b"/a%2Fb", b"/%2f", b"/a%2F%2F", b"/a;x//b", b"/%2fa", b"///a"]


@pytest.mark.parametrize("path", SLASHES)
def test_empty_segments_and_encoded_slashes_pass_where_the_route_keeps_them(path: bytes) -> None:
    assert canonical(path).path == path
    for table in (RouteTable([route("/")]), RouteTable([]), RouteTable([route("/", methods=("PUT",), keeps=True)])):
        with pytest.raises(TargetError):
            table.match(b"h", b"GET", path)
    keeping = route("/", keeps=True)
    assert RouteTable([keeping]).match(b"h", b"GET", path) is keeping
    assert keeping.forwarded(path) == path


@pytest.mark.parametrize(
    "path",
    [
        b"/files%2Fa", b"/files%2fshut", b"/files/shut%2Fa", b"/files/a%2F%2e.%2Fshut", b"/files%2Fshut/a",
        b"/%2Ffiles/a",
        b"//files/a", b"/files//shut", b"/files//shut/a", b"/files/%2Fshut", b"/files/;%2Fshut", b"/files/;/%2fshut/a",
        b"//evil/files", b"//evil/files/shut", b"///files", b"/%2Fevil/files", b"//;x/files", b"/;x//files",
        b"/x;a%2Fb/../files", b"/files/;x%2Fb/%73hut", b"/stripped//evil/shut", b"/stripped/%2Fevil/shut",
        b"/stripped//shut", b"/stripped%2Fshut",
    ],
)  # fmt: skip
def test_a_kept_slash_leads_to_no_other_route_however_an_upstream_reads_it(path: bytes) -> None:
    table = RouteTable(
        [
            route("/", keeps=True),
            route("/files", keeps=True),
            route("/files/shut", keeps=True),
            route("/stripped", strip="/stripped", keeps=True),
            route("/stripped/shut", strip="/stripped", keeps=True),
        ]
    )
    with pytest.raises(TargetError):
        table.match(b"h", b"GET", canonical(path).path)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"/files/a%2Fb", "/files"),
        (b"/files//a", "/files"),
        (b"/files/a//", "/files"),
        (b"/files/%2Fa", "/files"),
        (b"/files/shutter%2Fa", "/files"),
        (b"/stripped//evil/x", "/stripped"),
        (b"/a%2Ffiles", "/"),
        (b"/@scope%2Fname", "/"),
    ],
)
def test_a_kept_slash_that_hides_no_route_passes(path: bytes, name: str) -> None:
    table = RouteTable(
        [
            route("/", keeps=True),
            route("/files", keeps=True),
            route("/files/shut"),
            route("/stripped", strip="/stripped", keeps=True),
            route("/stripped/shut", strip="/stripped"),
        ]
    )
    assert named(table.match(b"h", b"GET", path)) == name


def test_a_route_beside_one_that_keeps_slashes_still_refuses_them() -> None:
    table = RouteTable([route("/a", keeps=True), route("/a", methods=("PUT",)), route("/a", host="strict")])
    assert named(table.match(b"h", b"GET", b"/a/b%2Fc")) == "/a"
    for host, method in ((b"h", b"PUT"), (b"strict", b"GET")):
        with pytest.raises(TargetError):
            table.match(host, method, b"/a/b%2Fc")


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
        b"/api%3f", b"/api%23", b"/api%3Fx=1/y", b"/ap%69%23x", b"/api/notes%3f", b"/;/api%23",
    ],
)  # fmt: skip
def test_a_path_that_hides_another_route_s_is_refused(path: bytes) -> None:
    table = RouteTable([route("/"), route("/api"), route("/api/notes")])
    with pytest.raises(TargetError):
        table.match(b"h", b"GET", path)


@pytest.mark.parametrize(
    "path", [b"/api/a%69", b"/api/a;x=1", b"/a%20b", b"/api/%7Euser", b"/api/;x=1", b"/;x", b"/api/a%3fb", b"/a%23"]
)
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


@pytest.mark.parametrize("host", [b"h..", b"h,x", b"x,h", b"h;x", b"x;h.", b"h.,x"])
def test_a_host_that_an_upstream_may_read_as_another_route_s_is_refused(host: bytes) -> None:
    """X-Forwarded-Host gets what Host says, and many servers read a list there."""
    table = RouteTable([route("/"), route("/", host="h")])
    with pytest.raises(TargetError):
        table.match(host, b"GET", b"/a")


@pytest.mark.parametrize("host", [b"a!b", b"~a", b"a_b", b"x,y", b"[::1]", b"127.0.0.1"])
def test_an_odd_host_that_hides_no_route_passes(host: bytes) -> None:
    assert isinstance(RouteTable([route("/"), route("/", host="h")]).match(host, b"GET", b"/a"), Route)


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
    assert changed(route("/"), scopes=table).scopes_for(method) == scopes


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
        assert TABLE._match(b"h", b"GET", resolved) is found, raw  # that upstream is entered by the same door
        assert TABLE._match(b"h", b"GET", re.sub(rb"//+", b"/", resolved)) is found, raw  # and one that joins slashes
        assert not dotted, raw
        assert not re.search(rb"[\x00-\x1f\x7f\\]", resolved), raw
    assert len(refused) > 10_000
    assert min(by_route[path] for path in ("/", "/a", "/a/b")) > 1000


KEEPING = RouteTable(
    [
        route("/", keeps=True),
        route("/a", keeps=True),
        route("/a/b", keeps=True),
        route("/s", strip="/s", keeps=True),
        route("/s/a", strip="/s", keeps=True),
    ]
)


def read(path: bytes, chance: random.Random) -> bytes:
    """A path as some upstream reads it: some of its escapes, parameters, empty segments and authorities resolved."""
    for _ in range(6):
        match chance.randrange(5):
            case 0:
                path = re.sub(rb"%(?:2[fF]|61|62)", lambda found: unquote_to_bytes(found[0]), path)
            case 1:
                path = unquote_to_bytes(path)
            case 2:
                path = re.sub(rb";[^/]*", b"", path)
            case 3:
                path = re.sub(rb"//+", b"/", path)
            case _:
                path = re.sub(rb"%2[fF]", b"/", path)
    return path


def test_whoever_reads_a_path_with_kept_slashes_is_at_the_same_route() -> None:
    chance = random.Random("slashes")
    passed = Counter[str]()
    refused = 0
    while passed.total() < scaled(20_000, 20):
        pieces = chance.choices((b"/", b"/", b"a", b"b", b"s", b"x", b"%2F", b"%2f", b";", b"%61", b"%62", b"."), k=8)
        raw = chance.choice((b"/", b"/a/", b"/s/", b"/a/b/")) + b"".join(pieces)
        try:
            found = KEEPING.match(b"h", b"GET", canonical(raw).path)
        except TargetError:
            refused += 1
            continue
        assert isinstance(found, Route)
        passed[found.name] += 1
        assert found.forwarded(raw) == (raw.removeprefix(found.strip_prefix) or b"/")
        for _ in range(4):
            reading = read(raw, chance)
            assert KEEPING._match(b"h", b"GET", reading) is found, (raw, reading)
            assert not {b".", b".."} & set(reading.split(b"/")), (raw, reading)
        inner = found.forwarded(raw)
        if inner.startswith(b"//"):  # urlsplit, as Node's URL, takes what follows for an authority
            authority, _, rest = inner[2:].partition(b"/")
            assert KEEPING._match(b"h", b"GET", found.strip_prefix + b"/" + rest) is found, (raw, authority)
    assert refused > scaled(5_000, 20)
    assert min(passed[name] for name in ("/", "/a", "/a/b", "/s")) > scaled(300, 20)
