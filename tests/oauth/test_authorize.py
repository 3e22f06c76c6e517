"""The authorization endpoint's decisions (RFC 6749, section 4.1)."""

from urllib.parse import parse_qs, parse_qsl, quote_from_bytes, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields, replace

from gateway.model import Client
from gateway.oauth import authorize, forms
from gateway.oauth.authorize import Asked, AuthorizationRequest, PageError, Progress, RedirectError, Step
from tests.oauth.clients import CONFIDENTIAL, PUBLIC, REDIRECT, RESOURCE, SCOPES, client

CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
GOOD = (
    f"response_type=code&client_id=c_web&redirect_uri={REDIRECT}&scope=notes:read&state=s"
    f"&code_challenge={CHALLENGE}&code_challenge_method=S256"
)
ISSUER = "https://id.example/"


def validate(query: str | bytes, by: Client | None = CONFIDENTIAL) -> Asked:
    form = forms.parse(query if isinstance(query, bytes) else query.encode())
    authorize.client_id_of(form)
    return authorize.judge(authorize.read(form, by), by, SCOPES | {"other"}, frozenset({RESOURCE}), pushed=False)


IMPLICIT = client(grant_types=frozenset({"authorization_code", "implicit"}))


def without(name: str) -> str:
    return "&".join(part for part in GOOD.split("&") if not part.startswith(f"{name}="))


def test_a_good_request_is_read_whole() -> None:
    asked = validate(f"{GOOD}&resource={RESOURCE}&login_hint=ada&prompt=login+consent&unknown=1")
    assert asked.client == CONFIDENTIAL
    assert asked.request == AuthorizationRequest(
        client_id=CONFIDENTIAL.client_id,
        redirect_uri=REDIRECT,
        scopes=frozenset({"notes:read"}),
        state=b"s",
        code_challenge=CHALLENGE,
        resource=(RESOURCE,),
        prompt=frozenset({"login", "consent"}),
        login_hint="ada",
    )


# RFC 6749, section 4.1.2.1: "missing, invalid, or mismatching redirection URI, or if the client identifier is missing
# or invalid, the authorization server […] MUST NOT automatically redirect".
@pytest.mark.parametrize(
    ("query", "by"),
    [
        (without("client_id"), CONFIDENTIAL),
        (without("client_id") + "&client_id=", CONFIDENTIAL),
        (without("client_id") + "&client_id=%00", CONFIDENTIAL),
        (without("client_id") + "&client_id=%ff", CONFIDENTIAL),
        (without("client_id") + "&client_id=" + "a" * 256, CONFIDENTIAL),
        (GOOD, None),
        (GOOD, client(disabled_at=CONFIDENTIAL.created_at)),
        (without("redirect_uri"), CONFIDENTIAL),
        (GOOD.replace("/cb", "/cb/"), CONFIDENTIAL),
        (GOOD.replace("/cb", "/CB"), CONFIDENTIAL),
        (GOOD, client(redirect_uris=())),
        (GOOD + "&state=t", CONFIDENTIAL),
        (GOOD + "&client_id=c_web", CONFIDENTIAL),
        (GOOD + "&unknown=1&unknown=1", CONFIDENTIAL),
        (GOOD + "&st%61te=", CONFIDENTIAL),
    ],
)
def test_an_unproven_or_ambiguous_request_is_never_redirected(query: str, by: Client | None) -> None:
    with pytest.raises(PageError):
        validate(query, by)


