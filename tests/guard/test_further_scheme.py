"""A scheme that nobody else knows of: one class, which the guard judges by as by its own."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from gateway.credentials import MalformedCredential
from gateway.errors import Cause, Refused
from gateway.guard import Allowed, Call, Guard
from gateway.model import BEARER
from gateway.routing import Route
from gateway.schemes import ALL, Facts, Fault, Presented, Scheme
from gateway.schemes.scheme import Bound, Signer
from tests.altered import copied, said_by
from tests.guard.conftest import World, settings_for, verdict_of

pytestmark = pytest.mark.plain  # what is compiled is not inherited from

HEARD_ONCE = Cause.of("signature", "knocked once", mend="have the client knock twice")


class Knock(Scheme):
    """A token in a field of its own, which is said twice."""

    facts: ClassVar[Facts] = Facts(
        name="knock",
        spelling="Knock",
        kind=BEARER,
        wanted="Knock twice.",
        misused=Cause.of("token", "a token that knocks", mend="have the client send it in Authorization"),
        fields=("Knock",),
        unproven="Nobody is known to knock so.",
    )

    def present(self, call: Call, credential: bytes) -> Presented | Fault:
        (value,) = call.values(b"knock")
        first, _, second = value.partition(b" ")
        if not second:
            raise MalformedCredential("A knock has two halves.")
        return Presented(self, first, claim=second)

    def prove(self, call: Call, presented: Presented, signer: Signer | Bound | None, now: float) -> Fault | None:
        return None if presented.claim == presented.token else self.dead(HEARD_ONCE)

    def of_challenge(self, route: Route) -> Mapping[str, str | None]:
        return {"rhythm": "twice"}

    def refuse(self, call: Call, refused: Refused, now: float) -> Refused:
        return refused.also(("Knock-After", f"{now:.0f}"))


@pytest.fixture
async def guard(world: World) -> AsyncIterator[Guard]:
    guard = Guard(world.store, settings_for(world.keyring), clock=world.clock, schemes=(*ALL, Knock))
    yield guard
    await guard.close()


def knocking(world: World, *knocks: str, authorization: tuple[str, ...] = ()) -> Call:
    route = replace(world.routes["notes"], schemes=("bearer", "knock"))
    fields = tuple((b"knock", b"Knock", value.encode()) for value in knocks)
    call = world.call(*authorization, fields=fields)
    return Call(route, call.method, call.target, call.host, call.port, call.authorization, fields=fields)


async def test_call_passes_by_its_scheme(world: World, guard: Guard) -> None:
    token = (await world.token()).access_token
    verdict = await verdict_of(guard, knocking(world, f"{token} {token}"))
    assert isinstance(verdict, Allowed)
    assert verdict.client_id == world.client.client_id


@pytest.mark.parametrize(
    ("knock", "status", "error", "description", "cause"),
    [
        ("{0} again", 401, "invalid_token", Knock.facts.unproven, "knocked once"),
        ("gwa_made-up gwa_made-up", 401, "invalid_token", Knock.facts.unproven, "invented token"),
        ("{0}", 400, "invalid_request", "A knock has two halves.", "malformed credential: A knock has two halves."),
    ],
)
async def test_what_is_wrong_is_told_as_its_scheme_says(
    world: World, guard: Guard, knock: str, status: int, error: str, description: str, cause: str
) -> None:
    token = (await world.token()).access_token
    world.clock.stop()
    refused = await verdict_of(guard, knocking(world, knock.format(token)))
    assert isinstance(refused, Refused)
    assert (refused.status, refused.error, refused.description) == (status, error, description)
    assert refused.cause == cause
    bearer, told = refused.values("WWW-Authenticate")
    assert ("error" in bearer, "error" in told) == (False, True)
    assert 'rhythm="twice"' in told
    assert refused.fields[-1] == ("Knock-After", f"{world.clock():.0f}")


async def test_call_without_a_credential_is_told_of_it(world: World, guard: Guard) -> None:
    refused = await verdict_of(guard, knocking(world))
    assert isinstance(refused, Refused)
    assert (refused.status, refused.error) == (401, "unauthorized")
    assert refused.values("WWW-Authenticate")[1].startswith('Knock realm="api.example.com", ')


async def test_it_is_one_credential_beside_others(world: World, guard: Guard) -> None:
    token = (await world.token()).access_token
    both = await verdict_of(guard, knocking(world, f"{token} {token}", authorization=(f"Bearer {token}",)))
    assert isinstance(both, Refused)
    assert (both.status, both.error) == (400, "invalid_request")
    assert isinstance(await verdict_of(guard, knocking(world, authorization=(f"Bearer {token}",))), Allowed)


# Asked of a package that has the scheme among its own.
KNOWN = """
from gateway.config.values import AUTH_SCHEMES
from gateway.guard.causes import expired
from gateway.schemes.bearer import Bearer
from gateway.schemes.registry import CREDENTIAL_FIELDS, MISUSED

print("knock" in AUTH_SCHEMES, b"knock" in CREDENTIAL_FIELDS, expired("knock").kind)
print(MISUSED["bearer"] is Bearer.facts.misused)
"""


@pytest.mark.plain
def test_it_is_one_file_and_its_entry_in_the_registry(tmp_path: Path) -> None:
    package = copied(tmp_path)
    here = Path(__file__).read_text(encoding="utf-8")
    imports = here[here.index("from collections") : here.index("\npytestmark")].splitlines(keepends=True)
    imports = [
        line for line in imports if not re.match(r"import|from (tests|gateway\.guard|gateway\.schemes import)", line)
    ]
    knock = here[here.index("HEARD_ONCE = ") : here.index("@pytest.fixture")]
    imports.append("from gateway.routing.call import Call\n")  # the others import through packages above
    imports.append("from gateway.schemes.scheme import Facts, Fault, Presented, Scheme\n")
    (package / "schemes/knock.py").write_text("".join([*imports, knock]))
    registry = package / "schemes/registry.py"
    entered = registry.read_text().replace("Session)\n", "Session, Knock)\n")
    entered = entered.replace("\nALL:", "from gateway.schemes.knock import Knock\n\nALL:")
    assert entered.count("Knock") == 2
    registry.write_text(entered)
    assert said_by(tmp_path, KNOWN) == ["True", "True", "expired", "token", "True"]
