"""Run configs: YAML into frozen structs, refused with file, line and what is allowed; and back into YAML with every default.

The values of `params` stand in `trading.params`; here is what surrounds them. Used by the rooms above `trading/`.
Nothing is decided here about quoting, and no file is opened but the config. yaml is imported by `load` and `dump` alone.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mmtools import units
from mmtools.trading.market import TICKS
from mmtools.trading.params import NotNegative, Params, Positive, require_millionths
from mmtools.yamlfile import Source, kind_of, means_more, read_text, shown

Share = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(ge=0, le=60_000)]
Minutes = Annotated[float, Meta(gt=0, le=1440)]

_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}", re.ASCII)
_RESERVED = ("history.jsonl",)
"""What stands beside the folders of the runs."""
_PASSING = (".new", ".removed")
"""How names end that a kill can leave behind."""


def _require_iso(name: str, text: str) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"`{name}`: {shown(text)} is not a time in ISO 8601; write it as 2026-06-07T18:00:00Z") from None


class Shock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From `at_s` after the start, for `duration_s`, the fair value moves `factor` times as much."""

    at_s: NotNegative
    duration_s: Positive
    factor: Positive


class News(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At `at_s` after the start the fair value jumps by `ticks` (down when negative)."""

    at_s: NotNegative
    ticks: float


class Synthetic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A seeded market with known fair value (the seed is `params.seed`). Rates are Poisson means, per market."""

    markets: Annotated[int, Meta(ge=1, le=20)] = 1
    start: str = "2026-01-01T00:00:00Z"
    tick: float = 0.01
    min_order_size: Positive = 5.0
    fair: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    volatility_ticks: NotNegative = 0.15
    """Of the fair value, per square root of a second."""
    trades_per_minute: Rate = 6.0
    trade_size: Positive = 40.0
    """Mean, shares (exponential)."""
    informed_share: Share = 0.3
    """Part of the takers who know the fair value; the rest buy or sell by a coin."""
    changes_per_minute: Rate = 60.0
    """Level changes by the other makers that no trade causes."""
    depth_levels: Annotated[int, Meta(ge=1, le=50)] = 10
    level_size: Positive = 120.0
    """Mean size that other makers keep at a level."""
    half_spread_ticks: Positive = 0.5
    """How far from the fair value, as they see it, the other makers begin."""
    maker_delay_s: NotNegative = 15.0
    """How late the other makers see the fair value: what informed takers live on."""
    print_lag_ms: Annotated[int, Meta(ge=0)] = 21
    """How long after its level decrease a print is stamped, as on the real feed."""
    jumps_per_hour: Rate = 0.5
    jump_ticks: Positive = 3.0
    news: tuple[News, ...] = ()
    shocks: tuple[Shock, ...] = ()
    resolves: Literal["yes", "no"] | None = None
    """How the market ends at the end of the run; None leaves it open."""
    rewards_daily_pool: Positive | None = None
    """USDC a day for each market's resting orders; None is a market without liquidity rewards."""
    rewards_max_spread: Positive = 0.03
    """USDC from the mid within which an order scores."""
    rewards_min_size: Positive = 20.0
    """Shares that an order needs to score."""

    def __post_init__(self) -> None:
        if self.tick not in [tick / units.ONE for tick in TICKS]:
            allowed = ", ".join(units.text(tick) for tick in TICKS)
            raise ValueError(f"`tick`: {self.tick} is not a tick of the venue; use one of {allowed}")
        if not self.tick <= self.fair <= 1 - self.tick:
            raise ValueError(f"`fair`: {self.fair} leaves no room for a tick of {self.tick} on both sides; move it towards 0.5")
        _require_iso("start", self.start)
        require_millionths(self, ("min_order_size", "rewards_daily_pool", "rewards_max_spread", "rewards_min_size"))


class Endpoints(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a live feed is asked for. None is the venue's own address; a rehearsal exchange on this machine is another."""

    gamma: str | None = None
    clob: str | None = None
    stream: str | None = None

    def __post_init__(self) -> None:
        for name, schemes in (("gamma", "https http"), ("clob", "https http"), ("stream", "wss ws")):
            address = getattr(self, name)
            if address is None:
                continue
            safe, plain = schemes.split()
            loopback = rf"{plain}://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?(/[!-~]*)?"
            if not re.fullmatch(rf"{safe}://[!-~]+|{loopback}", address):
                raise ValueError(f"`{name}`: {shown(address)} is not {safe}://..., nor {plain}:// on this machine; null is the venue's own")


class Alarms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a run on a live feed tells people that it does not do its work. It changes nothing in how the run behaves."""

    starved_after_min: Minutes = 10.0
    """Without a resting order on either side of any market."""
    storm_pct: Annotated[float, Meta(gt=0, le=100)] = 20.0
    """Of the orders of the last `storm_window_min` minutes that were refused."""
    storm_window_min: Minutes = 15.0
    lost_socket_s: Positive = 60.0


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run as a person writes it. `started_at`, `hypothesis`, `parent_run` and `changes_from_parent` are recorded, not obeyed.

    Raises ValueError for parts that do not go together. `feed` may be left out of a file: `load` then takes the one that the rest
    speaks of (`recording`, `synthetic`, else live when markets are named), and the synthetic one when nothing does.
    """

    run_id: str | None = None
    started_at: str | None = None
    duration_hours: Annotated[float, Meta(ge=0.001, le=8784)] | None = None
    hypothesis: str | None = None
    parent_run: str | None = None
    changes_from_parent: str | dict[str, object] | list[object] | None = None
    owner: Literal["nobody", "systemd", "status-update", "smoke-test", "recover"] = "nobody"
    """Who revives the run when it died: nobody else may (`restarts.Owner`)."""
    feed: Literal["live", "recording", "synthetic"] = "synthetic"
    recording: str | None = None
    """Path of the recording, for feed: recording. In a file relative to that file; absolute once loaded."""
    markets: tuple[str, ...] = ()
    """Slugs or condition ids; none means every market of a recording or synthetic feed."""
    synthetic: Synthetic = Synthetic()
    endpoints: Endpoints = Endpoints()
    alarms: Alarms = Alarms()
    params: Params = Params()

    def __post_init__(self) -> None:
        if self.run_id is not None and (not _RUN_ID.fullmatch(self.run_id) or self.run_id in _RESERVED or self.run_id.endswith(_PASSING)):
            raise ValueError(
                f"`run_id`: {shown(self.run_id)} cannot name a folder; use at most 80 letters, digits, dots, dashes and underscores, "
                f"not a dot first, not {' or '.join(_PASSING)} last, and none of {', '.join(_RESERVED)}"
            )
        if self.started_at is not None:
            _require_iso("started_at", self.started_at)
        if self.feed == "recording" and not self.recording:
            raise ValueError("`feed`: recording, but no file is named; add `recording: FILE`")
        if self.feed != "recording" and self.recording is not None:
            raise ValueError(f"`recording`: given, but the feed is {self.feed}; delete it, or say `feed: recording`")
        if self.feed == "live" and not self.markets:
            raise ValueError("`feed`: live, but no market is named; add `markets: [SLUG, ...]`")
        if self.feed != "synthetic" and self.synthetic != Synthetic():
            raise ValueError(f"`synthetic`: given, but the feed is {self.feed}; delete it, or say `feed: synthetic`")
        if self.feed != "live" and self.endpoints != Endpoints():
            raise ValueError(f"`endpoints`: given, but the feed is {self.feed}; delete it, or say `feed: live`")
        for i, slug in enumerate(self.markets):
            if not re.fullmatch(r"[!-~]{1,200}", slug):
                raise ValueError(f"`markets[{i}]`: {shown(slug)} is not a slug; use the last part of the market's address, without spaces")
            if slug in self.markets[:i]:
                raise ValueError(f"`markets[{i}]`: {shown(slug)} is named twice; name each market once")


_RECORDED_ONLY = ("run_id", "started_at", "hypothesis", "parent_run", "changes_from_parent", "owner", "recording", "alarms")
"""What changes nothing in how a run trades; a recording is known by its own hash, not by where it lies."""


def load(path: Path) -> RunConfig:
    """Return the config in a YAML file, its feed resolved and its recording made absolute; whatever it leaves out has its default.

    An empty file is a config of defaults. Raises Misconfigured, naming file, line and what is allowed, for everything else.
    """
    source = Source(str(path), RunConfig)
    tree = source.parse(read_text(path))
    if not isinstance(tree, dict):
        source.refuse((), f"the file holds {kind_of(tree)}; write `key: value` lines, as in configs/paper.yaml")
    _settle(tree, source, path.parent)
    try:
        return msgspec.convert(tree, RunConfig)
    except msgspec.ValidationError as e:
        source.explain(str(e), tree)


def dump(config: RunConfig) -> str:
    """Return YAML with every key, that `load` reads back to an equal config; null is a section that another feed would have."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        # The emitter quotes what YAML 1.1 would misread; `load` knows some numbers more (1e5).
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if means_more(value) or not value.isprintable() else None)

    Dumper.add_representer(str, text)
    tree = _tree(config)
    for section, feed in (("synthetic", "synthetic"), ("endpoints", "live")):
        if config.feed != feed:
            tree[section] = None
    return yaml.dump(tree, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)


def digest(config: RunConfig) -> str:
    """Return the SHA-256 in hex of what decides how the run behaves: all but what is only recorded, however it was written down."""
    return hashlib.sha256(_json(_behaviour(config)).encode()).hexdigest()


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Return what `digest` sees differ, one line each: "params.seed: 1 -> 2"."""
    before, after = dict(_leaves("", _behaviour(old))), dict(_leaves("", _behaviour(new)))
    return [f"{key}: {_json(before[key])} -> {_json(after[key])}" for key in before if _json(before[key]) != _json(after[key])]


# --- values


def _tree(config: RunConfig) -> dict[str, Any]:
    """Return the config as plain values, with whole numbers as ints: 50.0 and 50 are one."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    tree: dict[str, Any] = plain(msgspec.to_builtins(config))
    return tree


def _behaviour(config: RunConfig) -> dict[str, Any]:
    return {key: value for key, value in _tree(config).items() if key not in _RECORDED_ONLY}


def _leaves(prefix: str, tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(f"{prefix}{key}.", value)
        else:
            yield prefix + key, value


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _settle(tree: dict[str, Any], source: "Source", folder: Path) -> None:
    """Bring the ways in which people may write a config to the one of RunConfig, in place."""
    for key in ("feed", "markets", "synthetic", "endpoints", "alarms", "params"):  # a key whose lines are all commented out
        if key in tree and tree[key] is None:
            del tree[key]
    params = tree.get("params")
    if isinstance(params, dict) and "markets" in params:
        if "markets" in tree:
            source.refuse(("params", "markets"), "markets stands under params and at the top level; keep one of them")
        tree["markets"] = params.pop("markets") or []
        source.move(("params", "markets"), ("markets",))
    if "feed" not in tree:
        tree["feed"] = "live" if tree.get("markets") else "synthetic"
        tree["feed"] = next((key for key in ("recording", "synthetic") if tree.get(key) is not None), tree["feed"])
    if "synthetic" in tree and tree["feed"] in ("live", "recording"):
        source.refuse(("synthetic",), f"synthetic: given, but the feed is {tree['feed']}; delete it, or say `feed: synthetic`")
    if isinstance(tree.get("recording"), str) and tree["recording"]:
        tree["recording"] = os.path.abspath(folder / os.path.expanduser(tree["recording"]))
