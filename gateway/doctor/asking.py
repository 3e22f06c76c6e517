"""One HTTP request on a connection of its own, and what can stand in its way.

In a thread, with the standard library: what counts here is which step fails, not how fast it goes.
"""

import enum
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import Any, Final

from msgspec import Struct

PATIENCE: Final = 5.0  # seconds, for each step
_LONGEST: Final = 64 * 1024
_EXPIRED: Final = 10  # X509_V_ERR_…
_WRONG_NAME: Final = (62, 64)


class Obstacle(enum.Enum):
    """The step that failed."""

    NAME = "the name cannot be resolved"
    REFUSED = "nothing listens there"
    UNREACHABLE = "no connection"
    SLOW = "no answer in time"
    EXPIRED = "its certificate has expired"
    WRONG_NAME = "its certificate is for another name"
    UNTRUSTED = "its certificate is signed by nobody whom this machine trusts"
    PLAIN = "it speaks plain HTTP, not TLS"
    TLS = "it speaks TLS, not plain HTTP"
    HANDSHAKE = "the TLS handshake failed"
    CLOSED = "it closed the connection without an answer"
    NOT_HTTP = "it answers something other than HTTP"


class NoAnswer(Exception):
    """Why a request got no answer; the message is what the system said of it."""

    def __init__(self, obstacle: Obstacle, said: object = "") -> None:
        super().__init__(f"{obstacle.value} ({said})" if said else obstacle.value)
        self.obstacle = obstacle


class Answer(Struct, frozen=True):
    """An answer: `ours` is the address that it was asked from, `apart` by how many seconds its clock is ahead of ours,
    as far as it tells, and `certificate` is as `ssl` gives it."""

    status: int
    fields: http.client.HTTPMessage
    body: bytes
    ours: str
    apart: float | None
    certificate: Mapping[str, Any] | None


Place = tuple[str, int] | str
"""A host and a port, or the path of a unix socket."""


def ask(
    place: Place,
    target: str,
    fields: Mapping[str, str],
    *,
    tls: str = "",
    method: str = "GET",
    context: ssl.SSLContext | None = None,
    first: bytes = b"",
) -> Answer:
    """Ask what listens at `place`, by TLS where `tls` names it, with `context` or what the system trusts; `first` goes
    ahead of everything. Raises NoAnswer."""
    try:
        answer = _ask(place, target, fields, tls, method, context, first)
    except NoAnswer as exc:
        if not tls and exc.obstacle in (Obstacle.CLOSED, Obstacle.NOT_HTTP) and _speaks_tls(place):
            raise NoAnswer(Obstacle.TLS) from exc
        raise
    if not tls and answer.status == 400 and _speaks_tls(place):  # nginx says so in words, and Apache
        raise NoAnswer(Obstacle.TLS)
    return answer


def _ask(
    place: Place,
    target: str,
    fields: Mapping[str, str],
    tls: str,
    method: str,
    context: ssl.SSLContext | None,
    first: bytes,
) -> Answer:
    try:
        with _connection(place) as plain:
            ours = "" if isinstance(place, str) else str(plain.getsockname()[0])
            plain.sendall(first)
            if not tls:
                return _exchange(plain, ours, None, method, target, fields)
            with (context or ssl.create_default_context()).wrap_socket(plain, server_hostname=tls) as secured:
                return _exchange(secured, ours, secured.getpeercert(), method, target, fields)
    except ssl.SSLCertVerificationError as exc:
        raise NoAnswer(_distrust(exc), exc.verify_message) from exc
    except ssl.SSLError as exc:
        plain_http = exc.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
        raise NoAnswer(*((Obstacle.PLAIN,) if plain_http else (Obstacle.HANDSHAKE, exc.reason))) from exc
    except socket.gaierror as exc:
        raise NoAnswer(Obstacle.NAME, exc.strerror) from exc
    except (ConnectionRefusedError, FileNotFoundError) as exc:
        raise NoAnswer(Obstacle.REFUSED) from exc
    except TimeoutError as exc:
        raise NoAnswer(Obstacle.SLOW) from exc
    except (ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead) as exc:
        raise NoAnswer(Obstacle.CLOSED) from exc
    except http.client.HTTPException as exc:
        raise NoAnswer(Obstacle.NOT_HTTP) from exc
    except OSError as exc:
        raise NoAnswer(Obstacle.UNREACHABLE, exc.strerror) from exc


def unverified_context() -> ssl.SSLContext:
    """For what only has to answer, whoever it is: our own listener, whose certificate may be for clients elsewhere."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _connection(place: Place) -> socket.socket:
    if not isinstance(place, str):
        return socket.create_connection(place, PATIENCE)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(PATIENCE)
        sock.connect(place)
    except OSError:
        sock.close()
        raise
    return sock


def _exchange(
    sock: socket.socket,
    ours: str,
    certificate: Mapping[str, Any] | None,
    method: str,
    target: str,
    fields: Mapping[str, str],
) -> Answer:
    connection = http.client.HTTPConnection("unused", timeout=PATIENCE)
    connection.sock = sock
    with _ended_in_time(sock):
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in {**fields, "Connection": "close"}.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        now = time.time()
        body = response.read(_LONGEST)
        return Answer(response.status, response.headers, body, ours, _apart(response.headers, now), certificate)


@contextmanager
def _ended_in_time(sock: socket.socket) -> Iterator[None]:
    """The end of an exchange whose other side always says one more byte in time. Raises NoAnswer then."""
    ended = threading.Event()

    def end() -> None:
        ended.set()
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(2 * PATIENCE, end)
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as exc:
        if ended.is_set():
            raise NoAnswer(Obstacle.SLOW) from exc
        raise
    finally:
        timer.cancel()


def _speaks_tls(place: Place) -> bool:
    """Whether a handshake succeeds there, whoever it is."""
    context = unverified_context()
    with suppress(OSError), _connection(place) as plain, context.wrap_socket(plain):
        return True
    return False


def _apart(fields: http.client.HTTPMessage, now: float) -> float | None:
    with suppress(TypeError, ValueError):
        return parsedate_to_datetime(fields["Date"]).timestamp() - now
    return None


def _distrust(exc: ssl.SSLCertVerificationError) -> Obstacle:
    if exc.verify_code == _EXPIRED:
        return Obstacle.EXPIRED
    return Obstacle.WRONG_NAME if exc.verify_code in _WRONG_NAME else Obstacle.UNTRUSTED


def days_left(certificate: Mapping[str, Any], now: float) -> tuple[float, float]:
    """The days that a certificate has left, and those that it lives in all."""
    begins, ends = (ssl.cert_time_to_seconds(certificate[key]) for key in ("notBefore", "notAfter"))
    return (ends - now) / 86400, (ends - begins) / 86400
