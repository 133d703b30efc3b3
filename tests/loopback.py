"""Servers of a test's own on 127.0.0.1: a scripted WebSocket server and a scripted order book over HTTP.

They know enough of RFC 6455 to be honest with any client, and nothing of mmtools. Each takes a port that the system picks,
bounds every wait in time, and is gone when its `with` block ends. For tests only.
"""

import base64
import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from serving import Handler, serving

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class Gone(Exception):
    """The client closed, or the server is being stopped."""


class Peer:
    """One client of a WebSocketServer, in the hands of its script."""

    def __init__(self, sock: socket.socket, stopping: threading.Event) -> None:
        self.path = ""
        self.received: list[str] = []
        """Every text frame of the client, in order."""
        self.said_goodbye = threading.Event()
        """A close frame came."""
        self._sock = sock
        self._stopping = stopping
        self._buffer = b""

    def shake_hands(self) -> None:
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        request, *lines = head.decode("latin-1").split("\r\n")
        self.path = request.split()[1]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        accept = base64.b64encode(hashlib.sha1((headers["sec-websocket-key"] + GUID).encode()).digest()).decode()
        answer = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept}",
            "",
            "",
        ]
        self.send_raw("\r\n".join(answer).encode())

    def receive(self, timeout_s: float = 5) -> str | None:
        """Return the next text frame; None when none comes in time. Raises Gone."""
        until = time.monotonic() + timeout_s
        while (frame := self._frame()) is None:
            if time.monotonic() >= until:
                return None
            self._fill(once=True)
        self.received.append(frame)
        return frame

    def send(self, *frames: str | bytes) -> None:
        """Send each as a frame of its own (text, or binary for bytes), all in one write."""
        self.send_raw(b"".join(encode(frame) for frame in frames))

    def send_close(self, code: int = 1001) -> None:
        self.send_raw(encode(struct.pack("!H", code), CLOSE))

    def send_raw(self, octets: bytes) -> None:
        rest = memoryview(octets)
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except TimeoutError:  # a client that reads slowly
                if self._stopping.is_set():
                    raise Gone from None
            except OSError as e:
                raise Gone from e

    def serve(self, *, pong: bool = True) -> None:
        """Read until the client goes (raises Gone), answering each text PING when `pong`."""
        while True:
            if self.receive(1) == "PING" and pong:
                self.send("PONG")

    def _fill(self, once: bool = False) -> None:
        while not self._stopping.is_set():
            try:
                octets = self._sock.recv(65536)
            except TimeoutError:
                if once:
                    return
                continue
            except OSError as e:
                raise Gone from e
            if not octets:
                raise Gone
            self._buffer += octets
            return
        raise Gone

    def _frame(self) -> str | None:
        """Take the next text frame out of the buffer; answer control frames on the way."""
        while len(self._buffer) >= 2:
            opcode, length, start = self._buffer[0] & 0xF, self._buffer[1] & 0x7F, 2
            if length == 126:
                length, start = int.from_bytes(self._buffer[2:4], "big"), 4
            elif length == 127:
                length, start = int.from_bytes(self._buffer[2:10], "big"), 10
            end = start + 4 + length  # a client always masks
            if len(self._buffer) < end:
                return None
            mask, masked, self._buffer = self._buffer[start : start + 4], self._buffer[start + 4 : end], self._buffer[end:]
            payload = bytes(octet ^ mask[i % 4] for i, octet in enumerate(masked))
            if opcode == TEXT:
                return payload.decode()
            if opcode == CLOSE:
                self.said_goodbye.set()
                raise Gone
            if opcode == PING:
                self.send_raw(encode(payload, PONG))
        return None


def encode(payload: str | bytes, opcode: int | None = None) -> bytes:
    """Return a whole unmasked frame."""
    octets = payload.encode() if isinstance(payload, str) else payload
    if opcode is None:
        opcode = TEXT if isinstance(payload, str) else BINARY
    if len(octets) < 126:
        length = bytes([len(octets)])
    elif len(octets) < 65536:
        length = b"\x7e" + struct.pack("!H", len(octets))
    else:
        length = b"\x7f" + struct.pack("!Q", len(octets))
    return bytes([0x80 | opcode]) + length + octets


Script = Callable[[Peer], None]


class WebSocketServer:
    """Plays the n-th script to the n-th client, and the last one to all that come after; a script that returns hangs up."""

    def __init__(self, *scripts: Script, shake_hands: bool = True) -> None:
        self.peers: list[Peer] = []
        self.failures: list[BaseException] = []
        """What went wrong in a script; leaving the `with` block raises the first."""
        self._scripts = scripts
        self._shake_hands = shake_hands
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/ws/market"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()
        if self.failures and error is None:
            raise self.failures[0]

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            sock.settimeout(0.02)
            peer = Peer(sock, self._stopping)
            script = self._scripts[min(len(self.peers), len(self._scripts) - 1)]
            self.peers.append(peer)
            thread = threading.Thread(target=self._play, args=(script, peer, sock), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _play(self, script: Script, peer: Peer, sock: socket.socket) -> None:
        with sock, suppress(Gone):
            try:
                if self._shake_hands:
                    peer.shake_hands()
                script(peer)
            except Gone:
                raise
            except BaseException as e:
                self.failures.append(e)
            # Closing with the client's words unread would reset the connection, and the client could lose what it was sent.
            with suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
            while True:
                peer.receive(1)


@dataclass
class BookServer:
    """`GET /book?token_id=...` over HTTP. `books`: token -> a document (200), a bare status, or a call that returns one."""

    books: Mapping[str, object]
    delay_s: float = 0
    asked: list[str] = field(default_factory=list)
    """The token of each request, in order."""

    def __enter__(self) -> Self:
        self._stopping = threading.Event()
        stub = self

        class Asked(Handler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                token = parse_qs(parts.query).get("token_id", [""])[0]
                stub.asked.append(token)
                stub._stopping.wait(stub.delay_s)
                answer = stub.books.get(token, 404) if parts.path == "/book" else 404
                if callable(answer):
                    answer = answer()
                status, body = (answer, b"{}") if isinstance(answer, int) else (200, json.dumps(answer).encode())
                self.say(status, body)

        self._serving = serving(Asked)
        self.url = self._serving.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._serving.__exit__(None, None, None)


def unused_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def send_slowly(peer: Peer, frame: str, pieces: int, pause_s: float) -> None:
    """Send one frame in pieces with a pause between them."""
    octets = encode(frame)
    step = -(-len(octets) // pieces)
    for start in range(0, len(octets), step):
        peer.send_raw(octets[start : start + step])
        time.sleep(pause_s)


__all__: Sequence[str] = ["BookServer", "Gone", "Peer", "Script", "WebSocketServer", "encode", "send_slowly", "unused_port"]
