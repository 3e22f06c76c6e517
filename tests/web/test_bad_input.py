"""Every parameter of every grant and of every endpoint for programs, in every bad form: one clear error, nothing is
stored, and what was presented is as good as before."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

import pytest
import pytest_asyncio

from gateway.crypto import Keyring
from gateway.model import DEVICE_CODE, GRANT_TYPES, Client
from tests.conftest import cloned_store
from tests.web.rig import (
    CHALLENGE,
    PASSWORD,
    REDIRECT,
    Answer,
    Browser,
    Plane,
    authorize_path,
    basic,
    code_fields,
    code_for,
    row_counts,
    serving,
)

Fields = dict[str, str]
OK: Final = ""

pytestmark = pytest.mark.asyncio(loop_scope="module")

# By request and parameter: the error where it is absent or empty, and where its value is none.
REQUESTS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "authorization_code": {
        "grant_type": ("invalid_request", "unsupported_grant_type"),
        "code": ("invalid_request", "invalid_grant"),
        "redirect_uri": ("invalid_grant", "invalid_grant"),
        "code_verifier": ("invalid_grant", "invalid_grant"),
        "resource": (OK, "invalid_target"),
        "client_id": (OK, "invalid_request"),
    },
    "refresh_token": {
        "grant_type": ("invalid_request", "unsupported_grant_type"),
        "refresh_token": ("invalid_request", "invalid_grant"),
        "scope": (OK, "invalid_scope"),
        "resource": (OK, "invalid_target"),
    },
    "device_code": {
        "grant_type": ("invalid_request", "unsupported_grant_type"),
        "device_code": ("invalid_request", "invalid_grant"),
        "resource": (OK, "invalid_target"),
    },
    "client_credentials": {
        "grant_type": ("invalid_request", "unsupported_grant_type"),
        "scope": (OK, "invalid_scope"),
        "resource": (OK, "invalid_target"),
    },
    "password": {
        "grant_type": ("invalid_request", "unsupported_grant_type"),
        "username": ("invalid_request", "invalid_grant"),
        "password": ("invalid_request", "invalid_grant"),
        "scope": (OK, "invalid_scope"),
        "resource": (OK, "invalid_target"),
    },
    "par": {
        "response_type": ("invalid_request", "unsupported_response_type"),
        "redirect_uri": ("invalid_request", "invalid_request"),
        "code_challenge": ("invalid_request", "invalid_request"),
        "code_challenge_method": ("invalid_request", "invalid_request"),
        "scope": (OK, "invalid_scope"),
        "resource": (OK, "invalid_target"),
        "prompt": (OK, "invalid_request"),
        "response_mode": (OK, "invalid_request"),
        "dpop_jkt": (OK, "invalid_request"),
        "max_age": (OK, "invalid_request"),
        "claims": (OK, "invalid_request"),
    },
    "device_authorization": {"scope": (OK, "invalid_scope"), "resource": (OK, "invalid_target")},
    "revoke": {"token": ("invalid_request", OK)},
    "introspect": {"token": ("invalid_request", OK)},
}
NOT_STORED_AS_TEXT = {"%FF": "no UTF-8", "%00": "NUL", "%ED%A0%80": "half a surrogate", "a%FE%FF": "UTF-16"}


def pairs(fields: Fields, *but: str) -> str:
    return urlencode([(name, value) for name, value in fields.items() if name not in but])


def _absent(fields: Fields, name: str) -> str:
    return pairs(fields, name)


def _empty(fields: Fields, name: str) -> str:
    return f"{pairs(fields, name)}&{name}="


def _twice(fields: Fields, name: str) -> str:
    return f"{pairs(fields)}&{quote(name)}={quote(fields[name])}"


def _spelt_anew(fields: Fields, name: str) -> str:
    """The same name in another spelling, which is the same name."""
    return f"{pairs(fields)}&%{ord(name[0]):02x}{name[1:]}={quote(fields[name])}"


def _of(value: str) -> Callable[[Fields, str], str]:
    return lambda fields, name: f"{pairs(fields, name)}&{name}={value}"


FAULTS: Mapping[str, tuple[int, Callable[[Fields, str], str]]] = {  # which of the two errors, and the body
    "absent": (0, _absent),
    "empty": (0, _empty),
    "twice": (2, _twice),
    "spelt anew": (2, _spelt_anew),
    "over-long": (1, _of("x" * 9000)),
    "of another kind": (1, _of("%5B1%5D")),
    "a list": (1, _of("a%2Cb%5B%5D")),
    **{why: (1, _of(value)) for value, why in NOT_STORED_AS_TEXT.items()},
}


@dataclass
class Site:
    """A plane, ada's browser, a client that may do everything, and what each request presents when it is good."""

    plane: Plane
    dsn: str
    browser: Browser
    client: Client
    secret: str

    async def send(self, request: str, body: str, content_type: str = "application/x-www-form-urlencoded") -> Answer:
        path = request if request in ("par", "device_authorization", "revoke", "introspect") else "token"
        headers = basic(self.client.client_id, self.secret) | {"Content-Type": content_type}
        return await self.browser.send("POST", f"/oauth2/{path}", body.encode(), headers)

    async def good(self, request: str) -> Fields:
        """A request that would be answered, with each of its parameters."""
        resource = {"resource": f"{self.plane.url}/api/notes"}
        scope = {"scope": "notes:read"}
        match request:
            case "authorization_code":
                code = await code_for(self.browser, self.client)
                return dict(code_fields(code, self.client)) | resource | {"client_id": self.client.client_id}
            case "refresh_token":
                code = await code_for(self.browser, self.client)
                first = await self.send("", pairs(dict(code_fields(code, self.client))))
                return {"grant_type": request, "refresh_token": first.json["refresh_token"]} | resource | scope
            case "device_code":
                begun = await self.send("device_authorization", "")
                return {"grant_type": DEVICE_CODE, "device_code": begun.json["device_code"]} | resource
            case "client_credentials":
                return {"grant_type": request} | resource | scope
            case "password":
                return {"grant_type": request, "username": "ada", "password": PASSWORD} | resource | scope
            case "par":
                asked = {"response_type": "code", "redirect_uri": REDIRECT, "code_challenge": CHALLENGE}
                asked |= {"code_challenge_method": "S256", "prompt": "consent", "response_mode": "query"}
                asked |= {"dpop_jkt": "k" * 43, "max_age": "60", "claims": "{}"}
                return asked | resource | scope
            case "device_authorization":
                return resource | scope
            case _:
                return {"token": "gwa_" + "x" * 40}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    server: str, template: str, keyring: Keyring, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("bad-input")
    async with cloned_store(server, template, keyring) as (dsn, store), serving(store, keyring, folder) as plane:
        await plane.user()
        types = frozenset({*GRANT_TYPES, "password"})
        client, secret = await plane.client(first_party=True, grant_types=types)
        browser = Browser(plane.url)
        try:
            await browser.sign_in()
            yield Site(plane, dsn, browser, client, secret)
        finally:
            await browser.close()


