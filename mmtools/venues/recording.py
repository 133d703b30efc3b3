"""Reading recordings of the market channel (schema "mmtools.recording/1"): a file of JSON lines, gzipped or not, into a `Tape`.

The first line is the header: source, clock and markets. Every other line is `[received_ms, frame]`, the frame as the channel sent
it. A file is read to its end, checksum and all, before anything is built on it. What frames mean is the business of `venues.decoder`.
"""

import difflib
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta

from mmtools import units
from mmtools.trading.market import TICKS, FeeSchedule, Market, RewardTerms
from mmtools.trading.params import NotNegative
from mmtools.units import Price, Shares, Usdc
from mmtools.venues.decoder import BadFrame, Decoder, shown
from mmtools.venues.tape import Tape, keep, load
from mmtools.venues.venue import Row

SCHEMA = "mmtools.recording/1"

_GZIP = b"\x1f\x8b"
_CHUNK = 16 * 1024
"""Bytes read at once: a chunk of gzip may unfold a thousand times, and must still fit a small memory."""
_HASHED = 1024 * 1024
"""Bytes hashed at once."""
_LONGEST_LINE = 32 * 1024 * 1024
"""A first array with the books of hundreds of markets fits well."""
_LAST_MS = 253_402_300_799_999
"""The end of the year 9999, where dates end."""
_ROWS_HELD = 10_000

_Token = Annotated[str, Meta(pattern=r"^[0-9]{1,78}\Z")]
_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", max_length=200)]


class BadRecording(ValueError):
    """A file that is no recording this program reads, or a market that is not in it; one line: `FILE:LINE: why` or `FILE: why`."""


