"""The authorization endpoint's decisions (RFC 6749, section 4.1.1; RFC 7636; RFC 8707; RFC 9207; OpenID Connect Core).

Until client and redirect URI are proven, a fault is a PageError, which can only be shown. From then on it is a
RedirectError, which goes back to the client. They are different types, so that an unproven URI has no way into a
redirect.

`read` makes one value of what a query says, an AuthorizationRequest, and `judge` says what of it its client may have
now. The value is stored whole: as it was read where it was pushed, as it was judged with the person's flow and with the
code. Another parameter is another field of it and a line of `read`: the token endpoint finds it in the code.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.structs import fields, replace

from gateway.errors import GatewayError, OAuthError, Refused, invalid_request, unauthorized_client
from gateway.model import ACR, Client
from gateway.oauth import dpop, openid, pkce, redirect_uris
from gateway.oauth.forms import Form, legible
from gateway.oauth.grants import REPEATABLE, allowed_scopes, named_scopes, requested_resources

_ABOUT_THE_ACCOUNT: Final = frozenset({"login", "select_account"})
_PROMPTS: Final = _ABOUT_THE_ACCOUNT | {"none", "consent"}
LONGEST_IDENTIFIER: Final = 255
_LONGEST_NONCE: Final = 1024  # characters
_WHILE: Final = 600  # seconds for a person who has just signed in


class PageError(GatewayError):
    """A request that must never be redirected: the person is told, and nobody else (RFC 6749, section 4.1.2.1).

    `redirect_uri` is the one that is not registered, for the log; `error` is for a client that asked for JSON.
    """

    def __init__(
        self, text: str, cause: str = "", redirect_uri: str | None = None, error: str = "invalid_request"
    ) -> None:
        super().__init__(cause or text)
        self.text, self.redirect_uri, self.error = text, redirect_uri, error


ResponseMode = Literal["query", "fragment", "form_post"]


@dataclass(frozen=True, slots=True, repr=False)
class Response:
    """An answer that a browser takes to a client's proven redirect URI: its members, in order, and the response
    mode."""

    redirect_uri: str
    mode: ResponseMode
    members: tuple[tuple[str, str | bytes], ...]

    @property
    def location(self) -> str:
        """The address with the members in its query or its fragment."""
        return redirect_uris.with_parameters(self.redirect_uri, self.members, fragment=self.mode == "fragment")


class RedirectError(GatewayError):
    """A fault or a refusal that the client is told of, at its proven redirect URI."""

    def __init__(self, redirect_uri: str, state: bytes | None, refused: Refused, mode: ResponseMode = "query") -> None:
        super().__init__(f"{refused.error}: {refused.why}")
        self.redirect_uri, self.state, self.refused, self.mode = redirect_uri, state, refused, mode

    def response(self, issuer: str) -> Response:
        """The answer that tells the client of it (RFC 6749, sections 4.1.2.1 and 4.2.2.1, with RFC 9207's `iss`)."""
        members = (("error", self.refused.error), ("error_description", self.refused.description))
        return _response(self.redirect_uri, self.mode, members, self.state, issuer)


class AuthorizationRequest(Struct, frozen=True, kw_only=True):
    """What a client asks for: its redirect URI is proven and its parameters are well-formed.

    Until it is judged, `scopes` and `resource` are as the client names them, no scopes where it names none. Text is
    Unicode without NUL, as a database holds it; `state` is bytes, since it must come back exactly. What is added needs
    a default, which requests have that were stored before.
    """

    client_id: str
    redirect_uri: str
    scopes: frozenset[str]
    resource: tuple[str, ...] = ()  # RFC 8707
    state: bytes | None = None
    code_challenge: str | None = None  # S256 only
    prompt: frozenset[str] = frozenset()
    login_hint: str | None = None
    nonce: str | None = None  # OpenID Connect Core, section 3.1.2.1
    max_age: int | None = None  # seconds since the sign-in
    id_token_claims: tuple[str, ...] = ()  # OpenID Connect Core, section 5.5
    userinfo_claims: tuple[str, ...] = ()
    subject: str | None = None  # whom the ID token must be about
    id_token_hint: str | None = None  # an ID token about whom it is for (section 3.1.2.1), not looked at yet
    response_types: frozenset[str] = frozenset({"code"})
    response_mode: ResponseMode = "query"
    dpop_jkt: str | None = None  # the thumbprint of the key that the code is bound to (RFC 9449, section 10)
    # The digest of the code of the device that waits for it (RFC 8628), which has no redirect URI.
    device: bytes | None = None

    def refusal(self, error: str, description: str) -> RedirectError:
        """The answer that tells the client no."""
        return RedirectError(self.redirect_uri, self.state, Refused(error, description), self.response_mode)

    def denial(self) -> RedirectError:
        """The person said no (RFC 6749, section 4.1.2.1)."""
        return self.refusal("access_denied", "The person did not allow it.")

    def success(self, members: Mapping[str, str], issuer: str) -> Response:
        """What brings the client its code, token or both (RFC 6749, 4.1.2 and 4.2.2, with RFC 9207's `iss`)."""
        return _response(self.redirect_uri, self.response_mode, members.items(), self.state, issuer)

    def to_json(self) -> str:
        """The whole request, to be stored."""
        return json.dumps({name: getattr(self, name) for name in _readers(type(self))}, default=_as_json)

    @classmethod
    def from_json(cls, text: str) -> "AuthorizationRequest":
        """The request that was stored. Members that are unknown here are left out; missing ones have their defaults."""
        members = json.loads(text)
        return cls(**{name: read(members[name]) for name, read in _readers(cls).items() if name in members})


def _as_json(value: object) -> list[str] | str:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"a field of an authorization request cannot be {type(value).__name__}")


