"""What may happen once happens once, over two workers of each plane: fifty ask at the same time, half of them by
either worker of the access plane.

code, refresh token                        test_races.py, a hundred at once
proof at a route                           test_dpop.py
signed call, by its nonce                  test_replay.py
pushed request, device code, assertion,
proof at the token endpoint, a decision
that brings a token, initial access token,
passwords and user codes that are guessed  here
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import pytest
import pytest_asyncio
from msgspec.structs import replace

from gateway.crypto import Keyring
from gateway.model import DEVICE_CODE, GRANT_TYPES, GrantType
from gateway.oauth import pkce
from gateway.oauth.authorize import AuthorizationRequest
from gateway.oauth.client_assertion import TYPE
from gateway.store import Store
from gateway.store.guesses import WRONG_PASSWORDS, WRONG_USER_CODES
from gateway.web.browser import new_session_token
from tests.conftest import cloned_store
from tests.oauth.proofs import ES256, proof
from tests.oauth.signing import signer
from tests.serving import Gateway, on_every_worker, serving, until, worker_of
from tests.store.rig import NEW_CLIENT, PASSWORD_HASH, REDIRECT_URI, VERIFIER, Rig, fetch
from tests.web.rig import Forms

AT_ONCE = 50

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Site:
    """A gateway with two workers for pages and tokens, and who is known to it."""

    gateway: Gateway
    dsn: str
    store: Store
    rig: Rig
    session: aiohttp.ClientSession
    token: str  # of a browser that is signed in

    async def post(
        self, path: str, form: dict[str, str], rig: Rig | None = None, session: aiohttp.ClientSession | None = None
    ) -> aiohttp.ClientResponse:
        of = rig or self.rig
        headers = {"Authorization": aiohttp.encode_basic_auth(of.client.client_id, of.secret)}
        answer = await (session or self.session).post(f"{self.gateway.url}/oauth2/{path}", data=form, headers=headers)
        await answer.read()
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    server: str, template: str, keyring: Keyring, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder: Path = tmp_path_factory.mktemp("once")
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        cloned_store(server, template, keyring) as (dsn, store),
        serving(
            folder, dsn=dsn, workers=2, server={"authorization_workers": 2}, registration={"policy": "token"}
        ) as gateway,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        rig = await Rig.build(store, client=replace(NEW_CLIENT, first_party=True, grant_types=frozenset(GRANT_TYPES)))
        token = new_session_token(keyring)
        await store.sessions.start(rig.user.subject, token, 3600)
        yield Site(gateway, dsn, store, rig, session, token)


async def polled_at_once(site: Site, device_code: str) -> list[aiohttp.ClientResponse]:
    form = {"grant_type": DEVICE_CODE, "device_code": device_code}
    return await at_once(site, lambda session: site.post("token", form, session=session))


async def at_once(
    site: Site, ask: Callable[[aiohttp.ClientSession], Awaitable[aiohttp.ClientResponse]]
) -> list[aiohttp.ClientResponse]:
    """Fifty answers, of which each worker gave half."""
    async with on_every_worker(site.gateway, AT_ONCE // 2) as sessions:
        answers = await asyncio.gather(*map(ask, sessions))
    assert sorted(Counter(map(worker_of, answers)).values()) == [AT_ONCE // 2, AT_ONCE // 2]
    return answers


async def test_a_pushed_request_brings_one_code(site: Site) -> None:
    """RFC 9126, section 4."""
    pushed = await site.post(
        "par",
        {
            "response_type": "code",
            "client_id": site.rig.client.client_id,
            "redirect_uri": REDIRECT_URI,
            "code_challenge": pkce.challenge_of(VERIFIER),
            "code_challenge_method": "S256",
        },
    )
    uri = (await pushed.json())["request_uri"]
    query = urlencode({"client_id": site.rig.client.client_id, "request_uri": uri})
    cookies = f"gateway_session={site.token}; gateway_form={'f' * 22}"

    async def ask(session: aiohttp.ClientSession) -> aiohttp.ClientResponse:
        return await session.get(
            f"{site.gateway.url}/oauth2/authorize?{query}", headers={"Cookie": cookies}, allow_redirects=False
        )

    answers = await at_once(site, ask)
    assert Counter("code=" in answer.headers.get("Location", "") for answer in answers) == {True: 1, False: 49}


async def test_a_device_that_asks_too_often_is_told_so_by_whichever_worker(site: Site) -> None:
    """RFC 8628, section 3.5: each of them makes the interval longer."""
    begun = await (await site.post("device_authorization", {})).json()
    answers = await polled_at_once(site, begun["device_code"])
    told = Counter([(await answer.json())["error"] for answer in answers])
    assert told == {"authorization_pending": 1, "slow_down": 49}


async def test_a_device_code_brings_tokens_once(site: Site) -> None:
    """RFC 8628, section 3.4; of fifty who allow it one is heard too."""
    begun = await (await site.post("device_authorization", {})).json()
    found = await site.store.devices.find(begun["user_code"].replace("-", ""))
    session = await site.store.sessions.find(site.token)
    assert found is not None
    assert session is not None
    request = AuthorizationRequest(
        client_id=site.rig.client.client_id, redirect_uri="", scopes=frozenset(), device=found.digest
    )
    flows = [site.store.flows.start(session.user.subject, request) for _ in range(5)]
    allowing = [site.store.flows.allow_device(flow, session.session_id, frozenset()) for flow in flows]
    assert Counter(await asyncio.gather(*allowing)) == {True: 1, False: 4}
    answers = await polled_at_once(site, begun["device_code"])
    assert Counter(answer.status for answer in answers) == {200: 1, 400: 49}


async def test_a_clients_assertion_counts_once(site: Site) -> None:
    """RFC 7523, section 3: by its `jti`, whichever worker it comes to."""
    one = signer("ES256")
    client, _ = await site.store.clients.create(replace(NEW_CLIENT, jwks=one.jwks))
    members = {
        "iss": client.client_id,
        "sub": client.client_id,
        "aud": site.gateway.url,
        "exp": int(time.time()) + 60,
        "jti": "the-same",
    }
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": TYPE,
        "client_assertion": one.assertion(members),
    }

    async def ask(session: aiohttp.ClientSession) -> aiohttp.ClientResponse:
        answer = await session.post(f"{site.gateway.url}/oauth2/token", data=form)
        await answer.read()
        return answer

    answers = await at_once(site, ask)
    assert Counter(answer.status for answer in answers) == {200: 1, 401: 49}


async def test_a_proof_at_the_token_endpoint_counts_once(site: Site) -> None:
    """RFC 9449, section 11.1: by its `jti`, whichever worker it comes to."""
    url = f"{site.gateway.url}/oauth2/token"
    headers = {
        "Authorization": aiohttp.encode_basic_auth(site.rig.client.client_id, site.rig.secret),
        "DPoP": proof(ES256, method="POST", url=url, now=time.time()),
    }

    async def ask(session: aiohttp.ClientSession) -> aiohttp.ClientResponse:
        answer = await session.post(url, data={"grant_type": "client_credentials"}, headers=headers)
        await answer.read()
        return answer

    answers = await at_once(site, ask)
    assert Counter(answer.status for answer in answers) == {200: 1, 400: 49}
    refused = {(await answer.json())["error"] for answer in answers if answer.status == 400}
    assert refused == {"invalid_dpop_proof"}


async def test_a_decision_brings_one_token(site: Site) -> None:
    """RFC 6749, section 4.2.2: the implicit grant, whose token is in no database to be given again."""
    types: frozenset[GrantType] = frozenset({"implicit", "authorization_code"})
    client, _ = await site.store.clients.create(replace(NEW_CLIENT, confidential=False, grant_types=types))
    query = urlencode({"response_type": "token", "client_id": client.client_id, "redirect_uri": REDIRECT_URI})
    headers = {"Cookie": f"gateway_session={site.token}; gateway_form={'f' * 22}"}
    url = f"{site.gateway.url}/oauth2/authorize?{query}"
    async with site.session.get(url, headers=headers, allow_redirects=False) as page:
        parser = Forms()
        parser.feed(await page.text())
    (form,) = parser.forms

    async def ask(session: aiohttp.ClientSession) -> aiohttp.ClientResponse:
        data = urlencode(form.filled(decision="allow"))
        sent = headers | {"Content-Type": "application/x-www-form-urlencoded"}
        address = f"{site.gateway.url}{form.action}"
        answer = await session.post(address, data=data, headers=sent, allow_redirects=False)
        await answer.read()
        return answer

    answers = await at_once(site, ask)
    assert sum("access_token=" in answer.headers.get("Location", "") for answer in answers) == 1
    issued = await fetch(site.dsn, "select 1 from access_tokens where client_id = $1", client.client_id)
    assert len(issued) == 1


async def test_an_initial_access_token_registers_as_many_clients_as_it_may(site: Site) -> None:
    """RFC 7591, section 3."""
    token = await site.store.registrations.create_token(60, 1)
    headers = {"Authorization": f"Bearer {token}"}

    async def ask(session: aiohttp.ClientSession) -> aiohttp.ClientResponse:
        members = {"redirect_uris": [REDIRECT_URI], "client_name": "Registered at once"}
        answer = await session.post(f"{site.gateway.url}/oauth2/register", json=members, headers=headers)
        await answer.read()
        return answer

    answers = await at_once(site, ask)
    assert Counter(answer.status for answer in answers) == {201: 1, 401: 49}
    made = await fetch(site.dsn, "select 1 from clients where name = 'Registered at once'")
    assert len(made) == 1


async def held_back(site: Site, rig: Rig, form: dict[str, str]) -> None:
    """Wait until all workers have heard of all wrong passwords; then the right one opens nothing at any of them. Before
    that it would end the count of one that has not."""

    async def is_held_back(password: str) -> bool:
        async with on_every_worker(site.gateway, 8) as sessions:  # so many that every worker of the pages hears of it
            asked = (site.post("token", form | {"password": password}, rig, session) for session in sessions)
            return {answer.status for answer in await asyncio.gather(*asked)} == {429}

    await until(partial(is_held_back, "wrong"))
    assert await is_held_back("an obviously fake password")


async def test_guesses_at_a_password_learn_no_more_by_the_password_grant(site: Site) -> None:
    """RFC 6749, section 4.3.2: what one worker has heard counts for the other a moment later."""
    types: frozenset[GrantType] = frozenset({"password"})
    rig = await Rig.build(site.store, username="grace", client=replace(NEW_CLIENT, grant_types=types))
    form = {"grant_type": "password", "username": "grace", "password": "wrong"}
    statuses = Counter[int]()
    for _ in range(3):
        answers = await at_once(site, lambda session: site.post("token", form, rig, session))
        statuses.update(answer.status for answer in answers)
    assert statuses.keys() <= {400, 429, 503}  # 503: so many passwords are checked at once and no more
    assert 0 < statuses[400] <= 2 * WRONG_PASSWORDS

    await held_back(site, rig, form)


async def test_guesses_at_user_codes_are_counted_over_all_workers(site: Site, keyring: Keyring) -> None:
    """RFC 8628, section 5.1: ten are ten whichever worker hears them, and what one has heard counts for the other a
    moment later. Both in one test, since the network that both come from has a bound too."""
    begun = await (await site.post("device_authorization", {})).json()

    async def signed_in(username: str) -> str:
        token = new_session_token(keyring)
        guesser = await site.store.users.create(username, None, None, PASSWORD_HASH)
        await site.store.sessions.start(guesser.subject, token, 3600)
        return token

    async def looked(token: str, user_code: str, session: aiohttp.ClientSession) -> int:
        address = f"{site.gateway.url}/oauth2/device/consent?user_code={user_code}"
        async with session.get(
            address, headers={"Cookie": f"gateway_session={token}"}, allow_redirects=False
        ) as answer:
            await answer.read()
            return answer.status

    async def is_held_back(token: str) -> bool:
        async with on_every_worker(site.gateway, AT_ONCE // 2) as sessions:
            found = await asyncio.gather(*(looked(token, begun["user_code"], session) for session in sessions))
        return set(found) == {429}

    one_by_one, at_one_time = await signed_in("heidi"), await signed_in("mallory")
    async with on_every_worker(site.gateway, WRONG_USER_CODES // 2) as sessions:
        heard = [await looked(one_by_one, "BCDF-GHJK", session) for session in sessions]
    assert heard[:-1] == [400] * (WRONG_USER_CODES - 1)
    await until(partial(is_held_back, one_by_one))
    async with on_every_worker(site.gateway, AT_ONCE // 2) as sessions:
        heard = await asyncio.gather(*(looked(at_one_time, "BCDF-GHJK", session) for session in sessions))
    assert set(heard) <= {400, 429}
    assert heard.count(400) < 2 * WRONG_USER_CODES  # each heard what one may hear, before it heard of the other's
    await until(partial(is_held_back, at_one_time))


async def test_ten_wrong_passwords_are_ten_whichever_workers_hear_them(site: Site) -> None:
    """RFC 6749, section 4.3.2: then the right one opens nothing at any of them."""
    types: frozenset[GrantType] = frozenset({"password"})
    rig = await Rig.build(site.store, username="judy", client=replace(NEW_CLIENT, grant_types=types))
    form = {"grant_type": "password", "username": "judy"}
    async with on_every_worker(site.gateway, WRONG_PASSWORDS // 2) as sessions:
        wrong = form | {"password": "wrong"}
        heard = [(await site.post("token", wrong, rig, session)).status for session in sessions]
    assert heard == [400] * WRONG_PASSWORDS

    await held_back(site, rig, form)
