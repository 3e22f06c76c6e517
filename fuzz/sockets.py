"""The gateway as a whole under mutated bytes: what reaches an upstream is the same to every reader."""

import random
import sys
import tempfile
from pathlib import Path

from fuzz.memory import Memory
from fuzz.mutation import REQUEST_SEEDS, mutated
from tests.wire.conversation import converse
from tests.wire.judge import GOOD, own_answer
from tests.wire.rig import WireRig, wire_rig

TARGETS_OUTSIDE_ASCII = frozenset(("h11", "llhttp"))
KNOWN_METHODS = frozenset(
    (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH", b"PROPFIND", b"PURGE", b"M-SEARCH")
)


async def forwarded_alike(rig: WireRig, data: bytes) -> None:
    """Send bytes to the gateway: what arrives is read alike by all readers, and a good request is served after."""
    recorder = rig.recorder
    recorder.reset()
    await converse(rig.port, [([data], 99)], ["GET"] * 99, ends=True, patience=5)
    after = await converse(rig.port, [([GOOD], 1)], ["GET"])
    assert [own_answer(reply, b"GET", b"/good") for reply in after.replies] == [True], data
    assert not recorder.faults, (data, recorder.faults)
    for arrived in recorder.arrived:
        if arrived.reading is None:
            continue
        unreadable = frozenset[str]()
        if not arrived.reading.target.isascii():
            unreadable |= TARGETS_OUTSIDE_ASCII
        if arrived.reading.method not in KNOWN_METHODS or arrived.reading.values(b"upgrade"):
            unreadable |= {"llhttp"}
        assert arrived.judge(unreadable) == [], (data, arrived.raw)


async def gateway(count: int, seed: int) -> Memory:
    """Feed the gateway so many mutated inputs."""
    chance, memory = random.Random(seed), Memory(count)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        async with wire_rig(Path(folder)) as rig:
            for number in range(count):
                try:
                    await forwarded_alike(rig, mutated(chance, REQUEST_SEEDS, most=3))
                    memory.look()
                except BaseException as fault:
                    print(f"gateway: stopped at input {number} of seed {seed}: {fault!r}", file=sys.stderr)
                    raise
    return memory
