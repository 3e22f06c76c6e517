"""What guessing at passwords brings: limits that bind every worker, and rows that do not grow with the guesses."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.model import User
from gateway.store import Store
from gateway.store.guesses import WAIT, WRONG_PASSWORDS, WRONG_SECRETS
from gateway.store.tally import Tally
from tests.serving import until
from tests.store.rig import MovableClock, Rig, count, counted, fetch

EMAIL = "ada@example.com"


async def wrong(store: Store, login: str, user: User | None, browser: str | None = None, times: int = 10) -> None:
    for _ in range(times):
        guess = store.guesses.begin(login, user, browser)
        assert (await guess.standing()).wait == 0
        guess.wrong("wrong password")


async def standing(store: Store, login: str, user: User | None, browser: str | None = None) -> tuple[bool, bool]:
    """Whether the name is told "too many", and whether the account is barred."""
    found = await store.guesses.begin(login, user, browser).standing()
    return found.wait > 0, found.barred


@pytest.mark.parametrize("login", ["ada", "nobody", "\0", "\ud800", "x" * 10_000, "İda"])
async def test_tenth_wrong_password_makes_any_name_wait(
    rig: Rig, store: Store, clock: MovableClock, login: str
) -> None:
    clock.stop()
    user = rig.user if login == "ada" else None
    await wrong(store, login, user)
    assert (await store.guesses.begin(login, user, None).standing()).wait == WAIT
    assert await standing(store, "somebody else", None) == (False, False)


async def test_another_name_of_the_account_is_barred_and_not_told(rig: Rig, store: Store) -> None:
    await wrong(store, "ada", rig.user)
    assert await standing(store, EMAIL, rig.user) == (False, True)
    await wrong(store, EMAIL, rig.user)
    assert await standing(store, EMAIL, rig.user) == (True, True)


async def test_names_that_differ_in_case_are_one(rig: Rig, store: Store) -> None:
    for number in range(10):
        await wrong(store, ("ada", "ADA", "Ada")[number % 3], rig.user, times=1)
    assert await standing(store, "aDA", rig.user) == (True, True)


@pytest.mark.parametrize("login", ["ada", "ADA", "İda", "\u0131da", "Ada@EXAMPLE.com", "ada@exampİe.com", "\u017fda"])
async def test_program_and_database_fold_names_alike(rig: Rig, store: Store, login: str) -> None:
    ida = await store.users.create("ida", "ida@example.com", None, "$argon2id$fake")
    folded = login.translate({number: number + 32 for number in range(65, 91)})
    found = await store.users.sign_in_candidate(login)
    meant = {"ada": rig.user, EMAIL: rig.user, "ida": ida}.get(folded)
    assert (found and found.user) == meant


async def test_wait_ends_by_itself_and_the_count_begins_anew(rig: Rig, store: Store, clock: MovableClock) -> None:
    clock.stop()
    await wrong(store, "ada", rig.user)
    await counted(store)
    clock.advance(WAIT - 5)
    assert 0 < (await store.guesses.begin("ada", rig.user, None).standing()).wait <= 5
    clock.advance(5)
    await wrong(store, "ada", rig.user)
    assert await standing(store, "ada", rig.user) == (True, True)
    await counted(store)
    assert {row["failures"] for row in await fetch(store._server.dsn, "select failures from failed_attempts")} == {10}


async def test_bar_ends_though_it_is_tried_by_another_name(rig: Rig, store: Store, clock: MovableClock) -> None:
    clock.stop()
    await wrong(store, "ada", rig.user)
    clock.advance(WAIT - 5)
    await wrong(store, EMAIL, rig.user, times=3)
    clock.advance(5)
    assert await standing(store, "ada", rig.user) == (False, False)


async def test_success_clears_the_account_and_all_its_names(rig: Rig, store: Store, another: Any) -> None:
    await wrong(store, "ada", rig.user, times=4)
    await wrong(store, EMAIL, rig.user, times=5)
    guess = store.guesses.begin("ada", rig.user, None)
    await guess.standing()
    guess.right()
    assert await standing(store, "ada", rig.user) == (False, False)
    await counted(store)
    assert await count(store._server.dsn, "failed_attempts") == 0
    await wrong(store, EMAIL, rig.user, times=9)
    await counted(store)
    assert await standing(await another(), EMAIL, rig.user) == (False, False)


async def test_success_leaves_what_strangers_did(rig: Rig, store: Store) -> None:
    await wrong(store, "ada", rig.user)
    known = store.guesses.begin("ada", rig.user, "known")
    await known.standing()
    known.right()
    await counted(store)
    assert await standing(store, "ada", rig.user) == (True, True), "else one could see from afar that ada signed in"


async def test_known_browser_has_an_allowance_of_its_own(rig: Rig, store: Store) -> None:
    await wrong(store, "ada", rig.user)
    assert await standing(store, "ada", rig.user, "known") == (False, False)
    await wrong(store, "ada", rig.user, "known")
    assert await standing(store, "ada", rig.user, "known") == (True, True)
    assert await standing(store, "ada", rig.user, "another") == (False, False)


@pytest.mark.parametrize("act", ["unlock", "password"])
async def test_operator_lets_a_person_try_again_whichever_worker_they_meet(
    rig: Rig, store: Store, another: Callable[..., Awaitable[Store]], act: str
) -> None:
    await wrong(store, "ada", rig.user)
    await wrong(store, EMAIL, rig.user)
    await wrong(store, "ada", rig.user, "known")
    await wrong(store, "eve", None)
    await counted(store)
    operator = await another()
    if act == "unlock":
        assert await operator.users.unlock("ADA")
    else:
        assert await operator.users.set_password("ADA", "$argon2id$fake")
    for worker in (store, operator):
        for login, browser in (("ada", None), (EMAIL, None), ("ada", "known")):
            assert await standing(worker, login, rig.user, browser) == (False, False)
        assert await standing(worker, "eve", None) == (True, False)
    assert not await operator.users.unlock("nobody")
    kinds = {row["kind"] for row in await fetch(store._server.dsn, "select kind from events")}
    assert {"unlock": "user.unlocked", "password": "user.password_changed"}[act] in kinds


async def test_guesses_on_several_workers_are_counted_together(
    rig: Rig, another: Callable[..., Awaitable[Store]]
) -> None:
    workers = [await another() for _ in range(3)]
    for number in range(WRONG_PASSWORDS):
        await wrong(workers[number % 3], "ada", rig.user, times=1)
        await counted(workers[number % 3])
    for worker in workers:
        assert await standing(worker, "ada", rig.user) == (True, True)


async def test_guesses_side_by_side_on_several_workers_are_all_counted(
    rig: Rig, database: str, another: Callable[..., Awaitable[Store]]
) -> None:
    workers = [await another() for _ in range(3)]
    names = [rig.user.username, EMAIL, *(f"nobody{number}" for number in range(30))]

    async def guess(worker: Store, order: int) -> None:
        for login in names if order else reversed(names):
            for _ in range(2):
                worker.guesses.begin(login, rig.user if "nobody" not in login else None, None).wrong("wrong password")
                await asyncio.sleep(0)

    await asyncio.gather(*(guess(worker, order % 2) for order, worker in enumerate(workers)))
    for worker in workers:
        await counted(worker)
    rows = await fetch(database, "select failures from failed_attempts order by failures")
    assert [row["failures"] for row in rows] == [6] * 32 + [12]


async def test_a_worker_that_ends_leaves_its_counts_to_the_others(
    rig: Rig, store: Store, another: Callable[..., Awaitable[Store]]
) -> None:
    dying = await another()
    await wrong(dying, "ada", rig.user, times=9)
    await dying.close()
    await wrong(store, "ada", rig.user, times=1)
    assert await standing(store, "ada", rig.user) == (True, True)


async def test_what_could_not_be_written_is_written_later(rig: Rig, store: Store, database: str) -> None:
    refuse = "create function refuse() returns trigger language plpgsql as $$ begin raise lock_not_available; end $$"
    await fetch(database, refuse)
    await fetch(database, "create trigger refused before insert on failed_attempts execute function refuse()")
    await wrong(store, "ada", rig.user, times=4)
    for sent in store._tally._counts.values():
        await until(lambda sent=sent: sent.version >= 2)  # type: ignore[misc]  # sent, and come back
    await wrong(store, "ada", rig.user, times=6)
    assert await standing(store, "ada", rig.user) == (True, True)
    await fetch(database, "drop function refuse cascade")
    await counted(store)
    assert {row["failures"] for row in await fetch(database, "select failures from failed_attempts")} == {10}


async def test_failures_of_an_account_by_a_cause_are_an_event_for_the_first_and_one_for_those_of_the_minute_after(
    rig: Rig, store: Store, clock: MovableClock, another: Callable[..., Awaitable[Store]]
) -> None:
    clock.stop()
    workers = [store, await another(clock=clock)]
    for number in range(40):
        workers[number % 2].guesses.begin("ada", rig.user, None).wrong("wrong password")
        workers[number % 2].guesses.begin(f"my-secret-password-{number}", None, None).wrong("no such account")
    store.guesses.begin("ada", rig.user, None).wrong("disabled account")
    for worker in workers:
        worker._tally._tell()  # a minute later
    store.guesses.begin("ada", rig.user, None).wrong("wrong password")
    for worker in workers:
        await counted(worker)
    rows = await fetch(
        store._server.dsn,
        "select subject, detail ->> 'failures', detail ->> 'cause' from events where kind = 'sign_in.failed'",
    )
    ada, nobody = (rig.user.subject, "wrong password"), (None, "no such account")
    expected = [(*ada, 1), (*ada, 1), (*ada, 1), (*nobody, 1), (*nobody, 1), (rig.user.subject, "disabled account", 1)]
    expected += 2 * [(*ada, 19), (*nobody, 19)]
    assert sorted(map(str, ((who, cause, int(times)) for who, times, cause in rows))) == sorted(map(str, expected))


async def test_names_that_are_invented_write_no_row_each(rig: Rig, store: Store, database: str) -> None:
    for number in range(300):
        store.guesses.begin(f"nobody{number}", None, None).wrong("wrong password")
    await counted(store)
    assert await count(database, "failed_attempts") == 0
    assert len(await fetch(database, "select from events where kind = 'sign_in.failed'")) <= 2


async def test_memory_holds_a_bounded_number_of_names(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.tally._MOST", 50)
    for number in range(300):
        store.guesses.begin(f"nobody{number}", None, None).wrong("wrong password")
    tally: Tally = store._tally
    assert len(tally._counts) == 50
    assert not tally._due


async def test_wrong_secrets_bind_every_worker_and_rest_after_a_while(
    store: Store, another: Callable[..., Awaitable[Store]], clock: MovableClock
) -> None:
    other = await another(clock=clock)
    for n in range(WRONG_SECRETS):
        one = (store, other)[n % 2]
        assert await one.guesses.secret("c1", "192.0.2.1").wrong() == 0
        await counted(one)
    for one in (store, other):
        assert 0 < await one.guesses.secret("c1", "192.0.2.1").wrong() <= WAIT
        assert await one.guesses.secret("c1", "192.0.2.2").wrong() == 0
        assert await one.guesses.secret("c2", "192.0.2.1").wrong() == 0
    clock.advance(WAIT + 1)
    for one in (store, other):
        assert await one.guesses.secret("c1", "192.0.2.1").wrong() == 0