class _Fees(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    rate: NotNegative
    exponent: NotNegative = 1.0
    rebate_rate: NotNegative | None = None


class _Rewards(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Decimal text: shares, USDC per share, USDC a day."""

    min_size: str
    max_spread: str
    daily_pool: str | None = None


class _MarketRecord(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    condition_id: Annotated[str, Meta(min_length=1, max_length=200)]
    slug: _Name
    outcomes: tuple[str, str]
    token_ids: tuple[_Token, _Token]
    tick_size: str
    min_order_size: str
    neg_risk: bool
    description: str | None = None
    event: str | None = None
    fees: _Fees | None = None
    rewards: _Rewards | None = None
    end: str | None = None
    game_start: str | None = None
    accepting: bool | None = None
    version: str | None = None


class _Header(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    schema: str
    source: str
    clock: Literal["exchange", "receive"]
    markets: Annotated[list[_MarketRecord], Meta(min_length=1, max_length=65_535)]


_decode_line = msgspec.json.Decoder(tuple[int, msgspec.Raw]).decode


def read(path: Path, markets: Sequence[str] = ()) -> Tape:
    """Return a recording as a tape of the markets asked for by slug, in that order; of all of them when none is asked for.

    It is compiled once: the tape is kept under the hash of the recording's bytes (`tape`), and used as long as they have it.
    Raises BadRecording for whatever is wrong with the file, wherever in it, and for a market that it does not hold.
    """
    try:
        tape = (_kept(path) if path.is_file() else None) or _compiled(path)
    except FileNotFoundError:
        _refuse(path, "there is no such file")
    except IsADirectoryError:
        _refuse(path, "is a directory, not a recording")
    except PermissionError:
        _refuse(path, "may not be read: permission denied")
    except OSError as e:
        _refuse(path, f"cannot be read: {e.strerror or e}")
    return tape.of(_chosen(path, tape.markets, markets))


def _kept(path: Path) -> Tape | None:
    """Return the tape that an earlier reader of the same bytes left; None when nobody did."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASHED):
            sha256.update(chunk)
    kept = load(sha256.hexdigest())
    if kept is None:
        return None
    label, columns = kept
    try:
        header = _header(path, label.header.encode())
        tape = Tape(_markets(path, header.markets), clock=header.clock, source=header.source)
        tape.fill(label, columns)
    except ValueError:  # what is wrong with it, if anything is, the recording itself must say
        return None
    return tape


def _compiled(path: Path) -> Tape:
    sha256 = hashlib.sha256()
    lines = _numbered_lines(path, sha256)
    _, line = next(lines, (1, b""))
    header = _header(path, line)
    tape = Tape(_markets(path, header.markets), clock=header.clock, source=header.source)
    _compile(path, lines, Decoder(tape.markets), tape)
    tape.sha256 = sha256.hexdigest()
    keep(tape, line.decode())
    return tape


def _refuse(path: Path, why: str, line: int | None = None) -> NoReturn:
    where = shown(str(path)) if line is None else f"{shown(str(path))}:{line}"
    raise BadRecording(f"{where}: {why}") from None


# Bytes to lines


def _numbered_lines(path: Path, sha256: "hashlib._Hash") -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) to the end of the file; the hash is complete when this is exhausted."""
    number = 0
    begun: list[bytes] = []  # pieces of the line whose end is not seen yet: joined once, however long it gets
    for chunk in _plain_chunks(path, sha256):
        begun.append(chunk)
        if b"\n" in chunk:
            *whole, rest = b"".join(begun).split(b"\n")
            begun = [rest]
            for line in whole:
                number += 1
                yield number, line
        elif sum(map(len, begun)) > _LONGEST_LINE:
            _refuse(path, "the line is longer than any frame", number + 1)
    if last := b"".join(begun):
        yield number + 1, last


def _plain_chunks(path: Path, sha256: "hashlib._Hash") -> Iterator[bytes]:
    """Yield the content, unfolded when it is gzip of one member or several; a cut or damaged file is refused where that shows."""
    with path.open("rb") as file:
        zipped = file.peek(2)[:2] == _GZIP
        member = None
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
            if not zipped:
                yield chunk
                continue
            while chunk := chunk if member else chunk.lstrip(b"\0"):  # padding between members is legal
                member = member or zlib.decompressobj(zlib.MAX_WBITS | 16)
                try:
                    yield member.decompress(chunk)
                except zlib.error as e:
                    _refuse(path, f"the gzip is damaged ({e})")
                chunk = member.unused_data
                if member.eof:
                    member = None
        if member:
            _refuse(path, "the gzip is cut short")


# The header


def _header(path: Path, line: bytes) -> _Header:
    if not line:
        _refuse(path, "is empty")
    try:
        document = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        _refuse(path, f"not JSON; the first line of a recording is its header (schema {SCHEMA})", 1)
    if not isinstance(document, dict) or "schema" not in document:
        _refuse(path, f"the header is missing; the first line of a recording names its schema ({SCHEMA}), source, clock and markets", 1)
    if document["schema"] != SCHEMA:
        _refuse(path, f"the schema is {shown(repr(document['schema']))}; this program reads {SCHEMA}", 1)
    try:
        return msgspec.convert(_without_notes(document), _Header)
    except msgspec.ValidationError as e:
        _refuse(path, f"header: {shown(str(e))}", 1)


def _without_notes(document: dict[str, Any]) -> dict[str, Any]:
    """Return the header less its keys ending in `_invented`, which tell people which ids the source lacked."""
    plain = {key: value for key, value in document.items() if not key.endswith("_invented")}
    markets = plain.get("markets")
    if isinstance(markets, list):
        plain["markets"] = [_without_notes(market) if isinstance(market, dict) else market for market in markets]
    return plain


def _markets(path: Path, records: list[_MarketRecord]) -> tuple[Market, ...]:
    """Return the markets of the recording, in its order."""
    found: dict[str, Market] = {}
    conditions: set[str] = set()
    tokens: set[str] = set()
    for record in records:
        try:
            market = _market(record)
        except ValueError as e:
            _refuse(path, f"header: {shown(str(e))}", 1)
        if market.slug in found:
            _refuse(path, f"header: two markets are named {market.slug}", 1)
        if market.condition_id in conditions:
            _refuse(path, f"header: two markets have the condition id {shown(market.condition_id)}", 1)
        if not tokens.isdisjoint(record.token_ids):
            _refuse(path, f"header: {market.slug} has a token id that another market has too", 1)
        found[market.slug] = market
        conditions.add(market.condition_id)
        tokens.update(record.token_ids)
    return tuple(found.values())


def _chosen(path: Path, markets: Sequence[Market], asked: Sequence[str]) -> tuple[Market, ...]:
    """Return the markets asked for, in that order; all when none is."""
    found = {market.slug: market for market in markets}
    for slug in asked:
        if slug not in found:
            close = difflib.get_close_matches(slug, found, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            _refuse(path, f"has no market {shown(slug)}{hint}; it has {', '.join(found)}")
    return tuple(found[slug] for slug in dict.fromkeys(asked)) or tuple(markets)


def _market(record: _MarketRecord) -> Market:
    """Raises ValueError naming the market and the field."""
    tick, min_size = _amount(record, "tick_size", record.tick_size), _amount(record, "min_order_size", record.min_order_size)
    if tick not in TICKS:
        allowed = ", ".join(units.text(tick) for tick in TICKS)
        raise ValueError(f"{record.slug}: tick_size {record.tick_size} is none of the venue's: {allowed}")
    fees = record.fees
    return Market(
        slug=record.slug,
        condition_id=record.condition_id,
        yes_token=record.token_ids[0],
        no_token=record.token_ids[1],
        tick=Price(tick),
        min_size=Shares(min_size),
        outcomes=record.outcomes,
        neg_risk=record.neg_risk,
        description=record.description,
        version=record.version,
        event=record.event,
        fees=None if fees is None else FeeSchedule(rate=fees.rate, exponent=fees.exponent, rebate_rate=fees.rebate_rate),
        rewards=_rewards(record),
        end_ms=_time_ms(record, "end", record.end),
        game_start_ms=_time_ms(record, "game_start", record.game_start),
        accepting=record.accepting,
    )


def _rewards(record: _MarketRecord) -> RewardTerms | None:
    terms = record.rewards
    if terms is None:
        return None
    pool = None if terms.daily_pool is None else Usdc(_amount(record, "rewards.daily_pool", terms.daily_pool))
    min_size, max_spread = _amount(record, "rewards.min_size", terms.min_size), _amount(record, "rewards.max_spread", terms.max_spread)
    return RewardTerms(min_size=Shares(min_size), max_spread=Price(max_spread), daily_pool=pool)


def _amount(record: _MarketRecord, field: str, text: str) -> int:
    try:
        amount = units.parse(text)
    except ValueError as e:
        raise ValueError(f"{record.slug}: {field}: {e}") from None
    if amount < 0:
        raise ValueError(f"{record.slug}: {field} {text} is negative")
    return amount


def _time_ms(record: _MarketRecord, field: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{record.slug}: {field} {shown(text)} is no ISO 8601 time with its zone, such as 2026-01-31T18:00:00Z")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


# The frames


def _compile(path: Path, lines: Iterator[tuple[int, bytes]], decoder: Decoder, tape: Tape) -> None:
    """Fill the tape. Rows wait in a list for a while: columns grow faster by the thousand."""
    held: list[Row] = []
    last = 0
    for number, line in lines:
        try:
            now, frame = _decode_line(line)
            if not 0 < now <= _LAST_MS:
                _refuse(path, f"{now} is no time in milliseconds", number)
            if now < last:
                tape.clock_steps += 1
                now = last
            held += decoder.rows(now, frame)
        except BadFrame as e:
            _refuse(path, str(e), number)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            _refuse(path, _not_a_line(line), number)
        if not last:
            tape.first_ms = now
        last = now
        if len(held) >= _ROWS_HELD:
            tape.extend(held)
            held.clear()
    if not last:
        _refuse(path, "holds no frames, only the header")
    tape.extend(held)
    tape.last_ms = last


def _not_a_line(line: bytes) -> str:
    """Return why a line is not `[received_ms, frame]`; slow, for lines that were refused."""
    try:
        document = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "not JSON" if line.strip() else "the line is blank"
    if isinstance(document, list) and len(document) == 2 and not (isinstance(document[0], int) and not isinstance(document[0], bool)):
        return f"the time {shown(repr(document[0]))} is no integer of milliseconds"
    return "not a line of a recording: a JSON array of the time in milliseconds and a frame"
