"""`gateway mac`: sign requests as a MAC client does."""

import json
import re
import secrets
import sys
import time
from typing import Any, Final

import click

from gateway.credentials import Malformed, mac
from gateway.errors import OperatorError
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
            self.fail(f"{value!r}: drafts 03 to 05 are not accepted, since no two implementations agree.", param, ctx)
        return super().convert("01" if value == "02" else value, param, ctx)


DRAFT: Final = _Draft()

_SIGN_EXAMPLE = (
    "Example: gateway mac sign --id gwa_… --key-stdin --method GET --url 'https://api.example.com/api/notes?page=2'"
)


@click.group()
def command() -> None:
    """Sign requests with a MAC token (draft-ietf-oauth-v2-http-mac)."""


@command.command(epilog=_SIGN_EXAMPLE)
@click.option("--id", "token", metavar="TOKEN", required=True, help="The access token.")
@click.option(
    "--key",
    metavar="KEY",
    envvar="GATEWAY_MAC_KEY",
    help="The mac_key that came with the token; shell histories keep it, so better $GATEWAY_MAC_KEY or --key-stdin.",
)
@click.option("--key-stdin", is_flag=True, help="Read the key from standard input; one trailing line end is dropped.")
@click.option("--method", default="GET", show_default=True, help="The request's method.")
@click.option("--url", required=True, help="The whole URL of the request, as the client will send it.")
@click.option(
    "--algorithm", type=click.Choice(["hmac-sha-256", "hmac-sha-1"]), default="hmac-sha-256", show_default=True,
    help="The mac_algorithm that came with the token.",
)  # fmt: skip
@click.option("--draft", type=DRAFT, default="01", show_default=True, help="The draft to follow.")
@click.option("--ts", metavar="SECONDS", help="The time, in seconds since 1970 (draft 01).  [default: now]")
@click.option("--nonce", metavar="TEXT", help="The nonce; AGE:RANDOM in draft 00.  [default: random]")
@click.option("--ext", metavar="TEXT", help="Application data that is signed too.")
@click.option("--body", metavar="TEXT", help="A body whose hash is signed: bodyhash in draft 00, ext in draft 01.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the field's value in `authorization`.")
def sign(
    *,
    token: str,
    key: str | None,
    key_stdin: bool,
    method: str,
    url: str,
    algorithm: MacAlgorithm,
    draft: MacDraft,
    ts: str | None,
    nonce: str | None,
    ext: str | None,
    body: str | None,
    as_json: bool,
) -> None:
    """Print the Authorization field of a signed request."""
    if draft == "00" and ts is not None:
        raise click.UsageError("--ts belongs to draft 01; draft 00 has the age in its nonce.")
    if draft == "01" and ext is not None and body is not None:
        raise click.UsageError("--body goes into ext in draft 01: give --ext or --body.")
    secret, covered = _key(key, from_stdin=key_stdin), _covered(method, url)
    bodyhash = None if body is None else mac.body_hash(algorithm, body.encode("utf-8", "surrogateescape"))
    if draft == "01" and bodyhash is not None:
        ext, bodyhash = f"body_hash={bodyhash}", None
    if draft == "01":
        ts = ts or str(int(time.time()))
    nonce = nonce or ("" if draft == "01" else "0:") + secrets.token_urlsafe(12)
    try:
        text = mac.normalized_string(covered, nonce=nonce, ts=ts, bodyhash=bodyhash, ext=ext)
        signature = mac.sign(secret, algorithm, text)
        credentials = mac.Credentials(id=token, nonce=nonce, mac=signature, ts=ts, bodyhash=bodyhash, ext=ext)
    except Malformed as exc:
        raise OperatorError(f"mac sign: {exc}") from exc
    authorization = mac.render(credentials)
    if as_json:
        click.echo(json.dumps({"authorization": authorization, "normalized_string": text.decode("latin-1")}))
    else:
        click.echo(f"Authorization: {authorization}")


def _key(key: str | None, *, from_stdin: bool) -> bytes:
    source = click.get_current_context().get_parameter_source("key")
    if from_stdin and key is not None and source is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("Give --key or --key-stdin, not both.")
    if from_stdin:
        key = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if key is None:
        raise click.UsageError("The key is missing: give --key-stdin, $GATEWAY_MAC_KEY or --key.")
    if _KEY.fullmatch(key) is None:
        raise OperatorError("--key: the mac_key of the token answer is wanted: printable characters without blanks")
    return key.encode("ascii")


def _covered(method: str, url: str) -> mac.Covered:
    found = _URL.fullmatch(url)
    port = 0 if found is None else int(found[3] or _PORTS[found[1]])
    if found is None or not 1 <= port <= 65535:
        raise OperatorError(f"--url: http[s]://HOST[:PORT][/PATH][?QUERY] without a fragment is wanted, not {url!r}")
    target = found[4] or "/"
    if target.startswith("?"):
        target = f"/{target}"
    return mac.Covered(
        method=method.upper(), target=target.encode("utf-8", "surrogateescape"), host=found[2].lower(), port=port
    )
