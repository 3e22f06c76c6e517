"""The one table of codes: what it says is what the standards say, and nobody names a code or a status beside it."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import gateway
from gateway.errors import CODES, Cause, Refused, code_of

PACKAGE = Path(gateway.__file__).parent
ERRORS = PACKAGE / "errors.py"
PLACE = {"Refused": 0, "refusal": 0, "Fault": 2}  # of the code among the arguments of what refuses

SECTIONS = {  # each with the status that it has its codes answered by; RFC 9110 numbers its sections by status
    "RFC 6749, section 5.2": {
        400: {"invalid_request", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"},
        401: {"invalid_client"},
    },
    "RFC 6749, section 4.1.2.1": {
        400: {"unsupported_response_type"},
        403: {"access_denied"},
        500: {"server_error"},
        503: {"temporarily_unavailable"},
    },
    "RFC 6750, section 3.1": {400: {"invalid_request"}, 401: {"invalid_token"}, 403: {"insufficient_scope"}},
    "RFC 9470, section 3": {401: {"insufficient_user_authentication"}},
    "RFC 9449, section 7.1": {401: {"invalid_dpop_proof"}},
    "RFC 9449, section 9": {401: {"use_dpop_nonce"}},
    "RFC 7591, section 3.2.2": {400: {"invalid_redirect_uri", "invalid_client_metadata"}},
    "RFC 8628, section 3.5": {400: {"authorization_pending", "slow_down", "expired_token"}},
    "RFC 8707, section 2": {400: {"invalid_target"}},
    "RFC 6585, section 4": {429: {"too_many_requests"}},
    "RFC 6585, section 5": {431: {"header_fields_too_large"}},
    "RFC 6455, section 4.2.1": {400: {"bad_handshake"}},
    "RFC 6455, section 7.1.7": {400: {"websocket_fault"}},
    "RFC 6455, section 7.4.1": {400: {"websocket_too_big"}},
    "OpenID Connect Core, section 3.1.2.6": {
        400: {
            "account_selection_required",
            "consent_required",
            "interaction_required",
            "invalid_request_uri",
            "request_not_supported",
            "request_uri_not_supported",
        },
        401: {"login_required"},
    },
    "OpenID Connect Core Error Code unmet_authentication_requirements, section 2": {
        400: {"unmet_authentication_requirements"}
    },
}
HTTP = {  # RFC 9110, sections 15.5 and 15.6, in their order
    "15.5": (*range(400, 419), 421, 422, 426),
    "15.6": (*range(500, 506),),
}
OWN = {  # which no standard knows
    "body_not_seen",
    "cross_site_request",
    "drained",
    "forbidden_origin",
    "unclear_question",
    "untrusted_proxy",
}


@cache
def modules() -> dict[Path, ast.Module]:
    return {file: ast.parse(file.read_text(encoding="utf-8")) for file in PACKAGE.rglob("*.py")}


def literals(node: ast.AST | None, constants: Mapping[str, str]) -> Iterator[str]:
    """What may stand there as a text: itself, by a constant's name, either of two, or any of several."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in constants:
            yield constants[name]
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp():
            yield from (*literals(node.body, constants), *literals(node.orelse, constants))
        case ast.Tuple():
            yield from (text for one in node.elts for text in literals(one, constants))


