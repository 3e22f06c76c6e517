"""`gateway signature sign`: the fields it prints are those that the gateway proves, and what is wrong is one line."""

import json
import time
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import root
from gateway.credentials import signatures
from gateway.credentials.components import Message
from tests.credentials.messages import KEY, TOKEN, fields

URL = "https://API.example.com:443/api/notes?page=2&q=%20x"
USUAL = ("--keyid", TOKEN, "--key", KEY.decode(), "--url", URL)


def _run(*args: str, **more: Any) -> Result:
    return CliRunner().invoke(root, ["signature", "sign", *args], **more)


def _proven(printed: str, *lines: str, method: str = "GET", has_body: bool = False) -> bool:
    """Whether the printed fields, with other lines, are a proven signature of the request."""
    pairs = [line.split(": ", 1) for line in (*lines, *printed.splitlines())]
    message = Message(
        method=method,
        target=b"/api/notes?page=2&q=%20x",
        scheme="https",
        authority="api.example.com",
        fields=fields(**{name.replace("-", "_"): value for name, value in pairs}),
        has_body=has_body,
    )
    found = signatures.from_message(message)
    assert abs((found.created or 0) - time.time()) < 60
    return found.proven_by(KEY, "hmac-sha-256")


def test_request_without_a_body_gets_two_fields() -> None:
    result = _run(*USUAL, "--method", "get")
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["Signature-Input", "Signature"]
    assert _proven(result.stdout)
    assert _run(*USUAL).stdout != _run(*USUAL).stdout  # another nonce


def test_body_is_covered_by_its_digest() -> None:
    result = _run(*USUAL, "--method", "POST", "--body", "hello")
    assert result.stdout.startswith("Content-Digest: sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:\n")
    assert _proven(result.stdout, method="POST", has_body=True)


def test_more_is_covered_and_explained() -> None:
    result = _run(
        *USUAL, "--field", "Accept: a/b", "--cover", "Accept", "--cover", '"@query-param";name="q"', "--nonce", 'a"b',
        "--expires", str(int(time.time()) + 60), "--label", "mine", "--explain",
    )  # fmt: skip
    printed, base = result.stdout.split("\n\n")
    assert _proven(printed, "Accept: a/b")
    assert printed.startswith(
        'Signature-Input: mine=("@method" "@target-uri" "accept" "@query-param";name="q");created='
    )
    assert base.splitlines()[1:4] == [
        '"@target-uri": https://api.example.com/api/notes?page=2&q=%20x',
        '"accept": a/b',
        '"@query-param";name="q": %20x',
    ]


def test_json_has_the_values_and_what_was_signed() -> None:
    printed = json.loads(_run(*USUAL, "--body", "", "--created", "1700000000", "--nonce", "n", "--json").stdout)
    assert list(printed) == ["content_digest", "signature_input", "signature", "signature_base"]
    stated = printed["signature_input"].removeprefix("sig=")
    assert stated == f'("@method" "@target-uri" "content-digest");created=1700000000;nonce="n";keyid="{TOKEN}"'
    assert printed["signature_base"].endswith(f'"@signature-params": {stated}')
    assert KEY.decode() not in json.dumps(printed)


def test_key_comes_from_standard_input_too() -> None:
    assert _proven(_run("--keyid", TOKEN, "--key-stdin", "--url", URL, input=f"{KEY.decode()}\n").stdout)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--cover", "x-absent"), "Component 3 of the signature is a field that the request does not have."),
        (("--cover", "@method"), "Component 3 of the signature is covered twice."),
        (("--cover", "@status"), "not known for requests"),
        (("--cover", '"@query-param"'), "takes one parameter"),
        (("--cover", '"x'), "--cover is not a well-formed structured field"),
        (("--cover", "\udcff"), "--cover is not a well-formed structured field"),  # a byte that is no UTF-8
        (("--label", "Sig"), "--label: must be small letters, digits"),
        (("--label", ""), "such as sig, not ''"),
        (("--nonce", ""), "nonce is malformed"),
        (("--nonce", "n" * 129), "nonce is longer than 128 characters"),
        (("--nonce", "\xe4"), "characters"),
        (("--created", "-1"), "created is malformed"),
        (("--created", "1700000000", "--expires", "1"), "expires is earlier than created"),
        (("--url", "example.com"), "--url: must be http[s]://HOST"),
        (("--url", "https://api.example.com/\xe4"), "not ASCII: percent-encode it"),
    ],
)
def test_what_cannot_be_signed_is_said_in_one_line(options: tuple[str, ...], said: str) -> None:
    result = _run(*USUAL, *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [("--field", "no colon"), ("--field", "Content-Digest: md5=:AA==:", "--body", "x"), ("--created", "now")],
)
def test_wrong_use_exits_with_2(options: tuple[str, ...]) -> None:
    assert _run(*USUAL, *options).exit_code == 2


def test_key_must_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_MAC_KEY", raising=False)
    assert _run("--keyid", TOKEN, "--url", URL).exit_code == 2
