"""`gateway mac verify`: what it shows and where it looks; which causes there are, `test_mac_explaining` knows."""

import json
import time
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import root
from tests.cli.conftest import Answer, Terminal, matches

KEY = "obviously-fake-489dks293j39-8yfrufh3"
URL = "https://api.example.com/api/notes?b=1&a=2"
NOW = int(time.time())


def _run(*arguments: str, env: dict[str, str | None] | None = None, text: str = "") -> Answer:
    """A command where no configuration and no database is."""
    nowhere = {"GATEWAY_CONFIG": "/nowhere/config.toml", "COLUMNS": "100", **(env or {})}
    done = CliRunner().invoke(root, ["mac", *arguments], input=text, env=nowhere)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Answer(done.exit_code, done.stdout, done.stderr)


def _signed(*options: str, url: str = URL, key: str = KEY, token: str = "gwa_x") -> str:
    """The header line that `mac sign` prints."""
    done = _run("sign", "--id", token, "--key", key, "--url", url, *options)
    assert done.code == 0, done.err
    return done.out.removesuffix("\n")


def _verified(header: str, *options: str, url: str = URL, key: str = KEY) -> Answer:
    return _run("verify", "--authorization", header, "--key", key, "--url", url, *options)


def _told(done: Answer) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(done.out)
    assert done.code == (0 if told["verified"] else 1)
    assert done.err == ""
    assert KEY not in done.out
    return told


def _names(told: dict[str, Any]) -> list[str]:
    return [cause["name"] for cause in told["causes"]]


# -- without a database --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strip", [True, False], ids=["the value", "the line"])
@pytest.mark.parametrize("options", [(), ("--draft", "00"), ("--algorithm", "hmac-sha-1"), ("--body", "x")])
def test_what_sign_prints_verifies(options: Sequence[str], strip: bool) -> None:
    header = _signed(*options)
    given = [option for option in options if option not in ("--draft", "00")]
    done = _verified(header.removeprefix("Authorization: ") if strip else header, *given)
    assert (done.code, done.out, done.err) == (0, "verifies\n", "")


def test_both_strings_stand_side_by_side_with_the_first_difference() -> None:
    header = _signed("--ts", str(NOW), "--nonce", "n1")
    done = _verified(header, "--explain", url="https://api.example.com/api/notes?a=2&b=1")
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[0] == "does not verify (draft 01, hmac-sha-256)"
    assert lines[1] == "  query order: The query's parameters were signed in a different order."
    at = lines.index("              client signed                               gateway expects")
    assert [line.split() for line in lines[at + 1 : at + 10]] == [
        ["ts", f"{NOW}\\n", f"{NOW}\\n"],
        ["nonce", "n1\\n", "n1\\n"],
        ["method", "GET\\n", "GET\\n"],
        [">", "request-uri", "/api/notes?b=1&a=2\\n", "/api/notes?a=2&b=1\\n"],
        ["^", "^"],
        ["host", "api.example.com\\n", "api.example.com\\n"],
        ["port", "443\\n", "443\\n"],
        ["ext", "\\n", "\\n"],
        [],
    ]
    uri, carets = lines[at + 4], lines[at + 5]
    assert [uri[index] for index, mark in enumerate(carets) if mark == "^"] == ["b", "a"]
    assert lines[-1] == 'first difference: line 4 (request-uri), character 12: the client has "b", the gateway has "a"'


def test_long_lines_are_wrapped_and_the_mark_stands_below_the_character() -> None:
    path = "/" + "abcdefghij" * 12
    header = _signed(url=f"https://api.example.com{path}?b&a")
    done = _verified(header, "--explain", url=f"https://api.example.com{path}?a&b")
    lines = done.out.splitlines()
    (at,) = [index for index, line in enumerate(lines) if set(line.split()) == {"^"}]
    assert [lines[at - 1][index] for index, mark in enumerate(lines[at]) if mark == "^"] == ["b", "a"]
    assert max(map(len, lines[lines.index("") :])) <= 100


def test_nothing_in_a_request_reaches_the_terminal_raw() -> None:
    header = 'MAC id="a", ts="1", nonce="\x1b[31m\x07é", mac="AAAA"'
    done = _verified(header, "--explain", "--target", "/\x1b]0;x\x07é")
    assert done.code == 1
    assert done.out.replace("\n", "").isascii()
    assert done.out.replace("\n", "").isprintable()