@cache
def constants() -> dict[str, str]:
    """The texts that modules have a name in capitals for."""
    return {
        node.target.id: node.value.value
        for tree in modules().values()
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id.isupper()
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


def is_error(node: ast.AST) -> bool:
    return getattr(node, "id", getattr(node, "attr", "")) == "error"


def named(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every code that a module names, with its line: where it refuses, and where it asks for an error's code."""
    for node in ast.walk(tree):
        found: list[ast.AST | None] = []
        match node:
            case ast.Call():
                place = PLACE.get(getattr(node.func, "id", getattr(node.func, "attr", "")), len(node.args))
                found = [*node.args[place : place + 1]]
                found += [one.value for one in node.keywords if one.arg == "error"]
            case ast.Compare(left=left, comparators=others) if is_error(left):
                found = [*others]
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                found = [value for target, value in zip(targets, values, strict=True) if is_error(target)]
            case ast.Assign(targets=[target]) if is_error(target):
                found = [node.value]
            case ast.AnnAssign(target=target) if is_error(target):
                found = [node.value]
        yield from ((node.lineno, text) for one in found for text in literals(one, constants()))  # type: ignore[attr-defined]


def test_every_code_that_is_named_is_in_the_table() -> None:
    """But for the empty one of a call that presented nothing, which is told no code."""
    told = [(f"{file.name}:{line}", code) for file, tree in modules().items() for line, code in named(tree) if code]
    assert len(told) > 100, "nothing was looked at"
    assert [one for one in told if one[1] not in CODES] == []


def test_every_code_of_the_table_is_named_or_is_that_of_a_status() -> None:
    texts = {
        node.value
        for file, tree in modules().items()
        for node in ast.walk(tree)
        if file != ERRORS and isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    texts |= {code for _, code in named(modules()[ERRORS])}
    assert {code for code, known in CODES.items() if code_of(known.status) != code} <= texts


def test_no_other_module_knows_a_status_by_code_or_a_code_by_status() -> None:
    found = []
    for file, tree in modules().items():
        for node in ast.walk(tree):
            if file == ERRORS or not isinstance(node, ast.Dict):
                continue
            for key, value in zip(node.keys, node.values, strict=True):
                pair = [getattr(one, "value", None) for one in (key, value)]
                if {type(one) for one in pair} == {int, str} and not CODES.keys().isdisjoint(map(str, pair)):
                    found.append(f"{file.name}:{node.lineno}: {pair}")
    assert found == []


def test_statuses_are_those_of_the_sections_that_are_cited() -> None:
    for code, known in CODES.items():
        for source in known.source.split("; "):
            if source.startswith("RFC 9110"):
                chapter, _, place = source.partition(" section ")[2].rpartition(".")
                assert HTTP[chapter][int(place) - 1] == known.status, code
            elif code in OWN:
                assert source == "the gateway's own"
            else:
                assert code in SECTIONS[source][known.status], code
    listed = {code for statuses in SECTIONS.values() for codes in statuses.values() for code in codes}
    assert listed | OWN <= CODES.keys()


def test_statuses_of_http_have_one_code_each() -> None:
    """So also those by which a message is refused that breaks the grammar."""
    refusing = {
        node.args[0].value
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Malformed"
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, int)
    }
    assert {400, 431, 501, 505} <= refusing
    for status in refusing | {502, 503, 504}:
        assert CODES[code_of(status)].status == status
    assert (code_of(418), code_of(599)) == ("invalid_request", "server_error")


def test_a_code_that_is_not_in_the_table_is_a_fault_at_once() -> None:
    with pytest.raises(KeyError):
        Refused("invalid_tokn", "The token is no good.")


def test_what_is_not_said_follows_from_the_code_or_the_cause() -> None:
    plain = Refused("not_found", "Nothing is served at this path.")
    assert (plain.status, plain.mend, plain.why, plain.kind) == (
        404,
        CODES["not_found"].mend,
        "Nothing is served at this path.",
        "not_found",
    )
    cause = Cause.of("token", "expired token", ": ", mend="the client needs a new one").naming("an hour ago")
    because = Refused("invalid_token", "The token is no good.", cause)
    assert (because.status, because.mend, because.why, because.kind) == (
        401,
        "the client needs a new one",
        "expired token: an hour ago",
        "expired token",
    )


def test_a_refusal_with_more_fields_says_all_else_that_it_said() -> None:
    cause = Cause.of("token", "expired token", mend="the client needs a new one")
    refused = Refused("invalid_token", "No.", cause, fields=(("A", "1"),), retry_after=3, upstream="up", mend="wait")
    more = refused.also(("B", "2"), ("A", "3"), status=303)
    assert (more.status, refused.status) == (303, 401)
    assert (more.values("A"), more.values("B"), more.location) == (("1", "3"), ("2",), "")
    assert more.head(9) == [("A", "1"), ("B", "2"), ("A", "3"), ("Retry-After", "3")]
    for name in ("error", "description", "cause", "because", "mend", "retry_after", "identity", "upstream"):
        assert getattr(more, name) == getattr(refused, name)


def test_only_what_is_for_a_moment_may_be_tried_again_unasked() -> None:
    assert Refused("temporarily_unavailable", "Busy.").head(2) == [("Retry-After", "2")]
    assert Refused("temporarily_unavailable", "Busy.", retry_after=7).head(2) == [("Retry-After", "7")]
    assert Refused("bad_gateway", "No.").head(2) == []


def test_the_guard_knows_nothing_of_rendered_bytes() -> None:
    """What it says in the head of an answer are fields, by name and value, which whoever answers writes."""
    rendered = [
        f"{file.name}:{node.lineno}"
        for file, tree in modules().items()
        if file.parent.name in ("guard", "schemes")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str | bytes)
        and "\r\n" in str(node.value if isinstance(node.value, str) else node.value.decode("latin-1"))
    ]
    assert rendered == []