async def _counts(dsn: str) -> dict[str, int]:
    """What is stored, but for the record of who guessed at what, and keys of our own."""
    counts = await row_counts(dsn)
    return {
        table: count for table, count in counts.items() if table not in ("events", "failed_attempts", "signing_keys")
    }


def _is_taken(answer: Answer) -> bool:
    """Whether a request was answered; a device that nobody has allowed anything yet is told to wait."""
    return answer.status in (200, 201) or answer.json["error"] == "authorization_pending"


@pytest.mark.parametrize("request_", REQUESTS)
async def test_a_parameter_in_a_bad_form_is_refused_and_stores_nothing(site: Site, request_: str) -> None:
    """RFC 6749, sections 3.2 and 5.2: also that a parameter without a value counts as omitted."""
    good = await site.good(request_)
    assert good.keys() == REQUESTS[request_].keys()
    before = await _counts(site.dsn)
    for name, errors in REQUESTS[request_].items():
        for fault, (which, bad) in FAULTS.items():
            if fault in ("twice", "spelt anew") and name == "resource":
                continue  # the one that may come several times (RFC 8707, section 2)
            error = "invalid_request" if which == 2 else errors[which]
            if error == OK:
                continue
            answer = await site.send(request_, bad(good, name))
            said = (name, fault, answer.status, answer.text[:200])
            assert answer.status == 400 or (answer.status, fault) == (413, "over-long"), said
            assert answer.json["error"] == ("invalid_request" if answer.status == 413 else error), said
            assert "access_token" not in answer.json, said
            assert answer.json["error_description"].isascii(), said
            assert answer.headers["Cache-Control"] == "no-store", said
    assert await _counts(site.dsn) == before
    assert _is_taken(await site.send(request_, pairs(good))), "nothing that was presented is spent"


