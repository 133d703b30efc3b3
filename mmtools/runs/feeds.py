"""From what a person asked for (options, a config file) to a run config and the feed it names. Shared by quote-run and replay."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from mmtools import config as configs
from mmtools.config import Endpoints, RunConfig, Synthetic
from mmtools.errors import Misconfigured
from mmtools.trading.params import Params
from mmtools.venues.recording import BadRecording
from mmtools.venues.recording import read as read_recording
from mmtools.venues.venue import Feed
from mmtools.yamlfile import Source, plain_value

DEFAULT_HOURS = 4.0
"""Of a synthetic feed whose config names no duration."""


class BadRequest(ValueError):
    """The command line asks for something that is not there; the message is one line."""


def read_config(config_file: str | None, recording: str | None, markets: Sequence[str]) -> RunConfig:
    """Return the config in a file, or one of defaults, with what the command line puts in its place.

    Raises Misconfigured for the content of the file.
    """
    run = RunConfig() if config_file is None else configs.load(Path(config_file))
    if recording is not None:
        run = msgspec.structs.replace(
            run, feed="recording", recording=str(Path(recording).absolute()), synthetic=Synthetic(), endpoints=Endpoints()
        )
    if markets:
        try:
            run = msgspec.structs.replace(run, markets=tuple(dict.fromkeys(markets)))
        except ValueError as e:
            raise BadRequest(f"--market: {e}") from e
    return run


def demo_config(hours: float) -> RunConfig:
    """Return the config of the demonstration: defaults on the synthetic market."""
    return RunConfig(feed="synthetic", duration_hours=hours)


def changed(run: RunConfig, changes: Sequence[str]) -> RunConfig:
    """Return a config with params changed by "key=value" texts. Raises BadRequest."""
    params = msgspec.to_builtins(run.params)
    for change in changes:
        key, equals, value = change.partition("=")
        if not (key and equals):
            raise BadRequest(f"--set {change}: say KEY=VALUE")
        try:
            params[key] = plain_value(value)
        except ValueError as e:
            raise BadRequest(f"--set {change}: {e}") from e
    try:
        return msgspec.structs.replace(run, params=msgspec.convert(params, Params))
    except msgspec.ValidationError as e:
        try:
            Source("--set", Params).explain(str(e), params)
        except Misconfigured as told:  # in the words of a config file, where it would stand on a line
            raise BadRequest(str(told).replace("--set:1:", "--set:", 1)) from e


def checked_run_id(run_id: str | None) -> str | None:
    """Return a run id that can name a folder. Raises BadRequest."""
    try:
        RunConfig(run_id=run_id)
    except ValueError as e:
        raise BadRequest(f"--run-id: {e}") from e
    return run_id


def open_feed(run: RunConfig, *, named_in_config: bool) -> Feed:
    """Return the feed that a config asks for; a recording is read to its end first.

    named_in_config: whether the recording and the markets stand in the config file: what is wrong with them is then
    Misconfigured, else BadRequest. Raises what `gamma.find` raises for a live feed.
    """
    wrong = Misconfigured if named_in_config else BadRequest
    if run.feed == "recording":
        assert run.recording is not None
        try:
            return read_recording(Path(run.recording), run.markets)
        except BadRecording as e:
            raise wrong(str(e)) from e
    if run.feed == "synthetic":
        return _synthetic(run, wrong)
    from mmtools.venues import gamma, stream
    from mmtools.venues.stream import LiveFeed

    at = run.endpoints
    return LiveFeed(
        gamma.find(run.markets, base=at.gamma or gamma.BASE),
        url=at.stream or stream.URL,
        rest=at.clob or stream.REST,
        duration_ms=None if run.duration_hours is None else _ms(run.duration_hours),
    )


def name_of(run: RunConfig) -> str:
    """Return what a run id begins with when nobody gave one."""
    if run.recording is not None:
        return Path(run.recording).name.split(".")[0] or "recording"
    return run.feed


def describe(feed: Feed) -> str:
    """Return a feed in a few words."""
    slugs = [market.slug for market in feed.markets]
    return f"{feed.name} feed of {slugs[0] if len(slugs) == 1 else f'{len(slugs)} markets'}"


def _synthetic(run: RunConfig, wrong: type[Misconfigured] | type[BadRequest]) -> Feed:
    from mmtools.venues.synthetic import SyntheticFeed

    duration_ms = _ms(run.duration_hours or DEFAULT_HOURS)
    try:
        return SyntheticFeed(run.synthetic, seed=run.params.seed, duration_ms=duration_ms, only=run.markets)
    except ValueError as e:
        raise wrong(f"{e}; name one of those, or say `feed: live`") from e


def _ms(hours: float) -> int:
    return round(hours * 3_600_000)
