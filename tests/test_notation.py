"""Times and unknown amounts as they are written."""

from mmtools.runs import notation


def test_a_time_has_its_milliseconds_and_its_zone() -> None:
    assert notation.iso(1_780_833_600_007) == "2026-06-07T12:00:00.007Z"


def test_an_amount_nobody_knows_is_none_and_zero_is_not() -> None:
    assert (notation.maybe_text(None), notation.maybe_text(0), notation.maybe_text(-1_250_000)) == (None, "0", "-1.25")