@pytest.mark.parametrize(
    ("query", "error", "by"),
    [
        (without("response_type"), "invalid_request", CONFIDENTIAL),
        (GOOD.replace("=code", "=token"), "unsupported_response_type", CONFIDENTIAL),
        (GOOD.replace("=code", "=code+id_token"), "unsupported_response_type", CONFIDENTIAL),
        (GOOD + "&response_mode=fragment", "invalid_request", CONFIDENTIAL),
        (GOOD + "&response_mode=FORM_POST", "invalid_request", CONFIDENTIAL),
        (GOOD.replace("=code", "=code+token"), "unsupported_response_type", CONFIDENTIAL),
        (GOOD.replace("=code", "=code+code"), "unsupported_response_type", IMPLICIT),
        (GOOD.replace("=code", "=code++token"), "unsupported_response_type", IMPLICIT),
        (GOOD.replace("=code", "=id_token+token"), "unsupported_response_type", IMPLICIT),
        (GOOD + "&response_mode=fragment", "invalid_request", IMPLICIT),
        (GOOD.replace("=code", "=token"), "unsupported_response_type", replace(IMPLICIT, dpop_required=True)),
        (GOOD.replace("=code", "=code+token"), "unsupported_response_type", replace(IMPLICIT, dpop_required=True)),
        (GOOD + "&request=x", "request_not_supported", CONFIDENTIAL),
        (GOOD + "&request_uri=x", "request_uri_not_supported", CONFIDENTIAL),
        (GOOD, "unauthorized_client", client(grant_types=frozenset({"client_credentials"}))),
        (without("code_challenge"), "invalid_request", PUBLIC),
        (without("code_challenge_method"), "invalid_request", PUBLIC),
        (GOOD.replace("S256", "plain"), "invalid_request", PUBLIC),
        (GOOD.replace("S256", "s256"), "invalid_request", PUBLIC),
        (GOOD.replace(CHALLENGE, CHALLENGE + "="), "invalid_request", PUBLIC),
        (GOOD.replace(CHALLENGE, CHALLENGE[:-1]), "invalid_request", CONFIDENTIAL),
        (without("code_challenge").replace("&code_challenge_method=S256", ""), "invalid_request", CONFIDENTIAL),
        (without("code_challenge"), "invalid_request", client(pkce_required=False)),
        (GOOD.replace("S256", "plain"), "invalid_request", client(pkce_required=False)),
        (without("code_challenge_method"), "invalid_request", client(pkce_required=False)),
        (
            without("code_challenge").replace("&code_challenge_method=S256", ""),
            "invalid_request",
            client(pkce_required=False, confidential=False),
        ),
        (GOOD.replace("notes:read", "notes:read+nope"), "invalid_scope", CONFIDENTIAL),
        (GOOD.replace("notes:read", "other"), "invalid_scope", CONFIDENTIAL),
        (GOOD.replace("notes:read", "notes:read++notes:write"), "invalid_scope", CONFIDENTIAL),
        (GOOD.replace("notes:read", "a%22b"), "invalid_scope", CONFIDENTIAL),
        (GOOD.replace("notes:read", "a%00b"), "invalid_scope", CONFIDENTIAL),
        (GOOD + "&resource=https://evil.example/", "invalid_target", CONFIDENTIAL),
        (GOOD + f"&resource={RESOURCE}%23f", "invalid_target", CONFIDENTIAL),
        (GOOD + "&resource=/api/notes", "invalid_target", CONFIDENTIAL),
        (GOOD + f"&resource={RESOURCE}&resource=https://x/", "invalid_target", CONFIDENTIAL),
        (GOOD + "&prompt=none+login", "invalid_request", CONFIDENTIAL),
        (GOOD + "&prompt=create", "invalid_request", CONFIDENTIAL),
    ],
)
def test_any_other_fault_goes_back_to_the_client_with_state_and_issuer(query: str, error: str, by: Client) -> None:
    with pytest.raises(RedirectError) as refused:
        validate(query, by)
    location = refused.value.response(ISSUER).location
    members = parse_qs(urlsplit(location).query, strict_parsing=True)
    assert location.startswith(REDIRECT + "?")
    assert members["error"] == [error]
    assert members["state"] == ["s"]
    assert members["iss"] == [ISSUER]
    assert members["error_description"][0].isascii()


@pytest.mark.parametrize("name", ["request", "request_uri", "response_mode", "prompt", "login_hint", "resource"])
def test_a_parameter_without_a_value_counts_as_omitted(name: str) -> None:
    assert validate(f"{GOOD}&{name}=", CONFIDENTIAL) == validate(GOOD, CONFIDENTIAL)


def test_a_client_may_be_exempt_from_pkce_if_it_holds_a_secret() -> None:
    query = without("code_challenge").replace("&code_challenge_method=S256", "")
    assert validate(query, client(pkce_required=False)).request.code_challenge is None


