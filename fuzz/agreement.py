"""The quick proof of a head and the careful reading, line by line: the same head or the same refusal, for any bytes.

However the bytes are cut, too; a head that is not whole yet, or that is refused before its end, included.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from fuzz.mutation import REQUEST_SEEDS, RESPONSE_SEEDS, cut, mutated
from fuzz.values import members
from gateway.http1 import Malformed, RequestHead, RequestReader, ResponseHead, ResponseReader

Outcome = list[object]
"""Each head with all that it says, then what is behind them, or the refusal, or what waits."""
Made = Callable[[], RequestReader | ResponseReader]
METHODS: Final = (b"GET", b"HEAD")
OFFERS: Final = (None, b"websocket")
_CHANGES: Final = 3  # at most, so that many heads stay right
_MANY: Final = 0.05  # of the inputs come in many pieces
_LOOKED_AT: Final = 8  # bytes of a head that were looked at before the others came: it is read line by line


def read(reader: RequestReader | ResponseReader, pieces: Sequence[bytes]) -> Outcome:
    """What a reader makes of a message's head, and of the interim ones before it."""
    outcome = Outcome()
    final = False
    try:
        for piece in pieces:
            reader.receive(piece)
            while not final and isinstance(head := reader.next_event(), RequestHead | ResponseHead):
                outcome.append(_said(head))
                final = isinstance(head, RequestHead) or not head.interim or head.status == 101
    except Malformed as fault:
        return [*outcome, (fault.status, fault.description)]
    return [*outcome, reader.unread()]


def _said(head: RequestHead | ResponseHead) -> tuple[object, ...]:
    """Every member; the fields as they are read, and as they would be passed on."""
    fields = head.fields
    return (*(members(head) | {"fields": ()}).values(), tuple(fields), fields.raw)


def _agree(data: bytes, cuts: Iterable[Sequence[bytes]], made: Made) -> Outcome:
    """What `data` says to both ways of reading, whole and cut into pieces in each of these ways. Raises AssertionError
    where they differ."""
    outcome = read(made(), [data[:_LOOKED_AT], data[_LOOKED_AT:]])
    assert read(made(), [data]) == outcome, data
    for pieces in cuts:
        assert read(made(), pieces) == outcome, (data, pieces)
    if (whole := made().whole(data)) is not None:
        assert [_said(whole[0]), whole[1]] == outcome, data
    return outcome


def requests_agree(data: bytes, cuts: Iterable[Sequence[bytes]]) -> Outcome:
    return _agree(data, cuts, RequestReader)


def responses_agree(data: bytes, cuts: Iterable[Sequence[bytes]], method: bytes, offer: bytes | None) -> Outcome:
    """The same for the answer to a request of this method that offered this protocol."""
    return _agree(data, cuts, lambda: ResponseReader(method, offer))


def agreement(chance: random.Random) -> bytes:
    """A request or an answer, nearly right, whole and cut."""
    if chance.random() < 0.6:
        data = mutated(chance, REQUEST_SEEDS, _CHANGES)
        requests_agree(data, [_pieces(chance, data)])
    else:
        data = mutated(chance, RESPONSE_SEEDS, _CHANGES)
        responses_agree(data, [_pieces(chance, data)], chance.choice(METHODS), chance.choice(OFFERS))
    return data


def _pieces(chance: random.Random, data: bytes) -> list[bytes]:
    """Two of them nearly always: many take their time."""
    if chance.random() < _MANY:
        return cut(chance, data)
    place = chance.randint(0, len(data))
    return [data[:place], data[place:]]
