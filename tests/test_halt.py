"""halt from outside: the switch of a run is shown, latched and cleared, and the run obeys."""

import json
import signal
from pathlib import Path

import pytest
from commandline import Record, call, config, end, main_of, open_orders, quote, records, start, wait_for_journal, wait_until
from faults import run_with_fault

from mmtools import cli
from mmtools.units import ONE, parse

HALF_HOUR = "feed: synthetic\nduration_hours: 0.5\nrun_id: game\n"
MINIMUM = 5 * ONE
"""Shares that the synthetic market takes at least."""
ENDLESS = "feed: synthetic\nduration_hours: 8000\nrun_id: game\n"


@pytest.fixture
def game(tmp_path: Path) -> Path:
    """The config of a run that was killed on its way, while it held something."""
    path = config(tmp_path / "run.yaml", HALF_HOUR)
    args = ["--config", str(path), "--state", str(tmp_path)]
    for more in range(300, 3000, 100):
        # Each start repeats what the last one wrote, and comes further.
        assert run_with_fault(more, "kill-before", lambda: cli.run(main_of("quote_run"), args)).signal == signal.SIGKILL
        if abs(parse(call("report", "game", "--state", tmp_path, "--json").document["position"]["synthetic-1"]["net"])) >= MINIMUM:
            return path
    raise AssertionError("it never held enough to sell")


def journal_of(state: Path) -> list[Record]:
    return records(state / "runs" / "game" / "journal.jsonl")


def test_no_latch_is_shown_with_0(tmp_path: Path) -> None:
    said = call("halt", "--state", tmp_path / "state")
    assert (said.code, said.out, said.err) == (0, "no run is latched\n", "")
    assert call("halt", "--state", tmp_path / "state", "--json").document == {"schema": "mmtools.halt/1", "runs": {}}
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("args", "saying"),
    [
        (["--clear"], "say which run"),
        (["--why", "news"], "say which run"),
        (["--reduce-only"], "say which run"),
        (["--run", "game", "--clear"], "--clear needs --why"),
        (["--run", "game", "--clear", "--why", ""], "--clear needs --why"),
        (["--run", "game", "--clear", "--reduce-only", "--why", "news"], "say one of them"),
    ],
)
def test_options_that_do_not_go_together_are_refused(args: list[str], saying: str, tmp_path: Path) -> None:
    said = call("halt", *args, "--state", tmp_path, "--json")
    assert said.code == 2
    assert saying in said.err
    assert said.document["error"]["kind"] == "usage"


@pytest.mark.parametrize("name", ["nobody", "../game", ""])
def test_a_run_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    said = call("halt", "--run", name, "--why", "news", "--state", tmp_path / "state")
    assert said.code == 77
    assert "there is no run" in said.err
    assert not (tmp_path / "state").exists()


def test_a_latched_run_does_not_start_until_it_is_cleared(game: Path, tmp_path: Path) -> None:
    latched = call("halt", "--run", "game", "--why", "the news is out", "--state", tmp_path)
    assert latched.code == 0
    assert "it is not running, and will not start until this is cleared" in latched.out
    assert "manual, the news is out" in latched.out

    shown = call("halt", "--state", tmp_path, "--json")
    assert shown.code == 1
    ((latch,),) = shown.document["runs"].values()
    assert (latch["reason"], latch["detail"], latch["reduce_only"], latch["cleared"]) == ("manual", "the news is out", False, None)

    journal = journal_of(tmp_path)
    refused = call("quote_run", "--config", game, "--state", tmp_path)
    assert refused.code == 77
    assert "run game is halted since" in refused.err
    assert "the news is out" in refused.err
    assert "halt --run game --clear --why" in refused.err
    assert journal_of(tmp_path) == journal

    cleared = call("halt", "--run", "game", "--clear", "--why", "read it", "--state", tmp_path, "--json")
    assert cleared.code == 0
    (latch,) = cleared.document["runs"]["game"]
    assert latch["cleared"]["why"] == "read it"
    assert call("halt", "--state", tmp_path).code == 0
    # It was never obeyed, so the run is as if it had not been.
    assert quote(tmp_path, "--config", game).document == quote(tmp_path / "apart", "--config", game).document


def test_clearing_what_is_not_latched_says_so(game: Path, tmp_path: Path) -> None:
    said = call("halt", "--run", "game", "--clear", "--why", "to be sure", "--state", tmp_path)
    assert (said.code, said.out) == (0, "game: was not latched\n")