def test_the_order_of_scopes_is_free_and_repeats_count_once() -> None:
    one = validate(GOOD.replace("notes:read", "notes:read+notes:write")).request
    other = validate(GOOD.replace("notes:read", "notes:write+notes:read+notes:write")).request
    assert one.scopes == other.scopes == {"notes:read", "notes:write"}


@pytest.mark.parametrize("query", [without("scope"), without("scope") + "&scope="])
def test_without_a_scope_all_of_the_clients_are_asked_for(query: str) -> None:
    assert validate(query, client(scopes=frozenset({"notes:read", "gone"}))).request.scopes == {"notes:read"}


@given(st.binary(min_size=1))
def test_state_comes_back_exactly_on_success_and_on_errors(state: bytes) -> None:
    raw = (without("state") + "&state=").encode() + quote_from_bytes(state, safe="").encode()
    asked = validate(raw).request
    refusal = asked.refusal("access_denied", "no").response(ISSUER).location
    success = asked.success({"code": "gwc_x"}, ISSUER).location
    for location in (refusal, success):
        members = dict(parse_qsl(urlsplit(location).query, encoding="latin-1", strict_parsing=True))
        assert members["state"].encode("latin-1") == state
        assert members["iss"] == ISSUER


def test_no_state_stays_no_state() -> None:
    assert "state" not in validate(without("state")).request.success({"code": "gwc_x"}, ISSUER).location


READ = frozenset({"notes:read"})
NOTHING = frozenset[str]()


@pytest.mark.parametrize(
    ("by", "prompt", "signed_in", "granted", "step"),
    [
        (CONFIDENTIAL, "", False, NOTHING, Step.SIGN_IN),
        (CONFIDENTIAL, "", True, NOTHING, Step.ASK),
        (CONFIDENTIAL, "", True, READ, Step.ISSUE),
        (CONFIDENTIAL, "", True, SCOPES, Step.ISSUE),
        (CONFIDENTIAL, "", True, frozenset({"notes:write"}), Step.ASK),
        (CONFIDENTIAL, "consent", True, READ, Step.ASK),
        (CONFIDENTIAL, "none", True, READ, Step.ISSUE),
        (PUBLIC, "", True, READ, Step.ASK),
        (client(first_party=True), "", True, NOTHING, Step.ISSUE),
        (client(first_party=True), "", False, NOTHING, Step.SIGN_IN),
        (client(first_party=True, confidential=False), "", True, READ, Step.ASK),
    ],
)
def test_consent_is_asked_unless_it_stands(
    by: Client, prompt: str, signed_in: bool, granted: frozenset[str], step: Step
) -> None:
    asked = validate(f"{GOOD}&prompt={prompt}", by)
    assert authorize.next_step(asked, sign_in_age=0.0 if signed_in else None, granted=granted) is step


def test_a_request_for_nothing_is_asked_although_nothing_is_covered_by_anything() -> None:
    asked = validate(without("scope"), client(scopes=NOTHING))
    assert authorize.next_step(asked, sign_in_age=0.0, granted=NOTHING) is Step.ASK


# OpenID Connect Core, section 3.1.2.6
@pytest.mark.parametrize(
    ("by", "signed_in", "granted", "error"),
    [
        (CONFIDENTIAL, False, READ, "login_required"),
        (CONFIDENTIAL, True, NOTHING, "consent_required"),
        (PUBLIC, True, READ, "consent_required"),
    ],
)
def test_prompt_none_shows_no_page(by: Client, signed_in: bool, granted: frozenset[str], error: str) -> None:
    with pytest.raises(RedirectError) as refused:
        authorize.next_step(
            validate(f"{GOOD}&prompt=none", by), sign_in_age=0.0 if signed_in else None, granted=granted
        )
    assert refused.value.refused.error == error


# OpenID Connect Core, section 3.1.2.1
@pytest.mark.parametrize(
    ("prompt", "step"),
    [
        ("", Step.ISSUE),
        ("consent", Step.ASK),
        ("login", Step.CONFIRM),
        ("select_account", Step.CHOOSE_ACCOUNT),
        ("select_account%20consent", Step.CHOOSE_ACCOUNT),
        ("select_account%20login", Step.CONFIRM),
    ],
)
def test_a_client_can_ask_for_a_page_that_nothing_else_needs(prompt: str, step: Step) -> None:
    asked = validate(f"{GOOD}&prompt={prompt}", CONFIDENTIAL)
    assert authorize.next_step(asked, sign_in_age=0.0, granted=SCOPES) is step
    done = asked.identified()
    assert authorize.next_step(done, sign_in_age=0.0, granted=SCOPES) is (
        Step.ASK if "consent" in prompt else Step.ISSUE
    )
    assert done.request == asked.request


