"""A fake `openclaw` command, to be put first on PATH as `openclaw`. See gateways.py.

FAKE_OPENCLAW says which release it plays (2.9, 7.1, 9.6, ...), FAKE_OPENCLAW_PORT where its gateway listens (else `gateway.port` of
the config), FAKE_OPENCLAW_SLEEP_S how long it thinks first, FAKE_OPENCLAW_NOTES puts words around the JSON, FAKE_OPENCLAW_CALLS names
a file that gets one line of JSON per call. Standard library only, and nothing of mmtools.
"""

import json
import os
import socket
import sys
import time
from typing import Any, NoReturn

from fake_releases import release_of

RELEASE = release_of(os.environ.get("FAKE_OPENCLAW", "7.1"))
VERSION = "2026." + ".".join(map(str, RELEASE))
ROOT = os.environ.get("OPENCLAW_STATE_DIR") or os.path.expanduser("~/.openclaw")
COST_MS = 7000 if RELEASE >= (7, 1) else 500
"""How much longer than --timeout a call to a frozen gateway takes, scaled by FAKE_OPENCLAW_COST."""


class Failed(Exception):
    """A call that got no result: what the newer releases print as `error`."""

    def __init__(self, **error: object) -> None:
        super().__init__(error["message"])
        self.error = error


def port() -> int:
    if "FAKE_OPENCLAW_PORT" in os.environ:
        return int(os.environ["FAKE_OPENCLAW_PORT"])
    try:
        with open(f"{ROOT}/openclaw.json") as config:
            return int(json.load(config)["gateway"]["port"])
    except (OSError, ValueError, KeyError):
        return 18789


def post(asked: object, limit_s: float) -> Any:
    """HTTP by hand: the modules for it take longer to load than all the rest."""
    body = json.dumps(asked).encode()
    with socket.create_connection(("127.0.0.1", port()), limit_s) as sock:
        sock.sendall(b"POST /rpc HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        with sock.makefile("rb") as answer:
            return json.loads(answer.read().partition(b"\r\n\r\n")[2])


def call(method: str, params: dict[str, Any], timeout_ms: int) -> Any:
    try:
        said = post({"method": method, "params": params}, timeout_ms / 1000)
    except TimeoutError:
        time.sleep(COST_MS / 1000 * float(os.environ.get("FAKE_OPENCLAW_COST", "0")))
        raise Failed(
            type="gateway_transport_error", kind="timeout", message=f"gateway timeout after {timeout_ms}ms", timeoutMs=timeout_ms
        ) from None
    except (OSError, ValueError):
        message = "gateway closed (1006 abnormal closure (no close frame)): no close reason"
        raise Failed(type="gateway_transport_error", kind="closed", code=1006, message=message) from None
    if not said["ok"]:
        raise Failed(type="gateway_request_error", **said["error"])
    return said["payload"]


def say(document: object) -> None:
    notes = "FAKE_OPENCLAW_NOTES" in os.environ
    if notes:
        print("[plugins] {2 loaded} [slack, memory]\nConfig warnings: none {}".replace("{}", "{ }"))
    print(json.dumps(document, indent=2))
    if notes:
        print("[done] {bye}")


def fail(e: Failed) -> NoReturn:
    if RELEASE < (7, 1):
        print(f"Gateway call failed: Error: {e}", file=sys.stderr)
    else:
        say({"ok": False, "error": e.error, "gateway": {"url": f"ws://127.0.0.1:{port()}"}})
    sys.exit(1)


def value(args: list[str], name: str, default: str) -> str:
    return args[args.index(name) + 1] if name in args else default


def cleanup(args: list[str]) -> None:
    """As 2026.7.1: a store that cannot be read is an empty one, is written back as such, and no transcript is referenced any more."""
    from pathlib import Path

    import fake_stores as stores

    agent = value(args, "--agent", "main")
    store = Path(value(args, "--store", f"{ROOT}/agents/{agent}/sessions/sessions.json"))
    entries = stores.parse(store)
    known = {f"{entry.get('sessionId')}.jsonl" for entry in entries.values()}
    unknown = [path for path in store.parent.glob("*.jsonl") if path.name not in known]
    dry = "--dry-run" in args
    if not dry and "--store" not in args:
        say(call("sessions.cleanup", {"agent": agent, "enforce": True}, 10_000))
        return
    if not dry:
        store.write_text(json.dumps(entries, indent=2))
        for path in unknown:
            path.unlink()
    applied = {} if dry else {"applied": True, "appliedCount": 0}
    say(
        {
            "agentId": agent, "storePath": str(store), "mode": "enforce", "dryRun": dry, "beforeCount": len(entries),
            "afterCount": len(entries), "repaired": 0, "missing": 0, "dmScopeRetired": 0, "modelRunPruned": 0, "pruned": 0, "capped": 0,
            "unreferencedArtifacts": {"scannedFiles": 0, "removedFiles": len(unknown), "freedBytes": 0, "olderThanMs": 2592000000},
            "diskBudget": None, "wouldMutate": bool(unknown), **applied,
        }
    )  # fmt: skip


def sessions(args: list[str]) -> None:
    path = f"{ROOT}/agents/main/sessions/sessions.json"
    with open(path) as store:
        rows = [{"key": key, **entry} for key, entry in json.load(store).items()]
    limit = value(args, "--limit", "100") if RELEASE >= (7, 1) else "all"
    page = rows if limit == "all" else rows[: int(limit)]
    say({"path": path, "count": len(page), "sessions": page})


def delete(keys: list[str]) -> None:
    if RELEASE < (9, 3):
        print("error: unknown command 'delete'", file=sys.stderr)
        sys.exit(1)
    results = [call("sessions.delete", {"key": key}, 30_000) for key in keys]
    say({"ok": True, "deleted": [each["key"] for each in results if each["deleted"]], "results": results})


def main() -> None:
    args = sys.argv[1:]
    if calls := os.environ.get("FAKE_OPENCLAW_CALLS"):
        fd = os.open(calls, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, json.dumps(args).encode() + b"\n")
        os.close(fd)
    time.sleep(float(os.environ.get("FAKE_OPENCLAW_SLEEP_S", "0")))
    match args:
        case ["--version" | "-V"]:
            print(f"OpenClaw {VERSION} (2d2ddc4)" if RELEASE >= (7, 1) else VERSION)
        case ["gateway", "call", method, *rest]:
            try:
                say(call(method, json.loads(value(rest, "--params", "{}")), int(value(rest, "--timeout", "10000"))))
            except Failed as e:
                fail(e)
        case ["sessions", "cleanup", *rest]:
            try:
                cleanup(rest)
            except Failed as e:
                fail(e)
        case ["sessions", "delete", *rest]:
            try:
                delete([arg for arg in rest if not arg.startswith("-")])
            except Failed as e:
                fail(e)
        case ["sessions", *rest]:
            sessions(rest)
        case _:
            print(f"error: unknown command '{' '.join(args)}'", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
