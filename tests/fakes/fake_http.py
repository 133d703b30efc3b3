"""What a gateway's port says: probes, the control page, and the private way in of the fake command. Part of the fake gateway."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

PAGE = b"<!doctype html><html><title>OpenClaw Control</title></html>"


class Refusal(Exception):
    """What a method answers instead of a result."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Answers(Protocol):
    """Who answers behind the port."""

    def hangs(self) -> bool: ...

    def probe(self, path: str) -> tuple[int, object] | None: ...

    def answer(self, method: str, params: dict[str, Any]) -> object: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, port: int, gateway: Answers) -> None:
        self.gateway, self.server_port = gateway, port
        super().__init__(("127.0.0.1", port), Handler)

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", self.server_port))  # without the look-up of a name that HTTPServer does
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a client that gave up is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        self._hang()
        found = self.server.gateway.probe(self.path.split("?")[0])
        if found is None:
            self._send(200, PAGE, "text/html; charset=utf-8")
        else:
            self._send(found[0], json.dumps(found[1]).encode(), "application/json; charset=utf-8")

    def do_POST(self) -> None:
        """The fake command's private way in; the real one speaks WebSocket."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._hang()
        try:
            said = {"ok": True, "payload": self.server.gateway.answer(asked["method"], asked["params"])}
        except Refusal as e:
            said = {"ok": False, "error": {"code": e.code, "message": str(e), "retryable": e.code == "UNAVAILABLE"}}
        self._send(200, json.dumps(said).encode(), "application/json")

    def _hang(self) -> None:
        while self.server.gateway.hangs():
            time.sleep(0.02)

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: stdout is for the port."""


def listen(port: int, gateway: Answers) -> Server:
    server = Server(port, gateway)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server
