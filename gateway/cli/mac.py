"""`gateway mac`: sign requests as a MAC client does, and explain why one does not verify."""

import json
import re
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli import mac_report, mac_verify
from gateway.cli.common import takes_config, with_config, with_json
from gateway.cli.usage import Noun
from gateway.credentials import MalformedCredential, mac
from gateway.credentials.variations import ELEMENTS
from gateway.faults import OperatorError
from gateway.model import MacAlgorithm, MacDraft

_URL = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?(/[^#]*|\?[^#]*)?")
_PORTS: Final = {"http": 80, "https": 443}
_KEY = re.compile(r"[\x21-\x7e]+")


class _Draft(click.Choice[str]):
    """A draft of the MAC specification; 02 is 01 with other prose, and is taken for it."""

    def __init__(self) -> None:
        super().__init__(["00", "01"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in ("03", "04", "05"):
            said = "drafts 03 to 05 are not accepted, since no two implementations agree; use 01 or 00."
            self.fail(f"{value!r}: {said}", param, ctx)
        return super().convert("01" if value == "02" else value, param, ctx)


DRAFT: Final = _Draft()
ALGORITHM: Final = click.Choice(["hmac-sha-256", "hmac-sha-1"])

_SIGN_EXAMPLE = (
    "Example: gateway mac sign --id gwa_… --key-stdin --method GET --url 'https://api.example.com/api/notes?page=2'"
)
_VERIFY_EXAMPLE = (
    'Example: gateway mac verify --authorization \'MAC id="gwa_…", ts="…", nonce="…", mac="…"\' --method GET '
    "--url 'https://api.example.com/api/notes?page=2' --explain"
)


def request_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say what is signed with which key, here and in `gateway signature`."""
    options = [
        click.option(
            "--key",
            metavar="KEY",
            envvar="GATEWAY_MAC_KEY",
            help="The mac_key that came with the token; shell histories keep it, so better $GATEWAY_MAC_KEY or "
            "--key-stdin.",
        ),
        click.option(
            "--key-stdin",
            is_flag=True,
            help="Read the key from standard input; one trailing line end is dropped.",
        ),
        click.option("--method", default="GET", show_default=True, help="The request's method."),
        click.option("--url", required=True, help="The whole URL of the request, as the client will send it."),
        click.option("--body", metavar="TEXT", help="The request's body."),
        click.option(
            "--body-file",
            metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False),
            help="The same from a file, byte for byte.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.group(cls=Noun, epilog="Example: gateway mac verify --help")
def command() -> None:
    """Sign requests with a MAC token (draft-ietf-oauth-v2-http-mac), and explain refusals."""


@command.command(epilog=_SIGN_EXAMPLE)
@click.option("--id", "token", metavar="TOKEN", required=True, help="The access token.")
@request_options
@click.option(
    "--algorithm", type=ALGORITHM, default="hmac-sha-256", show_default=True,
    help="The mac_algorithm that came with the token.",
)  # fmt: skip
@click.option("--draft", type=DRAFT, default="01", show_default=True, help="The draft to follow.")
@click.option("--ts", metavar="SECONDS", help="The time, in seconds since 1970 (draft 01).  [default: now]")
@click.option("--nonce", metavar="TEXT", help="The nonce; AGE:RANDOM in draft 00.  [default: random]")
@click.option("--ext", metavar="TEXT", help="Application data that is signed too.")
@click.option("--explain", is_flag=True, help="Print the string that is signed too, line by line.")
@takes_config
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the field's value in `authorization`.")
def sign(
    *,
    token: str,
    key: str | None,
    key_stdin: bool,
    method: str,
    url: str,
    body: str | None,
    body_file: Path | None,
    algorithm: MacAlgorithm,
    draft: MacDraft,
    ts: str | None,
    nonce: str | None,
    ext: str | None,
    explain: bool,
    as_json: bool,
) -> None:
    """Print the Authorization field of a signed request.

    With a body, its hash is signed: as bodyhash in draft 00, as body_hash=… in ext in draft 01.
    """
    content = body_of(body, body_file)
    if draft == "00" and ts is not None:
        raise click.UsageError(f"--ts {ts!r}: belongs to draft 01; leave it out, draft 00 has the age in its nonce")
    if draft == "01" and ext is not None and content is not None:
        raise click.UsageError("--ext, --body: give one of them, since the body's hash goes into ext in draft 01")
    secret, covered = needed_key_of(key, from_stdin=key_stdin), covered_by(url, method.upper())
    bodyhash = None if content is None else mac.body_hash(algorithm, content)
    if draft == "01" and bodyhash is not None:
        ext, bodyhash = f"body_hash={bodyhash}", None
    if draft == "01":
        ts = ts or str(int(time.time()))
    nonce = nonce or ("" if draft == "01" else "0:") + secrets.token_urlsafe(12)
    try:
        text = mac.normalized_string(covered, nonce=nonce, ts=ts, bodyhash=bodyhash, ext=ext)
        signature = mac.sign(secret, algorithm, text)
        credentials = mac.Credentials(id=token, nonce=nonce, mac=signature, ts=ts, bodyhash=bodyhash, ext=ext)
    except MalformedCredential as exc:
        raise OperatorError(f"mac sign: {exc}") from exc
    authorization = mac.render(credentials)
    if as_json:
        click.echo(json.dumps({"authorization": authorization, "normalized_string": text.decode("latin-1")}))
        return
    click.echo(f"Authorization: {authorization}")
    if explain:
        click.echo("\n".join(mac_report.string_by_line(text, ELEMENTS[draft])))


@command.command(epilog=_VERIFY_EXAMPLE)
@click.option("--authorization", metavar="FIELD", required=True, help="The Authorization field that was received.")
@request_options
@click.option("--target", metavar="TARGET", help="Path and query as the gateway got them.  [default: those of --url]")
@click.option(
    "--public-url", metavar="ORIGIN",
    help="Whose host and port the gateway covers.  [default: the configuration's, where it is read, else --url's]",
)  # fmt: skip
@click.option("--host", multiple=True, metavar="HOST[:PORT]", help="Another name that it may be called by; repeatable.")
@click.option("--algorithm", type=ALGORITHM, help="The token's mac_algorithm.  [default: hmac-sha-256, or as stored]")
@click.option("--other-key", multiple=True, metavar="KEY", help="Another key that may have been taken; repeatable.")
@click.option("--client-string", metavar="TEXT", help="What the client says that it signed, line ends as \\n.")
@click.option("--at", metavar="TIME", help="When the request came, such as a Date field's value.  [default: now]")
@click.option("--skew", metavar="DURATION", help="How far clocks may differ.  [default: mac.skew, else 60s]")
@click.option("--explain", is_flag=True, help="Show what the client signed beside what the gateway expects, and why.")
@with_config
@with_json
def verify(*, explain: bool, path: Path, as_json: bool, **given: Any) -> None:
    """Check a signed request as the gateway does; exit 0 if it verifies, else 1.

    With a key, nothing else is needed, and the configuration is read only where --config names one. Without a key,
    the token's is taken from the database, and the keys of its client's other tokens are tried too.
    """
    asked = _asked(**given)
    named = click.get_current_context().get_parameter_source("path") is click.core.ParameterSource.COMMANDLINE
    explained = mac_verify.verify(asked, path, with_config=named)
    if as_json:
        click.echo(json.dumps(mac_report.as_json(explained)))
    elif explain:
        click.echo(mac_report.as_text(explained))
    elif explained.verified:
        click.echo("verifies")
    else:
        raise mac_verify.refusal_of(explained)
    if not explained.verified:
        click.get_current_context().exit(1)


def _asked(
    *,
    authorization: str,
    key: str | None,
    key_stdin: bool,
    url: str,
    method: str,
    body: str | None,
    body_file: Path | None,
    at: str | None,
    other_key: tuple[str, ...],
    public_url: str | None,
    host: tuple[str, ...],
    skew: str | None,
    client_string: str | None,
    **unread: Any,
) -> mac_verify.VerifyOptions:
    """What the options of `verify` say. Raises OperatorError for one that cannot be read."""
    return mac_verify.VerifyOptions(
        authorization=mac_verify.authorization_of(authorization),
        key=key_of(key, from_stdin=key_stdin),
        other_keys=tuple(one.encode("utf-8", "surrogateescape") for one in other_key),
        called=covered_by(url, method),
        public_url=None if public_url is None else covered_by(public_url, method, "--public-url"),
        hosts=host,
        body=body_of(body, body_file),
        at=None if at is None else mac_verify.moment_of(at),
        skew=None if skew is None else mac_verify.skew_of(skew),
        client_string=None if client_string is None else mac_verify.string_of(client_string),
        **unread,
    )


# -- options -------------------------------------------------------------------------------------------------


def key_of(key: str | None, *, from_stdin: bool) -> bytes | None:
    """The key that the options name, if they do."""
    source = click.get_current_context().get_parameter_source("key")
    if from_stdin and key is not None and source is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--key, --key-stdin: give one of them, not both")
    if from_stdin:
        key = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if key is None:
        return None
    if _KEY.fullmatch(key) is None:
        raise OperatorError("--key: must be the mac_key from the token response: printable characters without spaces")
    return key.encode("ascii")


def needed_key_of(key: str | None, *, from_stdin: bool) -> bytes:
    """The key that the options name. Raises UsageError where they name none."""
    secret = key_of(key, from_stdin=from_stdin)
    if secret is None:
        raise click.UsageError("--key: must be given; --key-stdin or $GATEWAY_MAC_KEY is safer")
    return secret


def body_of(text: str | None, file: Path | None) -> bytes | None:
    """The body that the options name, if they do."""
    if file is None:
        return None if text is None else text.encode("utf-8", "surrogateescape")
    if text is not None:
        raise click.UsageError("--body, --body-file: give one of them, not both")
    try:
        return file.read_bytes()
    except OSError as exc:
        raise OperatorError(f"--body-file {str(file)!r}: {exc.strerror}") from exc


def covered_by(url: str, method: str, option: str = "--url") -> mac.Covered:
    """The parts of a request to `url` that a signature covers. Raises OperatorError."""
    found = _URL.fullmatch(url)
    port = 0 if found is None else int(found[3] or _PORTS[found[1]])
    if found is None or not 1 <= port <= 65535:
        raise OperatorError(f"{option}: must be http[s]://HOST[:PORT][/PATH][?QUERY] without a fragment, not {url!r}")
    target = found[4] or "/"
    if target.startswith("?"):
        target = f"/{target}"
    return mac.Covered(
        method=method, target=target.encode("utf-8", "surrogateescape"), host=found[2].lower(), port=port
    )
