"""Market discovery: a slug or a condition id becomes a `Market`, as Polymarket's metadata service (Gamma) describes it.

Reads only, asks once per market, never trades and never guesses: what the answer does not say is None in the Market, and
what a maker cannot do without is refused by name. Called by the live feed when a run starts. No files, no printing.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from mmtools import __version__, units
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.trading.market import FeeSchedule, Market, RewardTerms
from mmtools.units import Price, Shares, Usdc

if TYPE_CHECKING:
    import requests

BASE = "https://gamma-api.polymarket.com"
MAX_ANSWER = 4 * 1024 * 1024
"""Bytes. A market with its event takes about 10 kB; more than this is not an answer to our question."""

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}", re.ASCII)
_CONDITION = re.compile(r"0x([0-9a-fA-F]{64}|[0-9a-fA-F]{62})", re.ASCII)
_TOKEN = re.compile(r"[0-9]{1,78}", re.ASCII)
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def find(names: Sequence[str], *, base: str = BASE, session: "requests.Session | None" = None, timeout_s: float = 10) -> tuple[Market, ...]:
    """Return the markets of these slugs or condition ids (0x...), in this order.

    timeout_s: for each question. Raises Misconfigured for a name that is none, is unknown, is given twice, or belongs to a
    market that cannot be quoted; Refused when the venue's protocol version or fees are none we know; TryLater when the
    network, the venue or its answer fails.
    """
    import requests

    asked = [_checked(name) for name in names]
    client = session if session is not None else requests.Session()
    try:
        records = [_fetch(client, base.rstrip("/"), name, timeout_s) for name in asked]
    finally:
        if session is None:
            client.close()
    now_ms = time.time_ns() // 1_000_000
    markets = tuple(read_market(record, now_ms=now_ms) for record in records)
    named: dict[str, str] = {}
    for name, market in zip(asked, markets, strict=True):
        if market.condition_id in named:
            raise Misconfigured(f"markets: {named[market.condition_id]} and {name} are one market; delete one of them")
        named[market.condition_id] = name
    return markets


def _checked(name: str) -> str:
    mistyped_id = re.fullmatch(r"0x[0-9a-fA-F]*", name) is not None and _CONDITION.fullmatch(name) is None
    if mistyped_id or not _SLUG.fullmatch(name):
        raise Misconfigured(
            f"markets: {name!r} is neither a slug (the last part of a market's address: will-it-rain) nor a condition id (0x and 64 digits)"
        )
    return name


def _full_condition(condition: str) -> str:
    """Return a condition id as the order book wants it: the 62 digits of a version 2 market are padded to 64."""
    return condition.lower().ljust(66, "0")


# Asking


def _fetch(client: "requests.Session", base: str, name: str, timeout_s: float) -> Mapping[str, Any]:
    """Return the record of one market; the venue must have answered about the market we asked for."""
    if not _CONDITION.fullmatch(name):
        record = _ask(client, f"{base}/markets/slug/{name}", [], name, timeout_s)
        if not isinstance(record, dict) or record.get("slug") != name:
            _broken(name, "it does not describe this market")
        return record
    condition = _full_condition(name)
    # Gamma knows the condition of a version 2 market by 62 digits only.
    forms = [condition, condition[:-2]] if condition.endswith("00") else [condition]
    records = _ask(client, f"{base}/markets", [("condition_ids", form) for form in forms], name, timeout_s)
    if not isinstance(records, list):
        _broken(name, "it is not a list of markets")
    for record in records:
        if isinstance(record, dict) and _full_condition(str(record.get("conditionId"))) == condition:
            return record
    if records:
        _broken(name, "it does not describe this market")
    raise Misconfigured(f"{name}: no open market has this condition id; it is mistyped, or the market is over")


def _ask(client: "requests.Session", url: str, query: list[tuple[str, str]], name: str, timeout_s: float) -> Any:
    """Return the decoded answer. A dropped connection or a failing server is asked once more, at once."""
    import requests
    from urllib3.exceptions import HTTPError
    from urllib3.exceptions import TimeoutError as LateBody

    host = urlsplit(url).netloc
    for last in (False, True):
        try:
            status, headers, body = _get(client, url, query, name, timeout_s)
        except (requests.Timeout, LateBody) as e:
            raise TryLater(f"{name}: {host} did not answer within {timeout_s:g} s; run again") from e
        except (requests.RequestException, HTTPError, OSError) as e:
            if last:
                raise TryLater(f"{name}: cannot reach {host} ({type(e).__name__}); check the network and run again") from e
            continue
        if status < 500 or last:
            break
    if status == 200:
        return _decoded(body, name)
    _explain_status(status, headers, host, name)


def _get(
    client: "requests.Session", url: str, query: list[tuple[str, str]], name: str, timeout_s: float
) -> tuple[int, Mapping[str, str], bytes]:
    """Return status, headers and body. Redirects are not followed: they could lead to another host."""
    from requests import Timeout

    deadline = time.monotonic() + timeout_s
    headers = {"User-Agent": f"mmtools/{__version__}", "Accept": "application/json"}
    with client.get(url, params=query, headers=headers, timeout=timeout_s, allow_redirects=False, stream=True) as response:
        body = bytearray()
        # read1, because a plain read waits for a full block: the timeout is for each packet, the deadline for all of them.
        while piece := response.raw.read1(65_536, decode_content=True):
            body += piece
            if len(body) > MAX_ANSWER:
                _broken(name, f"it is longer than {MAX_ANSWER} bytes")
            if time.monotonic() > deadline:
                raise Timeout(f"only {len(body)} bytes in {timeout_s:g} s")
        return response.status_code, response.headers, bytes(body)


def _explain_status(status: int, headers: Mapping[str, str], host: str, name: str) -> NoReturn:
    if status in (400, 404, 422):
        raise Misconfigured(f"{name}: {host} knows no such market (HTTP {status}); take the name from the market's address")
    if status == 429:
        wait = headers.get("Retry-After", "")
        when = f"in {wait} s" if wait.isascii() and wait.isdecimal() else "in a minute"
        raise TryLater(f"{name}: {host} has had too many questions from here (HTTP 429); run again {when}")
    if 300 <= status < 400:
        raise TryLater(f"{name}: {host} sends us elsewhere (HTTP {status}), and we do not follow; run again later")
    raise TryLater(f"{name}: {host} answered HTTP {status}; run again later")


def _decoded(body: bytes, name: str) -> Any:
    """Return the JSON with every number as its text: amounts must not pass through a float."""
    try:
        return json.loads(body, parse_float=str, parse_int=str, parse_constant=_no_number)
    except (ValueError, RecursionError) as e:
        raise TryLater(f"{name}: the venue's answer is broken: it is no JSON; run again later") from e


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


# Reading


def read_market(record: Mapping[str, Any], *, now_ms: int) -> Market:
    """Return the Market that a Gamma record describes; its numbers must be decoded as text, so that none has been a float.

    now_ms: to tell which reward programmes run today. Raises as `find` does. The condition id comes back with 64 digits.
    """
    slug = record.get("slug")
    if not isinstance(slug, str) or not slug:
        _broken("a market", "slug is missing")
    facts = _Facts(record, slug)
    _refuse_unquotable(facts)
    outcomes = facts.names("outcomes")
    if len(outcomes) != 2:
        raise Misconfigured(f"{slug}: it has {len(outcomes)} outcomes; only markets of two can be quoted")
    version, (yes_token, no_token) = _trading_ids(facts)
    condition = facts.text("conditionId")
    if not _CONDITION.fullmatch(condition):
        _broken(slug, f"conditionId is {condition!r}")
    try:
        return Market(
            slug=slug,
            condition_id=_full_condition(condition),
            yes_token=yes_token,
            no_token=no_token,
            tick=Price(facts.millionths("orderPriceMinTickSize")),
            min_size=Shares(facts.millionths("orderMinSize")),
            outcomes=(outcomes[0], outcomes[1]),
            neg_risk=facts.flag("negRisk"),
            description=facts.maybe_text("question"),
            version=version,
            event=_event(facts),
            fees=_fees(facts),
            rewards=_rewards(facts, now_ms),
            end_ms=facts.maybe_time("endDate"),
            game_start_ms=facts.maybe_time("gameStartTime"),
            accepting=facts.maybe_flag("acceptingOrders"),
            volume_24h=_volume(facts),
        )
    except ValueError as e:
        raise TryLater(f"{e}; run again later") from e


def _broken(name: str, what: str) -> NoReturn:
    raise TryLater(f"{name}: the venue's answer is broken: {what}; run again later")


class _Facts:
    """One record, read field by field: a field is there and right, or absent (null and "" are absent), or the answer is broken."""

    def __init__(self, record: Mapping[str, Any], slug: str) -> None:
        self._record = record
        self.slug = slug

    def get(self, key: str) -> Any:
        value = self._record.get(key)
        return None if value == "" else value

    def broken(self, key: str) -> NoReturn:
        value = self.get(key)
        _broken(self.slug, f"{key} is missing" if value is None else f"{key} is {str(value)[:60]!r}")

    def maybe_text(self, key: str) -> str | None:
        value = self.get(key)
        if not isinstance(value, str | None):
            self.broken(key)
        return value

    def text(self, key: str) -> str:
        value = self.maybe_text(key)
        if value is None:
            self.broken(key)
        return value

    def maybe_flag(self, key: str) -> bool | None:
        value = self.get(key)
        if not isinstance(value, bool | None):
            self.broken(key)
        return value

    def flag(self, key: str) -> bool:
        value = self.maybe_flag(key)
        if value is None:
            self.broken(key)
        return value

    def maybe_number(self, key: str) -> Decimal | None:
        """A number that is not negative, and no greater than money, sizes and rates can be."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not _NUMBER.fullmatch(value) or Decimal(value) > 10**15:
            self.broken(key)
        return Decimal(value)

    def maybe_millionths(self, key: str) -> int | None:
        number = self.maybe_number(key)
        if number is None:
            return None
        try:
            return units.parse(f"{number:f}")
        except ValueError:
            self.broken(key)

    def millionths(self, key: str) -> int:
        amount = self.maybe_millionths(key)
        if amount is None:
            self.broken(key)
        return amount

    def maybe_time(self, key: str) -> int | None:
        """A time in ms UTC: 2026-12-31T00:00:00Z, with decimals, 2025-11-12 02:00:00+00, or a bare day; no zone means UTC."""
        written = self.maybe_text(key)
        if written is None:
            return None
        try:
            if not _DAY.match(written):
                raise ValueError("does not begin with a day")
            moment = datetime.fromisoformat(written)
        except ValueError:
            self.broken(key)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(milliseconds=1)

    def names(self, key: str) -> list[str]:
        """A list of texts, either as such or as JSON inside a string."""
        value = self.get(key)
        if isinstance(value, str):
            try:
                value = json.loads(value, parse_int=str)
            except (ValueError, RecursionError):
                self.broken(key)
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            self.broken(key)
        return value

    def maybe_records(self, key: str) -> "list[_Facts] | None":
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
            self.broken(key)
        return [_Facts(record, f"{self.slug}: {key}") for record in value]


