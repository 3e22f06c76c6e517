"""The certificates of the public listener, read again when their files change, by the one who may read their keys."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from gateway import observe
from gateway.config import Settings
from gateway.config.certificates import certified
from gateway.config.tls import Certified
from gateway.faults import OperatorError

_LOOK: Final = 1.0  # seconds between two looks; what has changed must be the same at two in a row

log = observe.get_logger("gateway.supervisor")

Stamps = tuple[tuple[int, int, int] | None, ...]


def stamps(settings: Settings) -> Stamps:
    """By what it is seen that the files of `server.tls` have changed."""
    return tuple(_stamps(settings))


def _stamps(settings: Settings) -> Iterator[tuple[int, int, int] | None]:
    for pair in settings.certificate_files:
        for path in pair:
            try:
                known = path.stat()  # also through a link, as certbot makes them
            except OSError:
                yield None
            else:
                yield known.st_ino, known.st_size, known.st_mtime_ns


async def keep_certificates(current: Callable[[], Settings], renew: Callable[[tuple[Certified, ...]], None]) -> None:
    """Give `renew` the certificates of the settings in force whenever their files have changed and can be used; what
    cannot be is said once, and those before stay. Ends only when cancelled."""
    used = seen = stamps(current())
    while True:
        await asyncio.sleep(_LOOK)
        now, before, seen = stamps(current()), seen, stamps(current())
        if used in (now, None) or now != before:
            continue
        used = now
        try:
            fresh = tuple(certified(*pair) for pair in current().certificate_files)
        except OperatorError as exc:
            log.error(
                "the certificates have changed and cannot be used; those before stay",
                faults=str(exc).splitlines(),
                mend="`gateway check-config` says more; what is mended is read by itself",
            )
            continue
        if fresh != current().certificates:
            renew(fresh)
            log.info("certificates renewed", names=sorted({name for one in fresh for name in one.names}))