@pytest.mark.parametrize("wanted", ["prompt=login", "max_age=60"])
def test_nobody_goes_past_a_fresh_sign_in_by_the_page_for_another_account(wanted: str) -> None:
    asked = validate(f"{GOOD}&{wanted}")
    assert authorize.next_step(asked, sign_in_age=300.0, granted=SCOPES) is Step.CONFIRM
    elsewhere = replace(asked, progress=Progress.ACCOUNT)
    assert authorize.next_step(elsewhere, sign_in_age=300.0, granted=SCOPES) is Step.SIGN_IN
    assert elsewhere.identified().progress is Progress.CONSENT


def test_who_is_not_meant_is_not_asked_to_confirm_it() -> None:
    asked = replace(validate(f"{GOOD}&prompt=login"), hinted="ada")
    for subject, step in (("ada", Step.CONFIRM), ("bob", Step.SIGN_IN)):
        assert authorize.next_step(asked, sign_in_age=0.0, granted=SCOPES, subject=subject) is step


@pytest.mark.parametrize(
    ("prompt", "progress", "still", "then"),
    [
        ("", Progress.BEGUN, "", Progress.BEGUN),
        ("consent", Progress.BEGUN, "consent", Progress.BEGUN),
        ("login", Progress.BEGUN, "login", Progress.IDENTIFIED),
        ("select_account login", Progress.IDENTIFIED, "", Progress.IDENTIFIED),
        ("login consent", Progress.IDENTIFIED, "consent", Progress.IDENTIFIED),
        ("login", Progress.CONSENT, "consent", Progress.CONSENT),
        ("none", Progress.CONSENT, "none consent", Progress.CONSENT),
        ("", Progress.ACCOUNT, "consent select_account", Progress.CONSENT),
        ("login", Progress.ACCOUNT, "login consent select_account", Progress.CONSENT),
    ],
)
def test_what_a_person_did_is_not_asked_of_them_again(
    prompt: str, progress: Progress, still: str, then: Progress
) -> None:
    asked = replace(validate(f"{GOOD}&prompt={prompt.replace(' ', '+')}"), progress=progress)
    assert asked.prompt == frozenset(still.split())
    assert asked.identified().progress is then


# -- what is stored ----------------------------------------------------------------------------------------------


@given(
    st.builds(
        AuthorizationRequest,
        client_id=st.just("c_web"),
        redirect_uri=st.just(REDIRECT),
        scopes=st.frozensets(st.sampled_from(sorted(SCOPES))),
        resource=st.lists(st.sampled_from([RESOURCE, "https://x.example/"]), unique=True).map(tuple),
        state=st.none() | st.binary(),
        code_challenge=st.sampled_from([None, CHALLENGE]),
        prompt=st.frozensets(st.sampled_from(["login", "consent", "select_account"])),
        login_hint=st.none() | st.text(),
    )
)
def test_a_request_is_stored_whole(request_: AuthorizationRequest) -> None:
    assert AuthorizationRequest.from_json(request_.to_json()) == request_


def test_another_parameter_is_another_field() -> None:
    class Wider(AuthorizationRequest, frozen=True, kw_only=True):
        assertion: str | None = None
        details: tuple[str, ...] = ()
        patience: int | None = None

    asked = validate(f"{GOOD}&resource={RESOURCE}").request
    known = {field.name: getattr(asked, field.name) for field in fields(asked)}
    wider = Wider(**known, assertion="n", details=("a", "b"), patience=60)
    assert Wider.from_json(wider.to_json()) == wider
    # Workers of the release before and of the one after share what is stored.
    assert Wider.from_json(asked.to_json()) == Wider(**known)
    assert AuthorizationRequest.from_json(wider.to_json()) == asked