def _as_it_is(value: Any) -> Any:
    return value


_FROM_JSON: Final[dict[object, Callable[[Any], Any]]] = {
    frozenset[str]: frozenset,
    tuple[str, ...]: tuple,
    bytes | None: lambda text: None if text is None else b64decode(text),
}
_READERS: Final[dict[type[AuthorizationRequest], dict[str, Callable[[Any], Any]]]] = {}


def _readers(kind: type[AuthorizationRequest]) -> dict[str, Callable[[Any], Any]]:
    """What reads each field from JSON, by its name; found out once."""
    if kind not in _READERS:
        _READERS[kind] = {field.name: _FROM_JSON.get(field.type, _as_it_is) for field in fields(kind)}
    return _READERS[kind]


class Progress(Enum):
    """How far a person has come with a request. The value ends the address that their browser is at."""

    BEGUN = ""  # the client has just sent them here
    IDENTIFIED = "continue"  # they have signed in, or chosen the account, as `prompt` wanted
    CONSENT = "consent"  # the same, and they are asked whatever they allowed before
    ACCOUNT = "account"  # they are about to choose another account, and are asked then


class Asked(Struct, frozen=True, kw_only=True):
    """A valid request, the client that makes it, and how far the person has come with it."""

    request: AuthorizationRequest
    client: Client
    progress: Progress = Progress.BEGUN
    hinted: str | None = None  # the subject of its id_token_hint, as the client knows it
    pushed: bytes | None = None  # the digest of its reference, where the client pushed it (RFC 9126)
    answered: bool = False  # what was pushed is answered once

    @property
    def prompt(self) -> frozenset[str]:
        """The pages that are still to be shown, whatever else stands."""
        prompt = self.request.prompt
        match self.progress:
            case Progress.BEGUN:
                return prompt
            case Progress.IDENTIFIED:
                return prompt - _ABOUT_THE_ACCOUNT
            case Progress.CONSENT:
                return prompt - _ABOUT_THE_ACCOUNT | {"consent"}
            case Progress.ACCOUNT:
                return prompt | {"consent", "select_account"}  # nobody goes past `login` by way of this page

    @property
    def subjects(self) -> frozenset[str]:
        """Whom the request has to be about, as the client knows them; one at most can be right."""
        return frozenset(subject for subject in (self.request.subject, self.hinted) if subject is not None)

    @property
    def may_rest_on_grant(self) -> bool:
        """Whether an earlier grant, if it goes far enough, stands for the person's consent."""
        # Anybody can pose as a public client (RFC 6749, section 10.2). An empty request cannot tell "granted nothing
        # yet" from "granted": it is asked.
        return self.client.confidential and "consent" not in self.prompt and bool(self.request.scopes)

    def outlived(self, sign_in_age: float) -> bool:
        """Whether a sign-in is so long ago that the person has to sign in again (section 3.1.2.1 of Core).

        Who has just signed in for this request has a while to decide.
        """
        if self.request.max_age is None:
            return False
        begins = self.progress in (Progress.BEGUN, Progress.ACCOUNT)
        allowed = self.request.max_age if begins else max(self.request.max_age, _WHILE)
        return sign_in_age >= allowed if allowed == 0 else sign_in_age > allowed

    def identified(self) -> "Asked":
        """The request once the person has signed in, or chosen the account."""
        if not (self.prompt & _ABOUT_THE_ACCOUNT or self.subjects) and self.request.max_age is None:
            return self
        chose = self.progress is Progress.ACCOUNT
        return replace(self, progress=Progress.CONSENT if chose else Progress.IDENTIFIED)