def test_json_has_all_of_it() -> None:
    told = _told(_verified(_signed(), "--json", url="https://api.example.com/api/notes?a=2&b=1"))
    assert (told["verified"], told["draft"], told["algorithm"]) == (False, "01", "hmac-sha-256")
    assert _names(told) == ["query_order"]
    assert told["client_string"].split("\n")[3] == "/api/notes?b=1&a=2"
    assert told["gateway_string"].split("\n")[3] == "/api/notes?a=2&b=1"
    assert told["first_difference"] == {
        "line": 4, "element": "request-uri", "character": 12, "client": "b", "gateway": "a",
    }  # fmt: skip
    right = _told(_verified(_signed(), "--json"))
    assert (right["verified"], right["causes"], right["first_difference"]) == (True, [], None)
    assert right["client_string"] == right["gateway_string"]


def test_without_explain_the_cause_is_one_line() -> None:
    fault = _verified(_signed(), url="https://api.example.com/api/notes?a=2&b=1").fault
    assert fault.startswith("gateway: mac verify: The query's parameters were signed in a different order.")


@pytest.mark.parametrize(
    ("options", "name", "said"),
    [
        (("--public-url", "http://gateway.internal:8080"), "host", "through another proxy"),
        (("--public-url", "http://api.example.com"), "port", "TLS ends"),
        (("--target", "/gw/api/notes?b=1&a=2"), "target", "changed the target on its way"),
        (("--method", "POST"), "method", "signed GET, but POST was sent"),
        (("--method", "get"), "malformed", "upper case"),
        (("--at", str(NOW - 4000)), "clock", "s ahead; up to 60 s is accepted"),
        (("--at", formatdate(NOW + 4000, usegmt=True)), "clock", "s behind"),
        (("--at", "2031-01-01T00:00:00Z"), "clock", "s behind"),
        (("--algorithm", "hmac-sha-1"), "algorithm_mismatch", "signed with hmac-sha-256"),
        (("--key", "wrong"), "another_key_or_string", "key of another token"),
        (("--key", "wrong", "--other-key", "also-wrong", "--other-key", KEY), "key_of_another_token", "given (2)"),
    ],
)
def test_likely_cause_is_named(options: Sequence[str], name: str, said: str) -> None:
    told = _told(_verified(_signed(), "--json", *options))
    assert told["causes"][0]["name"] == name
    assert said in told["causes"][0]["description"]


def test_other_name_of_the_gateway_is_tried() -> None:
    header = _signed(url="https://edge.example.net:4443/api/notes?b=1&a=2")
    assert _names(_told(_verified(header, "--json"))) == ["another_key_or_string"]
    assert _names(_told(_verified(header, "--json", "--host", "edge.example.net:4443"))) == ["host"]


def test_skew_counts() -> None:
    header = _signed("--ts", str(NOW))
    for skew, verified in (("30s", False), ("10m", True)):
        told = _told(_verified(header, "--json", "--at", str(NOW + 90), "--skew", skew))
        assert told["verified"] is verified
    told = _told(_verified(header, "--json", "--at", str(NOW + 47)))
    assert "47 s behind" in told["remarks"][0]


def test_body_from_a_file_is_judged_byte_for_byte(tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"\x00\xffhello\r\n")
    header = _signed("--method", "PUT", "--body-file", str(file))
    assert _told(_verified(header, "--json", "--method", "PUT", "--body-file", str(file)))["verified"]
    file.write_bytes(b"\x00\xffhello\n")
    told = _told(_verified(header, "--json", "--method", "PUT", "--body-file", str(file)))
    assert _names(told) == ["body_changed"]
    assert "other line ends" in told["causes"][0]["description"]


@pytest.mark.parametrize("escape", [True, False])
def test_string_that_the_client_logged_is_compared(escape: bool) -> None:
    signed = json.loads(_run("sign", "--id", "a", "--key", KEY, "--url", "https://api.example.com/x", "--json").out)
    text = signed["normalized_string"]
    given = json.dumps(text)[1:-1] if escape else text.rstrip("\n")
    told = _told(_verified(signed["authorization"], "--json", "--client-string", given))
    assert _names(told) == ["request_uri"]
    assert told["client_string"] == text
    assert told["first_difference"]["character"] == 2