def _refuse_unquotable(facts: _Facts) -> None:
    if facts.flag("closed"):
        raise Misconfigured(f"{facts.slug}: this market is closed; choose another")
    if facts.maybe_flag("archived"):
        raise Misconfigured(f"{facts.slug}: this market is archived; choose another")
    if facts.maybe_flag("enableOrderBook") is False:
        raise Misconfigured(f"{facts.slug}: this market has no order book; choose another")


def _trading_ids(facts: _Facts) -> tuple[str, list[str]]:
    """Return the protocol version and the ids to trade, YES first. A wrong guess would sign orders for another contract."""
    version = facts.get("version")
    if version not in ("v1", "v2"):
        said = "no version" if version is None else f"version {str(version)[:20]!r}"
        raise Refused(f"{facts.slug}: the venue states {said}; only v1 and v2 are known, and which token is traded depends on it")
    key = "clobTokenIds" if version == "v1" else "positionIds"
    tokens = facts.names(key)
    if len(tokens) != 2 or not all(_TOKEN.fullmatch(token) for token in tokens):
        facts.broken(key)
    return version, tokens


def _fees(facts: _Facts) -> FeeSchedule | None:
    if facts.maybe_flag("feesEnabled") is False:
        return FeeSchedule(rate=0.0)
    schedule = facts.get("feeSchedule")
    if schedule is None:
        return None
    if not isinstance(schedule, dict):
        facts.broken("feeSchedule")
    terms = _Facts(schedule, f"{facts.slug}: feeSchedule")
    if terms.maybe_flag("takerOnly") is False:
        raise Refused(f"{facts.slug}: makers pay fees here, which no figure of ours accounts for; choose another market")
    rate, exponent, rebate_rate = terms.maybe_number("rate"), terms.maybe_number("exponent"), terms.maybe_number("rebateRate")
    if rate is None or exponent is None:
        terms.broken("rate" if rate is None else "exponent")
    return FeeSchedule(rate=float(rate), exponent=float(exponent), rebate_rate=None if rebate_rate is None else float(rebate_rate))


