"""What a presented code or refresh token brings, as tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oauth import pkce
from gateway.oauth.decisions import (
    CodeRecord,
    CodeRequest,
    Issue,
    RefreshRecord,
    RefreshRequest,
    Refuse,
    Repeat,
    Replay,
    decide_code,
    decide_refresh,
)

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636, appendix B
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
API, OTHER_API = "https://api.example.com/notes", "https://api.example.com/mail"

CODE = CodeRecord(
    client_id="c1",
    subject="u1",
    redirect_uri="https://client.example/cb",
    scopes=frozenset({"a", "b"}),
    resource=(),
    code_challenge=CHALLENGE,
    expires_at=NOW + timedelta(seconds=60),
    spent_at=None,
    revoked=False,
)
CODE_REQUEST = CodeRequest(client_id="c1", redirect_uri="https://client.example/cb", code_verifier=VERIFIER)

REFRESH = RefreshRecord(
    client_id="c1",
    subject="u1",
    scopes=frozenset({"a", "b"}),
    resource=(),
    expires_at=NOW + timedelta(days=14),
    spent_at=None,
    successor_spent=False,
    revoked=False,
)
REFRESH_REQUEST = RefreshRequest(client_id="c1")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


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
    ("revoked", {"revoked": True}, {}, Refuse, "invalid_grant"),
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
    ("record", "request_", "kind", "error"), [row[1:] for row in CODE_TABLE], ids=[row[0] for row in CODE_TABLE]
)
def test_code_is_judged_by_the_table(record: dict[str, Any], request_: dict[str, Any], kind: type, error: str) -> None:
    decision = decide_code(replace(CODE, **record), replace(CODE_REQUEST, **request_), NOW)
    assert type(decision) is kind
    if isinstance(decision, Refuse | Replay):
        assert decision.error.error == error


def test_unknown_code_is_refused_like_any_other() -> None:
    unknown = decide_code(None, CODE_REQUEST, NOW)
    foreign = decide_code(CODE, replace(CODE_REQUEST, client_id="c2"), NOW)
    assert isinstance(unknown, Refuse)
    assert isinstance(foreign, Refuse)
    assert unknown.error.body() == foreign.error.body()
    assert unknown.error.cause != foreign.error.cause


def test_code_gives_the_scopes_and_resource_it_was_made_for() -> None:
    record = replace(CODE, resource=(API, OTHER_API))
    assert decide_code(record, CODE_REQUEST, NOW) == Issue(CODE.scopes, (API, OTHER_API))
    assert decide_code(record, replace(CODE_REQUEST, resource=(API,)), NOW) == Issue(CODE.scopes, (API,))


REFRESH_TABLE: list[tuple[str, dict[str, Any], dict[str, Any], float, type, str]] = [
    ("good (RFC 6749, 6)", {}, {}, 0, Issue, ""),
    ("another client (RFC 6749, 6)", {}, {"client_id": "c2"}, 0, Refuse, "invalid_grant"),
    ("narrower scope (RFC 6749, 6)", {}, {"scopes": frozenset({"a"})}, 0, Issue, ""),
    ("wider scope (RFC 6749, 6)", {}, {"scopes": frozenset({"a", "c"})}, 0, Refuse, "invalid_scope"),
    ("expired", {"expires_at": NOW}, {}, 0, Refuse, "invalid_grant"),
    ("revoked", {"revoked": True}, {}, 0, Refuse, "invalid_grant"),
    ("reused (RFC 9700, 4.14.2)", SPENT, {}, 0, Replay, "invalid_grant"),
    ("reused at once, without grace", {"spent_at": NOW}, {}, 0, Replay, "invalid_grant"),
    ("reused by another client", SPENT, {"client_id": "c2"}, 0, Refuse, "invalid_grant"),
    ("reused though revoked", SPENT | {"revoked": True}, {}, 0, Refuse, "invalid_grant"),
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
    ("record", "request_", "grace", "kind", "error"),
    [row[1:] for row in REFRESH_TABLE],
    ids=[row[0] for row in REFRESH_TABLE],
)
def test_refresh_token_is_judged_by_the_table(
    record: dict[str, Any], request_: dict[str, Any], grace: float, kind: type, error: str
) -> None:
    decision = decide_refresh(replace(REFRESH, **record), replace(REFRESH_REQUEST, **request_), NOW, grace)
    assert type(decision) is kind
    if isinstance(decision, Refuse | Replay):
        assert decision.error.error == error


def test_unknown_refresh_token_is_refused() -> None:
    assert isinstance(decide_refresh(None, REFRESH_REQUEST, NOW), Refuse)


@given(
    record=st.builds(
        CodeRecord,
        client_id=st.sampled_from(["c1", "c2"]),
        subject=st.just("u1"),
        redirect_uri=st.sampled_from([CODE.redirect_uri, "https://client.example/other"]),
        scopes=st.just(CODE.scopes),
        resource=st.sampled_from([(), (API,)]),
        code_challenge=st.sampled_from([None, CHALLENGE, pkce.challenge_of("y" * 43)]),
        expires_at=st.sampled_from([ago(1), NOW, NOW + timedelta(seconds=1)]),
        spent_at=st.sampled_from([None, ago(1), NOW + timedelta(seconds=1)]),
        revoked=st.booleans(),
    ),
    request_=st.builds(
        CodeRequest,
        client_id=st.sampled_from(["c1", "c2"]),
        redirect_uri=st.sampled_from([None, CODE.redirect_uri]),
        code_verifier=st.sampled_from([None, "", VERIFIER, "y" * 43]),
        resource=st.sampled_from([(), (API,), (OTHER_API,)]),
    ),
)
def test_code_is_spent_or_revoked_only_for_who_proves_everything(record: CodeRecord, request_: CodeRequest) -> None:
    decision = decide_code(record, request_, NOW)
    proven = (
        record.client_id == request_.client_id
        and record.redirect_uri == request_.redirect_uri
        and (
            request_.code_verifier is None
            if record.code_challenge is None
            else pkce.challenge_of(request_.code_verifier or "") == record.code_challenge
        )
    )
    if not isinstance(decision, Refuse):
        assert proven
    if isinstance(decision, Issue):
        assert record.spent_at is None
        assert not record.revoked
        assert record.expires_at > NOW
    if proven and record.spent_at is not None:
        assert isinstance(decision, Replay)


@given(
    spent_at=st.sampled_from([None, ago(5), ago(0), NOW + timedelta(seconds=5)]),
    successor_spent=st.booleans(),
    revoked=st.booleans(),
    grace=st.sampled_from([0.0, 1.0, 60.0]),
    scopes=st.sampled_from([None, frozenset[str](), frozenset({"a"}), frozenset({"c"})]),
)
def test_refresh_never_widens_and_never_spends_twice(
    spent_at: datetime | None, successor_spent: bool, revoked: bool, grace: float, scopes: frozenset[str] | None
) -> None:
    record = replace(REFRESH, spent_at=spent_at, successor_spent=successor_spent, revoked=revoked)
    decision = decide_refresh(record, replace(REFRESH_REQUEST, scopes=scopes), NOW, grace)
    if isinstance(decision, Issue | Repeat):
        assert decision.scopes <= record.scopes
        assert not revoked
    if isinstance(decision, Issue):
        assert spent_at is None
    if isinstance(decision, Repeat):
        assert spent_at is not None
        assert grace > 0
        assert not successor_spent
