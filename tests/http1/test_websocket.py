"""WebSocket's frames as somebody in between judges them (RFC 6455), however they are cut."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1 import Fields
from gateway.http1.websocket import Reader, close_frame, deflates, offers, wrong_handshake
from tests.counts import scaled

MASK = b"\x01\x02\x03\x04"
MOST = 1000


def frame(first: int, payload: bytes = b"", *, mask: bytes = MASK) -> bytes:
    """A frame with this first byte (FIN, RSV1 to 3, opcode), in the shortest form of its length."""
    size, bit = len(payload), 0x80 if mask else 0
    if size < 126:
        length = bytes((bit | size,))
    elif size <= 0xFFFF:
        length = bytes((bit | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((bit | 127,)) + size.to_bytes(8, "big")
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if mask else payload
    return bytes((first,)) + length + mask + masked


def passed(data: bytes, cuts: list[int] | None = None, **options: bool) -> tuple[bytes, int]:
    """What goes on of a client's bytes, cut at these places, and the code of the fault, 0 for none."""
    reader = Reader(**{"masked": True, "most": MOST, **options})  # type: ignore[arg-type]
    places = [0, *sorted(cuts or []), len(data)]
    out = b"".join(reader.take(data[at:end]) for at, end in pairwise(places))
    return out, 0 if reader.fault is None else reader.fault.code


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(0x88, code.to_bytes(2, "big") + reason)


TEXT = frame(0x81, b"hello")
GOOD = {
    "text": TEXT,
    "binary, empty": frame(0x82),
    "a ping and a pong": frame(0x89, b"x" * 125) + frame(0x8A),
    "fragments with a ping between": frame(0x01, b"he") + frame(0x89) + frame(0x00, b"l") + frame(0x80, b"lo"),
    "126 bytes": frame(0x82, bytes(126)),
    "as much as may be": frame(0x82, bytes(MOST)),
    "as much in fragments": frame(0x02, bytes(MOST - 1)) + frame(0x80, b"x"),
    "one message of the most after another": frame(0x82, bytes(MOST)) * 2,
    "closed without a word": frame(0x88),
    "closed with a reason": close(1000, "Tschüß".encode()),
    "text that is no UTF-8, which is the ends’ to judge": frame(0x81, b"\xff"),
    **{f"closed with {code}": close(code) for code in (1000, 1003, 1007, 1011, 1012, 1014, 3000, 4999)},
}


@pytest.mark.parametrize("what", GOOD)
def test_good_frames_pass_as_they_came(what: str) -> None:
    assert passed(GOOD[what]) == (GOOD[what], 0)
    assert passed(GOOD[what], list(range(len(GOOD[what])))) == (GOOD[what], 0)


def test_what_comes_behind_a_close_frame_is_dropped() -> None:
    # section 5.5.1
    assert passed(TEXT + close(1000) + TEXT) == (TEXT + close(1000), 0)


BAD = {
    "without a mask (5.1)": (frame(0x81, b"hello", mask=b""), 1002),
    "an unknown data opcode (5.2)": (frame(0x83), 1002),
    "an unknown control opcode (5.2)": (frame(0x8B), 1002),
    "RSV1 without an extension (5.2)": (frame(0xC1), 1002),
    "RSV3 (5.2)": (frame(0x91), 1002),
    "a ping in fragments (5.5)": (frame(0x09), 1002),
    "a ping of 126 bytes (5.5)": (frame(0x89, bytes(126)), 1002),
    "a continuation of nothing (5.4)": (frame(0x80, b"x"), 1002),
    "a message within another (5.4)": (frame(0x01, b"x") + frame(0x81, b"y"), 1002),
    "16 bits for a short length (5.2)": (b"\x82\xfe\x00\x7d" + MASK + bytes(125), 1002),
    "64 bits for a short length (5.2)": (b"\x82\xff" + (0xFFFF).to_bytes(8, "big") + MASK, 1002),
    "a length with the highest bit (5.2)": (b"\x82\xff\x80" + bytes(7) + MASK, 1002),
    "too long": (frame(0x82, bytes(MOST + 1)), 1009),
    "too long by its announcement": (b"\x82\xff" + ((1 << 63) - 1).to_bytes(8, "big") + MASK, 1009),
    "too long over its fragments": (frame(0x02, bytes(MOST)) + frame(0x00, b"") + frame(0x80, b"x"), 1009),
    "a close frame of one byte (5.5.1)": (frame(0x88, b"\x03"), 1002),
    **{
        f"closed with {code} (7.4)": (close(code), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
}
BEFORE = {"a message within another (5.4)": 1, "too long over its fragments": 2}  # frames that were right


@pytest.mark.parametrize("what", BAD)
def test_bad_frames_end_it_and_nothing_of_them_passes(what: str) -> None:
    data, code = BAD[what]
    whole = passed(TEXT + data + TEXT)
    assert whole == passed(TEXT + data + TEXT, list(range(len(data) + 2 * len(TEXT))))
    assert whole[1] == code
    if what not in BEFORE:
        assert whole[0] == TEXT
    else:
        assert whole[0].startswith(TEXT + data[: len(whole[0]) - len(TEXT)])
        assert len(whole[0]) < len(TEXT + data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0xC1, b"x"), 0),
        (frame(0x41, b"x") + frame(0x80, b"y"), 0),
        (frame(0x01, b"x") + frame(0xC0, b"y"), 1002),  # RFC 7692, section 6.1: on the first frame alone
        (frame(0xC9), 1002),
        (frame(0xA1), 1002),
    ],
)
def test_rsv1_is_for_the_first_frame_of_a_deflated_message(data: bytes, code: int) -> None:
    assert passed(data, deflated=True)[1] == code


