"""Why the guard refuses calls, whatever their scheme: each cause is declared here, once, and named where it is found;
those of one scheme stand with it.

What there is to say of one call besides comes behind the kind: `TIMESTAMP.naming("90 s behind")`.
"""

from collections.abc import Mapping
from typing import Final

from gateway.errors import Cause
from gateway.oauth.foreign import Check
from gateway.refusals import NO_DATABASE
from gateway.schemes.registry import SCHEMES
from gateway.schemes.signing import CLOCKS, EXPLAIN, LOST_KEY

# -- before anybody looks whose call it is ---------------------------------------------------------------------------

ADDRESS_OVER_RATE: Final = Cause.of(
    "address",
    "address over its rate",
    ": ",
    mend="have whoever calls from there do it less often, or raise the limit in the route's rate; a proxy in front "
    "must be among server.trusted_proxies, or all its clients count as one address",
)

# -- a token that is known and lives, or a session -------------------------------------------------------------------


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
ENDS: Final[Mapping[str | None, Cause]] = {  # by what the store calls them; what only a newer schema has: as revoked
    "revoked": REVOKED,
    "of a disabled client": OF_DISABLED_CLIENT,
    "of a disabled user": OF_DISABLED_USER,
    "of a deleted client": OF_DELETED.naming("client"),
    "of a deleted user": OF_DELETED.naming("user"),
    None: LOST_KEY,
}


def expired(scheme: str) -> Cause:
    """Why the right of a call by this scheme is over when its time is: that of a session, or of a token."""
    return SCHEMES[scheme].lifeless.expired


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
OUT_OF_GROUPS: Final[Cause] = Cause.of(
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
    mend=f"something between the client and the gateway may have changed the body; {EXPLAIN}",
)
REPLAYED: Final = Cause.of(
    "nonce",
    "replayed nonce",
    mend="have the client sign each request with a new nonce, also when it retries; "
    "if it does so, somebody is replaying its requests",
)
STALE: Final = Cause.of("nonce", "stale nonce", mend=CLOCKS)
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
