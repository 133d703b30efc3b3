"""WebSocket frames to messages: however they are cut, fragmented and mixed with control frames; and what is no protocol."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websocket import WebSocketConnectionClosedException, WebSocketException, WebSocketProtocolException

from mmtools.venues import frames
from mmtools.venues.frames import FrameSocket

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def frame(payload: bytes, opcode: int = TEXT, *, last: bool = True, rsv: int = 0, width: int | None = None) -> bytes:
    """Return an unmasked frame; `width` is of the extended length, 0, 2 or 8 bytes (None: the least)."""
    if width is None:
        width = 0 if len(payload) < 126 else 2 if len(payload) < 65_536 else 8
    length = bytes([{0: len(payload), 2: 126, 8: 127}[width]]) + (len(payload).to_bytes(width, "big") if width else b"")
    return bytes([last << 7 | rsv << 4 | opcode]) + length + payload


class Wire:
    """The far end of a connection: reads give the pieces one by one, then time out; what is sent is kept."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]
        self.reads = 0
        self.sent = b""
        self.hung_up = False

    def recv(self, most: int) -> bytes:
        self.reads += 1
        if not self.pieces:
            if self.hung_up:
                return b""
            raise TimeoutError
        piece = self.pieces.pop(0)
        if len(piece) > most:
            self.pieces.insert(0, piece[most:])
        return piece[:most]

    def send(self, octets: bytes) -> int:
        self.sent += octets
        return len(octets)

    def gettimeout(self) -> float:
        return 0.1


def connected(*pieces: bytes) -> tuple[FrameSocket, Wire]:
    wire = Wire(pieces)
    connection = FrameSocket()
    connection.sock = wire  # type: ignore[assignment]
    return connection, wire


def messages(connection: FrameSocket, wire: Wire) -> list[bytes]:
    """Everything that the pieces hold."""
    found = []
    while (message := connection.receive(10)) is not None or wire.pieces:
        if message is not None:
            found.append(message)
    return found


def unmasked(octets: bytes) -> list[tuple[int, bytes]]:
    """The short frames that a client sent: opcode and payload."""
    found = []
    while octets:
        mask, end = octets[2:6], 6 + (octets[1] & 0x7F)
        found.append((octets[0] & 0xF, bytes(octet ^ mask[i % 4] for i, octet in enumerate(octets[6:end]))))
        octets = octets[end:]
    return found


# what comes out


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 511, 65_535, 65_536, 300_000])
def test_a_message_of_any_length_comes_out_whole(length: int) -> None:
    payload = bytes(range(1, 252)) * (length // 251 + 1)
    connection, wire = connected(frame(payload[:length]), frame(b"next"))
    assert messages(connection, wire) == [payload[:length], b"next"]


@pytest.mark.parametrize("width", [2, 8])
def test_a_length_may_be_written_longer_than_it_needs(width: int) -> None:
    connection, wire = connected(frame(b"PONG", width=width) + frame(b"", width=width) + frame(b"x"))
    assert messages(connection, wire) == [b"PONG", b"", b"x"]


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes], list[bytes]]:
    """Octets of messages in fragments, with control frames anywhere between; the messages; the payloads of the pings."""
    octets, whole, pings = b"", [], []
    for parts in draw(st.lists(st.lists(st.binary(max_size=150), min_size=1, max_size=4), max_size=6)):
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        for i, part in enumerate(parts):
            control = draw(st.sampled_from([None, None, PING, PONG]))
            if control is not None:
                said = draw(st.binary(max_size=125))
                octets += frame(said, control)
                pings += [said] if control == PING else []
            octets += frame(part, opcode if i == 0 else CONT, last=i == len(parts) - 1)
        whole.append(b"".join(parts))
    return octets, whole, pings


@given(streams(), st.lists(st.integers(1, 200)))
@example((frame(b"ab", last=False) + frame(b"hm", PING) + frame(b"c", CONT), [b"abc"], [b"hm"]), [1] * 12)
@example((frame(b"z" * 130) + frame(b"y"), [b"z" * 130, b"y"], []), [3, 1, 129])
def test_messages_do_not_depend_on_how_they_are_fragmented_and_cut(stream: tuple[bytes, list[bytes], list[bytes]], cuts: list[int]) -> None:
    octets, whole, pings = stream
    pieces: list[bytes] = []
    for cut in cuts:
        pieces.append(octets[:cut])
        octets = octets[cut:]
    connection, wire = connected(*pieces, octets)
    assert messages(connection, wire) == whole
    assert unmasked(wire.sent) == [(PONG, said) for said in pings]


