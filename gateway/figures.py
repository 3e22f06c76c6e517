"""What a process counts of itself: numbers in memory that it shares with its supervisor, and that outlive its death.

    process       CALLS.observe(0.004, "notes", "GET", "2xx")  ──▶  two additions, in the memory
    supervisor    read(memory)  ──▶  what the process has counted so far, also once it was killed

Each figure is declared here, once, with the names of its labels. What stands for a label is of a small set that the
gateway knows by itself (routes, upstreams, methods, kinds of outcome): strangers choose none of it, so that whatever
they send, a figure has a bounded number of values. The memory is bounded too; what finds no place in it is not counted.

The memory, whose numbers are those of this machine:

    8 bytes     how many bytes are used
    records     each: the length of its key and the number of its cells (4 bytes each); the key, JSON of the figure's
                name and the labels' values, filled up with spaces to whole cells; the cells, a float of 8 bytes each

A record is whole before it counts as used, and one process writes: whoever reads meanwhile reads whole numbers.
"""

import json
import mmap
import os
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "oldest", "histogram"]
"""A gauge of several processes is their sum; one that is `oldest` is the largest of them."""

SIZE: Final = 8 * 1024**2  # bytes of the memory; those that nobody uses take none
_CELL: Final = 8
_USED: Final = struct.Struct("=Q")
_RECORD: Final = struct.Struct("=II")
_SPILL: Final = 32  # cells at the end, for what finds no place

Buckets = tuple[float, ...]
"""The upper bounds of a histogram's classes, in ascending order."""

_SECONDS: Final[Buckets] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_DATABASE_SECONDS: Final[Buckets] = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
_SIZES: Final[Buckets] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class _Memory:
    """Where this process counts: its own until it is given one that its supervisor sees too."""

    def __init__(self, buffer: mmap.mmap | bytearray) -> None:
        view = memoryview(buffer)
        self._bytes = view
        self.cells: Final = view.cast("d")
        self._used = _CELL
        self._end = len(view) - _SPILL * _CELL

    def place(self, key: str, cells: int) -> int:
        """The number of the first of so many cells, all 0.0, for what `key` names."""
        encoded = key.encode()
        encoded += b" " * (-len(encoded) % _CELL)
        start = self._used + _RECORD.size + len(encoded)
        end = start + cells * _CELL
        if end > self._end:
            return self._end // _CELL
        _RECORD.pack_into(self._bytes, self._used, len(encoded), cells)
        self._bytes[self._used + _RECORD.size : start] = encoded
        self._used = end
        _USED.pack_into(self._bytes, 0, end)
        return start // _CELL


_memory = _Memory(bytearray(64 * 1024))


def cells() -> "memoryview[float]":
    """All the cells, for what is counted too often for a call of its own."""
    return _memory.cells


def share(memory: int) -> None:
    """Count from now on in the memory of a file descriptor, which another process reads; what was counted before is
    left behind."""
    global _memory  # noqa: PLW0603 -- a process counts in one place
    _memory = _Memory(mmap.mmap(memory, os.fstat(memory).st_size))
    for figure in FIGURES.values():
        figure.forget()


class Figure:
    """One figure: `name` and `text` are what the operator sees, `labels` names what it is told apart by."""

    def __init__(self, kind: Kind, name: str, text: str, *labels: str, buckets: Buckets = ()) -> None:
        self.kind: Final = kind
        self.name: Final = name
        self.text: Final = text
        self.labels: Final = labels
        self.buckets: Final = buckets
        self._at: dict[tuple[str, ...], int] = {}

    def at(self, *values: str) -> int:
        """The number of the first cell for these labels' values; it stays the same until the memory is another."""
        found = self._at.get(values)
        if found is None:
            cells = len(self.buckets) + 2 if self.buckets else 1
            found = self._at[values] = _memory.place(json.dumps([self.name, *values]), cells)
        return found

    def forget(self) -> None:
        """Find new cells, in another memory."""
        self._at.clear()

    def add(self, by: float, *values: str) -> None:
        """Count so many more, or fewer where it is a gauge."""
        _memory.cells[self.at(*values)] += by

    def set(self, value: float, *values: str) -> None:
        """Say what a gauge is now."""
        _memory.cells[self.at(*values)] = value

    def observe(self, value: float, *values: str) -> None:
        """Count one more value of a histogram."""
        self.observe_at(self.at(*values), value)

    def observe_at(self, cell: int, value: float) -> None:
        """Count one more value where `at` said."""
        cells = _memory.cells
        cells[cell + bisect_left(self.buckets, value)] += 1.0
        cells[cell + len(self.buckets) + 1] += value


