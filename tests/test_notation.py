"""Times, unknown amounts and tables as they are written."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmtools import moments
from mmtools.runs import notation

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_categories=["Cc", "Cf", "Zs"]), max_size=12)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]], str]:
    """Heads, rows, sides."""
    heads = draw(st.lists(WORDS, min_size=1, max_size=5))
    rows = draw(st.lists(st.lists(WORDS, min_size=len(heads), max_size=len(heads)), max_size=4))
    return heads, rows, "".join(draw(st.lists(st.sampled_from("<>"), min_size=len(heads), max_size=len(heads))))


def test_a_table_is_its_heads_a_rule_and_its_rows() -> None:
    told = notation.table(["market", "fills", "held"], [["hail-in-june", "7", "12.50"], ["rain", "1,204", ""]], "<><")
    assert told.splitlines() == [
        "market          fills  held",
        "------------  -------  ------",
        "hail-in-june        7  12.50",
        "rain            1,204",
    ]


@given(tables())
@example((["run", "total"], [], "<>"))
def test_every_cell_stands_whole_in_its_column_and_at_its_side(drawn: tuple[list[str], list[list[str]], str]) -> None:
    heads, rows, sides = drawn
    head, rule, *lines = notation.table(heads, rows, sides).split("\n")
    columns = [len(dashes) for dashes in rule.split("  ")]
    assert len(lines) == len(rows)
    for cells, line in zip([heads, *rows], [head, *lines], strict=True):
        assert line == line.rstrip()
        rest = line.ljust(len(rule))
        for cell, side, width in zip(cells, sides, columns, strict=True):
            here, rest = rest[:width], rest[width + 2 :]
            assert here == (cell.ljust(width) if side == "<" else cell.rjust(width))
        assert rest == ""


@given(tables())
def test_a_column_is_as_wide_as_its_longest_cell_or_two_wider_than_its_head(drawn: tuple[list[str], list[list[str]], str]) -> None:
    heads, rows, sides = drawn
    widths = [len(dashes) for dashes in notation.table(heads, rows, sides).split("\n")[1].split("  ")]
    for place, width in enumerate(widths):
        assert width == max([len(heads[place]) + 2, *(len(row[place]) for row in rows)])


@pytest.mark.parametrize(("rows", "sides"), [([["a"]], "<>"), ([["a", "b", "c"]], "<>"), ([["a", "b"]], "<"), ([], "<>>")])
def test_a_cell_too_few_or_too_many_is_an_error_not_a_crooked_table(rows: list[list[str]], sides: str) -> None:
    with pytest.raises(ValueError, match=r"zip\(\)"):
        notation.table(["run", "total"], rows, sides)


def test_a_time_has_its_milliseconds_and_its_zone() -> None:
    assert moments.iso(1_780_833_600_007) == "2026-06-07T12:00:00.007Z"


def test_an_amount_nobody_knows_is_none_and_zero_is_not() -> None:
    assert (notation.maybe_text(None), notation.maybe_text(0), notation.maybe_text(-1_250_000)) == (None, "0", "-1.25")
