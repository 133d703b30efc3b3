"""A fake `systemd-run`: starts the command as nobody's child, with the environment it was given and no other. See fakemanager.py.

What it writes goes to `NAME.log` of $FAKE_SYSTEMD, its exit code to `NAME.exit`. It ends after 60 s. Standard library only.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ["FAKE_SYSTEMD"])
LIMIT_S = 60


def main() -> None:
    words = sys.argv[1:]
    with (FOLDER / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(["systemd-run", *words]) + "\n")
    if (FOLDER / "no systemd-run").exists():
        print("Failed to start transient service unit: Access denied", file=sys.stderr)
        sys.exit(1)
    at = words.index("--")
    options, argv = words[:at], words[at + 1 :]
    name = next(word.removeprefix("--unit=") for word in options if word.startswith("--unit="))
    given = dict(word.removeprefix("--setenv=").split("=", 1) for word in options if word.startswith("--setenv="))
    environment = {"FAKE_SYSTEMD": str(FOLDER), "PATH": os.defpath, **given}
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            for fd in range(3):
                os.dup2(nothing, fd)
            with (FOLDER / f"{name}.log").open("wb") as log:
                try:
                    code = subprocess.run(argv, env=environment, stdout=log, stderr=log, timeout=LIMIT_S, cwd="/", check=False).returncode
                except subprocess.TimeoutExpired:
                    code = -1
            (FOLDER / f"{name}.exit").write_text(str(code))
        os._exit(0)
    os.wait()


if __name__ == "__main__":
    main()
