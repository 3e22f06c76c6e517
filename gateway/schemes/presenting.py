"""Which scheme a call uses, and what it claims by that: checks 2 to 4 of the guard."""

from collections.abc import Iterable, Sequence
from typing import Final, final

from gateway.credentials import MalformedCredential, in_query, split
from gateway.errors import Cause
from gateway.routing.call import Call
from gateway.schemes.scheme import TOKEN_WANTED, Facts, Fault, Presented, Scheme

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
OTHER_SCHEME: Final = Cause.of(
    "credential",
    "a scheme that the route",
    " does not accept",
    mend="have the client use a scheme of this route, or add the client's to the route's auth",
)
MALFORMED_CREDENTIAL: Final = Cause.of(
    "credential",
    "malformed credential",
    ": ",
    mend="ask the client's developer to correct what it sends in Authorization",
)
_ONE_CREDENTIAL: Final = "Send one credential, in one Authorization field, and never put a token in the query."


@final
class Schemes:
    """The schemes that a guard judges by."""

    __slots__ = ("_beside", "_beside_fields", "_by_name", "_by_spelling", "_wanted")

    def __init__(self, schemes: Iterable[Scheme]) -> None:
        self._by_name: Final = {one.name: one for one in schemes}
        known = self._by_name.values()
        self._by_spelling: Final = {one.facts.spelling.lower(): one for one in known if one.facts.in_authorization}
        self._beside: Final = tuple((one.facts.beside, one) for one in known if one.facts.beside)
        self._beside_fields: Final = frozenset(name for names, _ in self._beside for name in names)
        self._wanted: Final[dict[tuple[str, ...], str]] = {}  # there are as few as the schemes allow

    def __getitem__(self, name: str) -> Scheme:
        """That of this name."""
        return self._by_name[name]

    def of(self, names: Iterable[str]) -> tuple[Scheme, ...]:
        """Those of these names."""
        return tuple([self._by_name[name] for name in names])

    def presented(self, call: Call) -> Presented | Fault:
        """The one credential, read by its scheme, which the route accepts."""
        if in_query(call.target):
            return Fault(_ONE_CREDENTIAL, TOKEN_IN_QUERY, "invalid_request")
        authorization, accepted = call.authorization, call.route.schemes
        try:
            if len(authorization) == 1 and self._beside_fields.isdisjoint(call.names):
                spelling, credential = split(authorization[0])
                scheme = self._by_spelling.get(spelling)
                if scheme is None or scheme.name not in accepted:
                    return Fault(self._text_for(accepted), OTHER_SCHEME, "")
                return scheme.present(call, credential)
            return self._presented_beside(call)
        except MalformedCredential as malformed:
            return Fault(str(malformed), MALFORMED_CREDENTIAL.naming(str(malformed)), "invalid_request")

    def _presented_beside(self, call: Call) -> Presented | Fault:
        """The same where not one Authorization field and nothing else is there; a cookie counts alone."""
        accepted = call.route.schemes
        found = [scheme for names, scheme in self._beside if not names.isdisjoint(call.names)]
        count = len(found) + len(call.authorization)
        if count > 1:
            return Fault(_ONE_CREDENTIAL, SEVERAL_CREDENTIALS, "invalid_request")
        if count == 0:
            found = [scheme for scheme in self.of(accepted) if scheme.facts.cookie]
            if not found:
                return Fault(self._text_for(accepted), NO_CREDENTIAL, "")
        if found[0].name not in accepted:
            return Fault(self._text_for(accepted), OTHER_SCHEME, "")
        return found[0].present(call, b"")

    def used(self, call: Call) -> tuple[str, ...]:
        """The names of those schemes of the route that a call uses, rightly or not."""
        alone = not call.authorization and self._beside_fields.isdisjoint(call.names) and not in_query(call.target)
        accepted = self.of(call.route.schemes)
        return tuple(sorted(one.name for one in accepted if one.is_used(call) or (alone and one.facts.cookie)))

    def _text_for(self, accepted: tuple[str, ...]) -> str:
        text = self._wanted.get(accepted)
        if text is None:
            text = self._wanted[accepted] = wanted([scheme.facts for scheme in self.of(accepted)])
        return text


def wanted(accepted: Sequence[Facts]) -> str:
    """What a call without a credential is told. It comes from a program, which has no session to show."""
    of_programs = [facts for facts in accepted if not facts.cookie] or accepted
    if len(of_programs) == 1:
        return of_programs[0].wanted
    return f"{TOKEN_WANTED}{''.join(facts.also for facts in of_programs)}."