def _rewards(facts: _Facts, now_ms: int) -> RewardTerms | None:
    """Return the terms of the liquidity rewards; a market without any states a maximum spread of 0."""
    min_size, max_spread_cents = facts.maybe_millionths("rewardsMinSize"), facts.maybe_millionths("rewardsMaxSpread")
    if min_size is None or max_spread_cents is None:
        return None
    return RewardTerms(min_size=Shares(min_size), max_spread=Price(max_spread_cents // 100), daily_pool=_daily_pool(facts, now_ms))


def _daily_pool(facts: _Facts, now_ms: int) -> Usdc | None:
    """Return what the programmes that run today pay per day; None when the venue does not speak of programmes."""
    programmes = facts.maybe_records("clobRewards")
    if programmes is None:
        return None
    today = (_EPOCH + timedelta(milliseconds=now_ms)).date().isoformat()
    running = [p for p in programmes if (p.maybe_text("startDate") or today)[:10] <= today <= (p.maybe_text("endDate") or today)[:10]]
    return Usdc(sum(p.millionths("rewardsDailyRate") for p in running))


def _event(facts: _Facts) -> str | None:
    """Return what markets of one bet share: the event's slug, else the id of the neg-risk group."""
    events = facts.maybe_records("events")
    return (events[0].maybe_text("slug") if events else None) or facts.maybe_text("negRiskMarketID")


def _volume(facts: _Facts) -> Usdc | None:
    """Return the traded USDC of a day, cut to millionths: the venue sums it in floats."""
    volume = facts.maybe_number("volume24hr")
    return None if volume is None else Usdc(int(volume * units.ONE))
