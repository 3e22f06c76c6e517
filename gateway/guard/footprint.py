"""What a cached token takes of the memory, so that the cache can be bounded in bytes."""

from sys import getsizeof
from typing import Final

from gateway.guard.held import Held
from gateway.schemes.scheme import Bound

_PLACES: Final = 60 + 8  # in the dict, where it is as empty as it gets, and in the queue
# Compiled, an object holds its numbers itself.
_COMPILED: Final = not __file__.endswith(".py")
_SMALL: Final = 16  # bytes to which the allocator rounds up


def footprint(held: Held) -> int:
    """Bytes of one entry with its places in the cache; what entries share counts nowhere."""
    allowed, signer = held.allowed, held.signer
    parts: list[object] = [held, allowed.marks, allowed, allowed.digest, allowed.subject]
    if not _COMPILED:
        parts.append(allowed.ends_at)
    if allowed.sign_in is not None:
        parts += [allowed.bounds, allowed.sign_in, allowed.sign_in.at]
    parts += [part for part in (allowed.username, allowed.email) if part is not None]
    parts += [] if signer is None else [signer, signer.jkt if isinstance(signer, Bound) else signer.key]
    return _PLACES + sum(-(-getsizeof(part) // _SMALL) * _SMALL for part in parts)
