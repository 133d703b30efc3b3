"""Explanations: every number of them stands in the journal, the numbers add up, and what is not there is refused in one line."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from small_runs import Runner, runner_of_the_game
from tapes import Ran, ran, tapes

from mmtools.config import Synthetic
from mmtools.moments import iso
from mmtools.runs import explain
from mmtools.runs.explain import MEANINGS, NotThere
from mmtools.runs.notation import NEUTRAL
from mmtools.trading.market import Why
from mmtools.trading.params import Model, Params
from mmtools.units import parse
from mmtools.venues.synthetic import SyntheticFeed
from mmtools.venues.venue import Row

Record = dict[str, Any]
MODELS: tuple[Model, ...] = get_args(Model)


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with pytest.MonkeyPatch.context() as patch, runner_of_the_game(tmp_path_factory.mktemp("game"), patch) as runner:
        runner.start_with_people()
        yield runner


_simulated: dict[Model, list[Record]] = {}


def simulated(model: Model) -> list[Record]:
    """Return the journal of a busy simulated market, in which every adjustment has its turn."""
    if model not in _simulated:
        settings = Synthetic(trades_per_minute=60, trade_size=150, informed_share=0.8, jumps_per_hour=60, rewards_daily_pool=500)
        params = Params(
            model=model, capital=60.0, default_order_size=20.0, max_drawdown=None, rewards_farming=True, toxicity_horizon_s=120,
            toxicity_zscore=0.0, trend_sigmas=0.5, gamma_risk_aversion=0.7, default_half_spread_bps=300.0, order_arrival_decay_per_tick=0.5,
            bracket=False,
        )  # fmt: skip
        _simulated[model] = Ran(SyntheticFeed(settings, seed=3, duration_ms=400_000), params).journal
    return _simulated[model]


def of_kind(journal: list[Record], kind: str) -> list[Record]:
    return [record for record in journal if record["kind"] == kind]


# --- an order


def test_an_order_is_told_from_its_decision_to_its_end(game: Runner) -> None:
    journal = game.journal()
    for place in of_kind(journal, "place"):
        told = explain.of_order(journal, place["key"])["order"]
        mine = [r for r in journal if r.get("key") == place["key"] or r.get("trade", {}).get("order_key") == place["key"]]
        kinds = {record["kind"]: record for record in mine}
        assert (told["market"], told["token"], told["side"]) == (place["market"], place["token"], place["side"])
        assert (told["price"], told["size"], told["sent_at"]) == (place["price"], place["size"], iso(place["at_ms"]))
        assert told["accepted_at"] == (iso(kinds["accepted"]["at_ms"]) if "accepted" in kinds else None)
        assert told["cancel_sent_at"] == (iso(kinds["cancel"]["at_ms"]) if "cancel" in kinds else None)
        assert told["gone"] == kinds["gone"]["cause"]
        assert [fill["qty"] for fill in told["fills"]] == [r["trade"]["fill_qty"] for r in mine if r["kind"] == "fill"]


def last_decision(journal: list[Record], before: Record) -> Record:
    """Return the last decision of a market before its record."""
    until = journal.index(before)
    return [r for r in journal[:until] if r["kind"] == "decision" and r["market"] == before["market"]][-1]


@pytest.mark.parametrize("model", ["fixed", "bands"])
def test_an_order_names_the_decision_that_sent_it_and_the_one_that_took_it_back(model: Model) -> None:
    journal = simulated(model)
    of_key = {place["key"]: place for place in of_kind(journal, "place")}
    cancels = {record["key"]: record for record in of_kind(journal, "cancel")}
    assert len(cancels) > 5
    for key in [*list(of_key)[:25], *list(cancels)[-5:]]:
        told = explain.of_order(journal, key)["order"]
        assert told["decision"] == last_decision(journal, of_key[key])
        assert told["decision"]["at_ms"] == of_key[key]["at_ms"]
        side = "bid" if (of_key[key]["side"] == "BUY") == (of_key[key]["token"] == "YES") else "ask"
        assert "price" in told["decision"][side], "the side that was sent is one that was wanted"
        if key in cancels:
            before = {**of_key[key], **cancels[key]}
            journal_until = journal[: journal.index(cancels[key])]
            wanted = [r for r in journal_until if r["kind"] == "decision" and r["market"] == before["market"]][-1]
            assert told["cancelled_by"] == wanted
        else:
            assert told["cancelled_by"] is None


def test_an_order_is_found_by_the_venues_id_too(game: Runner) -> None:
    journal = game.journal()
    accepted = of_kind(journal, "accepted")[2]
    assert explain.of_order(journal, accepted["order_id"])["order"] == explain.of_order(journal, accepted["key"])["order"]


def test_an_order_that_nobody_cancelled_went_because_the_run_ended_and_says_so() -> None:
    journal = simulated("fixed")
    cancelled = {record["key"] for record in of_kind(journal, "cancel")}
    left = [r["key"] for r in of_kind(journal, "gone") if r["cause"] == "cancelled" and r["key"] not in cancelled]
    for key, unasked in (*((key, True) for key in left), (of_kind(journal, "cancel")[0]["key"], False)):
        document = explain.of_order(journal, key)
        assert (document["order"]["cancelled_by"] is None) == unasked
        assert (": cancelled, as all are when a run stops, halts or ends" in explain.text_of(document, {})) == unasked
    assert left


# --- a fill


def test_a_fill_is_told_with_its_markouts_and_its_order() -> None:
    journal = simulated("fixed")
    for fill in of_kind(journal, "fill")[:20]:
        trade = fill["trade"]
        (told,) = explain.of_fill(journal, trade["trade_id"])["fills"]
        assert told["trade"] == trade
        assert told["order"] == explain.of_order(journal, trade["order_key"])["order"]
        judged = [r for r in of_kind(journal, "markout") if r["trade_id"] == trade["trade_id"]]
        assert told["markouts"] == [{name: r[name] for name in ("horizon_s", "mark", "per_share")} for r in judged]
    assert [m["horizon_s"] for m in told["markouts"]] == [1, 5, 30, 120]


# --- a time


def test_a_time_is_told_as_the_journal_stood_then() -> None:
    journal = simulated("glft")
    for record in journal[5::97]:
        at_ms = record["at_ms"]
        until = [r for r in journal if r.get("at_ms", 0) <= at_ms]
        (told,) = explain.at_time(journal, at_ms)["markets"]
        decisions = of_kind(until, "decision")
        assert told["decision"] == (decisions[-1] if decisions else None)
        assert told["decision_age_s"] == ((at_ms - decisions[-1]["at_ms"]) / 1000 if decisions else None)
        ended = {r["key"] for r in until if r["kind"] in ("gone", "rejected")}
        assert [order["key"] for order in told["orders"]] == [r["key"] for r in of_kind(until, "place") if r["key"] not in ended]
        regimes = of_kind(until, "regime")
        assert (told["regime"] or {}).get("regime") == (regimes[-1]["to"] if regimes else None)


def test_pauses_and_halts_are_told_while_they_last(game: Runner) -> None:
    halting = game.with_params(max_drawdown=0.03)
    game.forget()
    halting.start()
    journal = halting.journal()
    (halt,) = of_kind(journal, "halt")
    (before,) = explain.at_time(journal, halt["at_ms"] - 1)["markets"]
    (then,) = explain.at_time(journal, halt["at_ms"])["markets"]
    assert before["halted"] is None
    assert then["halted"] == {"why": "drawdown", "detail": halt["detail"]}
    assert f"halted      drawdown: {halt['detail']}" in explain.text_of(explain.at_time(journal, halt["at_ms"]), {})
    game.forget()
    game.start_with_people()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=tapes())
def test_every_market_of_a_run_is_told_or_the_one_that_was_asked_for(rows: list[Row]) -> None:
    journal = ran(rows, bracket=False).journal
    at_ms: int = journal[len(journal) // 2]["at_ms"]
    both = explain.at_time(journal, at_ms)["markets"]
    assert [told["market"] for told in both] == ["one", "two"]
    assert explain.at_time(journal, at_ms, "two")["markets"] == [both[1]]
    paused = {told["market"]: told["paused"] for told in both}
    until = [r for r in journal if r["at_ms"] <= at_ms and r["kind"] in ("pause", "resume")]
    for slug, why in paused.items():
        last = [r for r in until if r["market"] == slug][-1:]
        assert why == (last[0]["why"] if last and last[0]["kind"] == "pause" else None)


@pytest.mark.parametrize(("feed", "still"), [("live", False), ("recording", True)])
def test_a_process_that_takes_a_live_run_up_knows_nothing_of_pauses_and_regimes_before_it(game: Runner, feed: str, still: bool) -> None:
    run = {**game.of_kind("run")[0], "feed": {"name": feed, "sha256": "x"}, "at_ms": 1000}
    paused = {"kind": "pause", "at_ms": 2000, "market": "hail", "why": "data_gap"}
    trending = {"kind": "regime", "at_ms": 2000, "market": "hail", "from": "QUIET", "to": "TRENDING", "trend": 1, "cause": "up"}
    journal = [run, paused, trending, {"kind": "start", "wall": "2026-06-07T12:00:00Z"}, {"kind": "warning", "at_ms": 9000, "text": "?"}]
    (before,) = explain.at_time(journal, 2500)["markets"]
    (after,) = explain.at_time(journal, 9000)["markets"]
    assert (before["paused"], before["regime"]["regime"]) == ("data_gap", "TRENDING")
    assert (after["paused"] is not None, after["regime"] is not None) == (still, still)


# --- what is not there


@pytest.mark.parametrize("missing", ["o999", "paper-o999", "", "t1"])
def test_an_order_that_is_not_there_is_refused_in_one_line(game: Runner, missing: str) -> None:
    with pytest.raises(NotThere, match=f"the run has no order {missing};") as refused:
        explain.of_order(game.journal(), missing)
    assert "\n" not in str(refused.value)


def test_a_fill_a_time_or_a_market_that_is_not_there_is_refused_in_one_line(game: Runner) -> None:
    journal = game.journal()
    first, last = journal[0]["at_ms"], journal[-1]["at_ms"]
    asked: dict[str, Callable[[], Record]] = {
        "the run has no fill paper-t99; trades.jsonl": lambda: explain.of_fill(journal, "paper-t99"),
        "the run has no fill o1;": lambda: explain.of_fill(journal, "o1"),
        "the run began later": lambda: explain.at_time(journal, first - 1),
        f"the run went from {iso(first)} to {iso(last)}; name a time within": lambda: explain.at_time(journal, last + 1),
        "the run does not quote market snow; it quotes hail": lambda: explain.at_time(journal, last, "snow"),
    }
    for saying, ask in asked.items():
        with pytest.raises(NotThere, match=re.escape(saying)) as refused:
            ask()
        assert "\n" not in str(refused.value)
    assert explain.at_time(journal, first)
    assert explain.at_time(journal, last)


# --- the numbers add up


def ticks_of(decision: Record, what: str, empty: int) -> int:
    price = decision[what]
    return empty if price is None else parse(price) // parse(decision["tick_size"])


@pytest.mark.parametrize("model", MODELS)
def test_the_numbers_of_a_decision_follow_from_each_other(model: Model) -> None:
    seen: set[str] = set()
    for decision in of_kind(simulated(model), "decision"):
        told = decision["numbers"]
        if told is None:
            continue
        numbers = {**NEUTRAL, **told}
        assert numbers["model"] == model
        fair, reservation = decision["fair_ticks"], decision["reservation_ticks"]
        bid, ask = numbers["model_bid_ticks"], numbers["model_ask_ticks"]
        assert fair - decision["skew_ticks"] == pytest.approx(reservation, abs=2e-6)
        assert decision["half_spread_ticks"] == pytest.approx((ask - bid) / 2, abs=2e-6)
        assert decision["sigma_ticks"] == max(numbers["sigma_short_ticks"] or 0, numbers["sigma_long_ticks"] or 0)
        toxicity, rewards, trend = (numbers[f"{name}_ticks"] for name in ("toxicity", "rewards", "trend"))
        top = 1_000_000 // parse(decision["tick_size"])
        best = {"bid": ticks_of(decision, "best_bid", 0), "ask": ticks_of(decision, "best_ask", top)}
        for side, sign, quote, steps_back in (("bid", 1, bid, min(trend, 0)), ("ask", -1, ask, max(trend, 0))):
            one = numbers[side]
            if one is None:
                continue
            # Seen from the reservation price: as far as the model says, wider for toxicity, nearer for rewards but not through.
            wider = (reservation - quote) * sign + toxicity
            distance = max(wider - rewards, min(wider, 0.05)) - steps_back * sign
            assert (reservation - one["wish_ticks"]) * sign == pytest.approx(distance, abs=1e-5)
            assert 0 < (fair - one["closest_ticks"]) * sign <= 1
            other = best["ask" if side == "bid" else "bid"]
            legal = min(math.floor(one["wish_ticks"] * sign + 1e-6), one["closest_ticks"] * sign, other * sign - 1)
            assert one["first_ticks"] in (None, legal * sign)
            assert (one["first_ticks"] is None) == (not 1 <= legal * sign < top)
            if "price" in decision[side] and decision["cause"] is None and model != "bands":  # of which a later one may be the first
                assert parse(decision[side]["price"]) == one["first_ticks"] * parse(decision["tick_size"])
                assert parse(decision[side]["size"]) <= min(parse(one["size"]), parse(one["net_room"]))
        seen |= {name for name in NEUTRAL if numbers[name] != NEUTRAL[name]}
    assert {"toxicity_zscore", "rewards_ticks", "rewards_reason", "trend_ticks"} <= seen
    assert "toxicity_ticks" in seen or model not in ("fixed", "bands")


# --- in words


def test_every_reason_has_its_meaning_and_only_reasons_do() -> None:
    assert set(MEANINGS) == {why.value for why in Why}
    assert len(set(MEANINGS.values())) == len(MEANINGS)


def numbers_in(value: Any) -> Iterator[float]:
    """Yield every number of a record, at any depth, also of amounts that are text."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from numbers_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers_in(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)
    elif isinstance(value, str):
        yield from (float(number) for number in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?", value))


TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
NAMES = re.compile(r"\b(?:paper-)?[ot]\d+\b")
SHOWN = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def assert_shows_only_what_the_journal_says(text: str, journal: list[Record], params: Record) -> None:
    known = {0.0, *numbers_in(journal), *numbers_in(params)}
    forms = {
        form
        for number in known
        for form in (f"{number:g}", f"{abs(number):g}", f"{number:+g}", f"{number:+.2f}", f"{number:.6f}".rstrip("0").rstrip("."))
    }
    for line in text.splitlines():
        if line.startswith("  decided"):
            continue  # how long before is the one number that follows from two
        for number in SHOWN.findall(NAMES.sub("", TIMES.sub("", line))):
            assert number in forms, f"{number} in: {line}"


@pytest.mark.parametrize("model", MODELS)
def test_every_number_in_the_words_stands_in_the_journal(model: Model) -> None:
    journal = simulated(model)
    params = {name: value for name, value in _params(model).items() if isinstance(value, int | float)}
    texts = [explain.text_of(explain.at_time(journal, r["at_ms"]), params) for r in of_kind(journal, "decision")[3::40]]
    texts += [explain.text_of(explain.of_order(journal, r["key"]), params) for r in of_kind(journal, "cancel")[::60]]
    texts += [explain.text_of(explain.of_fill(journal, r["trade"]["trade_id"]), params) for r in of_kind(journal, "fill")[::10]]
    for text in texts:
        assert_shows_only_what_the_journal_says(text, journal, params)
    used = {
        "fixed": "default_half_spread_bps 50", "avellaneda-stoikov": "order_arrival_decay_per_tick 2", "glft": "order_arrival_per_s 0.1",
        "logit": "order_arrival_decay_per_tick 2", "bands": "max_skew_ticks 5",
    }  # fmt: skip
    assert any(f"  model       {model} (" in text and used[model] in text for text in texts)


def _params(model: Model) -> Record:
    params: Record = msgspec.to_builtins(Params(model=model, gamma_risk_aversion=0.7))
    return params


def test_the_words_of_a_time_say_why_a_side_is_not_quoted(game: Runner) -> None:
    journal = game.journal()
    asked = next(r["at_ms"] for r in journal if r["kind"] == "reduce_only")
    said = explain.text_of(explain.at_time(journal, asked), {})
    assert f"bid         not quoted, reduce_only: {MEANINGS['reduce_only']}" in said
    first = of_kind(journal, "place")[0]
    said = explain.text_of(explain.at_time(journal, first["at_ms"]), {})
    assert f"order       o1 BUY YES 10 @ {first['price']}: under way" in said
    said = explain.text_of(explain.at_time(journal, of_kind(journal, "accepted")[0]["at_ms"]), {})
    assert "order       o1 BUY YES 10 @ 0.47: rests since 2026-06-07T12:00:00.050Z" in said


def test_the_words_of_a_fill_say_what_it_earned_and_what_the_mid_did(game: Runner) -> None:
    said = explain.text_of(explain.of_fill(game.journal(), "paper-t1"), {}).splitlines()
    assert said[0] == "fill paper-t1: BUY YES 10 @ 0.47 in hail"
    assert said[1] == "  at          2026-06-07T12:00:01.000Z, 1000 ms after the order was sent"
    assert said[2] == "  mid         0.475 in YES terms: the fill earned 0.05 USDC against it"
    assert said[3] == "    1 s later 0.475: 0.005 USDC a share"


def test_a_journal_whose_decisions_have_no_numbers_is_told_without_them(game: Runner) -> None:
    """Those of release 0.1.0."""
    journal = [{k: v for k, v in r.items() if k not in ("numbers", "regime", "signals")} for r in game.journal()]
    old = [record for record in journal if record["kind"] not in ("regime", "markout")]
    said = explain.text_of(explain.of_order(old, "o1"), {})
    assert "bid         10 @ 0.47 in YES terms" in said
    assert "fair" not in said
    assert "  regime" not in explain.text_of(explain.at_time(old, old[-1]["at_ms"]), {})
    assert explain.text_of(explain.of_fill(old, "paper-t2"), {}).startswith("fill paper-t2: BUY NO")
