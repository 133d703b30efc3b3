"""The index of a store of sessions: a few values of each entry, and nothing of a store that is not whole."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmtools.ops import store_index
from mmtools.ops.store import Unreadable
from mmtools.ops.store_index import index

ENTRY = st.fixed_dictionaries(
    {"sessionId": st.text(max_size=5), "updatedAt": st.integers(-9, 10**14)},
    optional={"label": st.text(max_size=5), "skillsSnapshot": st.dictionaries(st.text(max_size=2), st.lists(st.floats(-1, 1), max_size=2))},
)
HERE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def kept(store: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"key": key, **{name: entry.get(name) for name in store_index.KEPT}} for key, entry in store.items()]


@given(st.dictionaries(st.text(max_size=6), ENTRY, max_size=4), st.sampled_from([None, 2]), st.booleans())
@HERE
def test_the_index_is_the_store_without_its_bulk(
    tmp_path: Path, store: dict[str, dict[str, Any]], indent: int | None, ascii_only: bool
) -> None:
    path = tmp_path / "sessions.json"
    path.write_text(json.dumps(store, indent=indent, ensure_ascii=ascii_only), "utf-8", "surrogatepass" if ascii_only else "replace")
    found = list(index(path))
    if ascii_only:
        assert found == kept(store)
    assert len(found) == len(json.loads(path.read_text()))


def test_a_store_that_is_cut_anywhere_is_unreadable(tmp_path: Path) -> None:
    whole = json.dumps({"a": {"sessionId": "grün", "n": [1.5, -2, None, True]}, "b": {"updatedAt": 7}}, ensure_ascii=False).encode()
    for end in range(len(whole)):
        path = tmp_path / "sessions.json"
        path.write_bytes(whole[:end])
        with pytest.raises(Unreadable):
            list(index(path))


@pytest.mark.parametrize("entry", ["1", "null", "[]", '"text"'])
def test_an_entry_that_is_no_object_is_unreadable(tmp_path: Path, entry: str) -> None:
    (tmp_path / "s").write_text(f'{{"a": {{}}, "b": {entry}}}')
    with pytest.raises(Unreadable, match="'b' is no object"):
        list(index(tmp_path / "s"))


def test_a_store_that_cannot_be_opened_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        list(index(tmp_path / "nothing"))


def test_a_value_that_is_no_plain_one_or_is_long_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(json.dumps({"a": {"sessionId": "s" * 1001, "updatedAt": 7, "label": ["x"], "status": True}}))
    assert list(index(tmp_path / "s")) == [{"key": "a", "sessionId": None, "updatedAt": 7, "label": None, "status": None}]
