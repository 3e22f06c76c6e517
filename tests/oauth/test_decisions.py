"""What a presented code or refresh token brings, as tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.oauth import pkce
from gateway.oauth.authorize import AuthorizationRequest
from gateway.oauth.decisions import (
    CodeRecord,
    Issue,
    RefreshRecord,
    Refuse,
    Repeat,
    Replay,
    decide_code,
    decide_refresh,
)
from gateway.oauth.grants import CodeGrant, RefreshGrant

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636, appendix B
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
API, OTHER_API = "https://api.example.com/notes", "https://api.example.com/mail"

ASKED = AuthorizationRequest(
    client_id="c1",
    redirect_uri="https://client.example/cb",
    scopes=frozenset({"a", "b", "not allowed"}),
    code_challenge=CHALLENGE,
)
CODE = CodeRecord(
    request=ASKED,
    subject="u1",
    scopes=frozenset({"a", "b"}),
    expires_at=NOW + timedelta(seconds=60),
    spent_at=None,
    ended=None,
)
CODE_GRANT = CodeGrant("gwc_x", redirect_uri="https://client.example/cb", code_verifier=VERIFIER)

ENDS = st.sampled_from([None, "revoked", "of a disabled client", "of a disabled user"])
REFRESH = RefreshRecord(
    client_id="c1",
    subject="u1",
    scopes=frozenset({"a", "b"}),
    resource=(),
    expires_at=NOW + timedelta(days=14),
    spent_at=None,
    successor_spent=False,
    ended=None,
)
REFRESH_GRANT = RefreshGrant("gwr_x")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def code_with(**changes: Any) -> CodeRecord:
    """The code with other values, of its own or of the request that it was issued for."""
    of_request = {name: changes.pop(name) for name in ("code_challenge", "resource") if name in changes}
    return structs.replace(CODE, request=structs.replace(ASKED, **of_request), **changes)


SPENT: dict[str, Any] = {"spent_at": ago(30)}

CODE_TABLE: list[tuple[str, dict[str, Any], dict[str, Any], type, str]] = [
    ("good (RFC 6749, 4.1.3)", {}, {}, Issue, ""),
    ("another client (RFC 6749, 5.2)", {}, {"client_id": "c2"}, Refuse, "invalid_grant"),
    (
        "another redirect URI (RFC 6749, 5.2)",
        {},
        {"redirect_uri": "https://client.example/CB"},
        Refuse,
        "invalid_grant",
    ),
    ("missing redirect URI (RFC 6749, 4.1.3)", {}, {"redirect_uri": None}, Refuse, "invalid_grant"),
    ("wrong verifier (RFC 7636, 4.6)", {}, {"code_verifier": VERIFIER[:-1] + "l"}, Refuse, "invalid_grant"),
    ("missing verifier (RFC 7636, 4.6)", {}, {"code_verifier": None}, Refuse, "invalid_grant"),
    ("the challenge as verifier", {}, {"code_verifier": CHALLENGE}, Refuse, "invalid_grant"),
    ("verifier without challenge (RFC 9700, 2.1.1)", {"code_challenge": None}, {}, Refuse, "invalid_grant"),
    ("no PKCE at all", {"code_challenge": None}, {"code_verifier": None}, Issue, ""),
    ("expired at its last second (RFC 6749, 4.1.2)", {"expires_at": NOW}, {}, Refuse, "invalid_grant"),
    ("a moment before it expires", {"expires_at": NOW + timedelta(microseconds=1)}, {}, Issue, ""),
    ("revoked", {"ended": "revoked"}, {}, Refuse, "invalid_grant"),
    ("replayed (RFC 6749, 4.1.2)", SPENT, {}, Replay, "invalid_grant"),
    ("replayed after its time", SPENT | {"expires_at": ago(1)}, {}, Replay, "invalid_grant"),
    ("replayed when the clock was set back", {"spent_at": NOW + timedelta(hours=1)}, {}, Replay, "invalid_grant"),
    ("replayed by another client", SPENT, {"client_id": "c2"}, Refuse, "invalid_grant"),
    ("replayed without the verifier (RFC 9700, 4.5)", SPENT, {"code_verifier": None}, Refuse, "invalid_grant"),
    ("replayed with a wrong verifier", SPENT, {"code_verifier": "x" * 43}, Refuse, "invalid_grant"),
    ("replayed with another redirect URI", SPENT, {"redirect_uri": "https://evil.example/"}, Refuse, "invalid_grant"),
    (
        "replayed with another resource",
        SPENT | {"resource": (API,)},
        {"resource": (OTHER_API,)},
        Replay,
        "invalid_grant",
    ),
    ("any resource, where none was named", {}, {"resource": (API,)}, Issue, ""),
    ("a subset (RFC 8707, 2.2)", {"resource": (API, OTHER_API)}, {"resource": (API,)}, Issue, ""),
    ("beyond it (RFC 8707, 2.2)", {"resource": (API,)}, {"resource": (API, OTHER_API)}, Refuse, "invalid_target"),
]


@pytest.mark.parametrize(
    ("record", "grant", "kind", "error"), [row[1:] for row in CODE_TABLE], ids=[row[0] for row in CODE_TABLE]
)
def test_code_is_judged_by_the_table(record: dict[str, Any], grant: dict[str, Any], kind: type, error: str) -> None:
    client_id = grant.get("client_id", "c1")
    presented = replace(CODE_GRANT, **{name: value for name, value in grant.items() if name != "client_id"})
    decision = decide_code(code_with(**record), client_id, presented, NOW)
    assert type(decision) is kind
    if isinstance(decision, Refuse | Replay):
        assert decision.error.refused.error == error


def test_unknown_code_is_refused_like_any_other() -> None:
    unknown = decide_code(None, "c1", CODE_GRANT, NOW)
    foreign = decide_code(CODE, "c2", CODE_GRANT, NOW)
    assert isinstance(unknown, Refuse)
    assert isinstance(foreign, Refuse)
    assert unknown.error.refused.body("") == foreign.error.refused.body("")
    assert unknown.error.refused.cause != foreign.error.refused.cause


def test_code_gives_the_scopes_and_resource_it_was_made_for() -> None:
    record = code_with(resource=(API, OTHER_API))
    assert decide_code(record, "c1", CODE_GRANT, NOW) == Issue(CODE.scopes, (API, OTHER_API))
    assert decide_code(record, "c1", replace(CODE_GRANT, resource=(API,)), NOW) == Issue(CODE.scopes, (API,))


def test_code_brings_no_refresh_token_where_the_person_refused_access_while_away() -> None:
    """OpenID Connect Core, section 11: that consent is the person's; who was not asked has said nothing."""
    both = frozenset({"a", "offline_access"})
    asked = structs.replace(CODE.request, scopes=both)
    for request, allowed, refreshable in (
        (CODE.request, CODE.request.scopes, True),
        (asked, both, True),
        (asked, frozenset({"a"}), False),
    ):
        decision = decide_code(structs.replace(CODE, request=request, scopes=allowed), "c1", CODE_GRANT, NOW)
        assert decision == Issue(allowed, (), refreshable)


