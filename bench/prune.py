"""What pruning a session store costs: 29 MB in a folder of 3,787 files (at most 2 s and 40 MB), and 1 GB (at most 15 s and 60 MB).

    python bench/prune.py [--rounds N] [--folder DIR]

Wall time and peak memory of the whole `prune-sessions` process, start included, on a folder made anew for each round: 2,255 entries of
which 2,115 are stale cron runs, as in the incident of February 2026, or none of which may go; and 1 GB in 77,000 entries of the least
size that real ones have, with as many transcripts, of which one run takes 5,000. The gateway is down. The second program
does with the store alone what a script of a few lines would: json.loads, a filter, json.dumps. DIR must have 4 GB of room.
Prints a table of medians, exits 1 when a bar is missed.
"""

import argparse
import json
import os
import random
import socket
import sys
import tempfile
import uuid
from pathlib import Path

from measure import PYTHON, Used, command, machine, medians, run

NOW_MS, HOUR_MS = 1_770_840_000_000, 3_600_000
NOW = "2026-02-11T20:00:00Z"
ENTRIES, STALE, FILES = 2255, 2115, 3787
MANY, ONE_RUN = 77_000, 5000
WHOLE = """
import json, sys
store = json.load(open(sys.argv[1]))
kept = {key: entry for key, entry in store.items() if ":run:" not in key or entry["updatedAt"] > int(sys.argv[2])}
json.dump(kept, open(sys.argv[1] + ".new", "w"), indent=2, ensure_ascii=False)
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description="measures prune-sessions")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--folder", type=Path)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="mmtools-prune-", dir=given.folder) as folder:
        missed = measure(given.rounds, Path(folder))
    sys.exit(1 if missed else 0)


def measure(rounds: int, folder: Path) -> bool:
    """Print what each takes; return whether a bar is missed."""
    sizes = {"29 MB": 29_000_000, "1 GB": 1_024_000_000}
    places = {size: make(folder / size.replace(" ", ""), size_bytes) for size, size_bytes in sizes.items()}
    many = make(folder / "many", sizes["1 GB"], entries=MANY)
    config = folder / "ops.yaml"
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    config.write_text(f"openclaw:\n  program: /nonexistent/openclaw\n  url: http://127.0.0.1:{port}\n")
    bars = {"29 MB": (2.0, 40.0), "1 GB": (15.0, 60.0)}
    programs = {}
    for size, place in places.items():
        programs[f"prune-sessions, {size}"] = lambda place=place: prune(place, config)
        programs[f"the same, nothing stale, {size}"] = lambda place=place: prune(place, config, "--older-than", "9000d")
        programs[f"json.load and json.dump, {size}"] = lambda place=place: whole(place)
    programs[f"prune-sessions, {MANY:,} entries, 1 GB"] = lambda: prune(many, config, takes=ONE_RUN)
    taken = medians(programs, rounds)
    print(f"{machine()}; medians of {rounds} rounds\n\n{'':40} {'wall s':>8} {'CPU s':>8} {'peak MB':>8}")
    missed = False
    for name, used in taken.items():
        most_s, most_mb = bars[name.rpartition(", ")[2]]
        late = not name.startswith("json") and (used.wall_s > most_s or used.peak_mb > most_mb)
        missed |= late
        print(
            f"{name:40} {used.wall_s:8.2f} {used.cpu_s:8.2f} {used.peak_mb:8.1f}{f'  above {most_s:g} s or {most_mb:g} MB' if late else ''}"
        )
    return missed


def prune(place: Path, config: Path, *more: str, takes: int = STALE) -> Used:
    """Prune a copy whose store is the original's own bytes, and put the original back."""
    with tempfile.TemporaryDirectory(dir=place.parent) as state:
        argv = command("prune-sessions", "--openclaw", str(place), "--config", str(config), "--now", NOW, "--state", state, "--json", *more)
        said = Path(state) / "said.json"
        used = run(argv, output=said)
        done = json.loads(said.read_text())
        gone = done["agents"][0]["entries"]["gone"]
        if gone != (0 if more else takes):
            sys.exit(f"{gone} entries went")
        if not more:
            run((*argv[: argv.index("--now")], "--state", state, "--undo", done["run"]))
    return used


def whole(place: Path) -> Used:
    store = place / "agents" / "main" / "sessions" / "sessions.json"
    used = run((*PYTHON, "-c", WHOLE, str(store), str(NOW_MS - 24 * HOUR_MS)))
    Path(f"{store}.new").unlink()
    return used


def make(root: Path, size: int, entries: int = ENTRIES) -> Path:
    """Make an installation whose store has about so many bytes."""
    chance = random.Random(7)
    sessions = root / "agents" / "main" / "sessions"
    sessions.mkdir(parents=True)
    jobs = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(46)]
    store = sessions / "sessions.json"
    with store.open("w") as out:
        out.write("{\n")
        going = entries * STALE // ENTRIES
        for n, stale in enumerate(chance.sample([True] * going + [False] * (entries - going), entries)):
            session = str(uuid.UUID(int=chance.getrandbits(128), version=4))
            age_ms = (25 + chance.randrange(600)) * HOUR_MS
            key = f"agent:main:cron:{jobs[n % 46]}:run:{session}" if stale else f"agent:main:slack:channel:c{n}"
            out.write(
                f"{',' if n else ' '}\n  {json.dumps(key)}: {json.dumps(an_entry(session, NOW_MS - age_ms, size // entries), indent=2)}"
            )
            write(sessions / f"{session}.jsonl", age_ms)
        out.write("\n}")
    store.chmod(0o600)
    for _ in range(FILES - entries - 1):
        write(sessions / f"{uuid.UUID(int=chance.getrandbits(128), version=4)}.jsonl", chance.randrange(24, 1000) * HOUR_MS)
    return root


def an_entry(session: str, at_ms: int, size: int) -> dict[str, object]:
    """Return an entry of about so many bytes, half of it words and half structure, as the real ones have it."""
    tools = [{"name": f"tool_{n}", "summaryChars": n * 7, "schemaChars": n * 31, "propertiesCount": n} for n in range(40)]
    skills = {"prompt": "", "skills": [{"name": f"skill-{n}"} for n in range(12)], "version": 0}
    entry = {"sessionId": session, "updatedAt": at_ms, "systemSent": True, "skillsSnapshot": skills, "systemPromptReport": {"tools": tools}}
    skills["prompt"] = "words of a prompt " * max(0, (size - len(json.dumps(entry, indent=2))) // 18)
    return entry


def write(path: Path, age_ms: int) -> None:
    path.write_bytes(b'{"type":"session"}\n' * 100)
    at_ns = (NOW_MS - age_ms) * 1_000_000
    os.utime(path, ns=(at_ns, at_ns))


if __name__ == "__main__":
    main()
