"""Counting: what happened, told to a fold without a record, for a run that keeps no journal.

Of most events and actions a summary needs counts alone, and a replay has tens of thousands of them. Here stands which those are; all
others are journalled as ever. Apart from `fold`, which those load who only read runs. Called by `engine`.
"""

from mmtools.runs.fold import Fold
from mmtools.trading import events as ev


def count_event(fold: Fold, event: ev.Event) -> bool:
    """Count an event as its record would be counted, if that is all that the record would do; return whether it is."""
    match event:
        case ev.OrderAccepted(key):
            fold.accepted(key)
        case ev.OrderGone(key, cause):
            fold.gone(key, cause.value)
        case ev.OrderRejected(key, reason):
            fold.rejected(key, reason.value)
        case _:
            return False
    return True


def count_action(fold: Fold, action: ev.Action, now_ms: int) -> bool:
    """As `count_event`."""
    match action:
        case ev.Note() | ev.Cancel():
            pass  # a record that moves nothing
        case ev.Place(order):
            fold.placed(order)
        case ev.Judged(measured):
            fill = measured.fill
            fold.judged(fill.market, fill.outcome, measured.horizon_s, measured.per_share, fill.size, now_ms)
        case ev.RegimeChanged(market, _, now):
            fold.behaves(market, now.regime, now_ms)
        case _:
            return False
    return True