REFRESH_TABLE: list[tuple[str, dict[str, Any], dict[str, Any], float, type, str]] = [
    ("good (RFC 6749, 6)", {}, {}, 0, Issue, ""),
    ("another client (RFC 6749, 6)", {}, {"client_id": "c2"}, 0, Refuse, "invalid_grant"),
    ("narrower scope (RFC 6749, 6)", {}, {"scopes": frozenset({"a"})}, 0, Issue, ""),
    ("wider scope (RFC 6749, 6)", {}, {"scopes": frozenset({"a", "c"})}, 0, Refuse, "invalid_scope"),
    ("expired", {"expires_at": NOW}, {}, 0, Refuse, "invalid_grant"),
    ("revoked", {"ended": "revoked"}, {}, 0, Refuse, "invalid_grant"),
    ("reused (RFC 9700, 4.14.2)", SPENT, {}, 0, Replay, "invalid_grant"),
    ("reused at once, without grace", {"spent_at": NOW}, {}, 0, Replay, "invalid_grant"),
    ("reused by another client", SPENT, {"client_id": "c2"}, 0, Refuse, "invalid_grant"),
    ("reused though revoked", SPENT | {"ended": "revoked"}, {}, 0, Refuse, "invalid_grant"),
    ("reused when the clock was set back", {"spent_at": NOW + timedelta(hours=1)}, {}, 60, Replay, "invalid_grant"),
    ("reused after its time", SPENT | {"expires_at": ago(1)}, {}, 0, Replay, "invalid_grant"),
    ("within the grace", {"spent_at": ago(10)}, {}, 10, Repeat, ""),
    ("a moment after the grace", {"spent_at": ago(10.001)}, {}, 10, Replay, "invalid_grant"),
    (
        "within the grace, successor used",
        {"spent_at": ago(1), "successor_spent": True},
        {},
        10,
        Replay,
        "invalid_grant",
    ),
    ("within the grace, another client", {"spent_at": ago(1)}, {"client_id": "c2"}, 10, Refuse, "invalid_grant"),
    ("within the grace, wider scope", {"spent_at": ago(1)}, {"scopes": frozenset({"c"})}, 10, Refuse, "invalid_scope"),
    (
        "within the grace, of a worker whose clock is behind",
        {"spent_at": NOW + timedelta(seconds=1)},
        {},
        10,
        Repeat,
        "",
    ),
    ("a subset (RFC 8707, 2.2)", {"resource": (API, OTHER_API)}, {"resource": (API,)}, 0, Issue, ""),
    ("beyond it (RFC 8707, 2.2)", {"resource": (API,)}, {"resource": (OTHER_API,)}, 0, Refuse, "invalid_target"),
]