def test_what_one_read_brings_is_given_out_without_another() -> None:
    connection, wire = connected(frame(b"one") + frame(b"two", BINARY) + frame(b"three")[:-1], b"e")
    assert [connection.receive(10) for _ in range(2)] == [b"one", b"two"]
    assert wire.reads == 1
    assert connection.receive(10) == b"three"
    assert wire.reads == 2


def test_patience_ends_within_a_frame_that_trickles_in_and_what_came_is_kept() -> None:
    octets = frame(b"drop by drop" * 20)
    connection, wire = connected(*(octets[i : i + 1] for i in range(len(octets))))
    found = [connection.receive(0) for _ in octets]
    assert found == [None] * (len(octets) - 1) + [b"drop by drop" * 20]
    assert wire.reads == len(octets)


def test_a_read_that_times_out_is_a_turn_without_a_message() -> None:
    connection, wire = connected(frame(b"half")[:4])
    assert connection.receive(10) is None
    wire.pieces = [frame(b"half")[4:]]
    assert connection.receive(10) == b"half"


# what ends it


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (frame(b"x", rsv=4), "0xc1"),
        (frame(b"x", rsv=1), "0x91"),
        (frame(b"x", 0x3), "0x83"),
        (frame(b"x", 0xB), "0x8b"),
        (b"\x81\x81abcdx", "masks nothing"),
        (b"\x81\xfe\x00\x7e", "masks nothing"),
        (frame(b"x", CONT), "goes on before it began"),
        (frame(b"x", last=False) + frame(b"y"), "begins within another"),
        (frame(b"x", BINARY, last=False) + frame(b"y", BINARY), "begins within another"),
        (frame(b"x", last=False) + frame(b"y", CONT) + frame(b"z", CONT), "goes on before it began"),
        (frame(b"x", PING, last=False), "control frame"),
        (frame(b"x", CLOSE, last=False), "control frame"),
        (frame(b"x" * 126, PING), "control frame"),
        (b"\x81\x7f\x80" + bytes(7), "a frame of 9223372036854775808 bytes"),
        (b"\x81\x7f" + (frames.MOST_BYTES + 1).to_bytes(8, "big"), "a frame of"),
    ],
)
def test_what_is_no_protocol_is_refused_after_the_messages_before_it(octets: bytes, why: str) -> None:
    connection, wire = connected(frame(b"before") + octets)
    assert connection.receive(10) == b"before"
    with pytest.raises(WebSocketProtocolException, match=why):
        messages(connection, wire)


def test_a_message_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MOST_BYTES", 1_000)
    fits = [frame(b"x" * 498, last=False), frame(b"y" * 498, CONT)]  # 500 octets each, with their heads
    assert messages(*connected(*fits)) == [b"x" * 498 + b"y" * 498]
    for endless in (frame(b"z", CONT, last=False), frame(b"", CONT, last=False)):
        with pytest.raises(WebSocketProtocolException, match="no end"):
            messages(*connected(*fits[:1], frame(b"y" * 498, CONT, last=False), endless))


@pytest.mark.parametrize("payload", [b"", b"\x03\xe9", b"\x03\xe8bye"])
def test_a_goodbye_is_answered_and_ends_the_connection_after_the_messages_before_it(payload: bytes) -> None:
    connection, wire = connected(frame(b"last words") + frame(payload, CLOSE) + frame(b"not heard"))
    assert connection.receive(10) == b"last words"
    with pytest.raises(WebSocketConnectionClosedException):
        connection.receive(10)
    assert unmasked(wire.sent) == [(CLOSE, b"\x03\xe8")]


def test_the_end_of_the_stream_ends_the_connection_whatever_was_begun() -> None:
    connection, wire = connected(frame(b"whole") + frame(b"begun")[:3])
    wire.hung_up = True
    assert connection.receive(10) == b"whole"
    with pytest.raises(WebSocketConnectionClosedException):
        connection.receive(10)


def test_a_connection_that_was_shut_cannot_be_read() -> None:
    connection: Any = FrameSocket()
    with pytest.raises(WebSocketException):
        connection.receive(0)


def test_a_long_frame_may_come_in_thousands_of_pieces() -> None:
    payload = b"0123456789abcdef" * 65_536
    octets = frame(payload)
    pieces = [octets[i : i + 97] for i in range(0, len(octets), 97)]
    connection, wire = connected(*pieces)
    assert connection.receive(600) == payload
    assert wire.reads == len(pieces)
