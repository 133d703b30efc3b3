"""The block for the crontab: lines that cron and the shell take, commands and options that exist, and the lines of others kept whole."""

import re
import shlex
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from commandline import ROOT, call
from houses import calls, house, put_on_path
from hypothesis import example, given
from hypothesis import strategies as st

from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.ops import crontabs, templates
from mmtools.ops.crontabs import Crontab
from mmtools.ops.templates import BEGIN, END, Place

RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a crontab. times: for each of the five fields all values that it stands for."""

    times: tuple[frozenset[int], ...]
    command: str


def field(text: str, low: int, high: int) -> frozenset[int]:
    """Return the values of one field. Raises ValueError for what cron does not take."""
    values: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
        if found is None:
            raise ValueError(f"{part!r} is no field")
        first, last, step = (None if group is None else int(group) for group in found.groups())
        start = low if first is None else first
        end = high if first is None else start if last is None else last
        if not low <= start <= end <= high or step == 0 or (step is not None and first is not None and last is None):
            raise ValueError(f"{part!r} is out of range {low}-{high}")
        values |= set(range(start, end + 1, step or 1))
    return frozenset(values)


def parse(text: str) -> tuple[dict[str, str], list[Line]]:
    """Return variables and lines as cron reads them. Raises ValueError."""
    if not text.endswith("\n"):
        raise ValueError("no line end")
    variables, lines = {}, []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if setting := re.match(r"([A-Z_]+)=(.*)", line):
            variables[setting[1]] = setting[2]
            continue
        *times, command = line.split(maxsplit=5)
        if len(times) != 5 or len(line) > 998:
            raise ValueError(f"{line!r} is no line of a crontab")
        bare = re.split(r"(?<!\\)%", command)
        if len(bare) > 1:
            raise ValueError(f"a plain % ends the command: {command!r}")
        fields = tuple(field(text, *limits) for text, limits in zip(times, RANGES, strict=True))
        lines.append(Line(fields, command.replace(r"\%", "%")))
    return variables, lines


def program_of(command: str) -> list[str]:
    """Return the words of our program, without what the shell does with its output."""
    return shlex.split(re.sub(r"\s+\d?>.*", "", command))


def spoken(line: Line) -> str:
    """Return program and options, without the folder."""
    program, *options = program_of(line.command)
    return " ".join((Path(program).name, *options))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return house(tmp_path)


@pytest.fixture
def lines(place: Place) -> list[Line]:
    return parse(templates.block(place, place.commands()))[1]


@pytest.mark.parametrize("text", ["60", "5-", "*/0", "1-70", "7/5", "a", "30-10", ""])
def test_a_field_that_cron_does_not_take_is_found(text: str) -> None:
    with pytest.raises(ValueError, match="is"):
        field(text, 0, 59)


def test_fields_stand_for_what_cron_takes_them_for() -> None:
    assert field("*", 0, 23) == frozenset(range(24))
    assert field("7-59/15", 0, 59) == {7, 22, 37, 52}
    assert field("1,5-6", 0, 59) == {1, 5, 6}


# --- the block


def test_every_job_of_the_block_runs_as_often_as_it_should(lines: list[Line]) -> None:
    a_day = {spoken(line): len(line.times[0]) * len(line.times[1]) for line in lines}
    assert a_day == {
        "status-update --alerts --recover": 1440, "status-update": 96, "safe-restart --auto": 288, "prune-sessions": 1, "snapshot": 24,
        "report --job": 1,
    }  # fmt: skip
    assert all(line.times[2:] == tuple(frozenset(range(low, high + 1)) for low, high in RANGES[2:]) for line in lines)
    hours = {Path(program_of(line.command)[0]).name: line.times[1] for line in lines if len(line.times[1]) == 1}
    assert hours == {"prune-sessions": {3}, "report": {7}}


def test_the_shell_runs_each_line_with_its_output_where_it_belongs(place: Place, lines: list[Line]) -> None:
    (place.state / "logs").mkdir(parents=True)
    for line in lines:
        done = subprocess.run(["/bin/sh", "-c", line.command], capture_output=True, text=True, timeout=60, check=True)
        assert (done.stdout, done.stderr) == ("", "")
    assert sorted(calls(place)) == sorted(map(spoken, lines))
    assert len(list((place.state / "logs").iterdir())) == len(lines)


def test_the_variables_stand_before_the_lines_and_name_state_and_path(place: Place) -> None:
    text = templates.block(place, place.commands())
    assert parse(text)[0] == {"PATH": place.path, "MMTOOLS_STATE": str(place.state)}
    assert text.index("MMTOOLS_STATE=") < text.index("status-update --alerts")


def test_what_says_where_things_are_goes_along(place: Place) -> None:
    place = replace(place, carried={"XDG_CONFIG_HOME": "/c d%e", "OPENCLAW_STATE_DIR": "/o"})
    assert parse(templates.block(place, place.commands()))[0] == {
        "PATH": place.path,
        "MMTOOLS_STATE": str(place.state),
        "XDG_CONFIG_HOME": "/c d%e",
        "OPENCLAW_STATE_DIR": "/o",
    }
    for name, text in templates.units(place, place.commands()).items():
        assert ('Environment="XDG_CONFIG_HOME=/c d%%e"' in text) == name.endswith(".service"), name


def test_a_line_whose_command_is_not_there_is_left_out_and_named(tmp_path: Path) -> None:
    place = house(tmp_path, ("status-update", "report"))
    programs = {Path(program_of(line.command)[0]).name for line in parse(templates.block(place, place.commands()))[1]}
    assert programs == {"status-update", "report"}
    assert templates.lacking(place, place.commands()) == ["prune-sessions", "quote-run", "recover", "safe-restart", "snapshot"]


def test_the_minutes_differ_between_machines_and_never_change_on_one(place: Place) -> None:
    blocks = {templates.block(replace(place, host=host), place.commands()) for host in map(str, range(20))}
    assert len(blocks) > 15
    assert templates.block(place, place.commands()) == templates.block(place, place.commands())
    for text in blocks:
        parse(text)


def test_a_folder_that_cannot_stand_in_a_crontab_is_refused(place: Place) -> None:
    with pytest.raises(Misconfigured, match="cannot stand in a crontab"):
        templates.block(replace(place, state=Path("/x\ny")), place.commands())


def test_every_command_of_the_block_is_there_and_takes_its_options() -> None:
    """What a line runs is run with --help behind it: an option that is not there exits 2 even so."""
    text = (ROOT / "crontab" / "mmtools.crontab").read_text()
    found = re.findall(r"@BIN@/([a-z-]+)((?: [a-z-]+)*)", text)
    assert len(found) == 6
    for name, options in found:
        assert (ROOT / "bin" / name).is_symlink(), f"bin/{name} is not there"
        assert call(name.replace("-", "_"), *options.split(), "--help").code == 0, (name, options)


# --- among the lines of others

BLOCK = f"{BEGIN} x\n1 2 * * * ours\n{END}\n".encode()
LINES = st.lists(st.sampled_from([b"", b"# a remark", b"5 4 * * * theirs", b"MAILTO=anna", b"\xff\xfe\x00", b"  "]), max_size=6)


@given(LINES, st.booleans())
@example([b"5 4 * * * theirs"], False)
def test_a_block_comes_and_goes_and_leaves_every_byte_of_others(others: list[bytes], ends: bool) -> None:
    before = b"\n".join(others) + (b"\n" if ends and others else b"")
    with_block = Crontab(before).with_block(BLOCK)
    assert Crontab(with_block).block == BLOCK
    assert Crontab(with_block).with_block(BLOCK) == with_block
    after = Crontab(with_block).with_block(None)
    assert after == before if before.endswith(b"\n") or not before else after == before + b"\n"


def test_a_block_moves_behind_lines_that_were_added_below_it_so_that_its_variables_do_not_reach_them() -> None:
    content = b"a\n" + BLOCK + b"5 4 * * * theirs\n"
    assert Crontab(content).with_block(BLOCK) == b"a\n5 4 * * * theirs\n" + BLOCK


def test_two_blocks_become_one() -> None:
    assert Crontab(BLOCK + b"x\n" + BLOCK).with_block(BLOCK) == b"x\n" + BLOCK


@pytest.mark.parametrize("content", [f"{BEGIN}\nours\n", f"ours\n{END}\n", f"{BEGIN}\n{BEGIN}\nours\n{END}\n"])
def test_a_marker_without_the_other_is_refused(content: str) -> None:
    with pytest.raises(Refused, match="crontab -e"):
        _ = Crontab(content.encode()).block


# --- through the program


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", put_on_path(tmp_path / "fakes", crontab="crontab"))
    monkeypatch.setenv("FAKE_CRONTAB", str(tmp_path / "tab"))
    return tmp_path / "tab"


def mood(fake: Path, what: str) -> None:
    fake.with_name("tab.mood").write_text(what)


def test_no_crontab_is_empty_and_one_is_read_and_replaced_to_the_byte(fake: Path) -> None:
    assert crontabs.read() == Crontab(b"")
    crontabs.write(b"# \xff\n1 2 3 4 5 x\n")
    assert fake.read_bytes() == b"# \xff\n1 2 3 4 5 x\n"
    assert crontabs.read() == Crontab(fake.read_bytes())


def test_a_crontab_that_cannot_be_read_is_not_taken_for_none(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.write_text("1 2 3 4 5 x\n")
    mood(fake, "broken")
    with pytest.raises(TryLater, match="what the crontab holds is not known"):
        crontabs.read()
    mood(fake, "hang")
    monkeypatch.setattr(crontabs, "LIMIT_S", 0.3)
    with pytest.raises(TryLater, match="is not known"):
        crontabs.read()
    with pytest.raises(TryLater, match="is not known"):
        crontabs.write(b"")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Misconfigured, match="install cron"):
        crontabs.read()
    assert fake.read_text() == "1 2 3 4 5 x\n"


def test_a_crontab_that_is_refused_or_changed_by_another_is_told(fake: Path) -> None:
    fake.write_text("1 2 3 4 5 x\n")
    with pytest.raises(TryLater, match="the crontab is as it was"):
        crontabs.write(b"61 nonsense\n")
    assert fake.read_text() == "1 2 3 4 5 x\n"
    mood(fake, "another")
    with pytest.raises(TryLater, match="another has changed it"):
        crontabs.write(b"1 2 3 4 5 y\n")