def test_sign_shows_what_it_signed() -> None:
    lines = _signed("--explain", "--ts", "1", "--nonce", "n").splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["ts", "1\\n"], ["nonce", "n\\n"], ["method", "GET\\n"], ["request-uri", "/api/notes?b=1&a=2\\n"],
        ["host", "api.example.com\\n"], ["port", "443\\n"], ["ext", "\\n"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--at", "yesterday"), "--at: must be seconds since 1970, or a time"),
        (("--at", "-5"), "--at: "),
        (("--at", "nan"), "--at: "),
        (("--skew", "1"), "--skew: must be a duration"),
        (("--skew", "11m"), "--skew: must be a duration"),
        (("--public-url", "example.com"), "--public-url: must be http"),
        (("--url", "example.com"), "--url: must be http"),
        (("--body-file", "/nowhere/body"), "--body-file '/nowhere/body': No such file"),
        (("--key", "two words"), "--key: "),
    ],
)
def test_bad_option_is_one_line(options: Sequence[str], told: str) -> None:
    fault = _verified("MAC x", *options).fault
    assert told in fault


def test_a_configuration_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert "No such file" in _verified("MAC x", "--config", str(tmp_path / "none.toml")).refused_with(78)


@pytest.mark.parametrize(
    "options", [("--algorithm", "md5"), ("--body", "a", "--body-file", "b"), ("--key-stdin",), ("--unknown",)]
)
def test_wrong_usage_is_exit_2(options: Sequence[str]) -> None:
    assert _verified("MAC x", *options).code == 2


def test_key_comes_from_standard_input_or_the_environment() -> None:
    header = _signed()
    asked = ("verify", "--authorization", header, "--url", URL)
    assert _run(*asked, "--key-stdin", text=f"{KEY}\n").code == 0
    assert _run(*asked, env={"GATEWAY_MAC_KEY": KEY}).code == 0


# -- with the configuration and the store --------------------------------------------------------------------

_TABLES: dict[str, Any] = {
    "scopes": {"notes:read": "Read your notes"},
    "server": {"public_url": "https://api.example.com"},
    "mac": {"drafts": ["01", "00"], "algorithms": ["hmac-sha-256", "hmac-sha-1"], "skew": "2m"},
}
_ROUTES = (
    '[[routes]]\nname = "notes"\npath = "/api/notes"\nupstreams = ["http://127.0.0.1:9"]\nauth = ["mac"]\n'
    "mac_body_hash = true\n"
    '[[routes]]\nname = "own"\npath = "/own"\nhosts = ["own.example.com"]\nupstreams = ["http://127.0.0.1:9"]\n'
    'auth = ["bearer"]\n'
)


@pytest.fixture
def issuing(gateway: Terminal) -> Terminal:
    """A terminal with routes and the rules of MAC tokens."""
    key, dsn = gateway.config.with_name("master.key"), gateway.config.with_name("dsn").read_text()
    tables = {**_TABLES, "database": {"url": dsn}, "keys": {"master": {"file": str(key)}}}
    gateway.rewrite(tables)
    gateway.config.write_text(gateway.config.read_text() + _ROUTES)
    return gateway


def _token(issuing: Terminal, *options: str) -> dict[str, Any]:
    client_id = issuing.client("--token-type", "mac", *options)["client_id"]
    issued: dict[str, Any] = issuing("token", "issue", "--client", client_id, "--json").json
    return issued | {"client_id": client_id}


def _looked_up(issuing: Terminal, header: str, *options: str, url: str = URL) -> dict[str, Any]:
    done = issuing("mac", "verify", "--authorization", header, "--url", url, "--json", *options)
    assert done.err == ""
    told: dict[str, Any] = json.loads(done.out)
    assert done.code == (0 if told["verified"] else 1)
    return told


def test_key_and_algorithm_of_a_known_token_are_looked_up(issuing: Terminal) -> None:
    issued = _token(issuing, "--mac-algorithm", "hmac-sha-1")
    header = _signed("--algorithm", "hmac-sha-1", key=issued["mac_key"], token=issued["access_token"])
    told = _looked_up(issuing, header)
    assert (told["verified"], told["algorithm"]) == (True, "hmac-sha-1")
    assert issued["mac_key"] not in str(told)
    plain = issuing("mac", "verify", "--authorization", header, "--url", URL, "--explain")
    assert plain.code == 0
    assert issued["mac_key"] not in plain.out


def test_key_of_another_token_of_the_client_is_found(issuing: Terminal) -> None:
    one = _token(issuing)
    two = issuing("token", "issue", "--client", one["client_id"], "--json").json
    told = _looked_up(issuing, _signed(key=two["mac_key"], token=one["access_token"]))
    assert _names(told) == ["key_of_another_token"]
    assert matches("key of another token of this client, issued 20", told["causes"][0]["description"])
    assert two["mac_key"] not in str(told)


