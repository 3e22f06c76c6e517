"""How long and how much: the defaults that bound every connection, in seconds and bytes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one worker's connections. A route has its own for the answer's head and the body."""

    head: float = 10.0  # until a request's head is complete
    introduction: float = 5.0  # of the PROXY protocol, until its header is whole
    handshake: float = 10.0  # of TLS, until it is done
    keep_alive: float = 75.0  # between two requests
    body_idle: float = 60.0  # between two parts of a request's body
    slow_reader: float = 60.0  # a client that takes nothing while its buffer is full; who leaves the last of it unread
    newcomer: float = 1.0  # for a new connection to bring its request when the worker drains: it may be on its way
    leaving: float = 5.0  # for another request on a connection that no other worker can take over
    linger: float = 2.0  # for the client to read the last answer
    connect: float = 5.0  # until an upstream takes the connection
    upstream_connections: int = 100  # to one upstream, by each worker
    plane_connections: int = 500  # to the authorization plane, which knows better than a queue whose turn it is
    upstream_waiting: int = 1000  # exchanges of a route that wait for one of them
    upstream_wait: float = 10.0
    upstream_idle: float = 60.0  # an unused connection to an upstream
    fresh: float = 1.0  # what cannot be sent twice goes out on a connection used so recently, or on a new one
    stream_idle: float = 300.0  # between two parts of an answer, and in a tunnel
    names: float = 10.0  # between two look-ups of an upstream's name, where none tells how long it holds or one failed
    names_least: float = 1.0  # that the answer to one holds at the least, and
    names_most: float = 300.0  # at the most, whatever its TTL says
    recheck: float = 1.0  # between two looks at idle upstream connections, and at what goes on with a token
    tick: float = 0.25  # between two looks at the above
    buffer: int = 64 * 1024  # each way
    discard: int = 64 * 1024  # the rest of a refused request that is read so that the connection can stay


DEFAULT = Limits()
