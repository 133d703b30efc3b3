"""What a fake unit runs: an HTTP server with a gateway's probes that starts slowly, hangs, shows pages or dies, as its options say.

It ends on SIGTERM (after --stop-s) and after --lives-s. A file --control that appears or changes is a restart within the process: the
uptime begins again. Standard library only.
"""

import argparse
import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--lives-s", type=float, default=60)
parser.add_argument("--busy-s", type=float, default=0, help="nothing listens for so long, and the processor is used")
parser.add_argument("--idle-s", type=float, default=0, help="nothing listens for so long, and nothing is done")
parser.add_argument("--unready-s", type=float, default=0)
parser.add_argument("--stop-s", type=float, default=0)
parser.add_argument("--dies-s", type=float)
parser.add_argument("--dies-with", type=int, default=1)
parser.add_argument("--eats-mb", type=int, default=0)
parser.add_argument("--hang", action="store_true")
parser.add_argument("--page", action="store_true")
parser.add_argument("--since-s", type=float, default=0, help="how much older it says it is")
parser.add_argument("--control", type=Path)
parser.add_argument("--runs", nargs=argparse.REMAINDER, default=[], help="a command it starts, as an agent's turn does")
options = parser.parse_args()

kept = bytearray(options.eats_mb * 1_000_000)
born = time.monotonic()
asked: list[int] = []  # no threading.Event: its `set` in a signal handler can wait for ever for its own `wait`
signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))


def stopping(within_s: float = 0) -> bool:
    """Wait that long, or until it is asked to stop; return whether it was."""
    deadline = time.monotonic() + within_s
    while not asked and time.monotonic() < deadline:
        time.sleep(min(0.02, within_s))
    return bool(asked)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        while options.hang:
            time.sleep(0.05)
        up = time.monotonic() - born
        ready = up >= options.unready_s
        uptime = int((up + options.since_s) * 1000)
        if options.page:
            self.answer(200, b"<!doctype html><title>Control</title>", "text/html")
        elif self.path == "/healthz":
            body = {"ok": ready, "status": "live" if ready else "starting", "uptimeMs": uptime}
            self.answer(200 if ready else 503, json.dumps(body).encode(), "application/json")
        else:
            body = {"ok": ready, "status": "started" if ready else "starting", "uptimeMs": uptime}
            self.answer(200 if ready else 503, json.dumps(body).encode(), "application/json")

    def answer(self, status: int, body: bytes, kind: str) -> None:
        with suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True


def changed() -> float:
    try:
        return options.control.stat().st_mtime_ns if options.control else 0
    except FileNotFoundError:
        return 0


while time.monotonic() < born + options.busy_s and not stopping():
    sum(range(10_000))
if not stopping(options.idle_s):
    server = Server(("127.0.0.1", options.port), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    child = subprocess.Popen(options.runs) if options.runs else None
    began, last = born, changed()
    while not stopping(0.02) and time.monotonic() < began + options.lives_s:
        if options.dies_s is not None and time.monotonic() > began + options.dies_s:
            sys.exit(options.dies_with)
        if changed() != last:
            last, born = changed(), time.monotonic()
    time.sleep(options.stop_s)
