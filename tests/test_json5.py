"""JSON5: everything the format allows is read as it is meant, and what is not surely it is an error."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtools.ops import json5

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(ANY_JSON, st.booleans(), st.sampled_from([None, 2]))
def test_all_of_json_is_read_as_json_reads_it(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert json5.loads(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{a: 1, $b_2: 2, 'c d': 3, \"e\": 4}", {"a": 1, "$b_2": 2, "c d": 3, "e": 4}),
        ("[1, 2,]", [1, 2]),
        ("{a: [],}", {"a": []}),
        ("// first\n{ /* in { it */ a: 'http://x' // not a comment\n}", {"a": "http://x"}),
        (r"'it\'s \"so\"'", 'it\'s "so"'),
        ("'two\\\nlines\\\r\nmore'", "twolinesmore"),
        (r"'\x41\u00e9\0\v\q'", "A\u00e9\0\vq"),
        ("[+1, -.5, 5., 0x1F, -0x10, 1e3]", [1, -0.5, 5.0, 31, -16, 1000.0]),
        ("-Infinity", -math.inf),
        ("\ufeff{}", {}),
        ("{a: 1, a: 2}", {"a": 2}),
    ],
)
def test_what_json5_adds_is_read(text: str, value: Any) -> None:
    assert json5.loads(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "{", "{a}", "{a: }", "{a: 1 b: 2}", "[1 2]", "[,]", "{,}", "{} {}", "{a: b}", "'open", "'a\nb'", "/* open", "01", "1a", "0x",
     r"'\u12'", r"'\1'",
     "{1: 2}", "[" * 200 + "]" * 200],
)  # fmt: skip
def test_what_is_not_json5_is_an_error_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"^line \d+: "):
        json5.loads(text)


def test_the_line_of_the_error_is_named() -> None:
    with pytest.raises(ValueError, match="line 3"):
        json5.loads("{\n  a: 1,\n  b 2\n}")
