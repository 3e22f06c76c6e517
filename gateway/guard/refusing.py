"""The guard's refusals: what the client is told, the challenges beside it, and what the operator may do about it.

Refusals recur, and a flood of them must cost less than what it asks for: each is made once.
"""

from functools import lru_cache
from typing import Final

from gateway.credentials import signatures
from gateway.credentials.challenges import challenges
from gateway.guard.verdict import INSUFFICIENT, Call, Refused
from gateway.model import SIGNATURE, Identity, format_scope
from gateway.refusals import NO_DATABASE
from gateway.routing import Route, SignIn

_KEPT: Final = 1024
_NOTHING: Final = frozenset[str]()
_NO_ANSWER: Final = "The token cannot be checked at the moment; try again."
_NO_KEYS: Final = "the issuer cannot be asked for its keys"
NO_ISSUER: Final = "`gateway doctor` asks the issuer, and tells what is in the way"
_EXPLAIN: Final = "`gateway mac verify --explain` shows what the client signed beside what the gateway expects"

# What to do, by how the cause begins.
_MENDS: Final = {
    "token in the query": "have the client send its token in the Authorization field: queries end up in logs",
    "more than one credential": "have the client send one Authorization field, or one signature, and nothing else",
    "no credential": "have the client get a token and send it; a browser's preflight (OPTIONS) carries none: "
    "name the page's origin in the route's cors",
    "no session": "nothing: people are sent to sign in, and scripts are told to; if they come back without a session, "
    "see that cookies pass between the browser and the gateway",
    "malformed session": "nothing: whoever sends it is told to sign in; if many do, somebody is guessing",
    "invented session": "nothing: whoever sends it is told to sign in; once a master key is gone, that is everybody",
    "unknown session": "nothing: they signed out, or were signed out; `gateway events --user NAME` tells which",
    "expired session": "nothing: whoever comes with it is told to sign in",
    "a call of another site": "if the page is yours, serve it from the origin of server.public_url; else it has tried "
    "to act in a person's name",
    "a session at another host": "have people use the host of server.public_url; a proxy in front must pass Host on "
    "unchanged",
    "a scheme that the route": "have the client use a scheme of this route, or add the client's to the route's auth",
    "a MAC credential of drafts": "have the client sign by a draft that mac.drafts lists; see docs/signing.md",
    "malformed credential": "ask the client's developer to correct what it sends in Authorization",
    "invented token": "this gateway never issued it: check where the client got it, and that it sends the whole token",
    "foreign token, issuer": "write the issuer as the token's iss has it, byte for byte (also a slash at its end), in "
    "the url of one of issuers; or have the client get a token of one that is there",
    "foreign token, route": "add the issuer to the route's issuers, if its tokens are to open it",
    "foreign token, header": "ask the issuer's operator: it uses a feature of JWS that is not known here",
    "foreign token, algorithm": "add it to the issuer's algorithms, if it is one of those that are known here",
    "foreign token, type": 'have the client send its access token; where those are plain JWTs, add "JWT" to the '
    "issuer's token_types",
    "foreign token, audience": "have the client ask for a token for this API (RFC 8707), or add what its issuer calls "
    "this API to the issuer's audience",
    "foreign token, time": "the client needs a new one; `gateway doctor` compares this clock with the issuer's",
    "foreign token, claims": "name the claims that the issuer uses in subject_claim, client_claim and scopes_claim",
    "foreign token, key withdrawn": "the issuer does not publish the key any more: the client needs a new one",
    "foreign token, key": "`gateway doctor` tells which keys the issuer publishes; one that it uses must be among them",
    "foreign token, signature": "the token was altered or made up; where all are refused, ask `gateway doctor`",
    "the issuer cannot be asked": NO_ISSUER,
    "unknown token": "it was never issued here, or ended so long ago that it was removed; the client needs a new one",
    "expired token": "the client needs a new one, for instance with its refresh token",
    "revoked token": "the client needs a new one; `gateway events --client ID` tells who revoked it",
    "token of a disabled client": "`gateway client enable ID` lets it get new tokens",
    "token of a disabled user": "`gateway user enable NAME` lets them get new tokens by signing in again",
    "token of a deleted": "nothing that was issued to it or them counts any more",
    "a mac token presented": "have the client sign its requests, or give it bearer tokens: "
    "`gateway client update ID --token-type bearer`",
    "a session token presented": "have the client send an access token: a session is for its browser alone",
    "a bearer token presented": "have the client send the token with the scheme Bearer, or give it MAC tokens: "
    "`gateway client update ID --token-type mac`",
    "a MAC token whose key": "add the master key that sealed it to keys.previous, or have the client get a new token",
    "wrong MAC": _EXPLAIN,
    "algorithm is not": "add the token's algorithm to mac.algorithms, or have the client get a new token",
    "draft is not": "`gateway client update ID --mac-draft …`; mac.drafts lists what may be used",
    "timestamp": "correct the client's clock, or this machine's; they may differ by mac.skew",
    "signature expired": "have the client sign each request when it sends it; compare its clock with this machine's",
    "stale nonce": "correct the client's clock, or this machine's; they may differ by mac.skew",
    "no body hash": "have the client sign a hash of the body, or remove mac_body_hash from the route",
    "body hash": f"have the client hash with the token's algorithm; {_EXPLAIN}",
    "the body does not fit": f"something between the client and the gateway may have changed the body; {_EXPLAIN}",
    "a dpop token presented": "have the client send the token with the scheme DPoP and a proof: it is bound to its key",
    "a token that is bound to no key": "have the client ask for its token with a DPoP proof, or send it as Bearer",
    "malformed DPoP proof": "ask the client's developer to correct what it sends in DPoP (RFC 9449)",
    "DPoP: ": "ask the client's developer to correct its DPoP proofs (RFC 9449); the cause says what is wrong",
    "replayed nonce": "have the client sign each request with a new nonce, also when it retries; "
    "if it does so, somebody is replaying its requests",
    "audience": "have the client ask for a token for this route's resource (RFC 8707)",
    "address over its rate": "have whoever calls from there do it less often, or raise the limit in the route's rate; "
    "a proxy in front must be among server.trusted_proxies, or all its clients count as one address",
    "over the rate": "have the client call less often, as Retry-After and RateLimit tell it, or raise the limit in the "
    "route's rate",
    "over the quota": "have the client wait for the next day (UTC), or raise the limit in the route's quota",
    "over the concurrency": "see why calls take so long, or raise the route's concurrency if the upstream can bear it",
    "the quota cannot be asked": NO_DATABASE,
    "in none of the route's groups": "if they may: `gateway user update USERNAME --group …`, with all of their groups",
    "signed in too long ago": "have the client ask for a token with the max_age that the challenge names: then the "
    "person signs in again; the route's max_age says how long a sign-in is good for",
    "signed in in another way": "have the client ask for a token with the acr_values that the challenge names",
    "nobody signed in": "this route's max_age or acr is for people: have the client ask for a token in a person's name",
    "lacks": "have the client ask for that scope; `gateway client show ID` says what it may ask for",
}