@pytest.mark.parametrize("hint", ["%00", "%ff", "a%00%edb", "%ed%a0%80"])
def test_a_hint_that_no_database_could_hold_is_made_one_that_it_can(hint: str) -> None:
    text = validate(f"{GOOD}&login_hint={hint}").request.login_hint
    assert text is not None
    assert "\0" not in text
    assert text.encode().decode() == text


# -- how the answer comes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response_type", "response_mode", "mode"),
    [
        ("code", "", "query"),
        ("code", "query", "query"),
        ("code", "form_post", "form_post"),
        ("token", "", "fragment"),
        ("token", "fragment", "fragment"),
        ("token", "form_post", "form_post"),
        ("code token", "", "fragment"),
        ("token code", "", "fragment"),
    ],
)
def test_an_answer_comes_by_the_mode_that_is_asked_for(response_type: str, response_mode: str, mode: str) -> None:
    """OAuth 2.0 Multiple Response Type Encoding Practices, sections 2.1 and 5; RFC 6749, section 4.2.2."""
    query = GOOD.replace("=code", "=" + response_type.replace(" ", "+")) + f"&response_mode={response_mode}"
    request = validate(query, IMPLICIT).request
    assert (request.response_types, request.response_mode) == (frozenset(response_type.split()), mode)
    assert AuthorizationRequest.from_json(request.to_json()) == request
    for told in (request.success({"code": "x"}, ISSUER), request.denial().response(ISSUER)):
        assert told.mode == mode
        assert dict(told.members)["state"] == b"s"


def test_a_token_and_its_errors_stand_in_the_fragment_and_never_in_a_query() -> None:
    query = GOOD.replace("=code", "=token")
    asked = validate(query, IMPLICIT).request
    assert asked.code_challenge is None
    assert asked.success({"access_token": "a b&c"}, ISSUER).location.startswith(f"{REDIRECT}#access_token=a%20b%26c&")
    with pytest.raises(RedirectError) as refused:
        validate(query.replace("notes:read", "nope"), IMPLICIT)
    assert refused.value.response(ISSUER).location.startswith(f"{REDIRECT}#error=invalid_scope")
    with pytest.raises(RedirectError) as wrong:
        validate(query + "&response_mode=query", IMPLICIT)
    assert wrong.value.response(ISSUER).location.startswith(f"{REDIRECT}#error=invalid_request")


@pytest.mark.parametrize("response_type", ["token", "code+token"])
def test_a_token_at_once_is_bound_to_no_key(response_type: str) -> None:
    """RFC 9449, section 10: `dpop_jkt` binds a code, and whoever is shown a token has sent no proof."""
    with pytest.raises(RedirectError) as refused:
        validate(GOOD.replace("=code", f"={response_type}") + f"&dpop_jkt={'k' * 43}", IMPLICIT)
    assert refused.value.response(ISSUER).location.startswith(f"{REDIRECT}#error=invalid_request")


def test_a_client_with_the_implicit_grant_alone_gets_no_code() -> None:
    only = client(grant_types=frozenset({"implicit"}))
    assert validate(GOOD.replace("=code", "=token"), only).request.response_types == {"token"}
    for response_type in ("code", "code+token"):
        with pytest.raises(RedirectError) as refused:
            validate(GOOD.replace("=code", f"={response_type}"), only)
        assert refused.value.refused.error == "unauthorized_client"


@pytest.mark.parametrize("state", ["%0a", "%00", "%ff", "%7f", "a%0d"])
def test_a_state_that_no_form_carries_is_refused_for_a_form(state: str) -> None:
    query = without("state") + f"&state={state}"
    assert validate(query).request.state is not None
    with pytest.raises(RedirectError) as refused:
        validate(query + "&response_mode=form_post")
    assert (refused.value.refused.error, refused.value.mode) == ("invalid_request", "query")


def test_an_app_is_sent_no_form() -> None:
    app = client(redirect_uris=("com.example.app:/cb",))
    query = without("redirect_uri") + "&redirect_uri=com.example.app:/cb"
    assert validate(query, app).request.response_mode == "query"
    with pytest.raises(RedirectError) as refused:
        validate(query + "&response_mode=form_post", app)
    assert refused.value.refused.error == "invalid_request"
