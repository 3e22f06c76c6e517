"""The comparison with other proxies is fair: no row hangs on a reset that overtook an answer."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.proxy.rig import RawUpstream
from tests.wire.peers import PLAYS, Score, grade, report
from tests.wire.rig import wire_rig
from tests.wire.table import TOPICS

TOPIC = "fields upwards"
GRADED = [row for row in TOPICS[TOPIC] if not row.own]
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing is a reset


@asynccontextmanager
async def losing(first: int, port: int) -> AsyncIterator[int]:
    """A way to `port` on which the first connections end in a reset instead of an answer."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if way.connections <= first:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return
        there, here = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(_pass_on(reader, here), _pass_on(there, writer))
        finally:
            here.close()

    way = RawUpstream(handler=relay)
    async with way.serving():
        yield way.port


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closing either side before the other has ended would be the very reset that this is about."""
    while data := await reader.read(1 << 16):
        writer.write(data)
    with suppress(OSError):  # the other side has gone already
        writer.write_eof()


async def graded(folder: Path, *, lost: int) -> Score:
    async with wire_rig(folder) as rig, losing(lost, rig.port) as port:
        return await grade(port, rig.recorder, [TOPIC])


async def test_a_row_whose_answer_was_lost_is_played_again_and_counts(tmp_path: Path) -> None:
    score = await graded(tmp_path, lost=PLAYS - 1)
    assert (score.right.total(), score.wrong) == (len(GRADED), {})
    assert score.again == [f"{TOPIC}: {GRADED[0].name}"]
    assert "second or third play: Gateway 1.\n" in report({"Gateway": score}, [TOPIC])


async def test_a_row_that_fails_in_every_play_does_not_count(tmp_path: Path) -> None:
    score = await graded(tmp_path, lost=2 * PLAYS)  # each play also asks on a fresh connection
    assert [*score.wrong] == [f"{TOPIC}: {GRADED[0].name}"]
    assert (score.right.total(), score.again) == (len(GRADED) - 1, [])
