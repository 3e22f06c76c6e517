"""What a process gives back: pages of files that were read once, and never one that it has changed."""

import subprocess
import sys

from tests.serving import ROOT

# Everything that was linked is used afterwards: a page that came back as it stands in the file would end the process.
PROGRAM = """
import sys, threading
from pathlib import Path
from gateway import crypto, memory

def of_files():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile:"))

keyring = crypto.Keyring(bytes(32))
sealed = keyring.seal("purpose", "row", b"text")
done = threading.Event()
if sys.argv[1] == "beside a thread":
    threading.Thread(target=done.wait).start()
before = of_files()
memory.let_go_of_files()
after = of_files()
done.set()
memory.give_back()
assert keyring.unseal("purpose", "row", sealed) == b"text"
assert crypto.password_matches(crypto.hash_password("password"), "password")
import asyncpg, json, ssl, uvloop
assert ssl.create_default_context() and json.loads("[]") == []
print(before, after)
"""


def _kept(how: str) -> tuple[int, int]:
    """KiB of files in a process before and after it let go of them."""
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=True, text=True)
    before, after = map(int, done.stdout.split())
    return before, after


def test_process_that_let_go_of_its_files_goes_on_with_less() -> None:
    before, after = _kept("alone")
    assert after <= before / 2


def test_process_with_other_threads_lets_go_of_nothing() -> None:
    before, after = _kept("beside a thread")
    assert after >= before
