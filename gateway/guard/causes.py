"""Why the guard refuses calls: each cause is declared here, once, and named where it is found.

What there is to say of one call besides comes behind the kind: `TIMESTAMP.naming("90 s behind")`.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.errors import Cause
from gateway.model import BEARER, DPOP, MAC, SESSION
from gateway.oauth.foreign import Check
from gateway.refusals import NO_DATABASE

_EXPLAIN: Final = "`gateway mac verify --explain` shows what the client signed beside what the gateway expects"
_NOTHING: Final = "nothing: whoever comes with it is told to sign in"
_CLOCKS: Final = "correct the client's clock, or this machine's; they may differ by mac.skew"


# -- before anybody looks whose call it is ---------------------------------------------------------------------------

ADDRESS_OVER_RATE: Final = Cause.of(
    "address",
    "address over its rate",
    ": ",
    mend="have whoever calls from there do it less often, or raise the limit in the route's rate; a proxy in front "
    "must be among server.trusted_proxies, or all its clients count as one address",
)

# -- one credential, of a scheme that the route takes ----------------------------------------------------------------

TOKEN_IN_QUERY: Final = Cause.of(
    "credential",
    "token in the query",
    mend="have the client send its token in the Authorization field: queries end up in logs",
)
SEVERAL_CREDENTIALS: Final = Cause.of(
    "credential",
    "more than one credential",
    mend="have the client send one Authorization field, or one signature, and nothing else",
)
NO_CREDENTIAL: Final = Cause.of(
    "credential",
    "no credential",
    mend="have the client get a token and send it; a browser's preflight (OPTIONS) carries none: "
    "name the page's origin in the route's cors",
)
NO_SESSION: Final = Cause.of(
    "credential",
    "no session",
    mend="nothing: people are sent to sign in, and scripts are told to; if they come back without a session, "
    "see that cookies pass between the browser and the gateway",
)
MALFORMED_SESSION: Final = Cause.of(
    "credential",
    "malformed session",
    mend="nothing: whoever sends it is told to sign in; if many do, somebody is guessing",
)
OTHER_SITE: Final = Cause.of(
    "credential",
    "a call of another site",
    mend="if the page is yours, serve it from the origin of server.public_url; else it has tried "
    "to act in a person's name",
)
OTHER_HOST: Final = Cause.of(
    "credential",
    "a session at another host",
    mend="have people use the host of server.public_url; a proxy in front must pass Host on unchanged",
)
OTHER_SCHEME: Final = Cause.of(
    "credential",
    "a scheme that the route",
    " does not accept",
    mend="have the client use a scheme of this route, or add the client's to the route's auth",
)
OTHER_DRAFT: Final = Cause.of(
    "credential",
    "a MAC credential of drafts",
    " 03 to 05",
    mend="have the client sign by a draft that mac.drafts lists; see docs/signing.md",
)
MALFORMED_CREDENTIAL: Final = Cause.of(
    "credential",
    "malformed credential",
    ": ",
    mend="ask the client's developer to correct what it sends in Authorization",
)
MALFORMED_PROOF: Final = Cause.of(
    "credential",
    "malformed DPoP proof",
    ": ",
    mend="ask the client's developer to correct what it sends in DPoP (RFC 9449)",
)

# -- a token that is known and lives, or a session -------------------------------------------------------------------

INVENTED_SESSION: Final = Cause.of(
    "token",
    "invented session",
    mend="nothing: whoever sends it is told to sign in; once a master key is gone, that is everybody",
)
UNKNOWN_SESSION: Final = Cause.of(
    "token",
    "unknown session",
    mend="nothing: they signed out, or were signed out; `gateway events --user NAME` tells which",
)
EXPIRED_SESSION: Final = Cause.of("token", "expired session", mend=_NOTHING)
INVENTED_TOKEN: Final = Cause.of(
    "token",
    "invented token",
    mend="this gateway never issued it, or it rests on a master key that was dropped: check where the client got it, "
    "and that it sends the whole token",
)
UNKNOWN_TOKEN: Final = Cause.of(
    "token",
    "unknown token",
    mend="it was never issued here, or ended so long ago that it was removed; the client needs a new one",
)
EXPIRED_TOKEN: Final = Cause.of(
    "token", "expired token", mend="the client needs a new one, for instance with its refresh token"
)


class Lifeless(NamedTuple):
    """Why what was presented counts no more, or never has."""

    invented: Cause
    unknown: Cause
    expired: Cause


TOKENS: Final = Lifeless(INVENTED_TOKEN, UNKNOWN_TOKEN, EXPIRED_TOKEN)
SESSIONS: Final = Lifeless(INVENTED_SESSION, UNKNOWN_SESSION, EXPIRED_SESSION)


def expired(kind: str) -> Cause:
    """Why a call's right is over when its time is: a session's, or that of a token of any kind."""
    return (SESSIONS if kind == SESSION else TOKENS).expired


REVOKED: Final = Cause.of(
    "token",
    "revoked token",
    mend="the client needs a new one; `gateway events --client ID` tells who revoked it, or that a code or refresh "
    "token was used twice, which ends what came of it",
)
OF_DISABLED_CLIENT: Final = Cause.of(
    "token", "token of a disabled client", mend="`gateway client enable ID` lets it get new tokens"
)
OF_DISABLED_USER: Final = Cause.of(
    "token",
    "token of a disabled user",
    mend="`gateway user enable NAME` lets them get new tokens by signing in again",
)
OF_DELETED: Final = Cause.of(
    "token", "token of a deleted", " ", mend="nothing that was issued to it or them counts any more"
)
LOST_KEY: Final = Cause.of(
    "token",
    "a MAC token whose key",
    " is lost",
    mend="add the master key that sealed it to keys.previous, or have the client get a new token",
)
ENDS: Final[Mapping[str | None, Cause]] = {  # by what the store calls them; what only a newer schema has: as revoked
    "revoked": REVOKED,
    "of a disabled client": OF_DISABLED_CLIENT,
    "of a disabled user": OF_DISABLED_USER,
    "of a deleted client": OF_DELETED.naming("client"),
    "of a deleted user": OF_DELETED.naming("user"),
    None: LOST_KEY,
}
PRESENTED: Final[Mapping[str, Cause]] = {  # a token that comes by a scheme that is not for its kind
    MAC: Cause.of(
        "token",
        "a mac token presented",
        " as ",
        mend="have the client sign its requests, or give it bearer tokens: "
        "`gateway client update ID --token-type bearer`",
    ),
    SESSION: Cause.of(
        "token",
        "a session token presented",
        " as ",
        mend="have the client send an access token: a session is for its browser alone",
    ),
    BEARER: Cause.of(
        "token",
        "a bearer token presented",
        " as ",
        mend="have the client send the token with the scheme Bearer, or give it MAC tokens: "
        "`gateway client update ID --token-type mac`",
    ),
    DPOP: Cause.of(
        "token",
        "a dpop token presented",
        " as ",
        mend="have the client send the token with the scheme DPoP and a proof: it is bound to its key",
    ),
}
UNBOUND: Final = Cause.of(
    "token",
    "a token that is bound to no key",
    mend="have the client ask for its token with a DPoP proof, or send it as Bearer",
)

# -- a token of another issuer ---------------------------------------------------------------------------------------

FOREIGN_ISSUER: Final = Cause.of(
    "token",
    "foreign token, issuer",
    ": ",
    mend="write the issuer as the token's iss has it, byte for byte (also a slash at its end), in "
    "the url of one of issuers; or have the client get a token of one that is there",
)
FOREIGN_ROUTE: Final = Cause.of(
    "scope",
    "foreign token, route",
    ": ",
    mend="add the issuer to the route's issuers, if its tokens are to open it",
)
FOREIGN: Final[Mapping[Check, Cause]] = {  # by the check that it does not come through
    "header": Cause.of(
        "token",
        "foreign token, header",
        ": ",
        mend="ask the issuer's operator: it uses a feature of JWS that is not known here",
    ),
    "algorithm": Cause.of(
        "token",
        "foreign token, algorithm",
        ": ",
        mend="add it to the issuer's algorithms, if it is one of those that are known here",
    ),
    "type": Cause.of(
        "token",
        "foreign token, type",
        ": ",
        mend='have the client send its access token; where those are plain JWTs, add "JWT" to the '
        "issuer's token_types",
    ),
    "audience": Cause.of(
        "token",
        "foreign token, audience",
        ": ",
        mend="have the client ask for a token for this API (RFC 8707), or add what its issuer calls "
        "this API to the issuer's audience",
    ),
    "time": Cause.of(
        "token",
        "foreign token, time",
        ": ",
        mend="the client needs a new one; `gateway doctor` compares this clock with the issuer's",
    ),
    "claims": Cause.of(
        "token",
        "foreign token, claims",
        ": ",
        mend="name the claims that the issuer uses in subject_claim, client_claim and scopes_claim",
    ),
}
FOREIGN_KEY: Final = Cause.of(
    "token",
    "foreign token, key",
    ": ",
    mend="`gateway doctor` tells which keys the issuer publishes; one that it uses must be among them",
)
WITHDRAWN_KEY: Final = Cause.of(
    "token",
    "foreign token, key withdrawn",
    ": ",
    mend="the issuer does not publish the key any more: the client needs a new one",
)
FOREIGN_SIGNATURE: Final = Cause.of(
    "token",
    "foreign token, signature",
    ": ",
    mend="the token was altered or made up; where all are refused, ask `gateway doctor`",
)
NO_KEYS: Final = Cause.of(
    "token",
    "the issuer cannot be asked",
    " for its keys: ",
    mend="`gateway doctor` asks the issuer, and tells what is in the way",
)

# -- the proof of a signed call --------------------------------------------------------------------------------------

WRONG_MAC: Final = Cause.of("signature", "wrong MAC", mend=_EXPLAIN)
WRONG_PROOF: Final = Cause.of(
    "signature",
    "DPoP: ",
    mend="ask the client's developer to correct its DPoP proofs (RFC 9449); the cause says what is wrong",
)
OTHER_ALGORITHM: Final = Cause.of(
    "signature",
    "algorithm is not",
    " in mac.algorithms",
    mend="add the token's algorithm to mac.algorithms, or have the client get a new token",
)
DRAFT_NOT_ACCEPTED: Final = Cause.of(
    "signature",
    "draft is not",
    " the client's or not in mac.drafts",
    mend="`gateway client update ID --mac-draft …`; mac.drafts lists what may be used",
)
TIMESTAMP: Final = Cause.of("signature", "timestamp", " ", mend=_CLOCKS)
SIGNATURE_EXPIRED: Final = Cause.of(
    "signature",
    "signature expired",
    mend="have the client sign each request when it sends it; compare its clock with this machine's",
)
NO_BODY_HASH: Final = Cause.of(
    "signature",
    "no body hash",
    ", and the route has mac_body_hash",
    mend="have the client sign a hash of the body, or remove mac_body_hash from the route",
)
WRONG_HASH: Final = Cause.of(
    "signature", "body hash", mend=f"have the client hash with the token's algorithm; {_EXPLAIN}"
)

# -- what it may do --------------------------------------------------------------------------------------------------

AUDIENCE: Final = Cause.of(
    "scope", "audience", mend="have the client ask for a token for this route's resource (RFC 8707)"
)
LACKS: Final = Cause.of(
    "scope",
    "lacks",
    " ",
    mend="have the client ask for that scope; `gateway client show ID` says what it may ask for",
)
OUT_OF_GROUPS: Final = Cause.of(
    "scope",
    "in none of the route's groups",
    mend="if they may: `gateway user update USERNAME --group …`, with all of their groups",
)
TOO_LONG_AGO: Final = Cause.of(
    "scope",
    "signed in too long ago",
    mend="have the client ask for a token with the max_age that the challenge names: then the "
    "person signs in again; the route's max_age says how long a sign-in is good for",
)
ANOTHER_WAY: Final = Cause.of(
    "scope",
    "signed in in another way",
    mend="have the client ask for a token with the acr_values that the challenge names",
)
NOBODY_SIGNED_IN: Final = Cause.of(
    "scope",
    "nobody signed in",
    " for the token",
    mend="this route's max_age or acr is for people: have the client ask for a token in a person's name",
)

# -- its body, its nonce, and the limits -----------------------------------------------------------------------------

MISFIT: Final = Cause.of(
    "body",
    "the body does not fit",
    " its hash",
    mend=f"something between the client and the gateway may have changed the body; {_EXPLAIN}",
)
REPLAYED: Final = Cause.of(
    "nonce",
    "replayed nonce",
    mend="have the client sign each request with a new nonce, also when it retries; "
    "if it does so, somebody is replaying its requests",
)
STALE: Final = Cause.of("nonce", "stale nonce", mend=_CLOCKS)
OVER_RATE: Final = Cause.of(
    "limit",
    "over the rate",
    ": ",
    mend="have the client call less often, as Retry-After and RateLimit tell it, or raise the limit in the "
    "route's rate",
)
OVER_QUOTA: Final = Cause.of(
    "limit",
    "over the quota",
    ": ",
    mend="have the client wait for the next day (UTC), or raise the limit in the route's quota",
)
OVER_CONCURRENCY: Final = Cause.of(
    "limit",
    "over the concurrency",
    ": ",
    mend="see why calls take so long, or raise the route's concurrency if the upstream can bear it",
)
NO_QUOTA: Final = Cause.of("limit", "the quota cannot be asked", " for: ", mend=NO_DATABASE)