class Step(Enum):
    """The next step of a valid request."""

    SIGN_IN = auto()
    CONFIRM = auto()  # whoever is signed in signs in once more
    CHOOSE_ACCOUNT = auto()
    ASK = auto()
    ISSUE = auto()


def client_id_of(query: Form) -> str:
    """The client that asks. Raises PageError when it is missing, cannot be one, or a parameter comes twice."""
    repeated = query.repeated(but=REPEATABLE)
    if repeated is not None:
        raise PageError(
            "The application’s request repeats a parameter. Please tell its developer.",
            f"repeated parameter {repeated!r}",
        )
    client_id = query.get("client_id")
    if client_id is None:
        raise PageError(
            "The application’s request doesn’t say which application it is. Please tell its developer.", "no client_id"
        )
    if not is_identifier(client_id):
        raise PageError("We don’t recognise this application. Please tell its developer.", "malformed client_id")
    return client_id


def is_identifier(text: str) -> bool:
    """Whether `text` can be a client identifier: printable ASCII (RFC 6749, appendix A.1) of a bounded length."""
    return 0 < len(text) <= LONGEST_IDENTIFIER and text.isascii() and text.isprintable()


def read(query: Form, client: Client | None) -> AuthorizationRequest:
    """The request that a query or a form makes in the name of `client`, which is to be judged.

    Raises PageError while client or redirect URI are unproven, RedirectError afterwards.
    """
    client, redirect_uri = _proven(client, query.get("redirect_uri"))
    state_text = query.get("state")
    state = None if state_text is None else state_text.encode("utf-8", "surrogateescape")
    wanted = query.get("response_mode")
    # A refusal comes as the answer would: also where it is not known yet what the client wants.
    mode: ResponseMode = "form_post" if wanted == "form_post" and _no_form(redirect_uri, state) is None else "query"
    try:
        types = _response_types(query, client)
        mode = "fragment" if "token" in types else "query"
        mode = _response_mode(wanted, mode, redirect_uri, state)
        claims = openid.claims_request(query.get("claims"))
        if claims.acr is not None and ACR not in claims.acr:
            # OpenID Connect Core Error Code unmet_authentication_requirements 1.0
            raise OAuthError(Refused("unmet_authentication_requirements", f"People are authenticated by {ACR} here."))
        return AuthorizationRequest(
            client_id=client.client_id,
            redirect_uri=redirect_uri,
            scopes=named_scopes(query.get("scope")),
            resource=query.all("resource"),
            state=state,
            response_types=types,
            response_mode=mode,
            code_challenge=_code_challenge(query) if "code" in types else None,
            prompt=_prompt(query.get("prompt")),
            login_hint=_hint(query.get("login_hint")),
            nonce=_nonce(query.get("nonce")),
            max_age=openid.max_age(query.get("max_age")),
            id_token_claims=claims.id_token,
            userinfo_claims=claims.userinfo,
            subject=claims.subject,
            id_token_hint=_hint(query.get("id_token_hint")),
            dpop_jkt=_thumbprint(query.get("dpop_jkt")),
        )
    except OAuthError as error:
        raise RedirectError(redirect_uri, state, error.refused, mode) from error