class Refusing:
    """Makes refusals, in the name of one realm."""

    def __init__(self, realm: str) -> None:
        self._realm = realm
        self._kept = lru_cache(maxsize=_KEPT)(self._made)

    def __call__(
        self,
        call: Call,
        status: int,
        error: str,
        description: str,
        cause: str,
        *,
        used: tuple[str, ...] = (),
        identity: Identity | None = None,
    ) -> Refused:
        """The refusal of a call that used these schemes, on behalf of `identity` if its token is known.

        Without an `error`, it says only what is wanted (RFC 6750, section 3.1). Whoever is to get a token, or another
        one, is told all the scopes that this call needs.
        """
        needed = _NOTHING if status == 400 else call.route.scopes_for(call.method)
        return self._kept(call.route, status, error, description, cause, used, identity, needed, call.has_body)

    def _made(
        self,
        route: Route,
        status: int,
        error: str,
        description: str,
        cause: str,
        used: tuple[str, ...],
        identity: Identity | None,
        needed: frozenset[str],
        has_body: bool,
    ) -> Refused:
        offered = challenges(
            route.schemes,
            realm=self._realm,
            resource=route.resource,
            error=error or None,
            description=description,
            scope=format_scope(needed) or None,
            used=used,
            sign_in_page=route.sign_in_page.decode("ascii"),
            sign_in=_told(route.sign_in) if error == INSUFFICIENT and route.sign_in is not None else {},
        )
        accepted = signatures.accepted(has_body=has_body).encode("ascii") if SIGNATURE in route.schemes else b""
        return Refused(
            status=status,
            error=error or "unauthorized",
            description=description,
            challenges=offered,
            accept_signature=accepted,
            cause=cause,
            mend=mend_of(cause),
            identity=identity,
        )


def _told(demanded: SignIn) -> dict[str, str]:
    """What a challenge says of the sign-in that is needed (RFC 9470, section 3)."""
    told = {"acr_values": demanded.acr} if demanded.acr else {}
    return told | ({"max_age": f"{demanded.max_age:.0f}"} if demanded.max_age else {})


def mend_of(cause: str) -> str:
    """What the operator may do about a refusal of the guard's."""
    return _MENDS.get(_beginning(cause), "")


def kind_of(refused: Refused) -> str:
    """A refusal's kind, of which there are few, whatever its cause names: how that begins, or the error's code."""
    return _beginning(refused.cause) or refused.error


@lru_cache(maxsize=_KEPT)
def _beginning(cause: str) -> str:
    return next((beginning for beginning in _MENDS if cause.startswith(beginning)), "")


def no_keys(why: str) -> Refused:
    """The refusal of a call with a token whose issuer did not say by which keys to judge it."""
    return Refused(
        status=503,
        error="temporarily_unavailable",
        description=_NO_ANSWER,
        cause=f"{_NO_KEYS}: {why}",
        mend=NO_ISSUER,
    )


def no_answer(why: Exception | str, identity: Identity | None = None) -> Refused:
    """The refusal of a call that nobody could judge."""
    return Refused(
        status=503,
        error="temporarily_unavailable",
        description=_NO_ANSWER,
        cause=why if isinstance(why, str) else f"store: {type(why).__name__}: {why}",
        mend=NO_DATABASE,
        identity=identity,
    )