@pytest.mark.parametrize(
    ("record", "grant", "grace", "kind", "error"),
    [row[1:] for row in REFRESH_TABLE],
    ids=[row[0] for row in REFRESH_TABLE],
)
def test_refresh_token_is_judged_by_the_table(
    record: dict[str, Any], grant: dict[str, Any], grace: float, kind: type, error: str
) -> None:
    client_id = grant.get("client_id", "c1")
    presented = replace(REFRESH_GRANT, **{name: value for name, value in grant.items() if name != "client_id"})
    decision = decide_refresh(structs.replace(REFRESH, **record), client_id, presented, NOW, grace)
    assert type(decision) is kind
    if isinstance(decision, Refuse | Replay):
        assert decision.error.refused.error == error


def test_unknown_refresh_token_is_refused() -> None:
    assert isinstance(decide_refresh(None, "c1", REFRESH_GRANT, NOW), Refuse)


@given(
    record=st.builds(
        CodeRecord,
        request=st.builds(
            AuthorizationRequest,
            client_id=st.sampled_from(["c1", "c2"]),
            redirect_uri=st.sampled_from([ASKED.redirect_uri, "https://client.example/other"]),
            scopes=st.just(ASKED.scopes),
            resource=st.sampled_from([(), (API,)]),
            code_challenge=st.sampled_from([None, CHALLENGE, pkce.challenge_of("y" * 43)]),
        ),
        subject=st.just("u1"),
        scopes=st.just(CODE.scopes),
        expires_at=st.sampled_from([ago(1), NOW, NOW + timedelta(seconds=1)]),
        spent_at=st.sampled_from([None, ago(1), NOW + timedelta(seconds=1)]),
        ended=ENDS,
    ),
    client_id=st.sampled_from(["c1", "c2"]),
    grant=st.builds(
        CodeGrant,
        code=st.just("gwc_x"),
        redirect_uri=st.sampled_from([None, ASKED.redirect_uri]),
        code_verifier=st.sampled_from([None, "", VERIFIER, "y" * 43]),
        resource=st.sampled_from([(), (API,), (OTHER_API,)]),
    ),
)
def test_code_is_spent_or_revoked_only_for_who_proves_everything(
    record: CodeRecord, client_id: str, grant: CodeGrant
) -> None:
    decision = decide_code(record, client_id, grant, NOW)
    proven = (
        record.request.client_id == client_id
        and record.request.redirect_uri == grant.redirect_uri
        and (
            grant.code_verifier is None
            if record.request.code_challenge is None
            else pkce.challenge_of(grant.code_verifier or "") == record.request.code_challenge
        )
    )
    if not isinstance(decision, Refuse):
        assert proven
    if isinstance(decision, Issue):
        assert record.spent_at is None
        assert record.ended is None
        assert record.expires_at > NOW
    if proven and record.spent_at is not None:
        assert isinstance(decision, Replay)


@given(
    spent_at=st.sampled_from([None, ago(5), ago(0), NOW + timedelta(seconds=5)]),
    successor_spent=st.booleans(),
    ended=ENDS,
    grace=st.sampled_from([0.0, 1.0, 60.0]),
    scopes=st.sampled_from([None, frozenset[str](), frozenset({"a"}), frozenset({"c"})]),
)
def test_refresh_never_widens_and_never_spends_twice(
    spent_at: datetime | None, successor_spent: bool, ended: str | None, grace: float, scopes: frozenset[str] | None
) -> None:
    record = structs.replace(REFRESH, spent_at=spent_at, successor_spent=successor_spent, ended=ended)
    decision = decide_refresh(record, "c1", replace(REFRESH_GRANT, scopes=scopes), NOW, grace)
    if isinstance(decision, Issue | Repeat):
        assert decision.scopes <= record.scopes
        assert ended is None
    if isinstance(decision, Issue):
        assert spent_at is None
    if isinstance(decision, Repeat):
        assert spent_at is not None
        assert grace > 0
        assert not successor_spent