@pytest.mark.parametrize("request_", REQUESTS)
async def test_what_may_be_left_out_may_be_empty_too(site: Site, request_: str) -> None:
    for name, (error, _) in REQUESTS[request_].items():
        if error == OK:
            for bad in (_absent, _empty):
                answer = await site.send(request_, bad(await site.good(request_), name))
                assert _is_taken(answer), (name, answer.text)


@pytest.mark.parametrize("request_", REQUESTS)
async def test_a_body_of_another_kind_is_refused_and_stores_nothing(site: Site, request_: str) -> None:
    good = await site.good(request_)
    before = await _counts(site.dsn)
    bodies = {
        "application/json": '{"grant_type": "client_credentials"}',
        "text/plain": pairs(good),
        "multipart/form-data; boundary=x": "--x\r\n\r\n--x--\r\n",
        "": pairs(good),
    }
    for content_type, body in bodies.items():
        answer = await site.send(request_, body, content_type)
        assert (answer.status, answer.json["error"]) == (400, "invalid_request"), content_type
    for body, status in ((pairs(good) + "&x=" + "x" * 70_000, 413), (pairs(good) + "&a=1" * 200, 400)):
        answer = await site.send(request_, body)
        assert (answer.status, answer.json["error"]) == (status, "invalid_request")
    assert await _counts(site.dsn) == before


async def test_what_is_another_clients_is_none(site: Site) -> None:
    """Codes, refresh tokens and device codes; and they are as good as before to their own."""
    other, secret = await site.plane.client(first_party=True, grant_types=frozenset(GRANT_TYPES))
    for request_ in ("authorization_code", "refresh_token", "device_code"):
        good = await site.good(request_)
        theirs = {name: value for name, value in good.items() if name != "client_id"}
        answer = await site.browser.send("POST", "/oauth2/token", list(theirs.items()), basic(other.client_id, secret))
        assert (answer.status, answer.json["error"]) == (400, "invalid_grant"), request_
        assert _is_taken(await site.send(request_, pairs(good)))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("response_type", ["", "x" * 7000, "%FF", "%00", "[1]", "code+code", "token"]),
        ("client_id", ["", "x" * 7000, "%FF", "%00", "[1]", "nobody"]),
        ("redirect_uri", ["", "x" * 7000, "%FF", "%00", "[1]", "https://evil.example/"]),
        ("scope", ["x" * 7000, "%FF", "%00", "[1]", "nope", "notes:read++notes:write"]),
        ("resource", ["x" * 7000, "%FF", "%00", "[1]", "https://evil.example/"]),
        ("code_challenge", ["", "x" * 7000, "%FF", "%00", "[1]", "x" * 42]),
        ("code_challenge_method", ["", "x" * 7000, "%FF", "%00", "plain"]),
        ("nonce", ["x" * 7000, "%FF", "%00"]),
        ("claims", ["x" * 7000, "%FF", "%00", "[1]"]),
        ("prompt", ["x" * 7000, "%FF", "%00", "[1]"]),
        ("response_mode", ["x" * 7000, "%FF", "%00", "[1]"]),
        ("max_age", ["x" * 7000, "%FF", "%00", "-1"]),
        ("dpop_jkt", ["x" * 7000, "%FF", "%00", "[1]"]),
        ("id_token_hint", ["x" * 7000, "%FF", "%00", "a.b.c"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_parameter_of_an_authorization_request_in_a_bad_form_leads_to_no_code(
    site: Site, name: str, values: list[str]
) -> None:
    """RFC 6749, section 4.1.2.1: a page where client or redirect URI are unproven, else an error at the client."""
    path = authorize_path(site.client)
    rest = "&".join(part for part in path.partition("?")[2].split("&") if not part.startswith(f"{name}="))
    before = await _counts(site.dsn)
    for value in values:
        answer = await site.browser.get(f"/oauth2/authorize?{rest}&{name}={value}")
        if answer.status == 303:
            assert answer.location.startswith(f"{REDIRECT}?error="), (value, answer.location)
        else:
            assert (answer.status, "Location" in answer.headers) == (400, False), value
    twice = await site.browser.get(f"/oauth2/authorize?{rest}&{name}=x&{name}=y")
    assert twice.status == (303 if name == "resource" else 400)
    assert "code=" not in twice.headers.get("Location", "")
    assert await _counts(site.dsn) == before
