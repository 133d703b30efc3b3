"""Pictures: they say what the document says, stand alone, are the same every time, and are written whole or not at all."""

import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mmtools.lab import charts
from mmtools.lab.charts import BadPicture, check, write

Document = dict[str, Any]


def figures(rate: float | None, interval: list[float] | None, mean: float | None) -> Document:
    return {
        "fill_rate": rate,
        "interval": interval,
        "markouts": {horizon: {"mean": mean, "interval": mean and [mean - 1.5, mean + 0.5]} for horizon in ("1", "30")},
    }


def document(**models: Document) -> Document:
    return {"calibration": {"models": {name: {**model, "distances": {"0": model, "1": model}} for name, model in models.items()}}}


KNOWN = document(careful=figures(0.125, [0.0625, 0.4375], -2.25), hopeful=figures(0.5, None, 1.0))
UNKNOWN = document(careful=figures(None, None, None))


def texts(svg: bytes) -> list[str]:
    return [node.text for node in ElementTree.fromstring(svg).iter() if node.text and not node.tag.endswith("style")]


def test_a_picture_names_models_distances_horizons_and_units() -> None:
    said = texts(charts.calibration(KNOWN))
    for text in ("careful", "hopeful", "touch", "1 behind", "1 s", "30 s", "%", "ticks per share", "12.5", "50", "-2.25"):
        assert text in said


def test_intervals_are_drawn_where_they_are_known() -> None:
    drawn = charts.calibration(KNOWN).decode()
    # Two distances and two horizons of one model, two horizons of the other.
    assert len(re.findall(r'class="ci"', drawn)) == 6


def test_an_interval_lies_within_its_chart() -> None:
    root = ElementTree.fromstring(charts.calibration(KNOWN))
    heights = []
    for path in root.iter(f"{{{charts.SVG}}}path"):
        if path.get("class") == "nofill reactive":
            heights += [float(point.split(" ")[1]) for point in re.findall(r"[\d.-]+ [\d.-]+", path.get("d", ""))]
    assert heights
    assert min(heights) >= 0
    assert max(heights) <= charts.HEIGHT


def test_what_is_unknown_is_not_drawn_as_nothing() -> None:
    said = texts(charts.calibration(UNKNOWN))
    assert said.count("nothing to show") == 2


@pytest.mark.parametrize("shown", [KNOWN, UNKNOWN])
def test_a_picture_stands_alone(shown: Document) -> None:
    drawn = charts.calibration(shown).decode()
    root = ElementTree.fromstring(drawn)
    assert not [node.tag for node in root.iter() if node.tag.split("}")[-1] in ("script", "image", "link", "use", "foreignObject")]
    assert not [key for node in root.iter() for key in node.attrib if key.endswith("href") or key.startswith("on")]
    assert not re.search(r"@import|url\(|<\?xml-stylesheet|javascript", drawn)
    assert set(re.findall(r"https?://[^\"' <)]+", drawn)) == {charts.SVG}


def test_the_same_figures_give_the_same_bytes_on_any_day(monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime

    import pygal.svg

    class Tomorrow(datetime.date):
        @classmethod
        def today(cls) -> "Tomorrow":
            return cls(2031, 2, 3)

    today = charts.calibration(KNOWN)
    monkeypatch.setattr(pygal.svg, "date", Tomorrow)
    assert charts.calibration(KNOWN) == today
    ids = re.findall(rb'id="([^"]*)"', today)
    assert {b"chart-fill-rate", b"chart-markouts"} <= set(ids)
    assert not re.search(rb"[0-9a-f]{8}-[0-9a-f]{4}", today)


@pytest.mark.parametrize(("name", "saying"), [("a.png", r"ends in \.svg"), ("a.svg.gz", r"ends in \.svg"), ("svg", r"ends in \.svg")])
def test_only_svg_is_drawn(name: str, saying: str, tmp_path: Path) -> None:
    with pytest.raises(BadPicture, match=saying):
        check(tmp_path / name)


def test_a_place_where_no_file_can_lie_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(BadPicture, match="there is no folder"):
        check(tmp_path / "gone" / "a.svg")
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(BadPicture, match="is a directory"):
        check(tmp_path / "a.svg")
    check(tmp_path / "b.svg")


def test_a_picture_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    write(path, b"old")
    write(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_picture_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.svg"
    write(path, b"old")

    def full(fd: int) -> None:
        raise OSError(28, os.strerror(28), "a.svg")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_may_not_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadPicture, match="cannot be written"):
        write(tmp_path / "gone" / "a.svg", b"new")