@pytest.mark.parametrize(("mask", "code"), [(b"", 0), (MASK, 1002)])
def test_upstreams_send_without_a_mask(mask: bytes, code: int) -> None:
    assert passed(frame(0x81, b"hello", mask=mask), masked=False)[1] == code


@pytest.mark.parametrize("mask", [b"", MASK])
def test_close_frame_of_ours_is_a_good_one(mask: bytes) -> None:
    assert passed(close_frame(1009, mask), masked=bool(mask)) == (close_frame(1009, mask), 0)


def test_between_two_frames_nothing_is_left() -> None:
    reader, data = Reader(masked=True, most=MOST), TEXT + frame(0x89, b"x") + frame(0x82, bytes(300))
    ends = {0, len(TEXT), len(TEXT) + 7, len(data)}
    told = {0} if reader.left == 0 else set()
    gone = 0
    for byte in data:
        gone += len(reader.take(bytes((byte,))))
        if reader.left == 0:
            told.add(gone)
    assert told == ends


frames = st.one_of(
    st.builds(frame, st.sampled_from((0x01, 0x81, 0x02, 0x82, 0x00, 0x80, 0x89, 0x8A)), st.binary(max_size=300)),
    st.sampled_from([data for data, _ in BAD.values()] + list(GOOD.values())),
    st.binary(max_size=20),
)


@settings(max_examples=scaled(3000))
@given(st.lists(frames, max_size=6).map(b"".join), st.data())
def test_what_passes_is_the_same_however_it_is_cut(data: bytes, cutting: st.DataObject) -> None:
    cuts = cutting.draw(st.lists(st.integers(0, len(data)), max_size=8))
    assert passed(data, cuts) == passed(data)
    assert data.startswith(passed(data)[0])


# -- the handshake -------------------------------------------------------------------------------------------

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"


@pytest.mark.parametrize(
    ("method", "lines", "status"),
    [
        (b"GET", KEY + VERSION, None),
        (b"POST", KEY + VERSION, 400),
        (b"GET", KEY, 426),
        (b"GET", KEY + b"Sec-WebSocket-Version: 8\r\n", 426),
        (b"GET", KEY + VERSION + VERSION, 426),
        (b"GET", VERSION, 400),
        (b"GET", KEY + KEY + VERSION, 400),
        (b"GET", b"Sec-WebSocket-Key: c2hvcnQ=\r\n" + VERSION, 400),
        (b"GET", b"Sec-WebSocket-Key: %%%lIHNhbXBsZSBub25jZQ==\r\n" + VERSION, 400),
    ],
)
def test_handshake_follows_section_4_2_1(method: bytes, lines: bytes, status: int | None) -> None:
    wrong = wrong_handshake(method, Fields.of(lines))
    assert (wrong and wrong[0]) == status


def extensions(*values: bytes) -> Fields:
    return Fields.of(b"".join(b"Sec-WebSocket-Extensions: %b\r\n" % value for value in values))


def test_offers_of_other_extensions_do_not_pass() -> None:
    given_ = extensions(
        b"permessage-deflate; client_max_window_bits, x-webkit-deflate-frame", b"mux; max=3, Permessage-Deflate"
    )
    assert offers(given_) == [b"permessage-deflate; client_max_window_bits", b"Permessage-Deflate"]
    assert offers(extensions(b'permessage-deflate; a="1", permessage-deflatex')) == [b'permessage-deflate; a="1"']
    assert offers(extensions(b"permessage-deflate;" * 1000)) == []


@pytest.mark.parametrize(
    ("answered", "found"),
    [
        ((), False),
        ((b"permessage-deflate",), True),
        ((b"permessage-deflate; server_no_context_takeover",), True),
        ((b"x-other",), None),
        ((b"permessage-deflate, x-other",), None),
        ((b"permessage-deflate", b"permessage-deflate"), None),
    ],
)
def test_answer_agrees_to_what_was_offered(answered: tuple[bytes, ...], found: bool | None) -> None:
    assert deflates(extensions(b"permessage-deflate"), extensions(*answered)) is found
    if answered:
        assert deflates(extensions(), extensions(*answered)) is None
