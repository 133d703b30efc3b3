"""A fake service manager, to be put first on PATH as `systemctl`: real processes, and answers in systemd's words. See fakemanager.py.

$FAKE_SYSTEMD is its folder. `NAME.unit` is a unit: JSON, see `UNIT`; it is read anew at each start. `NAME.state` is how it stands. Each
unit that was started has a keeper, a process of its own that starts, stops and revives the main process; orders reach it as
`NAME.order`. A keeper ends after `lives_s`, when the folder is gone, and when a file `end` appears in it, and its main process with it.
`mood` in the folder changes how the command itself behaves: `hang`, `no bus`. Each call is a line of `calls.jsonl`.
Standard library only, and nothing of mmtools.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn

FOLDER = Path(os.environ["FAKE_SYSTEMD"])
UNIT: dict[str, Any] = {
    "argv": [],
    "restart": "always",
    "restart_s": 0.05,
    "burst": 5,
    "stop_s": 5.0,  # after so long it is killed; what `show` says of it is timeout_stop
    "timeout_stop": "5min 30s",
    "kill_mode": "mixed",
    "load_state": "loaded",
    "unit_file_state": "enabled",
    "memory_high": "infinity",
    "deaf": False,  # takes an order and does nothing
    "lives_s": 60.0,
}
PAUSE_S = 0.01


def read(path: Path, default: Any) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return default


def put(path: Path, value: Any) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(json.dumps(value))
    new.replace(path)


def unit(name: str) -> dict[str, Any] | None:
    own = read(FOLDER / f"{name}.unit", None)
    return None if own is None else {**UNIT, **own}


class Keeper:
    """Keeps one unit: what systemd does for it, in a process of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.main: subprocess.Popen[bytes] | None = None
        self.until = time.monotonic() + float((unit(name) or UNIT)["lives_s"])
        self.state: dict[str, Any] = {
            "active": "inactive", "sub": "dead", "result": "success", "pid": 0, "status": 0, "restarts": 0, "invocation": "",
            "started_us": 0, "job": 0, "keeper": os.getpid(),
        }  # fmt: skip

    def over(self) -> bool:
        return time.monotonic() > self.until or not FOLDER.is_dir() or (FOLDER / "end").exists()

    def say(self, **changes: object) -> None:
        self.state.update(changes)
        with suppress(FileNotFoundError):
            put(FOLDER / f"{self.name}.state", self.state)

    def run(self) -> None:
        try:
            while not self.over():
                order = FOLDER / f"{self.name}.order"
                verb = read(order, None)
                if verb is not None:
                    self.say(job=1)
                    order.unlink()
                    if verb in ("stop", "restart"):
                        self.stop()
                    if verb in ("start", "restart") and self.main is None:
                        self.state["restarts"] = 0
                        self.start()
                    self.say(job=0)
                if self.main is not None and self.main.poll() is not None:
                    self.ended(self.main.returncode)
                time.sleep(PAUSE_S)
        finally:
            if self.main is not None:
                self.main.kill()
                self.main.wait()
                self.end_group()
            self.say(active="inactive", sub="dead", pid=0, keeper=0)

    def start(self) -> None:
        known = unit(self.name) or UNIT
        with (FOLDER / f"{self.name}.log").open("wb") as log:
            self.main = subprocess.Popen(known["argv"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.say(
            active="active", sub="running", result="success", pid=self.main.pid, status=0, invocation=uuid.uuid4().hex,
            started_us=time.monotonic_ns() // 1000, since=time.strftime("%a %Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        )  # fmt: skip

    def stop(self) -> None:
        if self.main is None:
            return
        self.say(active="deactivating", sub="stop-sigterm")
        self.main.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + float((unit(self.name) or UNIT)["stop_s"])
        while self.main.poll() is None and time.monotonic() < deadline and not self.over():
            time.sleep(PAUSE_S)
        if self.main.poll() is None:
            self.main.kill()
            self.main.wait()
        self.end_group()
        self.main = None
        self.say(active="inactive", sub="dead", pid=0)

    def end_group(self) -> None:
        """End what the main process started, as KillMode=mixed and control-group do."""
        assert self.main is not None
        if (unit(self.name) or UNIT)["kill_mode"] != "process":
            with suppress(ProcessLookupError):
                os.killpg(self.main.pid, signal.SIGKILL)

    def ended(self, code: int) -> None:
        known = unit(self.name) or UNIT
        self.end_group()
        self.main = None
        if known["restart"] == "always" and self.state["restarts"] < known["burst"] and code != 78:
            self.say(active="activating", sub="auto-restart", result="exit-code", pid=0, status=code)
            time.sleep(known["restart_s"])
            self.state["restarts"] += 1
            self.start()
        else:
            failed = code not in (0, -signal.SIGTERM)
            self.say(
                active="failed" if failed else "inactive", sub="failed" if failed else "dead", pid=0, status=code,
                result="exit-code" if failed else "success",
            )  # fmt: skip


def keeper_of(name: str) -> None:
    """See that the unit has a keeper; it is nobody's child."""
    state = read(FOLDER / f"{name}.state", {})
    with suppress(OSError):
        os.kill(state.get("keeper") or sys.maxsize >> 33, 0)
        return
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            for fd in range(3):
                os.dup2(nothing, fd)
            with suppress(BaseException):
                Keeper(name).run()
        os._exit(0)
    os.wait()


def matching(pattern: str) -> list[str]:
    """Return the units that a pattern takes: none is an answer too."""
    return sorted(path.stem for path in FOLDER.glob("*.unit") if fnmatchcase(path.stem, pattern))


def show(name: str) -> str:
    known, state = unit(name), read(FOLDER / f"{name}.state", {})
    waits = (FOLDER / f"{name}.order").exists()
    lines = {
        "Id": name,
        "LoadState": "not-found" if known is None else known["load_state"],
        "ActiveState": state.get("active", "inactive"),
        "SubState": state.get("sub", "dead"),
        "UnitFileState": "" if known is None else known["unit_file_state"],
        "Result": state.get("result", "success"),
        "MainPID": state.get("pid", 0),
        "ExecMainStatus": state.get("status", 0),
        "NRestarts": state.get("restarts", 0),
        "InvocationID": state.get("invocation", ""),
        "ActiveEnterTimestamp": state.get("since", ""),
        "ExecMainStartTimestampMonotonic": state.get("started_us", 0),
        "TimeoutStartUSec": "30s",
        "TimeoutStopUSec": (known or UNIT)["timeout_stop"],
        "ControlGroup": "",
        "KillMode": (known or UNIT)["kill_mode"],
        "MemoryHigh": (known or UNIT)["memory_high"],
        "MemoryMax": "infinity",
    }
    if waits or state.get("job"):
        lines["Job"] = 7
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def fail(code: int, words: str) -> NoReturn:
    print(words, file=sys.stderr)
    sys.exit(code)


def main() -> None:
    words = sys.argv[1:]
    with (FOLDER / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    mood = read(FOLDER / "mood", "")
    if mood == "hang":
        time.sleep(30)
    if mood == "no bus":
        fail(1, "Failed to connect to bus: No medium found")
    options = [word for word in words if word.startswith("--")]
    verb, *names = [word for word in words if not word.startswith("--")]
    if verb == "show":
        shown = [each for name in names for each in (matching(name) if "*" in name else [name])]
        print("\n".join(map(show, shown)), end="")
    elif verb == "list-units":
        for path in sorted(FOLDER.glob("*.state")):
            if read(path, {}).get("sub") == "running":
                print(f"{path.stem} loaded active running A fake unit")
    elif verb in ("start", "stop", "restart"):
        for name in names:
            known = unit(name)
            if known is None:
                fail(5, f"Failed to {verb} {name}: Unit {name} not found.")
            if known["load_state"] == "masked":
                fail(1, f"Failed to {verb} {name}: Unit {name} is masked.")
            if known["deaf"]:
                continue
            put(FOLDER / f"{name}.order", verb)
            keeper_of(name)
            deadline = time.monotonic() + 30
            while "--no-block" not in options and time.monotonic() < deadline:
                state = read(FOLDER / f"{name}.state", {})
                if not (FOLDER / f"{name}.order").exists() and not state.get("job"):
                    break
                time.sleep(PAUSE_S)
    else:
        fail(1, f"Unknown command verb {verb}.")


if __name__ == "__main__":
    main()
