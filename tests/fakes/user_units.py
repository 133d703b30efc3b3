"""A fake `systemctl --user` and `loginctl` for installing units, to be put first on PATH under either name: no unit ever runs.

$FAKE_UNITS is its folder: each call is a line of `calls`; `enabled` names the timers. A file `mood` changes what it does: `no bus`, `hang`;
`no` or `unknown` for lingering. Links are made where $XDG_CONFIG_HOME says. Standard library only, and nothing of mmtools.
"""

import os
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ["FAKE_UNITS"])
HANGS_S = 60.0


def main() -> int:
    mood = (FOLDER / "mood").read_text() if (FOLDER / "mood").exists() else ""
    if Path(sys.argv[0]).name == "loginctl":
        print("" if mood == "unknown" else "no" if mood == "no" else "yes")
        return int(mood == "unknown")
    if mood == "hang":
        time.sleep(HANGS_S)
    if mood == "no bus":
        print("Failed to connect to bus: No medium found", file=sys.stderr)
        return 1
    user, *words = sys.argv[1:]
    if user != "--user":
        return 2
    verb, *names = [word for word in words if not word.startswith("--")]
    if verb == "show-environment":
        return 0
    file = FOLDER / "enabled"
    enabled = set(file.read_text().split()) if file.exists() else set()
    wants = Path(os.environ["XDG_CONFIG_HOME"]) / "systemd" / "user" / "timers.target.wants"
    if verb == "show":
        for name in names:
            on = name in enabled
            print(f"ActiveState={'active' if on else 'inactive'}\nUnitFileState={'enabled' if on else 'disabled'}\n")
        return 0
    with (FOLDER / "calls").open("a") as calls:
        print(" ".join(sys.argv[1:]), file=calls)
    for name in names:
        if not (wants.parent / name).exists():
            print(f"Failed to {verb} unit: Unit file {name} does not exist.", file=sys.stderr)
            return 1
        if verb == "enable":
            wants.mkdir(parents=True, exist_ok=True)
            (wants / name).unlink(missing_ok=True)
            (wants / name).symlink_to(wants.parent / name)
            enabled.add(name)
        else:
            (wants / name).unlink(missing_ok=True)
            enabled.discard(name)
    file.write_text("\n".join(sorted(enabled)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
