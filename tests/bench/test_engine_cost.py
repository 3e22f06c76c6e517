"""What the engine costs the authorization plane: how it is asked, and how the figures are made."""

import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from bench.client import Wrong
from bench.engine_cost import Cost, Question, ask, cpu_seconds, rows
from tests.serving import ROOT

_QUESTION = Question("metadata", "GET /x HTTP/1.1", (("A", "b"),), b"", b"yes")


def _answered(*parts: bytes) -> None:
    """Ask a peer that gives these parts and nothing more."""
    ours, theirs = socket.socketpair()

    def answer() -> None:
        for part in parts:
            theirs.sendall(part)
        theirs.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=answer)
    with ours, theirs:
        thread.start()
        try:
            ask(ours, b"GET / HTTP/1.1\r\n\r\n", b"yes")
        finally:
            thread.join()


def test_answer_is_taken_whole_however_it_comes() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n(yes)"
    _answered(answer)
    _answered(*(answer[index : index + 1] for index in range(len(answer))))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Busy\r\nContent-Length: 3\r\n\r\nyes",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nyes",
        b"HTTP/1.1 200 OK\r\n\r\nyes",
        b"",
    ],
)
def test_any_other_answer_is_no_result(answer: bytes) -> None:
    with pytest.raises(Wrong):
        _answered(answer)


def test_direct_request_is_the_client_s_with_what_the_engine_adds() -> None:
    client, direct = (_QUESTION.written(81, direct=direct) for direct in (False, True))
    assert client == b"GET /x HTTP/1.1\r\nHost: 127.0.0.1:81\r\nUser-Agent: bench\r\nAccept: */*\r\nA: b\r\n\r\n"
    assert direct.startswith(client[:-2])
    assert b"\r\nX-Forwarded-Host: 127.0.0.1:81\r\n" in direct


def test_what_the_engine_takes_is_the_middle_of_the_differences_within_a_round() -> None:
    direct, through = [Cost(100, 10), Cost(300, 10), Cost(200, 10)], [Cost(150, 15), Cost(310, 12), Cost(230, 14)]
    *_, taken = rows("x", direct, through)
    assert taken == ["x", "**what the engine takes**", "**+30 (+10 to +50)**", "**+4 (+2 to +5)**"]


def test_cpu_time_is_told_more_finely_than_in_ticks() -> None:
    before = cpu_seconds(os.getpid())
    began = time.thread_time()
    while time.thread_time() - began < 0.004:
        pass
    assert 0.003 < cpu_seconds(os.getpid()) - before < 0.1


def test_command_prints_a_table_of_both_requests() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.engine_cost", "--rounds", "1", "--requests", "2"],
        capture_output=True,
        check=True,
        cwd=ROOT,
        text=True,
        timeout=90,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(lines) == 8
    assert all(line.count("|") == 5 for line in lines)
