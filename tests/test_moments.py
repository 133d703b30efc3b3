"""Moments: time that no jump of the wall clock can bend, as long as the machine stays up."""

import pytest

from mmtools import moments
from mmtools.moments import Moment

NOON = Moment(wall_ms=1_780_833_600_000, boot_id="a", boot_s=1000.0)


@pytest.mark.parametrize(
    ("wall_s", "boot", "boot_s", "since"),
    [
        (60, "a", 1060.0, 60.0),
        (-86_400, "a", 1060.0, 60.0),  # the wall clock was put back a day
        (86_400, "a", 1060.0, 60.0),  # and forward
        (60, "b", 5.0, 60.0),  # the machine was started anew: only the wall clock is left
        (-60, "b", 5.0, 0.0),  # and says nonsense: as if it were now
        (60, "", 1060.0, 60.0),
    ],
)
def test_time_since_a_moment_is_the_kernels_own_while_the_machine_stays_up(wall_s: int, boot: str, boot_s: float, since: float) -> None:
    later = Moment(wall_ms=NOON.wall_ms + wall_s * 1000, boot_id=boot, boot_s=boot_s)
    assert later.since(NOON) == since


def test_a_boot_that_nobody_names_is_never_taken_for_the_same_one() -> None:
    nameless = Moment(wall_ms=NOON.wall_ms, boot_id="", boot_s=1000.0)
    assert Moment(wall_ms=NOON.wall_ms + 7000, boot_id="", boot_s=5000.0).since(nameless) == 7.0


def test_now_moves_on_and_names_this_boot() -> None:
    first, second = Moment.now(), Moment.now()
    assert first.boot_id == second.boot_id == moments.boot_id() != ""
    assert 0 <= second.since(first) < 60


def test_a_time_is_written_in_utc_with_milliseconds() -> None:
    assert moments.iso(1_780_833_600_007) == "2026-06-07T12:00:00.007Z"
