"""The judges of the wire table can say no: each kind of fault, made up, is seen by both of them."""

import pytest

from tests.wire.answers import GET, OK, Answer, Broken, Relay
from tests.wire.conversation import Reply
from tests.wire.judge import Played, fair, judge
from tests.wire.judge_answers import Heard, fair_answer, judge_answer
from tests.wire.recorder import Arrived, Reading, read_plainly, seen
from tests.wire.rows import Pass, passes, refuse, request

HIDDEN = request(target=b"/hidden")
FORWARDED = (
    b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nX-Forwarded-Port: 80\r\n"
    b"Via: 1.1 gateway\r\nX-Request-Id: 1"
)


def arrived(data: bytes, reading: Reading | None = None) -> Arrived:
    return Arrived(data, reading or read_plainly(data)[0])


def own(target: bytes) -> Reply:
    return Reply(200, [("x-request-id", "1")], seen(b"GET", target), complete=True)


def refusal(status: int) -> Reply:
    return Reply(status, [], b'{"request_id": "1"}', complete=True)


def played(replies: list[Reply], there: list[Arrived], *, ended: bool = True, rest: bytes = b"") -> Played:
    return Played(replies, rest, ended, there, [])


REFUSED = refuse("a", "b", request(b"X : a"))
PASSED = passes("a", "b", request(b"X-A: 1"), Pass())
GOOD = request(b"X-A: 1", FORWARDED)
NEXT = [arrived(HIDDEN)]


def test_the_judges_say_yes() -> None:
    refused = played([refusal(400)], [])
    assert judge(REFUSED, refused) == fair(REFUSED, refused) == []
    passed = played([own(b"/row"), own(b"/hidden")], [arrived(GOOD), *NEXT], ended=False)
    assert judge(PASSED, passed) == fair(PASSED, passed) == []


@pytest.mark.parametrize(
    "wrong",
    [
        played([refusal(400)], NEXT),
        played([refusal(400)], [arrived(request())]),
        played([own(b"/row")], []),
        played([refusal(400), own(b"/hidden")], NEXT),
        played([], [], ended=False),
    ],
    ids=["the hidden request ran", "it ran itself", "it was answered", "the next was served", "there was silence"],
)
def test_a_row_that_is_refused_wrongly_fails(wrong: Played) -> None:
    assert judge(REFUSED, wrong) != []
    assert fair(REFUSED, wrong) != []


@pytest.mark.parametrize(
    "wrong",
    [
        played([own(b"/row")], []),
        played([own(b"/other"), own(b"/hidden")], [arrived(GOOD), *NEXT]),
        played([own(b"/row"), own(b"/hidden")], [arrived(GOOD.replace(b"/row", b"/Row")), *NEXT]),
        played([own(b"/row"), own(b"/hidden")], [arrived(GOOD), arrived(GOOD), *NEXT]),
        played(
            [own(b"/row"), own(b"/hidden")], [arrived(GOOD.replace(b"X-A:", b"X-A :"), Reading(b"GET", b"/row")), *NEXT]
        ),
        played([own(b"/row"), own(b"/hidden")], [Arrived(GOOD[:-2]), *NEXT]),
    ],
    ids=[
        "nothing arrived",
        "a crossed answer",
        "another target",
        "it ran twice",
        "readers differ",
        "half of it arrived",
    ],
)
def test_a_row_that_passes_wrongly_fails(wrong: Played) -> None:
    assert judge(PASSED, wrong) != []
    assert fair(PASSED, wrong) != []


@pytest.mark.parametrize("field", [b"X-B: 1", b"Connection: close", b"TE: trailers", b"X-Forwarded-For: 6.6.6.6"])
def test_a_field_that_nobody_sent_fails(field: bytes) -> None:
    wrong = played([own(b"/row"), own(b"/hidden")], [arrived(request(b"X-A: 1", field, FORWARDED)), *NEXT], ended=False)
    assert judge(PASSED, wrong) != []


FORGED = Reply(200, [], b"forged", complete=True)
HALF = Reply(200, [], b"he")


@pytest.mark.parametrize(
    ("verdict", "reply", "following"),
    [
        (Broken(), Reply(200, [], b"hello", complete=True), own(b"/hidden")),
        (Broken(begun=True), Reply(200, [], b"he", complete=True), None),
        (Relay(length=5), HALF, None),
        (Relay(length=5), Reply(200, [("content-length", "5")], b"jello", complete=True), own(b"/hidden")),
        (Broken(), refusal(502), FORGED),
    ],
    ids=[
        "a bad answer passed",
        "half of one looks whole",
        "a good one broke",
        "its body changed",
        "the next was forged",
    ],
)
def test_an_answer_that_is_relayed_wrongly_fails(
    verdict: Relay | Broken, reply: Reply, following: Reply | None
) -> None:
    answer = Answer(name="a", section="b", data=OK + b"Content-Length: 5\r\n\r\nhello", verdict=verdict, request=GET)
    heard = Heard(reply, following, b"", False, [])
    assert judge_answer(answer, heard) != []
    assert fair_answer(answer, heard) != []
