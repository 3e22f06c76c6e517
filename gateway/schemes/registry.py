"""All schemes, and what others ask of them."""

from collections.abc import Mapping
from typing import Final

from gateway.errors import Cause
from gateway.model import MAC
from gateway.schemes.bearer import Bearer
from gateway.schemes.dpop import Dpop
from gateway.schemes.mac import Mac
from gateway.schemes.scheme import Facts, Scheme
from gateway.schemes.session import Session
from gateway.schemes.signature import Signature

ALL: Final[tuple[type[Scheme], ...]] = (Bearer, Dpop, Mac, Signature, Session)

SCHEMES: Final[Mapping[str, Facts]] = {one.facts.name: one.facts for one in ALL}
CREDENTIAL_FIELDS: Final = frozenset(name.lower().encode() for facts in SCHEMES.values() for name in facts.fields)
BESIDE_AUTHORIZATION: Final = frozenset(name for facts in SCHEMES.values() for name in facts.beside)
IN_AUTHORIZATION: Final = frozenset(name for name, facts in SCHEMES.items() if facts.in_authorization)
IN_BROWSERS: Final = frozenset(name for name, facts in SCHEMES.items() if facts.cookie)
SIGNING: Final = frozenset(name for name, facts in SCHEMES.items() if facts.signs)
BY_BEARER_TOKEN: Final = frozenset(name for name, facts in SCHEMES.items() if facts.by_bearer_token)
BY_MAC_TOKEN: Final = frozenset(name for name, facts in SCHEMES.items() if facts.kind == MAC)

# A token that comes by a scheme that is not for its kind, by that kind: as the first of its schemes says it.
MISUSED: Final[Mapping[str, Cause]] = {one.facts.kind: one.facts.misused for one in reversed(ALL)}
