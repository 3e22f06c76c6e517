"""`gateway signature`: sign requests by HTTP Message Signatures, as a client does."""

import json
import re
import secrets
import time
from pathlib import Path

import click

from gateway.cli.common import takes_config
from gateway.cli.mac import body_of, covered_by, needed_key_of, request_options
from gateway.cli.usage import Noun
from gateway.credentials import MalformedCredential, content_digest, signatures, structured
from gateway.credentials.components import Fields, Message, authority, signature_base
from gateway.credentials.structured import InnerList, Item
from gateway.faults import OperatorError

_EXAMPLE = (
    "Example: gateway signature sign --keyid gwa_… --key-stdin --method POST --url 'https://api.example.com/api/notes' "
    "--body-file note.json --field 'Content-Type: application/json' --cover content-type"
)
_LONGEST = 4096  # bytes of all components to cover
_LABEL = re.compile(r"[a-z*][a-z0-9_.*-]*", re.ASCII)  # a key of a dictionary (RFC 9651, section 3.1.2)


@click.group(cls=Noun, epilog="Example: gateway signature sign --help")
def command() -> None:
    """Sign requests by HTTP Message Signatures with a MAC token (RFC 9421, hmac-sha256)."""


@command.command(epilog=_EXAMPLE)
@click.option("--keyid", metavar="TOKEN", required=True, help="The access token.")
@request_options
@click.option(
    "--field", "lines", metavar="LINE", multiple=True, help="A field of the request, NAME: VALUE; repeatable."
)
@click.option(
    "--cover", metavar="COMPONENT", multiple=True,
    help="What else to sign, such as content-type or '\"@query-param\";name=\"page\"'; repeatable.",
)  # fmt: skip
@click.option("--created", metavar="SECONDS", type=int, help="The time, in seconds since 1970.  [default: now]")
@click.option("--expires", metavar="SECONDS", type=int, help="From when on the signature counts no longer.")
@click.option("--nonce", metavar="TEXT", help="The nonce.  [default: random]")
@click.option("--label", default=signatures.LABEL, show_default=True, help="The signature's label.")
@click.option("--explain", is_flag=True, help="Print the signature base too.")
@takes_config
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the values of the fields.")
def sign(
    *,
    keyid: str,
    key: str | None,
    key_stdin: bool,
    method: str,
    url: str,
    body: str | None,
    body_file: Path | None,
    lines: tuple[str, ...],
    cover: tuple[str, ...],
    created: int | None,
    expires: int | None,
    nonce: str | None,
    label: str,
    explain: bool,
    as_json: bool,
) -> None:
    """Print the fields Signature-Input and Signature of a signed request, and Content-Digest where it has a body."""
    secret = needed_key_of(key, from_stdin=key_stdin)
    if _LABEL.fullmatch(label) is None:
        raise OperatorError(
            f"--label: must be small letters, digits and _-.*, a letter or * first, such as sig, not {label!r}"
        )
    message, digest = _message(method.upper(), url, body_of(body, body_file), _fields(lines))
    parameters: structured.Parameters = {"created": int(time.time()) if created is None else created}
    parameters |= {} if expires is None else {"expires": expires}
    parameters |= {"nonce": secrets.token_urlsafe(16) if nonce is None else nonce, "keyid": keyid}
    try:
        stated = InnerList((*_least(message), *_further(cover)), parameters)
        inputs, value = signatures.render(signatures.sign(secret, message, stated, label))
        signatures.parse([inputs.encode()], [value.encode()])  # what the gateway would not read is not printed
        base = signature_base(message, stated).decode("ascii")
    except MalformedCredential as exc:
        raise OperatorError(f"signature sign: {exc}") from exc
    fields = {"Content-Digest": digest} if digest is not None else {}
    fields |= {"Signature-Input": inputs, "Signature": value}
    if as_json:
        named = {name.lower().replace("-", "_"): text for name, text in fields.items()}
        click.echo(json.dumps({**named, "signature_base": base}))
    else:
        click.echo("\n".join([*(f"{name}: {text}" for name, text in fields.items()), *(["", base] if explain else [])]))


def _message(method: str, url: str, body: bytes | None, fields: Fields) -> tuple[Message, str | None]:
    """The request that is signed, and its Content-Digest."""
    covered, scheme = covered_by(url, method), url.partition(":")[0]
    digest = None if body is None else content_digest.render(body)
    if digest is not None:
        if any(name == content_digest.FIELD for name, _, _ in fields):
            raise click.UsageError("--field, --body: Content-Digest is made from the body; leave one of them out")
        fields = (*fields, (content_digest.FIELD, b"Content-Digest", digest.encode("ascii")))
    message = Message(
        method=method,
        target=covered.target,
        scheme=scheme,
        authority=authority(scheme, covered.host, covered.port),
        fields=fields,
        has_body=body is not None,
    )
    return message, digest


def _fields(lines: tuple[str, ...]) -> Fields:
    fields = []
    for line in lines:
        name, colon, value = line.encode("utf-8", "surrogateescape").partition(b":")
        if not colon or not name:
            raise click.UsageError(f"--field: must be NAME: VALUE, not {line!r}")
        fields.append((name.lower(), name, value.strip(b" \t")))
    return tuple(fields)


def _least(message: Message) -> tuple[Item, ...]:
    """The components that a signature must cover: the method, the target and, with a body, its digest."""
    names = ("@method", "@target-uri", *(("content-digest",) if message.has_body else ()))
    return tuple(Item(name, {}) for name in names)


def _further(cover: tuple[str, ...]) -> tuple[Item, ...]:
    """The components to cover beside those that must be: bare names, or identifiers as a signature's input spells them.

    Raises MalformedCredential.
    """
    spelt = " ".join(text if text.startswith('"') else f'"{text.lower()}"' for text in cover)
    stated = f"cover=({spelt})".encode("utf-8", "surrogateescape")
    found = structured.dictionary([stated], field="--cover", longest=_LONGEST)
    member = found.get("cover")
    return member.items if isinstance(member, InnerList) else ()