def test_what_the_configuration_says_is_what_the_gateway_covers(issuing: Terminal) -> None:
    issued = _token(issuing)
    for url, names in (
        ("http://127.0.0.1:8080/api/notes", ["host"]),
        ("https://API.EXAMPLE.COM/api/notes", []),
        ("https://own.example.com/own", []),
        ("https://other.example.com/own", ["host"]),
    ):
        told = _looked_up(issuing, _signed(url=url, key=issued["mac_key"], token=issued["access_token"]), url=url)
        assert _names(told) == names, url


def test_configuration_is_read_with_a_key_where_it_is_named(issuing: Terminal) -> None:
    url = "http://127.0.0.1:8080/api/notes"
    asked = ("mac", "verify", "--authorization", _signed(url=url), "--key", KEY, "--url", url, "--json")
    assert issuing(*asked).code == 0
    told = json.loads(issuing(*asked, "--config", str(issuing.config)).out)
    assert _names(told) == ["host"]
    assert "'127.0.0.1:8080'" in told["causes"][0]["description"]


def test_rules_of_route_client_and_configuration_count(issuing: Terminal) -> None:
    issued = _token(issuing)

    def signed(*options: str, url: str = URL) -> str:
        return _signed(*options, url=url, key=issued["mac_key"], token=issued["access_token"])

    assert _names(_looked_up(issuing, signed("--draft", "00"))) == ["draft_mismatch"]
    assert _names(_looked_up(issuing, signed(), "--body", "x")) == ["body_hash"]
    assert _looked_up(issuing, signed("--body", "x"), "--body", "x")["verified"]
    assert _looked_up(issuing, signed("--ts", str(NOW - 90)), "--at", str(NOW))["verified"], "skew is 2m"
    told = _looked_up(issuing, signed(url="https://own.example.com/own"), url="https://own.example.com/own")
    assert "The route own does not accept MAC tokens." in told["remarks"]
    told = _looked_up(issuing, signed(url="https://api.example.com/none"), url="https://api.example.com/none")
    assert "No route of the configuration takes this method and path." in told["remarks"]


def test_token_that_ended_is_told_and_its_signature_judged_all_the_same(issuing: Terminal) -> None:
    issued = _token(issuing)
    header = _signed(key=issued["mac_key"], token=issued["access_token"])
    late = str(int(time.time()) + 3700)
    assert _names(_looked_up(issuing, header, "--at", late)) == ["expired_token", "clock"]
    issuing("token", "revoke", issued["access_token"])
    told = _looked_up(issuing, header, url="https://api.example.com/api/notes?a=2&b=1")
    assert _names(told) == ["revoked_token", "query_order"]
    other = _token(issuing)
    issuing("client", "disable", other["client_id"])
    told = _looked_up(issuing, _signed(key=other["mac_key"], token=other["access_token"]))
    assert _names(told) == ["revoked_token"]
    assert "was disabled" in told["causes"][0]["description"]


def test_token_without_a_key_is_told(issuing: Terminal) -> None:
    client_id = issuing.client()["client_id"]
    bearer = issuing("token", "issue", "--client", client_id, "--json").json
    for token, name in (
        (bearer["access_token"], "kind"),
        (bearer["access_token"][:-1], "unknown_token"),
        ("gwa_" + "A" * 40, "unknown_token"),
        ("imported", "unknown_token"),
    ):
        assert _names(_looked_up(issuing, _signed(token=token))) == [name]


@pytest.mark.parametrize(
    ("header", "name", "said"),
    [
        ("MAC x", "malformed", "separated by commas"),
        ("Bearer gwa_x", "scheme", "the scheme bearer, not MAC"),
        ("", "malformed", "cannot read it (400)"),
        ('MAC kid="gwa_x", ts="1", seq-nr="1", mac="AAAA"', "draft_mismatch", "Accepted: draft 01"),
        ('MAC nonce="n", ts="1", mac="AAAA"', "malformed", "The attribute id is missing"),
        ("MAC id=gwa_ä, nonce=n, mac=x", "unknown_token", "not a token of this gateway"),
    ],
)
def test_credential_without_a_token_is_told_by_what_keeps_it_from_being_read(
    issuing: Terminal, header: str, name: str, said: str
) -> None:
    told = _looked_up(issuing, header)
    assert _names(told) == [name]
    assert said in told["causes"][0]["description"]


def test_key_is_looked_up_for_a_credential_that_the_gateway_cannot_read(issuing: Terminal) -> None:
    issued = _token(issuing)
    header = _signed(key=issued["mac_key"], token=issued["access_token"])
    for unread in (header.replace(", ", " "), header.removesuffix('="') + '"'):
        told = _looked_up(issuing, unread)
        assert _names(told)[0] == "malformed"
        assert told["client_string"] == told["gateway_string"] is not None
