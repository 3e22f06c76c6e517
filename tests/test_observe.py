"""What the operator reads: one escaped JSON line an event, and never a secret in it."""

import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway import observe
from tests.serving import ROOT

SECRET = "Zq3-NotARealSecret_7"


@pytest.fixture(autouse=True)
def logging_as_a_worker() -> Iterator[None]:
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    handlers, level = logging.root.handlers[:], logging.root.level
    before = structlog.get_config()  # by which loggers of other tests go on
    observe.start("worker-7", "info")
    yield
    structlog.configure(**before)
    logging.captureWarnings(False)
    logging.root.handlers[:], logging.root.level = handlers, level
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """What was written on stderr; it fails when one of the lines is no JSON object of printable ASCII."""
    written = capsys.readouterr().err
    assert written.isascii()
    assert all(character == "\n" or character.isprintable() for character in written)
    return [json.loads(line) for line in written.splitlines()]


def test_a_line_says_when_who_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    observe.get_logger("gateway.proxy").info("refused", status=401, path="/api/notes", scopes=["a", "b"])
    [line] = lines(capsys)
    assert line["event"] == "refused"
    assert (line["level"], line["logger"], line["process"]) == ("info", "gateway.proxy", "worker-7")
    assert (line["status"], line["path"], line["scopes"]) == (401, "/api/notes", ["a", "b"])
    assert str(line["time"]).endswith("Z")


def test_a_request_id_is_on_every_line_of_its_context_only(capsys: pytest.CaptureFixture[str]) -> None:
    with observe.request("0a1b2c"):
        observe.get_logger("gateway.web").info("inside")
        logging.getLogger("aiohttp.server").error("inside a library")
    observe.get_logger("gateway.web").info("outside")
    assert [line.get("request_id") for line in lines(capsys)] == ["0a1b2c", "0a1b2c", None]


def test_a_level_below_the_chosen_one_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    observe.get_logger("gateway.quiet").debug("not asked for")
    assert lines(capsys) == []


@pytest.mark.parametrize("hostile", ["a\r\nb", "\x1b[2J", "\x00", "\x7f", "\x85", "\u2028", "ü", "\ud800", "\n{}"])
def test_controls_from_a_stranger_stay_on_one_escaped_line(capsys: pytest.CaptureFixture[str], hostile: str) -> None:
    observe.get_logger("gateway.proxy").warning(f"event {hostile}", path=hostile, **{f"name{hostile}": 1})
    [line] = lines(capsys)
    assert line["path"] == hostile


LEAKS = [
    f"gwa_{SECRET}",
    f"gwr_{SECRET} at the end",
    f"?code=gwc_{SECRET}",
    f"Authorization: Bearer {SECRET}",
    f"authorization: basic {SECRET}",
    f'b\'Authorization: MAC id="{SECRET}", mac="{SECRET}"\'',
    f"('Cookie', '__Host-gateway={SECRET}; other={SECRET}')",
    f"Set-Cookie: session={SECRET}; Path=/",
    f"bearer {SECRET}",
    f'MAC id="{SECRET}", ts="1", nonce="{SECRET}"',
    "Basic TWU6WnEzLU5vdEFSZWFsU2VjcmV0Xzc=",
    f"postgresql://gateway:{SECRET}@db.example:5432/gateway",
    f"postgresql://gateway:{SECRET}@x@db.example,other.example/gateway?target_session_attrs=primary",
    f"cannot connect to postgresql://db/x?user=a&password={SECRET}",
    f"GET /callback?state=1&code={SECRET} HTTP/1.1",
    f"GET /x?access_token={SECRET}#y",
    f"GET /x?access%5Ftoken={SECRET}",
    f"GET /x?ACCESS_TOKEN={SECRET}",
    f"grant_type=refresh_token&refresh_token={SECRET}&client_secret={SECRET}",
    f"username=ann&password={SECRET}",
    f'{{"client_secret": "{SECRET}"}}',
    f"{{'password': '{SECRET}'}}",
    f'{{\\"client_secret\\": \\"{SECRET}\\"}}',
    f"code_verifier={SECRET}",
    f"__Secure-thing={SECRET}; Path=/",
    f"eyJhbGciOiJSUzI1NiJ9.eyJqdGkiOiJnd2pf.{SECRET}",
    f"mac_key={SECRET}",
    f"header=Bearer {SECRET}",
    f"url=postgresql://u:{SECRET}@h",
    f"next=/x?code={SECRET}",
    f"%61ccess_token={SECRET}",
    f"/open/https%3A%2F%2Fa.example%2F%3Ft%3Dgwa_{SECRET}",
    f"/open/%7beyJhbGciOiJSUzI1NiJ9.eyJqdGkiOiJnd2pf.{SECRET}",
]


