"""The file of a grid's trials: what is refused and left alone, what is the same trial, and what a kill may leave."""

import json
from pathlib import Path

import pytest
from commandline import call, config
from grids import GRID, Record, lines, sweep
from small_runs import game


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    return config(tmp_path / "small.yaml", GRID)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A recording of 150 s."""
    return game().write(tmp_path / "game.jsonl")


def test_what_is_kept_is_not_run_again_and_a_torn_line_is(grid_file: Path, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "trials.jsonl"
    first = sweep("--grid", grid_file, small, "--out", out, "--json")
    whole = out.read_bytes()
    assert sweep("--grid", grid_file, small, "--out", out, "--json").out == first.out
    nobody = ("--backend", "dask", "--scheduler", "tcp://127.0.0.1:1")
    assert call("replay", "--grid", grid_file, small, "--out", out, *nobody, "--json").out == first.out
    assert out.read_bytes() == whole
    out.write_bytes(whole[:-700])
    assert sweep("--grid", grid_file, small, "--out", out, "--json").out == first.out
    again = lines(out)
    assert {json.dumps(line) for line in again} == {json.dumps(json.loads(line)) for line in whole.splitlines()}
    assert len(again) - whole.count(b"\n") in (0, 1)


@pytest.mark.parametrize(
    "changed",
    [{"ledger_sha256": "0" * 64}, {"orders": 77}, {"bracket": {"risk_averse": {"pnl": "3.5"}}}, {"drawdown": "1"}],
    ids=["fills", "orders", "bracket", "drawdown"],
)
def test_another_result_of_the_same_trial_is_refused(changed: Record, grid_file: Path, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "trials.jsonl"
    sweep("--grid", grid_file, small, "--out", out)
    forged = {**lines(out)[3], **changed}
    out.write_text(out.read_text() + json.dumps(forged) + "\n")
    said = sweep("--grid", grid_file, small, "--out", out)
    assert (said.code, said.out) == (77, "")
    assert "line 13 is another result of the trial" in said.err


def test_a_trial_of_another_grid_or_of_a_copy_is_the_same_trial(grid_file: Path, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "trials.jsonl"
    whole = sweep("--grid", grid_file, small, "--out", out, "--json").out
    line = lines(out)[3]
    renamed = {**line, "set": {"quote_interval_s": 7}, "recording": {**line["recording"], "name": "copy.jsonl"}}
    out.write_text(out.read_text() + json.dumps(renamed) + "\n")
    assert sweep("--grid", grid_file, small, "--out", out, "--json").out == whole


FOREIGN = [
    b"precious, no newline",
    b"[1,2,3]\n",
    b"{\n",
    b'{"a":1}',
    b'{"schema":"mmtools.journal/1"}\n',
    b"\x1f\x8b\x08\0\0",
    b"\n",
    b"\0\n",
]


@pytest.mark.parametrize("content", FOREIGN)
def test_a_file_of_something_else_is_left_alone(content: bytes, grid_file: Path, small: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_bytes(content)
    said = sweep("--grid", grid_file, small, "--out", other)
    assert (said.code, said.out) == (78, "")
    assert "line 1 is no mmtools.trial/1, and the file is left alone" in said.err
    assert other.read_bytes() == content


def test_something_else_behind_trials_is_left_alone(grid_file: Path, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "trials.jsonl"
    sweep("--grid", grid_file, small, "--out", out, "--shard", "1/6")
    content = out.read_bytes() + b"a line of mine"
    out.write_bytes(content)
    said = sweep("--grid", grid_file, small, "--out", out)
    assert (said.code, "line 3 is no mmtools.trial/1" in said.err) == (78, True)
    assert out.read_bytes() == content


@pytest.mark.parametrize("length", [0, 1, 9, 27, 28, 400, -1])
def test_files_concatenate_also_when_one_ends_torn(length: int, grid_file: Path, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "trials.jsonl"
    whole = sweep("--grid", grid_file, small, "--out", out, "--json").out
    kept = out.read_bytes().splitlines(keepends=True)
    torn = kept[5][:length]
    for content in (torn, b"".join([*kept[:5], torn, *kept[6:]]), torn + b"".join(kept), b"".join([*kept, torn, kept[11]])):
        out.write_bytes(content)
        said = sweep("--grid", grid_file, small, "--out", out, "--json")
        assert (said.code, said.err, said.out) == (0, "", whole)


@pytest.mark.parametrize(
    "changed",
    [{"key": 3}, {"blocks": {}}, {"bracket": None}, {"pnl": {"total": "much", "spread": "1"}}, {"duration_s": 0}, {"part": "third"}],
)
def test_a_line_that_is_no_whole_trial_is_refused_with_its_number(changed: Record, grid_file: Path, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "trials.jsonl"
    sweep("--grid", grid_file, small, "--out", out)
    content = [*map(json.dumps, lines(out)), json.dumps({**lines(out)[0], **changed})]
    out.write_text("\n".join(content) + "\n")
    said = sweep("--grid", grid_file, small, "--out", out)
    assert (said.code, said.err.count("\n")) == (78, 1)
    assert "line 13 is no whole trial" in said.err
    out.write_text('{"schema":"mmtools.trial/1","version":"0"}\n')
    said = sweep("--grid", grid_file, small, "--out", out)
    assert (said.code, "line 1 is no whole trial" in said.err) == (78, True)
