"""Run configs: what loads, what is refused and in which words, and that writing and reading them loses nothing."""

import re
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmtools import config
from mmtools.commands.quote_run import OWNERS
from mmtools.config import Alarms, Endpoints, News, RunConfig, Shock, Synthetic
from mmtools.errors import Misconfigured
from mmtools.restarts import Owner
from mmtools.trading.params import DEFAULT_BANDS, Params

Write = Callable[[str | bytes], Path]

CONFIGS = Path(__file__).parents[1] / "configs"

HAND_WRITTEN = """\
run_id: mm-20260607-001
started_at: 2026-06-07T18:00:00Z
duration_hours: 4
hypothesis: "H1"
params:
  quote_interval_s: 2.0
  num_levels: 1
  default_order_size: 50
  default_half_spread_bps: 50
  gamma_risk_aversion: 0.3
  fill_probability_override: 0.20
  markets:
    - nhl-final-game-4
    - btc-up-or-down
parent_run: null
changes_from_parent: null
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str | bytes) -> Path:
        path = tmp_path / "run.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(path: Path) -> str:
    """Return the refusal of a config without its folder; it must be one line."""
    with pytest.raises(Misconfigured) as refused:
        config.load(path)
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(f"{path.parent}/")


# --- what loads


def test_a_config_as_people_write_it_loads(write: Write) -> None:
    assert config.load(write(HAND_WRITTEN)) == RunConfig(
        run_id="mm-20260607-001",
        started_at="2026-06-07T18:00:00Z",
        duration_hours=4,
        hypothesis="H1",
        feed="live",
        markets=("nhl-final-game-4", "btc-up-or-down"),
        params=Params(fill_probability_override=0.2),
    )


def test_markets_may_stand_at_the_top_too(write: Write) -> None:
    under_params = config.load(write(HAND_WRITTEN))
    moved = HAND_WRITTEN.replace("  markets:\n    - nhl-final-game-4\n    - btc-up-or-down\n", "")
    assert config.load(write(moved + "markets: [nhl-final-game-4, btc-up-or-down]\n")) == under_params


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "params:\n  # seed: 2\nmarkets:\n", "\ufeffparams: {}"])
def test_what_is_left_out_has_its_default(write: Write, text: str) -> None:
    assert config.load(write(text)) == RunConfig()


@pytest.mark.parametrize(
    ("text", "feed"),
    [
        ("recording: game.jsonl.gz", "recording"),
        ("recording: game.jsonl.gz\nmarkets: [second-game]", "recording"),
        ("synthetic: {markets: 2}", "synthetic"),
        ("synthetic: {markets: 2}\nmarkets: [synthetic-2]", "synthetic"),
        ("markets: [a-slug]", "live"),
        ("feed: null\nmarkets: [a-slug]", "live"),
        ("params: {seed: 3}", "synthetic"),
        ("feed: synthetic\nmarkets: [synthetic-1]", "synthetic"),
    ],
)
def test_a_feed_left_out_is_the_one_the_rest_speaks_of(write: Write, text: str, feed: str) -> None:
    assert config.load(write(text)).feed == feed


def test_a_recording_is_found_from_where_the_config_lies(write: Write, tmp_path: Path) -> None:
    assert config.load(write("recording: ../data/game.jsonl.gz")).recording == str(tmp_path.parent / "data" / "game.jsonl.gz")
    assert config.load(write("recording: /data/game.jsonl.gz")).recording == "/data/game.jsonl.gz"


@pytest.mark.parametrize("written", ["2026-06-07T18:00:00Z", "'2026-06-07T18:00:00Z'", '"2026-06-07T18:00:00Z"'])
def test_a_time_is_kept_as_text_quoted_or_not(write: Write, written: str) -> None:
    assert config.load(write(f"started_at: {written}")).started_at == "2026-06-07T18:00:00Z"


def test_words_and_numbers_mean_what_they_say(write: Write) -> None:
    """By YAML 1.1 no would be false, 12:30 be 750, 1e-2 be text and 010 be 8."""
    loaded = config.load(
        write(
            "synthetic: {resolves: no}\nhypothesis: 12:30\nparams: {recycle_profit_threshold: 1e-2, seed: 010, position_recycling: FALSE}"
        )
    )
    assert loaded.synthetic.resolves == "no"
    assert loaded.hypothesis == "12:30"
    assert loaded.params == Params(recycle_profit_threshold=0.01, seed=10, position_recycling=False)


# --- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("params:\n  seed: 3\n  gama_risk_aversion: 0.3\n", "3: unknown key params.gama_risk_aversion; did you mean gamma_risk_aversion?"),
        ("hypotesis: H1", "1: unknown key hypotesis; did you mean hypothesis?"),
        ("feed: synthetic\nmax_drawdown: 5", "2: unknown key max_drawdown; did you mean max_drawdown, under params?"),
        ("params: {duration_hours: 4}", "1: unknown key params.duration_hours; did you mean duration_hours, at the top level?"),
        ("params:\n  colour: red", "2: unknown key params.colour; configs/paper.yaml names every key"),
        ("synthetic: {news: [{at_s: 1, tick: 3}]}", "1: unknown key synthetic.news[0].tick; did you mean ticks?"),
        ("synthetic: {shocks: [{when: 1}]}", "1: unknown key synthetic.shocks[0].when; the keys here are at_s, duration_s, factor"),
        ("synthetic:\n  news:\n    - at_s: 1", "3: synthetic.news[0] has no ticks; add `ticks: VALUE`"),
        ("a b: 1", '1: "a b" is no key; a key is one word, as in configs/paper.yaml'),
        ("? [a]\n: 1", "1: a list or a mapping as a key; write `key: value`"),
        ("<<: {seed: 1}", '1: "<<" is no key; a key is one word, as in configs/paper.yaml'),
        ("a`b: 1", '1: "a`b" is no key; a key is one word, as in configs/paper.yaml'),
        ("params:\n  seed: 1\n  capital: 5\n  seed: 2", "4: params.seed stands here and on line 2; keep one of them"),
        ("markets: [a]\nparams:\n  markets: [b]", "3: markets stands under params and at the top level; keep one of them"),
    ],
)
def test_a_key_that_is_not_known_or_not_alone_is_refused(write: Write, text: str, message: str) -> None:
    assert refusal(write(text)) == f"run.yaml:{message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("params:\n  default_order_size: -50", "2: params.default_order_size is -50; it must be a number at least 0.01"),
        ("params:\n  capital:\n    0", "2: params.capital is 0; it must be a number above 0"),
        ("params: {num_levels: 21}", "1: params.num_levels is 21; it must be a whole number at least 1 and at most 20"),
        ("params: {num_levels: 1.5}", "1: params.num_levels is 1.5; it must be a whole number at least 1 and at most 20"),
        ("params: {quote_interval_s: fast}", '1: params.quote_interval_s is "fast"; it must be a number at least 0.001'),
        ("params: {quote_interval_s: 1e-9}", "1: params.quote_interval_s is 1e-09; it must be a number at least 0.001"),
        ("params: {balance_aware_quoting: yes}", '1: params.balance_aware_quoting is "yes"; it must be true or false'),
        ("params: {capital: true}", "1: params.capital is true; it must be a number above 0"),
        ("params: {max_drawdown: 0}", "1: params.max_drawdown is 0; it must be a number above 0 or null"),
        ("duration_hours: 1e-9", "1: duration_hours is 1e-09; it must be a number at least 0.001 and at most 8784 or null"),
        ("params: {model: avelaneda}", '1: params.model is "avelaneda"; it must be one of avellaneda-stoikov, bands, fixed, glft, logit'),
        ("feed: kraken", '1: feed is "kraken"; it must be one of live, recording, synthetic'),
        ("synthetic: {resolves: maybe}", '1: synthetic.resolves is "maybe"; it must be one of no, yes or null'),
        ("synthetic: {fair: 1}", "1: synthetic.fair is 1; it must be a number above 0 and below 1"),
        (
            "synthetic: {trades_per_minute: 900000}",
            "1: synthetic.trades_per_minute is 900000; it must be a number at least 0 and at most 60000",
        ),
        ("run_id: 20260607", "1: run_id is 20260607; it must be text or null (put it in quotes)"),
        (
            "changes_from_parent: 3",
            "1: changes_from_parent is 3; it must be text or a mapping (`key: value` lines) or a list or null (put it in quotes)",
        ),
        ("params: [1]", "1: params is a list; it must be a mapping (`key: value` lines)"),
        ("markets: one-slug", '1: markets is "one-slug"; it must be a list'),
        ("params:\n  markets:\n    - one-slug\n    - 7", "4: markets[1] is 7; it must be text (put it in quotes)"),
        ("params: {capital: 0.1234567}", "1: params.capital: '0.1234567' has more than six decimals; write it with at most six decimals"),
        ("params:\n  max_drawdown: .inf", "2: .inf is not a finite number; write a number, or null where a limit may be off"),
        ("params: {seed: .NaN}", "1: .NaN is not a finite number; write a number, or null where a limit may be off"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(write: Write, text: str, message: str) -> None:
    assert refusal(write(text)) == f"run.yaml:{message}"


@pytest.mark.parametrize("number", ["1000000000000000", "-1e15", "1e999", "9" * 5000])
def test_a_number_too_large_is_refused(write: Write, number: str) -> None:
    assert " is too large; at most 15 digits are kept" in refusal(write(f"params: {{seed: {number}}}"))


def test_the_largest_number_is_kept_whole(write: Write) -> None:
    assert config.load(write("params: {seed: 999999999999999}")).params.seed == 999_999_999_999_999


@pytest.mark.parametrize("tick", ["0.02", "0", "-0.01", "1"])
def test_a_tick_that_is_not_the_venues_is_refused(write: Write, tick: str) -> None:
    message = refusal(write(f"synthetic:\n  markets: 2\n  tick: {tick}"))
    assert message.startswith("run.yaml:3: synthetic.tick: ")
    assert message.endswith("use one of 0.1, 0.01, 0.005, 0.0025, 0.001, 0.0001")


@pytest.mark.parametrize("tick", ["0.1", "0.01", "0.005", "0.0025", "0.001", "0.0001"])
def test_every_tick_of_the_venue_is_taken(write: Write, tick: str) -> None:
    assert config.load(write(f"synthetic: {{tick: {tick}}}")).synthetic.tick == float(tick)


@pytest.mark.parametrize("name", ["min_order_size", "rewards_daily_pool", "rewards_max_spread", "rewards_min_size"])
def test_an_amount_of_the_synthetic_market_with_more_than_six_decimals_is_refused(write: Write, name: str) -> None:
    assert refusal(write(f"synthetic:\n  markets: 2\n  {name}: 0.0300001")) == (
        f"run.yaml:3: synthetic.{name}: '0.0300001' has more than six decimals; write it with at most six decimals"
    )


def test_a_fair_value_off_the_grid_of_prices_is_refused(write: Write) -> None:
    assert "leaves no room for a tick of 0.1" in refusal(write("synthetic: {fair: 0.95, tick: 0.1}"))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("duration_hours: 2\nfeed: recording", 2, "add `recording: FILE`"),
        ("recording: ''", 1, "add `recording: FILE`"),
        ("feed: live\nmarkets: [a]\nrecording: x.gz", 3, "delete it, or say `feed: recording`"),
        ("feed: live\nmarkets: []", 1, "add `markets: [SLUG, ...]`"),
        ("feed: live\nmarkets: [a]\nsynthetic: {}", 3, "delete it, or say `feed: synthetic`"),
        ("recording: x.gz\nsynthetic: {seed: 2}", 2, "delete it, or say `feed: synthetic`"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(write: Write, text: str | bytes, line: int, words: str) -> None:
    message = refusal(write(text))
    assert message.startswith(f"run.yaml:{line}: ")
    assert message.endswith(words)


def test_two_markets_of_one_name_are_refused_where_the_second_stands(write: Write) -> None:
    assert refusal(write("params:\n  markets:\n    - a-slug\n    - other\n    - a-slug\n")) == (
        'run.yaml:5: markets[2]: "a-slug" is named twice; name each market once'
    )


@pytest.mark.parametrize("slug", ["''", "two words", '"line\\nbreak"'])
def test_a_market_that_is_no_slug_is_refused(write: Write, slug: str) -> None:
    assert "is not a slug" in refusal(write(f"markets: [{slug}]"))


@pytest.mark.parametrize("run_id", [".", "..", ".hidden", "a/b", "../x", "a b", "'a\n\n  b'", "ä", "''", "x" * 81, "history.jsonl"])
def test_a_run_id_that_cannot_name_a_folder_is_refused(write: Write, run_id: str) -> None:
    message = refusal(write(f"duration_hours: 4\nrun_id: {run_id}"))
    assert message.startswith("run.yaml:2: run_id: ")
    assert "use at most 80 letters, digits, dots, dashes and underscores" in message


@pytest.mark.parametrize("run_id", ["prod-002", "a", "A_1.b", "1-x", "x" * 80, "a..b"])
def test_a_run_id_that_names_a_folder_is_taken(write: Write, run_id: str) -> None:
    assert config.load(write(f"run_id: {run_id}")).run_id == run_id


@pytest.mark.parametrize("time", ["yesterday", "2026-13-01", "'2026-06-07T25:00:00Z'", "''"])
def test_a_time_that_is_not_iso_8601_is_refused(write: Write, time: str) -> None:
    assert "is not a time in ISO 8601; write it as 2026-06-07T18:00:00Z" in refusal(write(f"started_at: {time}"))
    assert refusal(write(f"synthetic: {{start: {time}}}")).startswith("run.yaml:1: synthetic.start: ")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("params:\n\tseed: 1", 2, "indented with a tab; use spaces"),
        ("params:\n  seed: 1\n\tcapital: 5", 3, "indented with a tab; use spaces"),
        ("a: b: c", 1, "not YAML"),
        ("feed: live\nmarkets: [a, b", 2, "not YAML"),
        ("hypothesis: '\x07'", 1, "a control character (0x7) stands in the file"),
        ("feed: synthetic\nhypothesis: \x00", 2, "a control character (0x0) stands in the file"),
        (b"feed: synthetic\nhypothesis: caf\xe9\n", 2, "byte 0xe9 is not UTF-8"),
        ("params: {seed: 1}".encode("utf-16"), 1, "byte 0xff is not UTF-8"),
        ("- feed: live", 1, "the file holds a list; write `key: value` lines"),
        ("feed=live", 1, 'the file holds only "feed=live"; write `key: value` lines'),
        ("feed: live\n---\nfeed: live", 2, "a second document begins"),
        ("params: &p {seed: 1}\nsynthetic: *p", 2, "an alias (*p); write the value out"),
        ("params: &p [*p]", 1, "an alias (*p); write the value out"),
        ("hypothesis: !!python/object/apply:os.system [ls]", 1, "a tag (!...) is not allowed"),
        ("hypothesis: !!timestamp 2026-01-01", 1, "a tag (!...) is not allowed"),
        ("hypothesis: " + "[" * 500 + "]" * 500, 1, "nested deeper than 16 levels"),
        ("[" * 5000, 1, "nested deeper than 16 levels"),
    ],
)
def test_what_is_not_a_plain_yaml_mapping_is_refused(write: Write, text: str | bytes, line: int, words: str) -> None:
    message = refusal(write(text))
    assert message.startswith(f"run.yaml:{line}: ")
    assert words in message


def test_an_alias_bomb_is_refused_before_it_grows(write: Write) -> None:
    layers = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 30))
    assert refusal(write("l0: &l0 [x]\n" + layers)).startswith("run.yaml:2: an alias (*l0)")


def test_a_file_that_cannot_be_a_config_is_refused(write: Write, tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.yaml") == "gone.yaml: no such file; name a run config, such as configs/paper.yaml"
    assert refusal(tmp_path).endswith(": a folder; name a run config in it")
    assert refusal(write("#" * (1 << 20) + "\n")) == "run.yaml: larger than 1 MB, so no run config; name another file"
    assert refusal(tmp_path / ("x" * 300)).endswith("; make it readable, or name another run config")
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be read" in refusal(tmp_path / "loop")


def test_a_long_value_is_shown_shortened(write: Write) -> None:
    assert refusal(write(f"params: {{model: {'x' * 5000}}}")) == (
        f'run.yaml:1: params.model is "{"x" * 56}...; it must be one of avellaneda-stoikov, bands, fixed, glft, logit'
    )


@given(st.one_of(st.text(max_size=60), st.text("abmf:[]{},-#&*!|>'\"%@` \n\t01.~?", max_size=60)))
@settings(max_examples=200, deadline=None)
@example("a - at `$.x: 1")
@example("run_id: 'x - at `$.params.y`'")
@example("params: {'seed - at `$.x`': 1}")
def test_any_text_loads_or_is_refused_in_one_line(text: str) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(text.encode("utf-8", "surrogatepass"))
        file.flush()
        message = "loaded"
        try:
            config.load(Path(file.name))
        except Misconfigured as e:
            message = str(e)
    assert len(message.splitlines()) == 1


# --- there and back


def amounts(least: float = 1e-6) -> st.SearchStrategy[float]:
    return st.integers(int(least * 1_000_000), 10**12).map(lambda millionths: millionths / 1_000_000)


def floats(low: float, high: float = 1e9) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, exclude_min=True, exclude_max=high == 1)


NAMES = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=12)
LOOKS_LIKE = st.sampled_from(
    ["1e5", "no", "null", "~", "", "12:30", "2026-01-01", "0x1f", ".inf", "<<", "=", "- a", "a: b", "#", "'", "\t", "é\u2028🏒", "1_000"]
)
TEXT = LOOKS_LIKE | st.text(max_size=20)
FREE: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**14), 10**14) | floats(-1e9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
PARAMS = st.builds(
    Params,
    model=st.sampled_from(["fixed", "avellaneda-stoikov"]),
    quote_interval_s=floats(0.001),
    num_levels=st.integers(1, 20),
    default_order_size=amounts(0.01),
    gamma_risk_aversion=floats(1e-6, 1e6),
    capital=amounts(),
    max_drawdown=st.none() | amounts(),
    max_event_exposure=st.none() | amounts(),
    position_recycling=st.booleans(),
    fill_probability_override=st.none() | floats(0, 1),
    seed=st.integers(0, 10**15 - 1),
)
SYNTHETIC = st.builds(
    Synthetic,
    markets=st.integers(1, 20),
    tick=st.sampled_from([0.01, 0.0025]),
    fair=st.floats(0.02, 0.98),
    min_order_size=amounts(),
    volatility_ticks=floats(0),
    news=st.lists(st.builds(News, at_s=floats(0), ticks=floats(-100, 100)), max_size=2).map(tuple),
    shocks=st.lists(st.builds(Shock, at_s=floats(0), duration_s=floats(0), factor=floats(0)), max_size=2).map(tuple),
    resolves=st.sampled_from([None, "yes", "no"]),
    rewards_daily_pool=st.none() | amounts(),
    rewards_max_spread=amounts(),
    rewards_min_size=amounts(),
)


@st.composite
def run_configs(draw: st.DrawFn) -> RunConfig:
    feed: Literal["live", "recording", "synthetic"] = draw(st.sampled_from(["live", "recording", "synthetic"]))
    return RunConfig(
        run_id=draw(st.none() | NAMES),
        started_at=draw(st.none() | st.datetimes().map(lambda time: time.isoformat())),
        duration_hours=draw(st.none() | floats(0.001, 8784)),
        hypothesis=draw(st.none() | TEXT),
        parent_run=draw(st.none() | TEXT),
        changes_from_parent=draw(st.none() | TEXT | st.lists(FREE, max_size=3) | st.dictionaries(TEXT, FREE, max_size=3)),
        feed=feed,
        recording=f"/{draw(NAMES)}" if feed == "recording" else None,
        markets=tuple(draw(st.lists(NAMES, min_size=1 if feed == "live" else 0, max_size=3, unique=True))),
        synthetic=draw(SYNTHETIC) if feed == "synthetic" else Synthetic(),
        owner=draw(st.sampled_from(["nobody", "systemd", "recover"])),
        alarms=Alarms(starved_after_min=draw(floats(0.1, 1440)), storm_pct=draw(floats(1, 100))),
        params=draw(PARAMS),
    )


def reread(text: str) -> RunConfig:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        return config.load(Path(file.name))


@given(run_configs())
@example(RunConfig(hypothesis="next line \x85 and \u2028, a tab\t and an end\n"))
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read_back_equal(run: RunConfig) -> None:
    written = config.dump(run)
    again = reread(written)
    assert again == run
    assert config.dump(again) == written
    assert config.digest(again) == config.digest(run)
    assert config.differences(again, run) == []


def test_what_is_written_names_every_key_in_the_order_of_the_structs() -> None:
    keys = re.findall(r"^ *([a-z_0-9]+):", config.dump(RunConfig()), re.MULTILINE)
    assert keys == [
        *[name for name in RunConfig.__struct_fields__ if name not in SECTIONS],
        *("synthetic", *Synthetic.__struct_fields__),
        "endpoints",  # null: the feed is another
        *("alarms", *Alarms.__struct_fields__),
        *("params", *Params.__struct_fields__),
    ]


def test_a_value_used_twice_is_written_out_twice() -> None:
    change = {"seed": [1, 2]}
    run = RunConfig(changes_from_parent=[change, change])
    assert reread(config.dump(run)) == run


# --- what makes two configs the same run


@given(run_configs(), run_configs())
@settings(max_examples=50, deadline=None)
def test_digests_differ_exactly_when_a_difference_is_named(old: RunConfig, new: RunConfig) -> None:
    assert (config.digest(old) == config.digest(new)) == (config.differences(old, new) == [])


def test_the_digest_ignores_order_and_the_way_numbers_are_written(write: Write) -> None:
    one = config.digest(config.load(write("duration_hours: 4\nparams: {capital: 50, seed: 2}")))
    other = config.digest(config.load(write("params: {seed: 2, capital: 50.0}\nfeed: synthetic\nduration_hours: 4.0")))
    assert one == other


def test_the_digest_ignores_what_is_only_recorded() -> None:
    plain = RunConfig(feed="recording", recording="/a.gz")
    told = RunConfig(
        feed="recording",
        recording="/moved/a.gz",
        run_id="x",
        started_at="2026-06-07T18:00:00Z",
        hypothesis="H1",
        parent_run="w",
        changes_from_parent={"seed": 2},
        owner="systemd",
        alarms=Alarms(storm_pct=35),
    )
    assert config.digest(plain) == config.digest(told)
    assert config.differences(plain, told) == []


@pytest.mark.parametrize("name", Params.__struct_fields__)
def test_every_parameter_is_covered_by_the_digest(name: str) -> None:
    default = getattr(Params(), name)
    other: object = DEFAULT_BANDS if name == "bands" else "other" if isinstance(default, str) else (default or 0) + 7
    if isinstance(default, bool):
        other = not default
    changed = RunConfig(params=msgspec.structs.replace(Params(), **{name: other}))
    assert config.digest(changed) != config.digest(RunConfig())
    assert [line.split(":")[0] for line in config.differences(RunConfig(), changed)] == [f"params.{name}"]


def test_differences_name_the_key_and_both_values() -> None:
    old = RunConfig(feed="live", markets=("a", "b"), params=Params(capital=25, max_drawdown=None))
    new = RunConfig(feed="live", markets=("b", "a"), params=Params(capital=25.5, seed=2))
    assert config.differences(old, new) == [
        'markets: ["a","b"] -> ["b","a"]',
        "params.capital: 25 -> 25.5",
        "params.max_drawdown: null -> 100",
        "params.seed: 1 -> 2",
    ]


# --- the examples


def test_paper_yaml_is_the_defaults_on_a_simulated_market_for_four_hours() -> None:
    assert config.load(CONFIGS / "paper.yaml") == RunConfig(feed="synthetic", duration_hours=4)


SECTIONS = {"synthetic", "endpoints", "alarms", "params"}


def explained_keys() -> dict[str, str]:
    """Return each key of paper.yaml, with its section, and the comment right above it."""
    found: dict[str, str] = {}
    section, comment = "", ""
    for line in (CONFIGS / "paper.yaml").read_text().splitlines():
        if text := re.fullmatch(r" *# (.*)", line):
            comment += text[1] + " "
        elif key := re.match(r"( *)([a-z_0-9]+):", line):
            section = section if key[1] else ""
            found[section + key[2]] = comment
            if line.endswith(":"):
                section, comment = key[2] + ".", ""
        else:
            comment = ""
    return found


def test_paper_yaml_names_and_explains_every_key_and_its_default() -> None:
    explained = explained_keys()
    run = RunConfig()
    defaults = {name: getattr(run, name) for name in RunConfig.__struct_fields__ if name not in SECTIONS}
    defaults |= {f"synthetic.{name}": getattr(run.synthetic, name) for name in Synthetic.__struct_fields__}
    defaults |= {f"params.{name}": getattr(run.params, name) for name in Params.__struct_fields__}
    defaults |= {f"endpoints.{name}": getattr(run.endpoints, name) for name in Endpoints.__struct_fields__}
    defaults |= {f"alarms.{name}": getattr(run.alarms, name) for name in Alarms.__struct_fields__}
    assert set(explained) - SECTIONS == set(defaults)
    for key, default in defaults.items():
        stated = re.search(r"\bdefault (\S+?)[,;:.]? ", explained[key])
        assert stated, f"{key}: no default is stated"
        shown = default if isinstance(default, str) else f"{default:g}" if isinstance(default, float) else config._json(default)
        assert stated[1] == shown, key


def test_a_run_names_every_owner_but_the_one_that_restarts_units_only() -> None:
    (owners,) = [field.type for field in msgspec.structs.fields(RunConfig) if field.name == "owner"]
    assert set(get_args(owners)) == set(OWNERS) == set(Owner) - {Owner.SAFE_RESTART}


def test_prod_002_yaml_is_a_small_account_at_the_touch_for_a_day() -> None:
    run = config.load(CONFIGS / "prod-002.yaml")
    assert (run.run_id, run.feed, run.markets, run.duration_hours) == (None, "synthetic", (), 24)
    params = run.params
    assert (params.default_half_spread_bps, params.quote_interval_s, params.gamma_risk_aversion) == (30, 3, 0.5)
    assert (params.default_order_size, params.capital) == (50, 25)
    assert params.max_daily_loss is not None
    assert params.max_drawdown is not None
    assert max(params.max_daily_loss, params.max_drawdown) < params.capital


def test_importing_config_does_not_import_yaml() -> None:
    code = "import sys, mmtools.config; sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CONFIGS.parent).returncode == 0