@pytest.mark.parametrize("leak", LEAKS)
def test_a_secret_is_removed_wherever_it_stands(capsys: pytest.CaptureFixture[str], leak: str) -> None:
    log = observe.get_logger("gateway.web")
    log.error(leak, detail=leak, nested={"list": [leak, (leak,)]}, raw=leak.encode(), thing=ValueError(leak))
    log.error("failed", exc_info=_raised(ValueError(leak)))
    logging.getLogger("aiohttp.server").error("Error: %s", leak, exc_info=_raised(RuntimeError(leak)))
    written = capsys.readouterr().err
    assert SECRET not in written
    assert "TWU6WnEz" not in written
    assert "[removed]" in written


def test_fields_with_a_secret_name_are_removed_whatever_they_hold(capsys: pytest.CaptureFixture[str]) -> None:
    observe.get_logger("gateway.web").info("x", password="plain words", dsn="host=a", headers={"Cookie": "a b"})
    [line] = lines(capsys)
    assert (line["password"], line["dsn"], line["headers"]) == ("[removed]", "[removed]", {"Cookie": "[removed]"})


@pytest.mark.parametrize(
    "text",
    [
        "the bearer token was revoked",
        "invalid_token",
        "basic auth is not accepted here",
        "exit code=1",
        "token endpoint failed",
        "GET /api/notes?page=2&sort=name",
        "https://api.example.com:8443/x",
        "http://127.0.0.1:9000 refused the connection",
        "database.url: the database does not answer",
        "[2001:db8::1]:8080",
    ],
)
def test_plain_words_are_left_alone(text: str) -> None:
    assert observe.scrub(text) == text


@given(
    prefix=st.sampled_from(["gwa_", "gwr_", "gwc_", "gws_"]),
    token=st.text(alphabet="abcXYZ019_-", min_size=8, max_size=60),
    before=st.sampled_from(["", " ", "x=", "?t=", '"', "{'a': '", "Bearer ", "/path/", "/%2f", "a\n", "\x1b"]),
    after=st.sampled_from(["", " ", "&b=1", '"', "'}", ", x", "\r\n"]),
)
def test_no_token_of_ours_survives(prefix: str, token: str, before: str, after: str) -> None:
    assert token not in observe.scrub(before + prefix + token + after).replace("[removed]", "")


@given(st.text(max_size=200))
def test_scrubbing_twice_changes_nothing_more_and_never_fails(text: str) -> None:
    once = observe.scrub(text)
    assert observe.scrub(once) == once


def test_a_line_fits_into_what_a_pipe_takes_whole(capsys: pytest.CaptureFixture[str]) -> None:
    observe.get_logger("gateway.web").error("x" * 5000, a="y" * 5000, b=["é" * 900] * 50, request_id="77")
    written = capsys.readouterr().err
    assert len(written) <= 4096
    line = json.loads(written)
    assert (line["truncated"], line["request_id"]) == (True, "77")


@pytest.mark.parametrize("leak", LEAKS)
def test_no_part_of_a_secret_is_shown_wherever_a_long_text_is_cut(leak: str) -> None:
    # Before, within and behind it: what would show a secret by its end, an "@" or a quote, is then not there to see.
    for before in ("word ", "a=b&", "'"):
        for room in range(len(leak) + 2):
            shown = str(observe._clean((before * 1000)[: 1000 - room - 1] + " " + leak + "y" * 50))
            assert "Zq3" not in shown
            assert "TWU6W" not in shown