CALLS: Final = Figure(
    "histogram",
    "gateway_call_seconds",
    "Seconds from a request's head to the end of its answer. Of status, gone is a client that left before that end, "
    "and broken an answer that could not be finished.",
    "route",
    "method",
    "status",
    buckets=_SECONDS,
)
REFUSALS: Final = Figure("counter", "gateway_refusals", "Calls that the gateway refused itself.", "route", "cause")
UPSTREAM_CONNECTS: Final = Figure(
    "counter", "gateway_upstream_connects", "Connections that were opened to an upstream.", "upstream"
)
UPSTREAM_FAILURES: Final = Figure(
    "counter", "gateway_upstream_failures", "Calls that an upstream failed, by how.", "upstream", "how"
)
UPSTREAM_CONNECTIONS: Final = Figure(
    "gauge", "gateway_upstream_connections", "Connections to an upstream that are open now.", "upstream", "state"
)
UPSTREAM_WAITING: Final = Figure(
    "gauge", "gateway_upstream_waiting", "Calls that wait for a connection to an upstream now.", "upstream"
)
UPSTREAM_OUT: Final = Figure(
    "gauge",
    "gateway_upstream_out",
    "Workers that give an upstream no calls now, since it failed calls or health checks.",
    "upstream",
)
UPSTREAM_EJECTIONS: Final = Figure(
    "counter",
    "gateway_upstream_ejections",
    "How often an upstream was left out, or kept out for longer, by what it failed: calls or checks.",
    "upstream",
    "by",
)
UPSTREAM_RETRIES: Final = Figure(
    "counter",
    "gateway_upstream_retries",
    "Calls of a route that an upstream failed before its answer began: sent once more, or not for want of budget.",
    "route",
    "outcome",
)
CONNECTIONS_FAILED: Final = Figure(
    "counter",
    "gateway_connections_failed",
    "Client connections that ended before a request could be read: TLS handshakes that failed, and PROXY headers that "
    "were missing or wrong, by why. Left is a client that went away without a word, distrusted one that did not take "
    "the certificate.",
    "at",
    "cause",
)
CLIENT_CONNECTIONS: Final = Figure("gauge", "gateway_client_connections", "Client connections that are open now.")
TUNNELS: Final = Figure(
    "gauge", "gateway_tunnels", "Client connections that have changed the protocol, such as WebSockets, open now."
)
TOKEN_LOOKUPS: Final = Figure(
    "counter",
    "gateway_token_lookups",
    "Tokens that calls came with: held in the cache, asked of the database, invented (refused without a query), or "
    "proven by a key of another issuer.",
    "found",
)
REPLICA_LOOKUPS: Final = Figure(
    "counter",
    "gateway_replica_lookups",
    "Tokens that a replica was asked for: living, unknown there (so that the primary was asked), or unanswered, as by "
    "one that is behind.",
    "outcome",
)
ISSUER_FETCHES: Final = Figure(
    "counter",
    "gateway_issuer_fetches",
    "How often the keys of another issuer were asked for: had or failed.",
    "issuer",
    "outcome",
)
ISSUER_KEYS_AGE: Final = Figure(
    "oldest",
    "gateway_issuer_keys_age_seconds",
    "Seconds since the worker that is furthest behind had an issuer's keys; past a day its tokens count no more.",
    "issuer",
)
TOKENS_HELD: Final = Figure("gauge", "gateway_tokens_held", "Tokens in the cache, each worker's counted.")
TOKENS_HELD_BYTES: Final = Figure("gauge", "gateway_tokens_held_bytes", "Bytes that tokens in the cache take.")
CHANGE_LOG_AGE: Final = Figure(
    "oldest",
    "gateway_change_log_age_seconds",
    "Seconds since the worker that is furthest behind read the change log; past 2 no cached token counts.",
)
NONCE_BATCH: Final = Figure(
    "histogram", "gateway_nonce_batch", "Nonces that were spent in one statement.", buckets=_SIZES
)
NONCE_SECONDS: Final = Figure(
    "histogram",
    "gateway_nonce_batch_seconds",
    "Seconds that spending a batch of nonces took.",
    buckets=_DATABASE_SECONDS,
)
DATABASE_SECONDS: Final = Figure(
    "histogram",
    "gateway_database_seconds",
    "Seconds of a transaction, with the wait for its connection.",
    buckets=_DATABASE_SECONDS,
)
DATABASE_FAILURES: Final = Figure(
    "counter", "gateway_database_failures", "Transactions that the database gave no answer to."
)
DATABASE_CONNECTIONS: Final = Figure(
    "gauge", "gateway_database_connections", "Connections to the database that are open now.", "state"
)
DATABASE_WAITING: Final = Figure(
    "gauge", "gateway_database_waiting", "Transactions that wait for a connection to the database now."
)
PASSWORD_CHECKS_WAITING: Final = Figure(
    "gauge", "gateway_password_checks_waiting", "Password checks that run or wait now."
)
SIGN_INS: Final = Figure("counter", "gateway_sign_ins", "Attempts to sign in, by outcome.", "outcome")
TOKENS_ISSUED: Final = Figure("counter", "gateway_tokens_issued", "Access tokens that were issued.", "grant_type")
CALLS_UNDER_WAY: Final = Figure(
    "gauge", "gateway_calls_under_way", "Calls under way now, on routes with a bound of concurrency.", "route"
)
RATE_BUCKETS: Final = Figure(
    "gauge",
    "gateway_rate_buckets",
    "Buckets of rates that workers hold: shared with the others, or their own, which are too new or too many for that.",
    "kind",
)
LOG_LINES_LOST: Final = Figure(
    "counter", "gateway_access_log_lines_lost", "Lines of the access log that could not be written."
)

