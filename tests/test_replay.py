"""replay from outside: the same result as quote-run, nothing left on disk, params changed on the command line."""

from pathlib import Path

import pytest
from commandline import call, config, quote_once

BTC = "btc-1h-20251211.jsonl.gz"


@pytest.mark.parametrize("name", ["nhl-20260607.jsonl.gz", BTC, "mlb-1693f7.jsonl.gz"])
def test_a_replay_has_ledger_and_figures_of_quote_run(name: str, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    run = quote_once(tmp_path_factory, "--recording", recordings / name)
    said = call("replay", recordings / name, "--json")
    assert said.code == 0
    assert said.err == ""
    assert {**said.document, "run_id": run.id} == run.document


def test_a_replay_leaves_nothing_on_disk(recordings: Path, tmp_path: Path) -> None:
    said = call("replay", recordings / BTC, "--state", tmp_path / "state")
    assert said.code == 0
    assert "finished after 0.17 h" in said.out
    assert "P&L" in said.out
    assert "assumes" in said.out
    assert "\nfiles " not in said.out
    assert list(tmp_path.iterdir()) == []


def test_set_changes_a_param_and_only_that(recordings: Path, tmp_path: Path) -> None:
    written = config(tmp_path / "run.yaml", "params:\n  default_order_size: 20\n  latency_ms: 40\n  seed: 7\n")
    said = call("replay", recordings / BTC, "--config", written, "--set", "latency_ms=40", "--set", "seed=7", "--json")
    plain = call("replay", recordings / BTC, "--set", "latency_ms=40", "--set", "seed=7", "--set", "default_order_size=20", "--json")
    assert said.document == plain.document
    assert (plain.document["assumptions"]["latency_ms"], plain.document["assumptions"]["seed"]) == (40, 7)
    slower = call("replay", recordings / BTC, "--config", written, "--set", "latency_ms=900", "--json").document
    assert slower["ledger_sha256"] != said.document["ledger_sha256"]


def test_set_takes_null_where_a_limit_may_be_off(recordings: Path) -> None:
    said = call("replay", recordings / BTC, "--set", "max_drawdown=null", "--set", "model=avellaneda-stoikov", "--json")
    assert said.code == 0


@pytest.mark.parametrize(
    ("change", "saying"),
    [
        ("nonsense", "--set nonsense: say KEY=VALUE"),
        ("=5", "--set =5: say KEY=VALUE"),
        ("bogus=1", "unknown key bogus"),
        ("gama_risk_aversion=1", "did you mean gamma_risk_aversion?"),
        ("seed=-1", "seed is -1; it must be a whole number at least 0"),
        ("seed=abc", 'seed is "abc"; it must be a whole number'),
        ("capital=0", "capital is 0; it must be a number above 0"),
        ("capital=", "capital is null; it must be a number above 0"),
        ("capital=1.1234567", "more than six decimals"),
        ("capital=.inf", "not a finite number"),
        ("capital=1e400", "too large"),
        ("model=guess", 'model is "guess"; it must be one of'),
    ],
)
def test_a_change_that_cannot_be_is_refused_in_one_line(change: str, saying: str, recordings: Path) -> None:
    said = call("replay", recordings / BTC, "--set", change)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("replay: --set")
    assert said.err.count("\n") == 1
    assert saying in said.err
    document = call("replay", recordings / BTC, "--set", change, "--json").document
    assert (document["error"]["kind"], document["exit_code"]) == ("usage", 2)


def test_a_wrong_recording_or_config_is_refused_in_one_line(recordings: Path, tmp_path: Path) -> None:
    missing = call("replay", tmp_path / "gone.jsonl.gz")
    assert (missing.code, missing.err) == (2, f"replay: {tmp_path / 'gone.jsonl.gz'}: there is no such file\n")
    stranger = call("replay", recordings / BTC, "--market", "rain")
    assert stranger.code == 2
    assert "has no market rain; it has btc-up-or-down-1h-20251211" in stranger.err
    typo = call("replay", recordings / BTC, "--config", config(tmp_path / "run.yaml", "parms: {}\n"))
    assert typo.code == 78
    assert "did you mean params?" in typo.err
    assert call("replay").code == 2


def test_a_replay_that_breaks_a_limit_is_halted_with_77(recordings: Path) -> None:
    said = call("replay", recordings / BTC, "--set", "max_drawdown=0.01", "--json")
    assert said.code == 77
    assert said.document["status"] == "halted"
    assert [halt["why"] for halt in said.document["halts"]] == ["drawdown"]
    assert said.document["capital"]["reserved"] == "0"
    assert "\nhalted     drawdown: " in call("replay", recordings / BTC, "--set", "max_drawdown=0.01").out
