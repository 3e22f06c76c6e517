"""Sessions of browsers as the guard holds them: cached, and gone from every worker within a second of their end."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway import config
from gateway.crypto import digest
from gateway.errors import Cause, Refused
from gateway.guard import Allowed, Call, Guard, Pending, Verdict
from gateway.schemes.session import SESSIONS
from gateway.store import Store
from gateway.store.uses import HoldingsFilter
from tests.guard.conftest import World, settings_for, verdict_of
from tests.guard.relay import Relay
from tests.serving import holds_within, until
from tests.store.rig import PASSWORD_HASH, Rig, aged, fetch

ROUTES: list[dict[str, Any]] = [
    {"name": "wiki", "path": "/wiki", "upstreams": ["http://127.0.0.1:9"], "auth": ["session"], "max_age": "1h"},
    {"name": "api", "path": "/api", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer"]},
]


class Browsers:
    """A worker's guard that follows the change log, and a person who is signed in with two browsers."""

    def __init__(self, world: World, rig: Rig, store: Store, guard: Guard, token: str, other: str) -> None:
        self.world, self.rig, self.store, self.guard = world, rig, store, guard
        self.token, self.other = token, other

    def call(self, token: str, route: str = "wiki", **changes: Any) -> Call:
        cookie = f"__Host-gateway_session={token}".encode()
        route_ = next(one for one in config.compile_routes(self.settings.config) if one.name == route)
        usual: dict[str, Any] = {"method": "GET", "target": b"/wiki", "authorization": ()}
        fields = ((b"cookie", b"Cookie", cookie),)
        return Call(route=route_, host="api.example.com", port=443, fields=fields, **(usual | changes))

    @property
    def settings(self) -> config.Settings:
        return settings_for(self.world.keyring, routes=ROUTES)

    async def check(self, token: str) -> Verdict:
        return await verdict_of(self.guard, self.call(token))

    async def passes(self, token: str) -> bool:
        return isinstance(await self.check(token), Allowed)

    def at_once(self, token: str) -> Verdict | None:
        """The verdict where no database is needed for it."""
        found = self.guard.check(self.call(token))
        if isinstance(found, Pending):
            found.drop()
            return None
        assert isinstance(found, Allowed | Refused)
        return found

    async def holds(self, token: str) -> None:
        assert await self.passes(token)
        await until(lambda: isinstance(self.at_once(token), Allowed))


@pytest.fixture
async def browsers(world: World, relay: Relay) -> AsyncIterator[Browsers]:
    rig = await Rig.build(world.store)
    tokens = [world.keyring.new_token("gwb_") for _ in range(2)]
    for token in tokens:
        assert await world.store.sessions.start(rig.user.subject, token, 7200) is not None
    store = Store.over(relay.dsn, world.keyring, size=4, name="gateway-test-worker")
    guard = Guard(store, settings_for(world.keyring, routes=ROUTES), clock=world.clock)
    await guard.start()
    try:
        await until(lambda: guard._ledger.server is not None and guard._ledger.holds)
        yield Browsers(world, rig, store, guard, *tokens)
    finally:
        await guard.close()
        await store.close()


async def session_of(browsers: Browsers, token: str) -> str:
    found = await browsers.world.store.sessions.find(token)
    assert found is not None
    return found.session_id


async def revoked(browsers: Browsers) -> object:
    session_id = await session_of(browsers, browsers.token)
    return await browsers.world.store.holdings.revoke_sessions(session_id=session_id, subject=None)


Act = Callable[[Browsers], Awaitable[object]]
ENDS: dict[str, Act] = {
    "signed out": lambda b: b.world.store.sessions.end(b.token),
    "ended by the operator": revoked,
    "all ended": lambda b: b.world.store.sessions.end_of(b.rig.user.subject),
    "person disabled": lambda b: b.world.store.users.disable("ada"),
    "person deleted": lambda b: b.world.store.users.delete("ada"),
    "new password": lambda b: b.world.store.users.set_password("ada", PASSWORD_HASH[:-4] + "AAAA"),
    "deleted in psql": lambda b: fetch(b.world.database, "delete from sessions"),
    "expired in psql": lambda b: fetch(b.world.database, "update sessions set expires_at = now() - interval '1 day'"),
    "emptied": lambda b: fetch(b.world.database, "truncate sessions, flows cascade"),
    # A new password while the session begins, whose row the statement that changes it does not see.
    "begun with the password before": lambda b: fetch(
        b.world.database, "update users set session_generation = session_generation + 1"
    ),
}
ALL = frozenset(ENDS) - {"signed out", "ended by the operator"}


