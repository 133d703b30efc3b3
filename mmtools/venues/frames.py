"""WebSocket messages out of a connection of websocket-client: large reads, and the frames of RFC 6455 taken out of them here.

The library reads a header, a length and a payload by three calls a frame, each with its own locks and objects: several times what
the frame costs to decode. It keeps the handshake and all that is sent. What a message means, PINGs in text and lost connections
are the business of `stream`, the only caller.
"""

import time

from websocket import ABNF, WebSocket, WebSocketConnectionClosedException, WebSocketProtocolException

MOST_BYTES = 64 * 1024 * 1024
"""A message above this is no message of the venue: a first array with the books of hundreds of markets fits well."""

_CHUNK = 16 * 1024
"""What TLS brings at once, at most."""
_SHORTEST = 2
"""Bytes of an empty frame."""
_WHOLE_TEXT = 0x80 | ABNF.OPCODE_TEXT
_TWO_BYTES, _EIGHT_BYTES = 126, 127
"""A length that says how long the length is that follows."""


class FrameSocket(WebSocket):
    """A WebSocket to be read by `receive` alone. Give it a timeout once it is connected: no read waits longer."""

    def __init__(self) -> None:
        super().__init__(enable_multithread=False, skip_utf8_validation=True)
        self._buffer = b""
        self._at = 0
        """Up to here the buffer is used up."""
        self._pieces: list[bytes] = []
        """What came of a frame that is not whole, to be joined once: it may trickle in by the thousand."""
        self._missing = _SHORTEST
        """Bytes without which nothing more can be taken."""
        self._begun: list[bytes] = []
        """The fragments of a message so far."""
        self._in_message = False
        self._message_bytes = 0

    def receive(self, patience_s: float) -> bytes | None:
        """Return the next text or binary message; None when `patience_s` goes by without one, or the timeout of one read does.

        What came of a message stays for the next call. Raises WebSocketException or OSError when the connection is of no more use.
        """
        if self._at < len(self._buffer):
            message = self._take()
            if message is not None:
                return message
        until_s = time.monotonic() + patience_s
        while True:
            if self.sock is None:
                raise WebSocketConnectionClosedException("the connection is closed")
            try:
                chunk = self.sock.recv(_CHUNK)
            except TimeoutError:
                return None
            if not chunk:
                raise WebSocketConnectionClosedException("the connection was lost")
            if len(chunk) < self._missing:
                self._pieces.append(chunk)
                self._missing -= len(chunk)
            else:
                if self._pieces:
                    chunk = b"".join((*self._pieces, chunk))
                    self._pieces.clear()
                self._buffer, self._at, self._missing = chunk, 0, _SHORTEST
                message = self._take()
                if message is not None:
                    return message
            if time.monotonic() >= until_s:
                return None

    def _take(self) -> bytes | None:
        """Return the next message that the buffer holds whole; None when more must be read first."""
        buffer, at = self._buffer, self._at
        held, end = len(buffer), at + _SHORTEST
        while end <= held:
            first, length, start = buffer[at], buffer[at + 1], end
            if length == _TWO_BYTES and start + 2 <= held:
                length, start = buffer[start] << 8 | buffer[start + 1], start + 2
            elif length >= _TWO_BYTES:
                length, start = _long(buffer, start, length)
            end = start + length
            if end > held:
                break
            self._at = at = end
            if first == _WHOLE_TEXT and not self._in_message:
                return buffer[start:end]
            message = self._uncommon(first, buffer[start:end])
            if message is not None:
                return message
            end += _SHORTEST
        if at < held:
            self._pieces.append(buffer[at:])
        self._buffer, self._at, self._missing = b"", 0, end - held
        return None

    def _uncommon(self, first: int, payload: bytes) -> bytes | None:
        """Do what a frame asks for that is no whole text; return the message that it ends, if it ends one."""
        last, opcode = first & 0x80, first & 0x7F
        if opcode in (ABNF.OPCODE_PING, ABNF.OPCODE_PONG, ABNF.OPCODE_CLOSE):
            if not last or len(payload) >= _TWO_BYTES:
                raise WebSocketProtocolException("a control frame is fragmented or too long")
            self._control(opcode, payload)
            return None
        if opcode not in (ABNF.OPCODE_CONT, ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY):
            raise WebSocketProtocolException(f"a frame begins with {first:#x}")
        if self._in_message != (opcode == ABNF.OPCODE_CONT):
            raise WebSocketProtocolException("a message begins within another, or goes on before it began")
        self._in_message = not last
        self._begun.append(payload)
        self._message_bytes += _SHORTEST + len(payload)  # fragments of nothing have no end either
        if self._message_bytes > MOST_BYTES:
            raise WebSocketProtocolException("a message has no end")
        if not last:
            return None
        message = b"".join(self._begun)
        self._begun, self._message_bytes = [], 0
        return message

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == ABNF.OPCODE_PING:
            self.pong(payload)
        elif opcode == ABNF.OPCODE_CLOSE:
            self.send_close()
            raise WebSocketConnectionClosedException("the server says goodbye")


def _long(buffer: bytes, start: int, code: int) -> tuple[int, int]:
    """Return a payload's length and where it starts; a length of 0 that starts behind the buffer when its own bytes are not all there."""
    if code > _EIGHT_BYTES:
        raise WebSocketProtocolException("a server masks nothing")
    end = start + (2 if code == _TWO_BYTES else 8)
    if end > len(buffer):
        return 0, end
    length = int.from_bytes(buffer[start:end], "big")
    if length > MOST_BYTES:
        raise WebSocketProtocolException(f"a frame of {length} bytes")
    return length, end