def judge(
    request: AuthorizationRequest,
    client: Client | None,
    scopes: frozenset[str],
    resources: frozenset[str],
    *,
    pushed: bool,
) -> Asked:
    """The request as its client may make it now, with the scopes and resources that it is for out of those there are;
    `pushed` where the client brought it here itself (RFC 9126).

    Without a scope it is for all of the client's (RFC 6749, section 3.3). Raises PageError where the client is dead or
    the redirect URI not its own, RedirectError for all else that the client may not ask for.
    """
    client, redirect_uri = _proven(client, request.redirect_uri)
    types = request.response_types
    try:
        if client.par_required and not pushed:
            raise invalid_request("This client must push its authorization requests (RFC 9126).")
        _permit(types, client)
        request = replace(
            request,
            scopes=allowed_scopes(request.scopes, client, scopes),
            resource=requested_resources(request.resource, resources),
        )
        if "code" in types and request.code_challenge is None and (client.pkce_required or not client.confidential):
            raise invalid_request("PKCE is required: send code_challenge with code_challenge_method=S256.")
        if "token" in types and request.dpop_jkt is not None:
            raise invalid_request("dpop_jkt binds a code; a token at once would be bound to no key.")
    except OAuthError as error:
        raise RedirectError(redirect_uri, request.state, error.refused, request.response_mode) from error
    return Asked(request=request, client=client)


def next_step(asked: Asked, *, sign_in_age: float | None, granted: frozenset[str], subject: str | None = None) -> Step:
    """The next step: the person signs in, perhaps once more, chooses an account or is asked, or the code is issued.

    `sign_in_age` are the seconds since somebody signed in here, None where nobody is signed in, and `subject` is who
    that is, as the client knows them. `granted` are the scopes of the grant for just these resources. Consent is
    remembered for confidential clients only, since anybody can pose as a public one (RFC 6749, section 10.2). Raises
    RedirectError where `prompt=none` forbids the page that would be needed (OpenID Connect Core, section 3.1.2.6), and
    where somebody signed in who is not whom the client means.
    """
    request, prompt = asked.request, asked.prompt
    silent = "none" in prompt
    if sign_in_age is None or "login" in prompt or asked.outlived(sign_in_age):
        if silent:
            raise request.refusal("login_required", "The person is not signed in.")
        another = asked.progress is Progress.ACCOUNT or not asked.subjects <= {subject}
        return Step.SIGN_IN if sign_in_age is None or another else Step.CONFIRM
    if not asked.subjects <= {subject}:
        if silent or asked.progress is not Progress.BEGUN:
            raise request.refusal("login_required", "Somebody else is signed in.")
        return Step.SIGN_IN
    if "select_account" in prompt:
        return Step.CHOOSE_ACCOUNT
    if _consent_stands(asked, granted):
        return Step.ISSUE
    if silent:
        raise request.refusal("consent_required", "The person has not allowed this yet.")
    return Step.ASK


def _proven(client: Client | None, redirect_uri: str | None) -> tuple[Client, str]:
    if client is None:
        raise PageError(
            "We don’t recognise this application. Please tell its developer.",
            "unknown client_id",
            error="unauthorized_client",
        )
    if client.disabled_at is not None:
        raise PageError(
            "This application has been disabled. Please tell its developer.",
            "disabled client",
            error="unauthorized_client",
        )
    if redirect_uri is None:
        raise PageError(
            "The application’s request doesn’t say where to return to. Please tell its developer.", "no redirect_uri"
        )
    if not redirect_uris.is_registered(client.redirect_uris, redirect_uri):
        raise PageError(
            "This application’s return address isn’t registered. Please tell its developer.",
            "unregistered redirect_uri",
            redirect_uri,
        )
    return client, redirect_uri


def _response_types(query: Form, client: Client) -> frozenset[str]:
    """What the client wants, in whichever order (RFC 6749, section 3.1.1): a code, a token at once, or both."""
    if query.get("request") is not None:
        raise OAuthError(Refused("request_not_supported", "Request objects are not supported."))
    if query.get("request_uri") is not None:
        text = "request_uri must be one that the PAR endpoint gave out."
        raise OAuthError(Refused("request_uri_not_supported", text))
    response_type = query.get("response_type")
    if response_type is None:
        raise invalid_request("response_type is missing.")
    types = frozenset(response_type.split(" "))
    if len(types) < response_type.count(" ") + 1:
        raise _unsupported()
    _permit(types, client)  # before the way of the answer, which hangs on them
    return types


