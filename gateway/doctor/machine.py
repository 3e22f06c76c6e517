"""The machine: the gateway that serves on it, its listeners, workers, memory, open files and disk."""

import json
import os
import resource
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from gateway.config import Settings
from gateway.config.certificates import certificates, names_of
from gateway.doctor.asking import NoAnswer, ask, unverified_context
from gateway.doctor.finding import FAULT, WARNING, Finding
from gateway.faults import OperatorError
from gateway.routing.forwarded import is_trusted, parse_address
from gateway.schemes import SIGNING
from gateway.supervisor.connections import authorization_workers
from gateway.supervisor.control import find_gateway
from gateway.supervisor.listening import leave, listen

_FILES_FAULT, _FILES_WARNING = 1024, 4096
_ACCESS_MIB, _AUTHORIZATION_MIB = 63, 73  # docs/operation.md
_FULL, _FILLING = 0.05, 0.10
_WORKERS_PER_CORE: Final = 2
_MIB: Final = 1024**2
_UNSYNCHRONISED: Final = 5  # TIME_ERROR of adjtimex(2)
_UNKNOWN: Final = b"PROXY UNKNOWN\r\n"  # the PROXY protocol, for who speaks for nobody else


class Serving(Struct, frozen=True):
    """The gateway that serves with this configuration: its supervisor's process, and what `/readyz` says."""

    pid: int
    health: Mapping[str, Any]


def find_serving(settings: Settings) -> Serving | None:
    """The gateway that serves with this configuration on this machine, if one does. Raises OperatorError."""
    pid = find_gateway(settings.path)
    if pid is None:
        return None
    host, port = settings.config.admin.address
    try:
        answer = ask((_reachable(host), port), "/readyz", {"Host": settings.config.admin.listen})
        health = json.loads(answer.body)
    except (NoAnswer, ValueError):
        health = {}
    return Serving(pid, health if isinstance(health, dict) else {})


def findings(settings: Settings, serving: Serving | None) -> Iterator[Finding]:
    """What is wrong with the machine, or with what runs on it."""
    yield from _admin(settings)
    if serving is None:
        yield from _free_listeners(settings)
    else:
        yield from _health(settings, serving)
        yield from _public_listener(settings)
    yield from _certificates(settings)
    yield from _files(serving)
    yield from _workers(settings)
    yield from _disk(settings)


