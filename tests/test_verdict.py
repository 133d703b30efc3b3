"""The verdict on a paper result: what of it may be believed, and what a careful reader should know first."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tapes import Ran

from mmtools import units
from mmtools.runs.markouts import Markouts
from mmtools.runs.verdict import FEWEST_FILLS, verdict
from mmtools.trading.market import Outcome
from mmtools.trading.params import Params
from mmtools.units import text
from mmtools.venues import recording

Record = dict[str, Any]

ASSUMED: Record = {
    "queue_model": "power", "queue_power": 1.0, "trade_side": "stated", "latency_ms": 100, "fill_probability_override": None,
}  # fmt: skip


def maker(pnl: str, fills: int = 40, shares: str = "400", halted: str | None = None) -> Record:
    return {"fills": fills, "shares": shares, "fill_rate": 0.1, "pnl": pnl, "halted": halted}


def bracket(patient: str = "-3.5", base: str = "-2", lucky: str = "-0.25", **more: Any) -> Record:
    return {"risk_averse": maker(patient, **more), "base": maker(base, **more), "optimistic": maker(lucky, **more)}


def result(*, fills: int = 40, of: Record | None = None, markouts: Record | None = None, hours: float = 7.5, **assumed: Any) -> Record:
    return {
        "duration_s": hours * 3600,
        "assumptions": {**ASSUMED, **assumed},
        "bracket": of,
        "fills": {"count": fills, "shares": "1234.5", "notional": "600"},
        "markouts": markouts or {},
    }


def reasons(*parts: str, **more: Any) -> list[str]:
    """Return the reasons that say one of these."""
    return [reason for reason in verdict(result(of=bracket(), **more))["reasons"] if any(part in reason for part in parts)]


# --- what to believe


@pytest.mark.parametrize("model", ["never", "touch"])
def test_of_naive_fills_nothing_is_to_be_believed_and_the_bracket_instead(model: str) -> None:
    said = verdict(result(of=bracket(), queue_model=model))
    assert said["believe"] == "nothing"
    assert said["headline"].startswith("nothing of this: ")
    assert said["headline"].endswith("; look at the others of the bracket, -3.50 with a patient queue and -0.25 first in it")
    assert said["reasons"] == []


@pytest.mark.parametrize("model", ["never", "touch"])
def test_of_naive_fills_without_a_bracket_nothing_is_to_be_believed_at_all(model: str) -> None:
    said = verdict(result(queue_model=model))
    assert (said["believe"], "bracket" in said["headline"]) == ("nothing", False)


def test_naive_fills_are_held_beside_what_the_luckiest_maker_got() -> None:
    said = verdict(result(of=bracket(shares="55"), queue_model="touch"))["headline"]
    assert "1,234 shares without a trade that reached them; first at every print a maker got 55 shares" in said


def test_a_loss_wherever_the_maker_stands_is_believed() -> None:
    said = verdict(result(of=bracket("-30.5", "-2", "-0.25")))
    assert said["believe"] == "sign"
    assert (
        said["headline"]
        == "the loss on this feed: the maker loses wherever it stands in the queue, risk_averse -30.50, base -2.00, optimistic -0.25"
    )


def test_a_profit_wherever_the_maker_stands_is_believed_but_not_its_size() -> None:
    said = verdict(result(of=bracket("0.5", "2", "1000.25")))
    assert said["believe"] == "sign"
    assert said["headline"].startswith("the profit on this feed, not its size: ")
    assert said["headline"].endswith("risk_averse 0.50, base 2.00, optimistic 1,000.25")


@pytest.mark.parametrize("totals", [("-1", "2", "3"), ("1", "2", "-3"), ("0", "2", "3"), ("-1", "-2", "0")])
def test_where_the_three_do_not_agree_neither_sign_is_believed(totals: tuple[str, str, str]) -> None:
    said = verdict(result(of=bracket(*totals)))
    assert said["believe"] == "neither sign"
    assert said["headline"].startswith("neither profit nor loss: the place in the queue decides it, ")


@given(totals=st.tuples(*[st.integers(-5_000_000, 5_000_000)] * 3))
@example(totals=(0, 0, 0))
@example(totals=(1, 1, 1))
@example(totals=(-1, -1, -1))
def test_a_sign_is_believed_exactly_where_all_three_have_it(totals: tuple[int, int, int]) -> None:
    patient, base, lucky = (text(total) for total in totals)
    signs = {(total > 0) - (total < 0) for total in totals}
    said = verdict(result(of=bracket(patient, base, lucky)))
    assert (said["believe"] == "sign") == (signs in ({1}, {-1}))
    assert said["headline"].startswith("the loss") == (signs == {-1})


def test_without_a_bracket_only_the_queue_model_says_so() -> None:
    said = verdict(result(queue_model="log2"))
    assert said["believe"] == "this queue model only"
    assert said["headline"] == "queue_model log2 alone says so; run it with `bracket: true` to see how much hangs on it"


def test_without_fills_there_is_nothing_to_believe_yet() -> None:
    nobody = verdict(result(fills=0, of=bracket("0", "0", "0", fills=0)))
    assert (nobody["believe"], nobody["reasons"]) == ("nothing", [])
    assert nobody["headline"] == "nothing yet: no trade reached an order, not even first in the queue"
    alone = verdict(result(fills=0))
    assert (alone["believe"], alone["headline"]) == ("nothing", "nothing yet: no trade reached an order")


def test_fills_of_the_luckiest_alone_are_no_sign() -> None:
    makers = {**bracket("0", "0", "0.4"), "risk_averse": maker("0", fills=0), "base": maker("0", fills=0)}
    assert verdict(result(fills=0, of=makers))["believe"] == "neither sign"


# --- what else to know


def test_a_model_of_a_queue_is_named_as_the_assumption_that_it_is() -> None:
    assert reasons("the headline assumes queue_model power 2; risk_averse is the most patient guess", queue_power=2.0) != []
    assert reasons("the headline assumes queue_model log; risk_averse is", queue_model="log", queue_power=2.0) != []
    assert verdict(result())["reasons"][0] == "the headline assumes queue_model power 1"


def test_less_than_a_day_is_one_draw() -> None:
    assert reasons("one draw", hours=7.5) == ["7.50 h of market time are one draw: another day may have the other sign"]
    assert reasons("one draw", hours=24) == []


@pytest.mark.parametrize(("fills", "anecdotes"), [(1, 1), (FEWEST_FILLS - 1, 1), (FEWEST_FILLS, 0)])
def test_few_fills_are_an_anecdote(fills: int, anecdotes: int) -> None:
    assert len(reasons("are an anecdote", "is an anecdote", fills=fills)) == anecdotes


def test_what_was_changed_on_purpose_is_said() -> None:
    assert reasons("trade_side", "thinned", "latency_ms 0") == []
    assert len(reasons("thinned on purpose", fill_probability_override=0.5)) == 1
    assert len(reasons("trade_side flipped", trade_side="flipped")) == 1
    assert len(reasons("latency_ms 0", latency_ms=0)) == 1


def test_one_that_halted_is_said_to_stand_still() -> None:
    makers = {**bracket(), "optimistic": maker("-0.25", halted="drawdown")}
    said = verdict(result(of=makers))["reasons"]
    assert [reason for reason in said if "halted" in reason] == ["optimistic halted (drawdown) and stands still from then on"]
    assert reasons("halted") == []


def curves(*cents: float, token: Outcome = Outcome.YES, size: int = 5) -> Record:
    """Return the markouts of fills that gained so many cents a share by 30 s."""
    markouts = Markouts()
    for gained in cents:
        markouts.add(token, 30, round(gained * 10_000), size * units.ONE, 1)
    return markouts.document()


@pytest.mark.parametrize(
    ("cents", "saying"),
    [
        ((-1.0, -1.5, -1.25, -0.75), "the market went on against it: -1.12 +- 0.16 cents a share"),
        ((1.0, 1.5, 1.25, 0.75), "the market paid it: +1.12 +- 0.16 cents a share"),
        ((-1.0, 1.5, -1.25, 0.5), "the market stood -0.06 +- 0.65 cents a share from them: no sure sign"),
    ],
)
def test_what_the_market_did_after_the_fills_is_said_with_its_error(cents: tuple[float, ...], saying: str) -> None:
    assert reasons("after its fills", markouts={"hail": curves(*cents)}) == [f"30 s after its fills {saying}"]


def test_markouts_of_several_tokens_weigh_by_shares() -> None:
    both = {"hail": curves(-1.0, -2.0, size=30), "rain": curves(0.0, 1.0, size=10, token=Outcome.NO)}
    (said,) = reasons("after its fills", markouts=both)
    assert "-1.00 +- 0.40 cents" in said  # (30 x -1.5 + 10 x 0.5) / 40; sqrt((3/4 x 0.5)^2 + (1/4 x 0.5)^2) = 0.395


@pytest.mark.parametrize("cents", [(), (-3.0,)])
def test_too_few_markouts_say_nothing(cents: tuple[float, ...]) -> None:
    assert reasons("after its fills", markouts={"hail": curves(*cents)}) == []


# --- on a real game


@pytest.fixture(scope="module")
def judged(recordings: Path) -> dict[str, Record]:
    tape = recording.read(recordings / "nhl-20260607.jsonl.gz")
    models = {model: Params(queue_model=model) for model in ("never", "touch", "power")}
    return {model: Ran(tape, params, duration_ms=3 * 60_000).document for model, params in models.items()}


def test_naive_runs_of_a_recorded_game_point_at_one_and_the_same_bracket(judged: dict[str, Record]) -> None:
    never, touch, base = judged["never"], judged["touch"], judged["power"]
    assert never["fills"]["count"] == 0
    assert never["pnl"]["total"] == "0"
    assert touch["fills"]["count"] > base["bracket"]["optimistic"]["fills"]
    assert never["verdict"]["believe"] == touch["verdict"]["believe"] == "nothing"
    for name in ("risk_averse", "optimistic"):
        assert never["bracket"][name] == base["bracket"][name]
    figures = [f"{float(base['bracket'][name]['pnl']):,.2f}" for name in ("risk_averse", "optimistic")]
    instead = f"; look at the others of the bracket, {figures[0]} with a patient queue and {figures[1]} first in it"
    assert never["verdict"]["headline"].endswith(instead)


def test_a_run_of_a_recorded_game_says_what_of_it_to_believe(judged: dict[str, Record]) -> None:
    said, makers = judged["power"]["verdict"], judged["power"]["bracket"]
    losing = [float(one["pnl"]) < 0 for one in makers.values()]
    assert said["believe"] == ("sign" if all(losing) or not any(losing) else "neither sign")
    assert all(f"{name} {float(one['pnl']):,.2f}" in said["headline"] for name, one in makers.items())
    assert any("queue_model power 1" in reason for reason in said["reasons"])
    assert any("30 s after its fills" in reason for reason in said["reasons"])