def test_a_running_run_is_halted_and_goes_on_once_cleared(tmp_path: Path) -> None:
    path = config(tmp_path / "run.yaml", ENDLESS)
    folder = tmp_path / "runs" / "game"
    process = start(tmp_path, "--config", path, "--json")
    wait_for_journal(folder, process)
    said = call("halt", "--run", "game", "--why", "the news is out", "--state", tmp_path)
    assert said.code == 0
    assert "it cancels and ends" in said.out
    halted = end(process)
    assert halted.code == 77
    assert halted.document["status"] == "halted"
    assert [(halt["why"], halt["detail"]) for halt in halted.document["halts"]] == [("kill_latched", "the news is out")]
    assert halted.document["capital"]["reserved"] == "0"
    assert not open_orders(journal_of(tmp_path))
    live = json.loads((folder / "live_state.json").read_text())
    assert live["status"] == "halted"
    assert live["markets"]["synthetic-1"]["kill_switch"] == "latched"
    assert call("quote_run", "--config", path, "--state", tmp_path).code == 77
    assert call("report", "game", "--state", tmp_path, "--json").document["status"] == "halted"

    assert call("halt", "--run", "game", "--clear", "--why", "read it", "--state", tmp_path).code == 0
    process = start(tmp_path, "--config", path, "--json")
    size = (folder / "journal.jsonl").stat().st_size
    wait_for_journal(folder, process, size=size + 50_000)
    process.send_signal(signal.SIGTERM)
    stopped = end(process)
    assert stopped.code == 0, stopped.err
    assert stopped.document["duration_s"] > halted.document["duration_s"]
    (cleared,) = [record for record in journal_of(tmp_path) if record["kind"] == "cleared"]
    assert cleared["why"] == "read it"


def test_a_run_that_breaks_a_limit_latches_itself(tmp_path: Path) -> None:
    path = config(tmp_path / "run.yaml", HALF_HOUR + "params: {max_drawdown: 0.5}\n")
    said = call("quote_run", "--config", path, "--state", tmp_path, "--json")
    assert said.code == 77
    assert [halt["why"] for halt in said.document["halts"]] == ["drawdown"]
    shown = call("halt", "--state", tmp_path)
    assert shown.code == 1
    assert "game: halted since" in shown.out
    assert "max_drawdown is 0.50 USDC" in shown.out
    assert call("quote_run", "--config", path, "--state", tmp_path).code == 77
    assert call("halt", "--run", "game", "--clear", "--why", "a bad minute", "--state", tmp_path).code == 0
    again = call("quote_run", "--config", path, "--state", tmp_path, "--json")
    assert again.document["duration_s"] > said.document["duration_s"]
    assert again.document["halts"][0] == said.document["halts"][0]


def signed(side: str, token: str, size: str) -> int:
    """Return by how much a trade changes YES less NO."""
    return parse(size) * (1 if (side == "BUY") == (token == "YES") else -1)


def test_reduce_only_lets_a_run_do_nothing_but_sell_what_it_holds(game: Path, tmp_path: Path) -> None:
    said = call("halt", "--run", "game", "--reduce-only", "--why", "enough for today", "--state", tmp_path)
    assert said.code == 0
    assert "will only wind down when started" in said.out
    assert "game: reduce only since" in call("halt", "--state", tmp_path).out
    ended = call("quote_run", "--config", game, "--state", tmp_path, "--json")
    assert ended.code == 0
    assert ended.document["status"] == "finished"
    journal, net, winding_down, sold = journal_of(tmp_path), 0, False, 0
    for record in journal:
        if record["kind"] == "fill":
            trade = record["trade"]
            net += signed(trade["side"], trade["token"], trade["fill_qty"])
        elif record["kind"] == "reduce_only":
            winding_down = True
        elif record["kind"] == "place" and winding_down:
            change = signed(record["side"], record["token"], record["size"])
            assert record["side"] == "SELL"
            assert net * change < 0
            assert abs(change) <= abs(net)
            sold += 1
    assert winding_down
    assert sold > 0
    live = json.loads((tmp_path / "runs" / "game" / "live_state.json").read_text())
    assert live["markets"]["synthetic-1"]["kill_switch"] == "reduce_only"


def test_a_running_run_hears_of_reduce_only_and_of_its_end(tmp_path: Path) -> None:
    path = config(tmp_path / "run.yaml", ENDLESS)
    process = start(tmp_path, "--config", path)
    wait_for_journal(tmp_path / "runs" / "game", process)
    told = call("halt", "--run", "game", "--reduce-only", "--why", "enough", "--state", tmp_path)
    assert "it winds down" in told.out
    wait_until(lambda: any(record["kind"] == "reduce_only" for record in journal_of(tmp_path)), process)
    assert call("halt", "--run", "game", "--clear", "--why", "go on", "--state", tmp_path).code == 0
    wait_until(lambda: any(record["kind"] == "cleared" for record in journal_of(tmp_path)), process)
    process.send_signal(signal.SIGTERM)
    assert end(process).code == 0
    heard = [(r["kind"], r["why"]) for r in journal_of(tmp_path) if r["kind"] in ("reduce_only", "cleared")]
    assert heard == [("reduce_only", "enough"), ("cleared", "go on")]