def _permit(types: frozenset[str], client: Client) -> None:
    """Let a client ask for a code, or where it may still use the implicit grant also for a token at once.

    For all other clients nothing but a code is known here, nor for one whose tokens must be bound to a key (RFC 9449,
    section 5.2): no proof comes with a request for a token at once.
    """
    at_once = "implicit" in client.grant_types and not client.dpop_required
    if not types <= ({"code", "token"} if at_once else {"code"}):
        raise _unsupported()
    if "code" in types and "authorization_code" not in client.grant_types:
        raise unauthorized_client("This client may not use the authorization code grant.")


def _unsupported() -> OAuthError:
    return OAuthError(Refused("unsupported_response_type", "response_type must be code."))


def _response_mode(wanted: str | None, default: ResponseMode, redirect_uri: str, state: bytes | None) -> ResponseMode:
    """How the answer comes (OAuth 2.0 Multiple Response Type Encoding Practices, section 2.1; Form Post Response Mode).

    A token never stands in a query, where logs keep it, and no other mode is needed for a code alone.
    """
    if wanted is None or wanted == default:
        return default
    if wanted != "form_post":
        raise invalid_request(f"response_mode must be {default} or form_post.")
    if (reason := _no_form(redirect_uri, state)) is not None:
        raise invalid_request(reason)
    return "form_post"


def _no_form(redirect_uri: str, state: bytes | None) -> str | None:
    """The reason why no answer can be sent there as a form; None where one can."""
    if redirect_uris.is_private(redirect_uri):
        return "An app cannot be sent a form: leave out response_mode."
    if state is not None and not _fits_a_form(state):
        return "A form cannot carry this state: it must be UTF-8 without control characters."
    return None


def _fits_a_form(state: bytes) -> bool:
    """Whether a browser posts these bytes as they are: it would replace what is no UTF-8, and write new lines anew."""
    try:
        return not any(ord(mark) < 0x20 or ord(mark) == 0x7F for mark in state.decode())
    except UnicodeDecodeError:
        return False


def _code_challenge(query: Form) -> str | None:
    challenge, method = query.get("code_challenge"), query.get("code_challenge_method")
    if challenge is None:
        if method is not None:
            raise invalid_request("code_challenge_method was sent without a code_challenge.")
        return None
    if method != "S256":
        raise invalid_request("code_challenge_method must be S256.")
    if not pkce.is_challenge(challenge):
        raise invalid_request("code_challenge must be a SHA-256 digest in base64url.")
    return challenge


def _thumbprint(text: str | None) -> str | None:
    if text is not None and not dpop.is_thumbprint(text):
        raise invalid_request("dpop_jkt must be the SHA-256 thumbprint of a key, in base64url.")
    return text


def _prompt(text: str | None) -> frozenset[str]:
    values = frozenset((text or "").split(" ")) - {""}
    if values - _PROMPTS:
        raise invalid_request("prompt may contain none, login, consent and select_account.")
    if "none" in values and len(values) > 1:
        raise invalid_request("prompt=none cannot be combined with other values.")
    return values


def _nonce(text: str | None) -> str | None:
    """What an ID token has to repeat exactly. Raises OAuthError (invalid_request)."""
    if text is not None and (len(text) > _LONGEST_NONCE or legible(text) != text):
        raise invalid_request(f"nonce must be text in UTF-8 of at most {_LONGEST_NONCE} characters.")
    return text


def _hint(text: str | None) -> str | None:
    """What a client says to help people along, as it can be shown and stored."""
    return None if text is None else legible(text)


def _consent_stands(asked: Asked, granted: frozenset[str]) -> bool:
    if asked.client.first_party:
        return asked.client.confidential and "consent" not in asked.prompt
    return asked.may_rest_on_grant and asked.request.scopes <= granted


def _response(
    redirect_uri: str, mode: ResponseMode, members: Iterable[tuple[str, str]], state: bytes | None, issuer: str
) -> Response:
    answer: list[tuple[str, str | bytes]] = [*members]
    if state is not None:
        answer.append(("state", state))
    return Response(redirect_uri, mode, (*answer, ("iss", issuer)))