@pytest.mark.parametrize("leak", LEAKS)
def test_scrubbing_a_secret_twice_removes_it_once(leak: str) -> None:
    once = observe.scrub(leak)
    assert observe.scrub(once) == once


@pytest.mark.parametrize("scheme", ["bearer", "token", "basic"])
@pytest.mark.parametrize("leak", [leak for leak in LEAKS if " " not in leak])
def test_a_scheme_s_name_before_a_secret_hides_none(scheme: str, leak: str) -> None:
    for text in (f"{scheme} {leak}", f"{scheme} {scheme} {leak}", f"the {scheme} was: {leak}"):
        assert SECRET not in observe.scrub(text)


def test_an_endless_list_is_shown_by_its_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    observe.get_logger("gateway.web").error("x", scopes=["a"] * 10_000, table={f"k{n}": n for n in range(10_000)})
    [line] = lines(capsys)
    scopes, table = line["scopes"], line["table"]
    assert isinstance(scopes, list)
    assert isinstance(table, dict)
    assert (scopes, len(table)) == (["a"] * 50 + ["…"], 50)


def test_an_exception_is_a_field_with_its_causes_and_places(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as exc:
            raise ValueError("outer") from exc
    except ValueError:
        observe.get_logger("gateway.web").error("failed", exc_info=True)
    [line] = lines(capsys)
    assert line["exception"] == "ValueError: outer < KeyError: 'inner'"
    places = line["traceback"]
    assert isinstance(places, list)
    assert "test_observe.py" in places[-1]


def test_a_group_of_exceptions_shows_what_went_wrong_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise TypeError("the reason")

    try:
        try:
            fail()
        except TypeError as exc:
            raise ExceptionGroup("in a task group", [exc]) from None
    except ExceptionGroup as group:
        observe.get_logger("gateway").error("failed", exc_info=group)
    [line] = lines(capsys)
    assert line["exception"] == "ExceptionGroup: in a task group (1 sub-exception) < TypeError: the reason"
    places = line["traceback"]
    assert isinstance(places, list)
    assert places[-1].endswith(" fail")


@pytest.mark.parametrize(
    "speak",
    [
        lambda: logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <Task>"),
        lambda: warnings.warn("watch out", UserWarning, stacklevel=1),
        lambda: sys.excepthook(ValueError, ValueError("unhandled"), None),
    ],
    ids=["asyncio", "warning", "unhandled exception"],
)
def test_what_others_say_becomes_a_line_of_ours(
    capsys: pytest.CaptureFixture[str], speak: Callable[[], object]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        speak()
    [line] = lines(capsys)
    assert line["level"] in ("warning", "error", "critical")


def test_a_crash_of_the_process_leaves_json_and_no_traceback() -> None:
    program = """
import threading, gc, logging
from gateway import observe
observe.start("worker-1")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start(); thread.join()
class Bad:
    def __del__(self): raise ValueError("in del")
Bad(); gc.collect()
logging.getLogger("other").warning("%d of %s", "no number")
raise RuntimeError("password=hunter2")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line.get("exception", "").split(":")[0] for line in said] == [
        "ZeroDivisionError",
        "ValueError",
        "",
        "RuntimeError",
    ]
    assert "hunter2" not in done.stderr
    assert done.returncode == 1


def test_a_stderr_that_is_gone_stops_nobody() -> None:
    program = """
import sys
from gateway import observe
observe.start("worker-1")
sys.stderr.close()
observe.get_logger("x").info("nobody hears")
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "alive\n"


def _raised(failure: Exception) -> Exception:
    try:
        raise failure
    except type(failure) as exc:
        return exc


def test_log_loads_nothing_for_consoles_and_hides_it_from_nobody_else() -> None:
    program = "import sys, gateway.observe; assert 'rich' not in sys.modules; import rich"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
