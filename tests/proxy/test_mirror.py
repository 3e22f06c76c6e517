"""What a shadow is told of calls: all that it takes in time, and else how many it was not told of."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from gateway.proxy.finished import Finished
from gateway.proxy.mirror import CallCopy, Mirror, Telling
from gateway.store import Store
from tests.proxy.rig import rig
from tests.serving import until

HEAD = b"GET /open?q=1 HTTP/1.1\r\nHost: a\r\nX-Odd:  two  words \r\nx-odd: \xff\r\n\r\n"


async def test_a_shadow_is_told_of_calls_as_they_came_in_bounded_memory_and_of_how_many_it_was_not(
    tmp_path: Path, no_database: Store
) -> None:
    routes = [{"name": "open", "path": "/open", "auth": "none"}]
    server, telling, calls = socket.socket(socket.AF_UNIX), Telling(), list[CallCopy]()
    server.bind(str(tmp_path / "shadow.sock"))
    server.listen()
    async with rig(tmp_path, no_database, routes=routes) as running:
        engine = running.proxy
        told = list[Finished]()
        engine.listeners.append(told.append)
        await running.talk(HEAD)
        [finished] = told
        mirror = Mirror(engine, list)
        await mirror.connect(str(tmp_path / "shadow.sock"))
        connection, _ = server.accept()
        connection.setblocking(False)
        transport = mirror._transport
        assert transport is not None
        for _ in range(20_000):
            mirror.hear(finished)
        assert 1024**2 < transport.get_write_buffer_size() < 1024**2 + 1000

        def take() -> None:
            with contextlib.suppress(BlockingIOError):
                calls.extend(telling.receive(connection.recv(1024**2)))

        def all_taken() -> bool:
            take()
            return transport.get_write_buffer_size() == 0

        await until(all_taken)
        mirror.hear(finished)

        def all_known() -> bool:
            take()
            return len(calls) + sum(call.lost for call in calls) == 20_001

        await until(all_known)
        assert {(call.head, call.peer, call.request_id) for call in calls} == {
            (HEAD, finished.peer.address, finished.request_id)
        }
        connection.close()
        server.close()
        await until(lambda: mirror.hear not in engine.listeners)  # whatever becomes of the shadow
        mirror.hear(finished)
        assert (await running.talk(HEAD)).status == 200


async def test_a_shadow_that_is_not_there_is_told_of_nothing(tmp_path: Path, no_database: Store) -> None:
    async with rig(tmp_path, no_database, routes=[{"name": "open", "path": "/open", "auth": "none"}]) as running:
        running.proxy.mirror(str(tmp_path / "nobody.sock"))
        assert running.proxy._connecting is not None
        await running.proxy._connecting
        running.proxy.mirror("")
        assert (await running.talk(HEAD)).status == 200
    assert running.proxy.listeners == []


async def test_a_call_that_goes_on_is_told_of_once_and_again_when_it_ends(
    tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.proxy.mirror.EVERY", 0.05)  # which the compiled engine does not hear of
    routes = [{"name": "open", "path": "/open", "auth": "none"}]
    server, telling, calls = socket.socket(socket.AF_UNIX), Telling(), list[CallCopy]()
    server.bind(str(tmp_path / "shadow.sock"))
    server.listen()
    async with rig(tmp_path, no_database, routes=routes) as running:

        async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await running.upstream.read_request(reader)
            await reader.read()

        running.upstream.handler = silent
        mirror = Mirror(running.proxy, running.proxy._under_way)
        await mirror.connect(str(tmp_path / "shadow.sock"))
        connection, _ = server.accept()
        connection.setblocking(False)

        def told(count: int) -> bool:
            with contextlib.suppress(BlockingIOError):
                calls.extend(telling.receive(connection.recv(1024**2)))
            return len(calls) >= count

        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(HEAD)
        await until(lambda: told(1))
        [going_on] = calls
        assert (going_on.head, going_on.ended, going_on.passed) == (HEAD, 0.0, True)
        assert going_on.key
        writer.close()
        await until(lambda: told(2))
        [_, over] = calls
        assert (over.key, over.head) == (going_on.key, HEAD)
        assert over.began == pytest.approx(going_on.began, abs=0.05)
        assert over.ended > over.began
        mirror.close()
        connection.close()
        server.close()
