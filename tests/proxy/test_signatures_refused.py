"""Bad HTTP message signatures as raw bytes: 400 where they follow no grammar, else 401; nothing else happens.

Each row is refused with a challenge, what to sign, and a Date by which a client sees its clock's skew. Nothing reaches
the upstream, and no nonce is written.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from tests.proxy.rig import Reply, Rig
from tests.proxy.signature_client import ROUTES, Parts, digest_of, parts
from tests.proxy.signing import Signer, nonces

__all__ = ["ROUTES"]  # which the fixture `guarded` looks for here

Change = Callable[[Parts], Any]


def before(**changes: Any) -> tuple[str, Change]:
    """Other parts, signed as they are."""
    return "before", lambda request: request.__dict__.update(changes)


def parameter(name: str, value: str) -> tuple[str, Change]:
    """A parameter in other words, signed so; left out where the value is empty."""
    return "before", lambda request: request.parameters.update({name: value})


def after(**changes: Any) -> tuple[str, Change]:
    """Other parts than what was signed; a callable makes one from what it was."""

    def change(request: Parts) -> None:
        for name, value in changes.items():
            setattr(request, name, value(getattr(request, name)) if callable(value) else value)

    return "after", change


def field_(*lines: str) -> tuple[str, Change]:
    """Fields that were not there when it was signed."""
    return "after", lambda request: request.fields.extend(lines)


def post(**changes: Any) -> tuple[str, Change]:
    """A POST with a body, altered after it was signed."""

    def change(request: Parts) -> None:
        request.method, request.body = "POST", b"body"
        request.sign()
        for name, value in changes.items():
            setattr(request, name, value(getattr(request, name)) if callable(value) else value)

    return "itself", change


def covering_too_little(request: Parts) -> None:
    """A POST whose signature does not cover its Content-Digest, which is there."""
    request.method = "POST"
    request.sign()
    request.body = b"body"
    request.fields.append(f"Content-Digest: {digest_of(b'body')}")


def moved(request: Parts) -> None:
    """A signature for one route, sent to another of the same path."""
    request.target, request.host, request.authority = "/own", "one.test", "one.test"
    request.sign()
    request.host = "two.test"


def expired(request: Parts) -> None:
    """Fresh by its creation, when it is sent."""
    now = int(time.time())
    request.parameters = {"created": str(now - 9), "expires": str(now - 5)}


def covered_field(request: Parts, *instead: str) -> None:
    """A field that is covered, in other words than those that were signed."""
    request.covered, request.fields = request.covered + ' "x-a"', ["X-A: 1"]
    request.sign()
    request.fields = list(instead)


MALFORMED: dict[str, tuple[str, Change]] = {
    **{f"{name} is missing": parameter(name, "") for name in ("created", "nonce", "keyid")},
    **{f"{name} twice": after(inputs=lambda text, name=name: f"{text};{name}=1")
       for name in ("created", "nonce", "keyid")},
    **{f"{name} is empty": parameter(name, '""') for name in ("nonce", "keyid", "alg")},
    **{f"{name} is unquoted": parameter(name, "abc") for name in ("nonce", "keyid", "alg", "tag")},
    **{f"{name} is bare": after(inputs=lambda text, name=name: f"{text.partition(';' + name)[0]};{name}")
       for name in ("created", "nonce", "keyid")},
    "keyid is over-long": parameter("keyid", '"' + "a" * 257 + '"'),
    "nonce is over-long": parameter("nonce", '"' + "a" * 129 + '"'),
    **{f"nonce with {control!r}": parameter("nonce", f'"a{control}b"') for control in "\t\x80\xe4\xff"},
    "keyid is not ASCII": parameter("keyid", '"gw\xe4"'),
    **{f"created is {value}": parameter("created", value)
       for value in ("-1", "0", "1.5", "9" * 20, "9" * 16, '"1"', "now", "?1", "@1700000000", "1e9", "+1", " 1")},
    **{f"expires is {value}": parameter("expires", value)
       for value in ("-1", "0", "1.5", "9" * 20, '"1"', "soon", "1")},
    **{f"alg is {value}": parameter("alg", value)
       for value in ('"hmac-sha512"', '"ed25519"', '"HMAC-SHA256"', '"none"')},
    **{f"value is {value}": after(value=f"sig={value}")
       for value in (":####:", ":A:", ":AA", "AAAA", '"AAAA"', "1", "?1", ":_-Ah:", ":A A:", "::;a;a", "()", "")},
    "value is bare": after(value="sig"),
    "Signature is missing": after(value=""),
    "Signature-Input is missing": after(inputs=""),
    "Signature is empty": after(value=" "),
    "Signature-Input is empty": after(inputs=" "),
    "label is in Signature alone": after(value=lambda text: f"{text}, other=:AAAA:"),
    "label is in Signature-Input alone": after(inputs=lambda text: f'{text}, other=("@method");created=1'),
    "labels differ": after(value=lambda text: text.replace("sig=", "gis=", 1)),
    "label in capitals": after(inputs=lambda text: text.replace("sig=", "Sig=", 1)),
    "label twice in Signature": after(value=lambda text: f"{text}, {text}"),
    "label twice in Signature-Input": after(inputs=lambda text: f"{text}, {text}"),
    "two signatures by tokens": after(
        inputs=lambda text: f'{text}, b=("@method");keyid="gwa_x"', value=lambda text: f"{text}, b=:AA==:"
    ),
    "several signatures and none by a token": after(
        inputs='a=("@method");keyid="x", b=("@method");keyid="y"', value="a=:AA==:, b=:AA==:"
    ),
    "nine signatures": after(
        inputs=lambda text: ", ".join([text, *(f"x{index}=()" for index in range(8))]),
        value=lambda text: ", ".join([text, *(f"x{index}=:AA==:" for index in range(8))]),
    ),
    "trailing comma": after(inputs=lambda text: f"{text},"),
    "no list": after(inputs=lambda text: 'sig="@method"' + text.partition(")")[2]),
    "a token in the list": before(covered='"@method" "@target-uri" host'),
    "no method is covered": before(covered='"@target-uri"'),
    "no target is covered": before(covered='"@method"'),
    "nothing is covered": before(covered=""),
    "no query is covered": before(covered='"@method" "@authority" "@path"'),
    "no authority is covered": before(covered='"@method" "@path" "@query"'),
    "a component twice": before(covered='"@method" "@target-uri" "@method"'),
    "a field that is not there": before(covered='"@method" "@target-uri" "x-absent"'),
    "a field in capitals": before(covered='"@method" "@target-uri" "Host"'),
    "@status": before(covered='"@method" "@target-uri" "@status"'),
    "@signature-params": before(covered='"@method" "@target-uri" "@signature-params"'),
    "an unknown component": before(covered='"@method" "@target-uri" "@body"'),
    **{f"parameter {name}": before(covered=f'"@method" "@target-uri" "host";{name}')
       for name in ("req", "tr", "sf", "x", "bs=1")},
    "33 components": before(covered='"@method" "@target-uri" ' + " ".join(f'"x{index}"' for index in range(31))),
    "body without a covered digest": ("itself", covering_too_little),
    "body without a digest": post(fields=lambda _: []),
    "digest by an unknown algorithm": post(fields=["Content-Digest: md5=:AAAA:"]),
    "digest of another length": post(fields=["Content-Digest: sha-256=:AAAA:"]),
    "digest that is no field": post(fields=["Content-Digest: sha-256"]),
    "Authorization beside it": field_("Authorization: Bearer gwa_x"),
    "a MAC beside it": field_('Authorization: MAC id="a"'),
    "token in the query": before(target="/signed/1?access_token=x"),
    "Connection takes a covered field away": before(
        covered='"@method" "@target-uri" "x-a"', fields=["X-A: 1", "Connection: x-a"]
    ),
    "target that is not ASCII": before(target="/signed/\xe4"),
    "an endless field": after(inputs=lambda text: text + ";a" * 3000),
}  # fmt: skip

FORGED: dict[str, tuple[str, Change]] = {
    "keyid is unknown": parameter("keyid", '"gwa_' + "A" * 40 + '"'),
    "keyid is foreign": parameter("keyid", '"somebody"'),
    "key of another": before(key="x" * 43),
    "value of another length": after(value="sig=:AAAA:"),
    "value is nothing": after(value="sig=::"),
    "value of zeros": after(value=f"sig=:{'A' * 43}=:"),
    "nonce was altered": after(inputs=lambda text: text.replace('"n1"', '"n2"')),
    "created was altered": after(inputs=lambda text: text.replace("created=1", "created=2", 1)),
    "a parameter was added": after(inputs=lambda text: f'{text};tag="x"'),
    "alg was added": after(inputs=lambda text: f'{text};alg="hmac-sha256"'),
    "a component was added": after(inputs=lambda text: text.replace('"@method"', '"@method" "host"')),
    "components in another order": after(
        inputs=lambda text: text.replace('"@method" "@target-uri"', '"@target-uri" "@method"')
    ),
    "method was altered": after(method="DELETE"),
    "method in lower case": after(method="get"),
    "query in another order": after(target="/signed/1?a=2&b=1"),
    "query was altered": after(target="/signed/1?b=1&a=3"),
    "query with one more &": after(target="/signed/1?b=1&a=2&"),
    "query was cut off": after(target="/signed/1"),
    "path was altered": after(target="/signed/2?b=1&a=2"),
    "path was encoded": after(target="/signed/%31?b=1&a=2"),
    "signed for another host": before(authority="other.test"),
    "signed with a port": before(authority="gateway.test:80"),
    "signed for a host in capitals": before(authority="Gateway.test"),
    "signed for another scheme": before(component=lambda name: "https" if name == '"@target-uri"' else "GET"),
    "forwarding fields claim another host": before(
        authority="evil.test", fields=["X-Forwarded-Host: evil.test", "Forwarded: host=evil.test"]
    ),
    "one route's signature on another's host": ("itself", moved),
    "created long ago": parameter("created", str(int(time.time()) - 10_000)),
    "created too far ahead": parameter("created", str(int(time.time()) + 10_000)),
    "created in a far future": parameter("created", "999999999999999"),
    "expired": ("before", expired),
    "body was altered": post(body=b"bodY"),
    "body was cut": post(body=b"bod"),
    "body is longer": post(body=b"body!"),
    "body in chunks was altered": post(body=b"bodY", chunked=True),
    "digest was altered": post(fields=[f"Content-Digest: {digest_of(b'other')}"], body=b"other"),
    "digest without a body": field_(f"Content-Digest: {digest_of(b'x')}"),
    "a covered field was altered": ("itself", lambda request: covered_field(request, "X-A: 2")),
    "a covered field was added to": ("itself", lambda request: covered_field(request, "X-A: 1", "X-A: 2")),
    "a covered field was taken apart": ("itself", lambda request: covered_field(request, "X-A:  ", "X-A: 1")),
}  # fmt: skip


def _made(signer: Signer, when: str, change: Change) -> Parts:
    request = parts(signer)
    if when == "after":
        request.sign()
    change(request)
    return request.sign() if when == "before" else request


def _is_challenged(reply: Reply, error: str) -> None:
    challenges = reply.all("www-authenticate")
    assert [challenge.split()[0] for challenge in challenges] == ["Signature"]
    assert challenges[0].startswith('Signature realm="gateway.test", error="' + error)
    assert reply.one("accept-signature").startswith('sig=("@method" "@target-uri"')
    assert reply.all("date")
    assert json.loads(reply.body)["error"] == error


async def _refuses(
    guarded: Rig, signer: Signer, database: str, rows: dict[str, tuple[str, Change]], status: int, error: str
) -> None:
    for name, (when, change) in rows.items():
        request = _made(signer, when, change)
        reply = await guarded.talk(request.bytes(), method=request.method)
        assert reply.status == status, (name, reply)
        _is_challenged(reply, error)
        assert signer.tokens.access_token not in reply.body.decode(), name
        assert (guarded.upstream.connections, await nonces(database)) == (0, 0), name


async def test_malformed_signature_is_400_and_does_nothing(guarded: Rig, signer: Signer, database: str) -> None:
    await _refuses(guarded, signer, database, MALFORMED, 400, "invalid_request")


async def test_wrong_signature_is_401_and_does_nothing(guarded: Rig, signer: Signer, database: str) -> None:
    await _refuses(guarded, signer, database, FORGED, 401, "invalid_token")


async def test_empty_query_is_not_taken_for_none(guarded: Rig, signer: Signer, database: str) -> None:
    # RFC 9421, section 2.2.7: "?" stands for both
    request = parts(signer, target="/signed/1", covered='"@method" "@authority" "@path" "@query"').sign()
    request.target = "/signed/1?"
    assert (await guarded.talk(request.bytes())).status == 400
    request.target = "/signed/1"
    assert (await guarded.talk(request.bytes())).status == 200


async def test_controls_break_http_before_anything_is_judged(guarded: Rig, signer: Signer, database: str) -> None:
    for control in "\x00\x01\x0b\x1b\x7f\n\r":
        request = parts(signer, parameters={"nonce": f'"a{control}b"'}).sign()
        assert (await guarded.talk(request.bytes())).status == 400, control
    assert (guarded.upstream.connections, await nonces(database)) == (0, 0)


async def test_flood_of_signatures_is_remembered_nowhere(guarded: Rig, signer: Signer) -> None:
    connection = await guarded.connect()
    for number in range(100):
        request = parts(signer, parameters={"nonce": f'"{number}"'}).sign()
        request.inputs = request.inputs.replace('"@method"', f'"@method" "x-{number}"')
        await connection.send(request.bytes())
        assert (await connection.reply()).status == 400
    connection.close()
    assert guarded.proxy.guard._make_refusal._kept.cache_info().currsize == 1
