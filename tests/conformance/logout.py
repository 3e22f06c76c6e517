"""RP-Initiated, Back-Channel and Front-Channel OP (OpenID Connect's three specifications of logout)."""

import base64
import secrets
import time
from urllib.parse import parse_qsl, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.conformance.rig import BACK, Login, Play, module
from tests.serving import until
from tests.web.rig import Answer

_EVENT = "http://schemas.openid.net/event/backchannel-logout"


def _require_back(op: Play, answer: Answer, state: str | None) -> None:
    """The browser is at the client's address, with its state and nothing else."""
    assert answer.status == 303
    address = urlsplit(answer.location)
    assert f"{address.scheme}://{address.netloc}{address.path}" == BACK
    members = dict(parse_qsl(address.query))
    assert members.pop("state", None) == state
    op.warn(not members, f"unexpected parameters came back: {sorted(members)}")


def _require_not_led(op: Play, answer: Answer) -> None:
    """An error, or a question and then the page of somebody who is signed out; the client's address is not called."""
    assert answer.status == 400 or (answer.status == 200 and "question" in op.pages)
    assert "Location" not in answer.headers
    assert BACK not in answer.text


@module("oidcc-rp-initiated-logout", "RP-Initiated")
async def rp_initiated(op: Play) -> None:
    login, state = await op.signed_in(), secrets.token_hex(64)
    answer = await op.logged_out(id_token_hint=login.id_token, post_logout_redirect_uri=BACK, state=state)
    _require_back(op, answer, state)
    assert not await op.is_signed_in()


@module("oidcc-rp-initiated-logout-no-state", "RP-Initiated")
async def no_state(op: Play) -> None:
    login = await op.signed_in()
    _require_back(op, await op.logged_out(id_token_hint=login.id_token, post_logout_redirect_uri=BACK), None)
    assert not await op.is_signed_in()


@module("oidcc-rp-initiated-logout-bad-post-logout-redirect-uri", "RP-Initiated")
async def bad_uri(op: Play) -> None:
    login = await op.signed_in()
    _require_not_led(
        op, await op.logged_out(id_token_hint=login.id_token, post_logout_redirect_uri=f"{BACK}/other", state="s")
    )


@module("oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri", "RP-Initiated")
async def query_added(op: Play) -> None:
    login = await op.signed_in()
    _require_not_led(
        op, await op.logged_out(id_token_hint=login.id_token, post_logout_redirect_uri=f"{BACK}?foo=bar", state="s")
    )


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


@module("oidcc-rp-initiated-logout-modified-id-token-hint", "RP-Initiated")
async def modified_hint(op: Play) -> None:
    """Its signature is none."""
    login = await op.signed_in()
    unsigned = ".".join((_encoded(b'{"alg": "none"}'), login.id_token.split(".")[1], ""))
    _require_not_led(op, await op.logged_out(id_token_hint=unsigned, post_logout_redirect_uri=BACK, state="s"))


@module("oidcc-rp-initiated-logout-bad-id-token-hint", "RP-Initiated")
async def bad_hint(op: Play) -> None:
    """Its signature is another key's."""
    login = await op.signed_in()
    signed = login.id_token.rpartition(".")[0]
    other = rsa.generate_private_key(65537, 2048)
    signature = other.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    hint = f"{signed}.{_encoded(signature)}"
    _require_not_led(op, await op.logged_out(id_token_hint=hint, post_logout_redirect_uri=BACK, state="s"))


@module("oidcc-rp-initiated-logout-no-id-token-hint", "RP-Initiated")
async def no_hint(op: Play) -> None:
    await op.signed_in()
    _require_not_led(op, await op.logged_out(post_logout_redirect_uri=BACK, state="s"))


async def _out_on_a_page(op: Play, **members: str) -> None:
    """The person is signed out and told so."""
    answer = await op.logged_out(**members)
    assert answer.status == 200
    assert "signed out" in answer.text
    assert BACK not in answer.text
    assert not await op.is_signed_in()


@module("oidcc-rp-initiated-logout-no-params", "RP-Initiated")
async def no_params(op: Play) -> None:
    await op.signed_in()
    await _out_on_a_page(op)


@module("oidcc-rp-initiated-logout-no-post-logout-redirect-uri", "RP-Initiated")
async def no_uri(op: Play) -> None:
    login = await op.signed_in()
    await _out_on_a_page(op, id_token_hint=login.id_token, state="s")


@module("oidcc-rp-initiated-logout-only-state", "RP-Initiated")
async def only_state(op: Play) -> None:
    await op.signed_in()
    await _out_on_a_page(op, state="s")


@module("oidcc-backchannel-rp-initiated-logout", "Back-Channel")
async def back_channel(op: Play) -> None:
    op.credentials, listener = op.provider.clients[2], op.provider.listener
    before = len(listener.told)
    login, state = await op.signed_in(), secrets.token_hex(64)
    answer = await op.logged_out(id_token_hint=login.id_token, post_logout_redirect_uri=BACK, state=state)
    _require_back(op, answer, state)
    await until(lambda: len(listener.told) > before)
    told = listener.told[before]
    op.warn(told.keys() == {"logout_token"}, "the logout token is not the only parameter")
    op.warn(listener.versions[before] in ("TLSv1.2", "TLSv1.3"), "an old version of TLS")
    await _require_logout_token(op, told["logout_token"], login)
    assert not await op.is_signed_in()


async def _require_logout_token(op: Play, token: str, login: Login) -> None:
    """Back-Channel Logout 1.0, section 2.4."""
    claims = await op.verified(token)
    assert claims["iss"] == op.provider.url
    assert op.client.client_id in ([claims["aud"]] if isinstance(claims["aud"], str) else claims["aud"])
    assert time.time() - 86400 < claims["iat"] <= time.time() + 1
    assert claims["jti"]
    assert claims["events"] == {_EVENT: {}}
    assert {name: claims[name] for name in ("sub", "sid") if name in claims}.items() <= login.claims.items()
    assert claims.keys() & {"sub", "sid"}
    assert "nonce" not in claims


@module("oidcc-frontchannel-rp-initiated-logout", "Front-Channel")
async def front_channel(op: Play) -> None:
    op.credentials, listener = op.provider.clients[3], op.provider.listener
    before = len(listener.loaded)
    login, state = await op.signed_in(), secrets.token_hex(64)
    page = await op.logged_out(id_token_hint=login.id_token, post_logout_redirect_uri=BACK, state=state)
    await op.frames_loaded(page)
    assert len(listener.loaded) == before + 1
    members = dict(listener.loaded[before])
    assert (members.pop("iss"), members.pop("sid")) == (op.provider.url, login.claims["sid"])
    op.warn(not members, f"the frame's address has unexpected parameters: {sorted(members)}")
    assert f"{BACK}?state={state}" in page.headers["Refresh"]
    assert not await op.is_signed_in()
