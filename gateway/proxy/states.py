"""The states of a connection and of an exchange, and which may follow which (`gateway.states`)."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class Standing(IntEnum):
    """What a client's connection is busy with.

    READING ◀──────────▶ EXCHANGING ──▶ TUNNELLING
       ▲ │                  │   │           │
       │ └──▶ DISCARDING ◀──┘   │           │
       └───────┘    │           │           │
    READING ──▶ LINGERING ◀─────┴───────────┘    and from each of them CLOSED
    """

    READING = 0  # between two requests, or within a head
    EXCHANGING = 1  # a request was read, and its answer is owed
    DISCARDING = 2  # the answer has gone out; what is left of a small request is read and dropped
    TUNNELLING = 3  # the protocol was changed
    LINGERING = 4  # the connection is ending; what still comes is dropped
    CLOSED = 5


class Phase(IntEnum):
    """How far an exchange has come; the diagram is in `proxy.exchange`."""

    JUDGING = 0
    HOLDING = 1
    CONNECTING = 2
    SENDING = 3
    RELAYING = 4
    OVER = 5


STANDINGS: Final[Mapping[Standing, frozenset[Standing]]] = {
    Standing.READING: frozenset((Standing.EXCHANGING, Standing.DISCARDING, Standing.LINGERING, Standing.CLOSED)),
    Standing.EXCHANGING: frozenset(
        (Standing.READING, Standing.DISCARDING, Standing.TUNNELLING, Standing.LINGERING, Standing.CLOSED)
    ),
    Standing.DISCARDING: frozenset((Standing.READING, Standing.LINGERING, Standing.CLOSED)),
    Standing.TUNNELLING: frozenset((Standing.LINGERING, Standing.CLOSED)),
    Standing.LINGERING: frozenset((Standing.CLOSED,)),
    Standing.CLOSED: frozenset(),
}
PHASES: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.JUDGING: frozenset((Phase.HOLDING, Phase.CONNECTING, Phase.SENDING, Phase.OVER)),
    Phase.HOLDING: frozenset((Phase.JUDGING, Phase.CONNECTING, Phase.SENDING, Phase.OVER)),
    Phase.CONNECTING: frozenset((Phase.SENDING, Phase.OVER)),
    Phase.SENDING: frozenset((Phase.CONNECTING, Phase.RELAYING, Phase.OVER)),
    Phase.RELAYING: frozenset((Phase.OVER,)),
    Phase.OVER: frozenset(),
}
