"""An HTTP server of a test's own on 127.0.0.1 that answers as it is told, or not at all. For tests only."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

Answerer = Callable[[str, socket.socket], None]
"""Gets the request's path and the connection, and writes what it likes; closing is done for it."""


def answer(status: int, kind: str, body: bytes, *headers: str) -> Answerer:
    """Answer every path alike."""

    def write(_: str, connection: socket.socket) -> None:
        head = [f"HTTP/1.1 {status} Something", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close", *headers]
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    return write


def json_answer(body: str, status: int = 200) -> Answerer:
    return answer(status, "application/json; charset=utf-8", body.encode())


class Server:
    """Plays an answerer to each connection, for as long as its `with` block lasts."""

    def __init__(self, answerer: Answerer) -> None:
        self.paths: list[str] = []
        self.requests: list[bytes] = []
        self.stopping = threading.Event()
        self._answerer = answerer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def hang(self, path: str, connection: socket.socket) -> None:
        """An answerer that says nothing."""
        self.stopping.wait(60)

    def _accept(self) -> None:
        while not self.stopping.is_set():
            with suppress(TimeoutError):
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._play, args=(connection,), daemon=True))
                self._threads[-1].start()

    def _play(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(10)
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536) or b"\r\n\r\n"
            path = request.split(b" ", 2)[1].decode() if b" " in request else ""
            self.paths.append(path)
            self.requests.append(request)
            self._answerer(path, connection)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass


def drip(connection: socket.socket, octets: bytes, pause_s: float, stopping: threading.Event) -> None:
    """Write a byte at a time."""
    for octet in octets:
        if stopping.is_set():
            return
        connection.sendall(bytes([octet]))
        time.sleep(pause_s)
