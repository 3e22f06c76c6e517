"""The media type that a client prefers, by its Accept fields (RFC 9110, section 12.5.1)."""

from collections.abc import Iterable


def prefers(accepted: Iterable[bytes], media: bytes, over: bytes) -> bool:
    """Whether `media` is named, and with a greater weight than `over`; a range such as */* names neither."""
    members = b",".join(accepted).lower()
    if members.find(media) < 0:  # `in` takes it for a number first
        return False
    weights = {media: 0.0, over: 0.0}
    for member in members.split(b","):
        name, _, parameters = member.partition(b";")
        if name.strip() in weights:
            weights[name.strip()] = max(weights[name.strip()], _quality(parameters))
    return weights[media] > weights[over]


def _quality(parameters: bytes) -> float:
    for parameter in parameters.split(b";"):
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