WORKERS: Final = Figure("gauge", "gateway_workers", "Workers, wanted and ready.", "plane", "state")
WORKER_ENDS: Final = Figure(
    "counter", "gateway_worker_ends", "Workers that ended by themselves and were replaced.", "plane"
)
RELOADS: Final = Figure("counter", "gateway_reloads", "Reloads of the configuration: done or refused.", "outcome")
RELOAD_REFUSED: Final = Figure(
    "gauge", "gateway_reload_refused", "1 where the last reload was refused, so that an older configuration serves."
)
CONFIGURED_AT: Final = Figure(
    "gauge", "gateway_configured_timestamp_seconds", "When the configuration that serves was read."
)
STARTED_AT: Final = Figure("gauge", "gateway_start_timestamp_seconds", "When the gateway was started.")
BUILD: Final = Figure("gauge", "gateway_build_info", "1, by what runs.", "version", "python", "engine")

FIGURES: Final = {figure.name: figure for figure in globals().copy().values() if isinstance(figure, Figure)}


class Value(NamedTuple):
    """What one process has counted of a figure for some labels: a number, or a histogram's buckets and sum."""

    figure: Figure
    labels: tuple[str, ...]
    cells: tuple[float, ...]

    @property
    def running(self) -> list[float]:
        """A histogram's buckets as they are told: each holds those below it too."""
        return list(accumulate(self.cells[:-1]))


def read(memory: int) -> Iterator[Value]:
    """What the process that this memory was given to has counted so far."""
    with mmap.mmap(memory, os.fstat(memory).st_size, prot=mmap.PROT_READ) as held:
        (used,) = _USED.unpack_from(held)
        at = _CELL
        while at < used:
            length, count = _RECORD.unpack_from(held, at)
            start = at + _RECORD.size + length
            name, *labels = json.loads(held[at + _RECORD.size : start])
            yield Value(FIGURES[name], tuple(labels), struct.unpack_from(f"={count}d", held, start))
            at = start + count * _CELL


def memory_for_one() -> int:
    """A file descriptor of memory for one more process to count in."""
    memory = os.memfd_create("gateway-figures", os.MFD_CLOEXEC)
    os.ftruncate(memory, SIZE)
    return memory


_Cells = dict[tuple[str, tuple[str, ...]], tuple[float, ...]]


class Sum:
    """What several processes have counted together."""

    def __init__(self, cells: _Cells | None = None) -> None:
        self._cells: _Cells = {} if cells is None else cells

    def add(self, values: Iterable[Value], *, ended: bool = False) -> None:
        """Add what one process has counted; of one that has `ended`, what it was like then is nothing any more."""
        for figure, labels, cells in values:
            if ended and figure.kind in ("gauge", "oldest"):
                continue
            key = figure.name, labels
            before = self._cells.get(key)
            if before is None:
                self._cells[key] = cells
            elif figure.kind == "oldest":
                self._cells[key] = max(before, cells)
            else:
                self._cells[key] = tuple(map(sum, zip(before, cells, strict=True)))

    def copy(self) -> "Sum":
        """Another that begins with what this one holds."""
        return Sum(dict(self._cells))

    def values(self) -> list[Value]:
        """All of it, figure by figure."""
        order = list(FIGURES)
        found = [Value(FIGURES[name], labels, cells) for (name, labels), cells in self._cells.items()]
        return sorted(found, key=lambda value: (order.index(value.figure.name), value.labels))
