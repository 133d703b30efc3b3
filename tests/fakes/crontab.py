"""A fake `crontab`, to be put first on PATH: one user's crontab in the file $FAKE_CRONTAB, replaced whole, with the words of Debian's cron.

Beside it, `FILE.mood` changes what it does: `hang`; `broken` (neither read nor written, and not "none" either); `refuses` writes;
`another` writes a line of its own after ours, as a second `crontab -e` does. Standard library only, and nothing of mmtools.
"""

import os
import re
import sys
import time
from pathlib import Path

FILE = Path(os.environ["FAKE_CRONTAB"])
HANGS_S = 60.0


def main() -> int:
    mood = FILE.with_name(FILE.name + ".mood")
    does = mood.read_text() if mood.exists() else ""
    if does == "hang":
        time.sleep(HANGS_S)
    if does == "broken":
        print(f"{FILE}: Input/output error", file=sys.stderr)
        return 1
    if sys.argv[1:] == ["-l"]:
        if not FILE.exists():
            print("no crontab for anna", file=sys.stderr)
            return 1
        sys.stdout.buffer.write(FILE.read_bytes())
        return 0
    if sys.argv[1:] != ["-"]:
        print(f"crontab: usage error: {sys.argv[1:]}", file=sys.stderr)
        return 1
    content = sys.stdin.buffer.read()
    complaint = "mood" if does == "refuses" else wrong(content)
    if complaint:
        print(f"{complaint}\nerrors in crontab file, can't install.", file=sys.stderr)
        return 1
    new = FILE.with_name(FILE.name + f".{os.getpid()}")
    new.write_bytes(content + (b"1 2 3 4 5 theirs\n" if does == "another" else b""))
    new.replace(FILE)
    return 0


def wrong(content: bytes) -> str:
    """Return what cron would not take: a line that is no comment, no variable and no five fields with a command."""
    if content and not content.endswith(b"\n"):
        return "new crontab file is missing newline before EOF"
    for number, line in enumerate(content.decode(errors="replace").split("\n")):
        text = line.strip()
        if not text or text.startswith("#") or re.match(r"\w+\s*=", text):
            continue
        if not re.match(r"(@\w+|([\d*,/a-z-]+\s+){5})\s*\S", text, re.IGNORECASE):
            return f'"-":{number}: bad minute'
    return ""


if __name__ == "__main__":
    sys.exit(main())