def _reachable(host: str) -> str:
    """Where a listener is asked that takes all addresses."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _admin(settings: Settings) -> Iterator[Finding]:
    host, _ = settings.config.admin.address
    try:
        private = ip_address(host).is_loopback
    except ValueError:
        private = host == "localhost"
    if not private:
        yield Finding(
            "admin.listen",
            f"{settings.config.admin.listen} can be reached from other machines",
            "whoever reaches it sees how the gateway fares and what it did, without a password",
            'listen on 127.0.0.1, or let nobody but your probes through: "127.0.0.1:9901"',
            WARNING,
        )


def _free_listeners(settings: Settings) -> Iterator[Finding]:
    """Nothing serves: could it listen?"""
    config, server = settings.config, settings.config.server
    for key, address in (("server.listen", config.server.address), ("admin.listen", config.admin.address)):
        try:
            [sock] = listen({key: address}, server.mode)
        except OperatorError as exc:
            place, _, said = str(exc).partition(": ")[2].rpartition(": ")
            yield Finding.of(f"{place}: {said}", "the gateway cannot start", about=key)
        else:
            sock.close()
            leave(address)


def _health(settings: Settings, serving: Serving) -> Iterator[Finding]:
    health = serving.health
    if "workers" not in health:
        yield Finding(
            "admin.listen",
            f"the gateway (process {serving.pid}) does not answer at {settings.config.admin.listen}",
            "it hangs, or was started with another admin.listen and its probes see nothing",
            "look at its log; restart it if the key was changed",
        )
        return
    for kind, what in (("workers", "calls"), ("authorization_workers", "sign-ins and token requests")):
        if health[f"{kind}_ready"] < health[kind]:
            yield Finding(
                f"server.{kind}",
                f"{health[f'{kind}_ready']} of {health[kind]} are ready",
                f"{what} wait or are refused, and a worker that keeps ending is started again and again",
                "its log says why they end",
            )
    if health.get("draining"):
        yield Finding("server", "it is stopping", "new calls are refused", "start it again", WARNING)


def _public_listener(settings: Settings) -> Iterator[Finding]:
    server = settings.config.server
    address = server.address
    place = address if isinstance(address, str) else (_reachable(address[0]), address[1])
    try:
        first = _UNKNOWN if server.proxy_protocol and _is_trusted(place, settings) else b""
        context = unverified_context() if server.tls else None
        tls = server.host.strip("[]") if server.tls else ""
        ask(
            place,
            "/.well-known/oauth-authorization-server",
            {"Host": server.host},
            tls=tls,
            context=context,
            first=first,
        )
    except NoAnswer as exc:
        yield Finding(
            "server.listen",
            f"{server.listen}: {exc}",
            "no call reaches the gateway, whatever stands in front of it",
            "see that the socket unit and this key name the same address; look at the log, and restart",
        )


def _is_trusted(place: tuple[str, int] | str, settings: Settings) -> bool:
    """Whether we are a proxy in front, to a listener that we ask by an address of its own."""
    server = settings.config.server
    if isinstance(place, str):
        return server.trusts_socket
    ip = parse_address(place[0])
    return ip is not None and is_trusted(ip, server.trusted_networks)


def _certificates(settings: Settings) -> Iterator[Finding]:
    """The certificates that the public listener shows: near their end, or for other names than clients call."""
    names = set[str]()
    for index, (path, _) in enumerate(settings.certificate_files):
        certificate = certificates(path)[0]
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        left, whole = ends - datetime.now(UTC), ends - begins
        if left < whole / 6:
            yield Finding(
                f"server.tls[{index}]",
                f"the certificate in {path} expires in {left.total_seconds() / 86400:.1f} days",
                "from then on nobody trusts it; what renews one does so earlier, so something keeps it from that",
                "renew it, and see why that did not happen by itself; the gateway reads the new one by itself",
                WARNING if left > whole / 20 else FAULT,
            )
        names |= set(names_of(certificate))
    called = {settings.config.server.host, *(host for route in settings.config.routes for host in route.hosts)}
    for host in sorted(called if settings.certificate_files else ()):
        if host not in names and f"*.{host.partition('.')[2]}" not in names:
            yield Finding(
                "server.tls",
                f"no certificate is for the host {host}",
                "clients that call it are shown one for another name, and trust none such",
                "add a certificate for that name, or have it put into one of these",
                WARNING,
            )


def _files(serving: Serving | None) -> Iterator[Finding]:
    limit, whose = _file_limit(serving)
    if limit is not None and limit < _FILES_WARNING:
        yield Finding(
            "open files",
            f"{whose} at most {limit} files each",
            f"a call takes two, so a worker holds some {max(0, limit - 64) // 2} at a time and refuses the others",
            "raise the hard limit: LimitNOFILE=65536 in the unit, `ulimit -Hn` in a shell, --ulimit nofile for a "
            "container",
            FAULT if limit < _FILES_FAULT else WARNING,
        )


def _file_limit(serving: Serving | None) -> tuple[int | None, str]:
    """The hard limit, which workers take whole; None where it cannot be seen, or there is none."""
    if serving is None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return (None if hard == resource.RLIM_INFINITY else hard), "started from here, its processes may open"
    try:
        lines = Path(f"/proc/{serving.pid}/limits").read_text().splitlines()
    except OSError:
        return None, ""
    fields = next((line.split() for line in lines if line.startswith("Max open files")), [])
    return (int(fields[4]) if len(fields) > 4 and fields[4].isdecimal() else None), "its processes may open"


def _workers(settings: Settings) -> Iterator[Finding]:
    workers, cores = settings.config.server.workers, len(os.sched_getaffinity(0))
    if workers > _WORKERS_PER_CORE * cores:
        yield Finding(
            "server.workers",
            f"{workers} workers share {'one core' if cores == 1 else f'{cores} cores'}",
            "they take memory and connections to the database, and make nothing faster",
            f"write {cores}, one for each core",
            WARNING,
        )
    wanted = workers * _ACCESS_MIB + authorization_workers(settings, workers) * _AUTHORIZATION_MIB
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MIB
    if wanted > memory // 2:
        yield Finding(
            "server.workers",
            f"{workers} workers take some {wanted} MB, and this machine has {memory}",
            "when memory runs out the kernel ends processes, the database's first",
            "use fewer workers, or a larger machine",
        )


def _disk(settings: Settings) -> Iterator[Finding]:
    """The disks under an embedded database and under a file of the access log."""
    log = settings.config.log
    places = {}
    if settings.config.database.embedded:
        places["database.data_dir"] = settings.data_dir, "nothing is issued and no signed call passes"
    if log.access != "off" and log.access_file != "-" and not log.access_file.startswith("syslog:"):
        places["log.access_file"] = settings.base / log.access_file, "calls leave no line"
    for about, (path, why) in places.items():
        folder = next(place for place in (path, *path.absolute().parents) if os.path.exists(place))  # noqa: PTH110  # Path raises
        known = shutil.disk_usage(folder)
        free = known.free / (known.used + known.free)
        if free < _FILLING:
            yield Finding(
                about,
                f"{free:.0%} of the disk under {folder} are free ({known.free // _MIB} MB)",
                f"on a full disk {why}",
                "make room, or move it to a larger disk while the gateway is stopped",
                FAULT if free < _FULL else WARNING,
            )


def clock_findings(settings: Settings, apart: Mapping[str, float]) -> Iterator[Finding]:
    """What other clocks say of ours: `apart` is by how many seconds each is ahead."""
    skew = settings.config.mac.skew
    for whose, seconds in apart.items():
        if abs(seconds) > skew / 2:
            direction = "behind" if seconds > 0 else "ahead of"
            yield Finding(
                "time",
                f"this machine's clock is {abs(seconds):.0f} s {direction} that of {whose}",
                f"signed calls are refused beyond {skew:.0f} s, and what expires does so too early or too late",
                "have both set by NTP: `timedatectl set-ntp true`, or install chrony",
                FAULT if abs(seconds) > skew else WARNING,
            )
    signed = any(not SIGNING.isdisjoint(route.schemes) for route in settings.config.routes)
    if signed and not apart and not _is_synchronised():
        yield Finding(
            "time",
            "nothing sets this machine's clock, as the kernel knows",
            f"it drifts, and signed calls are refused once it is more than {skew:.0f} s from the clients'",
            "`timedatectl set-ntp true`, or install chrony; in a container, on its host",
            WARNING,
        )


def _is_synchronised() -> bool:
    """Whether the kernel knows of something that keeps the clock right."""
    try:
        return Path("/run/systemd/timesync/synchronized").exists() or _adjtimex() != _UNSYNCHRONISED
    except OSError:
        return True


def _adjtimex() -> int:
    import ctypes

    return int(ctypes.CDLL(None).adjtimex(ctypes.byref(ctypes.create_string_buffer(512))))
