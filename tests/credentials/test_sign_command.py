"""`gateway mac sign`: the line it prints, where the key may come from, and one line for what is wrong."""

import json
import time
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import root
from gateway.credentials import mac

KEY = "489dks293j39"
VECTOR = [
    "--id", "h480djs93hd8", "--key", KEY, "--url", "http://example.com/resource/1?b=1&a=2",
    "--ts", "1336363200", "--nonce", "dj83hs9s", "--algorithm", "hmac-sha-1",
]  # fmt: skip


def _run(*args: str, **more: Any) -> Result:
    return CliRunner().invoke(root, ["mac", "sign", *args], **more)


def _attributes(result: Result) -> mac.Credentials:
    assert result.exit_code == 0, result.stderr
    return mac.parse(result.stdout.removeprefix("Authorization: MAC ").strip().encode())


def test_vector_of_draft_01_is_printed_as_a_header_line() -> None:
    assert _run(*VECTOR).stdout == (
        'Authorization: MAC id="h480djs93hd8", ts="1336363200", nonce="dj83hs9s", mac="6T3zZzy2Emppni6bzL7kdRxUWL4="\n'
    )


def test_vector_of_draft_00_covers_the_body() -> None:
    result = _run(
        "--id", "jd93dh9dh39D", "--key", "8yfrufh348h", "--method", "POST", "--url", "http://example.com/request",
        "--draft", "00", "--nonce", "273156:di3hvdf8", "--algorithm", "hmac-sha-1", "--body", "hello=world%21",
    )  # fmt: skip
    read = _attributes(result)
    assert (read.bodyhash, read.mac) == ("k9kbtCIy0CkI3/FEfpS/oIDjk6k=", "W7bdMZbv9UWOTadASIQHagZyirA=")


def test_json_has_the_value_and_what_was_signed() -> None:
    printed = json.loads(_run(*VECTOR, "--json").stdout)
    assert printed["authorization"].startswith('MAC id="h480djs93hd8", ')
    assert printed["normalized_string"].split("\n")[:4] == ["1336363200", "dj83hs9s", "GET", "/resource/1?b=1&a=2"]
    assert KEY not in json.dumps(printed)


def test_time_and_nonce_are_made_anew() -> None:
    args = ["--id", "a", "--key", KEY, "--url", "https://api.example.com/notes"]
    one, two = _attributes(_run(*args)), _attributes(_run(*args))
    assert one.ts is not None
    assert abs(int(one.ts) - time.time()) < 60
    assert one.nonce != two.nonce
    covered = mac.Covered(method="GET", target=b"/notes", host="api.example.com", port=443)
    text = mac.normalized_string(covered, ts=one.ts, nonce=one.nonce)
    assert mac.sign(KEY.encode(), "hmac-sha-256", text) == one.mac


def test_body_of_draft_01_goes_into_ext() -> None:
    read = _attributes(_run("--id", "a", "--key", KEY, "--url", "http://x/", "--body", "hello"))
    assert read.ext == "body_hash=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="


def test_draft_00_nonce_is_made_with_an_age() -> None:
    read = _attributes(_run("--id", "a", "--key", KEY, "--url", "http://x/", "--draft", "00"))
    assert (read.draft, read.nonce[:2]) == ("00", "0:")


@pytest.mark.parametrize(
    ("given", "environment"),
    [({"input": KEY}, {}), ({"input": f"{KEY}\n"}, {}), ({"input": f"{KEY}\r\n"}, {"GATEWAY_MAC_KEY": "another"})],
)
def test_key_comes_from_standard_input(given: dict[str, str], environment: dict[str, str]) -> None:
    rest = [arg for arg in VECTOR if arg not in ("--key", KEY)]
    assert _run(*rest, "--key-stdin", env=environment, **given).stdout == _run(*VECTOR).stdout


def test_key_comes_from_the_environment() -> None:
    rest = [arg for arg in VECTOR if arg not in ("--key", KEY)]
    assert _run(*rest, env={"GATEWAY_MAC_KEY": KEY}).stdout == _run(*VECTOR).stdout


@pytest.mark.parametrize(
    ("url", "lines"),
    [
        ("http://EXAMPLE.com", ["/", "example.com", "80"]),
        ("https://example.com", ["/", "example.com", "443"]),
        ("https://example.com:8443/a?", ["/a?", "example.com", "8443"]),
        ("http://example.com?q", ["/?q", "example.com", "80"]),
        ("http://[::1]:8080/a%2Fb/../c", ["/a%2Fb/../c", "[::1]", "8080"]),
    ],
)
def test_url_is_signed_byte_for_byte(url: str, lines: list[str]) -> None:
    printed = json.loads(_run("--id", "a", "--key", KEY, "--url", url, "--json").stdout)
    assert printed["normalized_string"].split("\n")[3:6] == lines


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        (["--url", "example.com/a"], 1, "--url: must be http[s]://HOST"),
        (["--url", "ftp://x/"], 1, "--url"),
        (["--url", "http://x/#fragment"], 1, "without a fragment"),
        (["--url", "http://u:p@x/"], 1, "--url"),
        (["--url", "http://x:0/"], 1, "--url"),
        (["--url", "http://x:99999/"], 1, "--url"),
        (["--url", "http://x/a b"], 1, "must not contain spaces"),
        (["--url", "http://x/a\n"], 1, "must not contain spaces"),
        (["--method", "G T"], 1, "method"),
        (["--nonce", 'a"b'], 1, "nonce is malformed"),
        (["--nonce", "ł"], 1, "nonce is malformed"),
        (["--nonce", "a\nb"], 1, "nonce is malformed"),
        (["--nonce", "a" * 129], 1, "longer than 128"),
        (["--ext", ""], 1, "ext is malformed"),
        (["--id", ""], 1, "id is malformed"),
        (["--ts", "-1"], 1, "ts is malformed: it must be a positive number of seconds"),
        (["--ts", "now"], 1, "ts is malformed"),
        (["--key", "two words"], 1, "--key"),
        (["--key", ""], 1, "--key"),
        (["--draft", "03"], 2, "--draft"),
        (["--algorithm", "md5"], 2, "--algorithm"),
        (["--draft", "00", "--ts", "1"], 2, "--ts '1': belongs to draft 01"),
        (["--draft", "00", "--nonce", "no-age"], 1, "AGE:RANDOM"),
        (["--ext", "a", "--body", "b"], 2, "--ext, --body: give one"),
        (["--key-stdin"], 2, "not both"),
    ],
)
def test_bad_input_is_told_without_a_traceback(changes: list[str], code: int, said: str) -> None:
    usual = {"--id": "a", "--key": KEY, "--url": "http://x/"}
    given = dict(zip(changes[::2], changes[1::2], strict=False)) if len(changes) > 1 else {}
    args = [part for pair in (usual | given).items() for part in pair] + (changes if len(changes) == 1 else [])
    result = _run(*args, input=KEY)
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert KEY not in result.stderr
    assert result.stdout == ""
    if code == 1:
        assert result.stderr.count("\n") == 1


def test_absent_key_is_a_usage_fault() -> None:
    result = _run("--id", "a", "--url", "http://x/", env={"GATEWAY_MAC_KEY": None})
    assert result.exit_code == 2
    assert "--key: must be given" in result.stderr