@pytest.mark.parametrize("what", ENDS)
async def test_session_that_ended_passes_nowhere_within_a_second(browsers: Browsers, what: str) -> None:
    await browsers.holds(browsers.token)
    await browsers.holds(browsers.other)
    opened: list[Cause | None] = []
    verdict = await browsers.check(browsers.token)
    assert isinstance(verdict, Allowed)
    browsers.guard.watch.add(verdict, lambda cause, _: opened.append(cause))
    await ENDS[what](browsers)

    async def does_not_pass() -> bool:
        return not await browsers.passes(browsers.token)

    await holds_within(1.0, does_not_pass)
    refused = await browsers.check(browsers.token)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.error) == (401, "login_required")
    if what != "expired in psql":  # whose end whoever watches a stream knows of by itself
        await until(lambda: opened == [SESSIONS.unknown], 5)
    assert await browsers.passes(browsers.other) == (what not in ALL)


async def test_session_in_the_cache_costs_no_question_and_outlives_an_outage_for_as_long_as_a_token(
    browsers: Browsers, relay: Relay
) -> None:
    await browsers.holds(browsers.token)
    for use in ("gateway-lookups", "gateway-listen"):
        relay.hold(use)
    assert isinstance(browsers.at_once(browsers.token), Allowed)
    assert browsers.at_once(browsers.other) is None  # it was never seen here

    async def is_unanswered() -> bool:
        verdict = await browsers.check(browsers.token)
        return isinstance(verdict, Refused) and verdict.status == 503

    await until(is_unanswered)  # the lease is over: fail closed, as of a token


async def test_change_of_what_upstreams_are_told_counts_within_a_second(browsers: Browsers) -> None:
    await browsers.holds(browsers.token)
    await fetch(browsers.world.database, "update users set groups = '{staff}', username = 'lovelace'")

    async def is_told() -> bool:
        verdict = await browsers.check(browsers.token)
        assert isinstance(verdict, Allowed)
        return (verdict.username, verdict.groups) == ("lovelace", ("staff",))

    await holds_within(1.0, is_told)


async def test_forged_session_asks_nobody(browsers: Browsers, relay: Relay) -> None:
    relay.hold("gateway-lookups")
    good = browsers.world.keyring.new_token("gwb_")
    for forged, cause in (
        (good[:-1] + ("A" if good[-1] != "A" else "B"), "invented session"),
        ("gwb_" + "a" * 40, "invented session"),
        (browsers.world.keyring.new_token("gwa_"), "malformed session"),
        ("a" * 44, "malformed session"),
    ):
        verdict = browsers.at_once(forged)
        assert isinstance(verdict, Refused), forged
        assert (verdict.status, verdict.cause) == (401, cause)


async def test_session_and_token_never_stand_for_each_other(browsers: Browsers) -> None:
    """Both are known by a digest, in one cache."""
    tokens = await browsers.world.token()
    await browsers.holds(browsers.token)
    bearer = browsers.call("x", "api", authorization=(f"Bearer {browsers.token}".encode(),))
    refused = await verdict_of(browsers.guard, bearer)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.error) == (401, "invalid_token")
    good = browsers.call("x", "api", authorization=(f"Bearer {tokens.access_token}".encode(),))
    assert isinstance(await verdict_of(browsers.guard, good), Allowed)
    for _ in range(2):
        refused = await browsers.check(tokens.access_token)
        assert isinstance(refused, Refused)
        assert refused.error == "login_required"


async def test_use_of_a_session_is_written_down(browsers: Browsers) -> None:
    await aged(browsers.world.database, 600)
    assert await browsers.passes(browsers.token)
    await browsers.guard._uses.flush()
    rows = await browsers.world.store.holdings.sessions(HoldingsFilter(subject=browsers.rig.user.subject), 10)
    used = {row["session_id"]: row["last_used_at"] is not None for row in rows}
    by_digest = await fetch(
        browsers.world.database, "select session_id from sessions where token_digest = $1", digest(browsers.token)
    )
    assert used.pop(by_digest[0]["session_id"])
    assert not any(used.values())


async def test_sign_in_is_judged_anew_with_each_call(browsers: Browsers) -> None:
    await browsers.holds(browsers.token)
    browsers.world.clock.offset = 3500
    assert await browsers.passes(browsers.token)
    browsers.world.clock.offset = 3601
    refused = await browsers.check(browsers.token)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.error) == (401, "insufficient_user_authentication")
    browsers.world.clock.offset = 7201
    refused = await browsers.check(browsers.token)
    assert isinstance(refused, Refused)
    assert (refused.error, refused.cause) == ("login_required", "expired session")
