"""What people and clients do over the web is recorded with who did it, from which address, and by which request."""

import json

from gateway.store.events import Wanted
from tests.web.conftest import Registered
from tests.web.rig import PASSWORD, Browser, Plane, basic, code_fields, code_for

HOSTILE = "Evil/1.0 \x9b31m\u202e" + "x" * 500  # controls that a client may send


async def test_events_name_actor_address_and_request(
    plane: Plane, browser: Browser, register: Registered, ada: str
) -> None:
    client, secret = await register()
    form = (await browser.get("/oauth2/login")).form
    sent = {"X-Forwarded-For": "192.0.2.7, 10.0.0.2", "User-Agent": HOSTILE}
    fields = form.filled(username="ada", password="obviously-wrong")
    await browser.send("POST", "/oauth2/login", fields, {**sent, "X-Request-Id": "r-wrong"})
    fields = form.filled(username="ada", password=PASSWORD)
    assert (await browser.send("POST", "/oauth2/login", fields, {**sent, "X-Request-Id": "r-right"})).status == 303
    code = await code_for(browser, client)
    asked = basic(client.client_id, secret) | sent | {"X-Request-Id": "r-token"}
    answer = await browser.send("POST", "/oauth2/token", code_fields(code, client), asked)
    assert answer.status == 200
    await browser.send("POST", "/oauth2/revoke", [("token", answer.json["access_token"])], asked)
    events = plane.store.events
    found = {event.kind: event async for event in events.before(await events.newest(), Wanted())}
    who = {kind: (event.actor, event.address, event.request_id) for kind, event in found.items()}
    assert who["sign_in.succeeded"] == (f"user:{ada}", "192.0.2.7", "r-right")
    assert who["consent.given"][0] == f"user:{ada}"
    assert who["token.issued"] == who["token.revoked"] == (f"client:{client.client_id}", "192.0.2.7", "r-token")
    assert found["token.issued"].detail["token"] == found["token.revoked"].detail["token"]
    agent = str(found["sign_in.succeeded"].detail["user_agent"])
    assert agent.startswith("Evil/1.0 ")
    assert (len(agent), agent.isprintable()) == (200, True)
    assert (who["sign_in.failed"], found["sign_in.failed"].subject) == ((None, "192.0.2.7", "r-wrong"), ada)
    assert found["sign_in.failed"].detail == {"failures": 1, "cause": "wrong password"}
    told = json.dumps([dict(event.detail) for event in found.values()])
    assert not any(secret_ in told for secret_ in (code, secret, answer.json["access_token"], PASSWORD))
    assert (await plane.store.chain.verify()).faults == ()
