"""Pictures: SVG of figures that are already there, drawn by pygal, which is loaded when a picture is asked for.

A picture stands alone: no script, no font and no style from elsewhere, and the same figures give the same bytes.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

SVG = "http://www.w3.org/2000/svg"
WIDTH, HEIGHT = 900, 420
COLOURS = ("#b2182b", "#4d4d4d", "#2166ac", "#1b7837", "#e08214", "#762a83", "#35978f", "#8c510a")
"""Of the models in order; told apart also by people who do not see red and green."""
FONT = "sans-serif"


class BadPicture(ValueError):
    """A picture cannot lie where it was asked for; one line."""


def check(path: Path) -> None:
    """Raise BadPicture when no picture can be written there, before anything is worked out for it."""
    if path.suffix != ".svg":
        raise BadPicture(f"{path}: pictures are SVG; name a file that ends in .svg")
    if path.is_dir():
        raise BadPicture(f"{path}: is a directory; name a file in it")
    if not path.parent.is_dir():
        raise BadPicture(f"{path}: there is no folder {path.parent}; make it, or name another")


def write(path: Path, content: bytes) -> None:
    """Put a picture in place whole, or leave what was there. Raises BadPicture; OSError when the disk is full or failing."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException as e:
        with suppress(OSError):
            new.unlink()
        if isinstance(e, PermissionError | FileNotFoundError | IsADirectoryError | NotADirectoryError):
            raise BadPicture(f"{path}: cannot be written: {e.strerror}; name another file") from e
        raise


def calibration(document: Mapping[str, Any]) -> bytes:
    """Return the picture of a `mmtools.calibration/1` document: fill rates by distance above, markouts over all distances below."""
    import pygal

    models = document["calibration"]["models"]
    rates = {
        name: [_Point.of(at["fill_rate"], at["interval"], 100) for at in model["distances"].values()] for name, model in models.items()
    }
    gains = {name: [_Point.of(at["mean"], at["interval"], 1) for at in model["markouts"].values()] for name, model in models.items()}
    any_model = next(iter(models.values()))

    bars = pygal.Bar(_config("Shares filled of shares placed, with 95 % intervals", "%", rates))
    bars.x_labels = ["touch" if behind == "0" else f"{behind} behind" for behind in any_model["distances"]]
    for name, points in rates.items():
        bars.add(name, [point and point.value() for point in points])

    # Each horizon has a gap and a place for every model, so that intervals stand side by side.
    lines = pygal.Line(_config("Markout of filled shares, all distances, with 95 % intervals", "ticks per share", gains))
    places, middle = 1 + len(models), (1 + len(models)) // 2
    lines.x_labels = [f"{horizon_s} s" if at == middle else "" for horizon_s in any_model["markouts"] for at in range(places)]
    for place, (name, points) in enumerate(gains.items(), start=1):
        lines.add(name, [point and point.value() if at == place else None for point in points for at in range(places)])
    return _stacked({"fill-rate": bars, "markouts": lines})


@dataclass(frozen=True, slots=True)
class _Point:
    """A figure and the ends of its interval, which are the figure itself where there is none."""

    at: float
    low: float
    high: float

    @staticmethod
    def of(figure: float | None, interval: Sequence[float] | None, scale: float) -> "_Point | None":
        if figure is None:
            return None
        low, high = (figure, figure) if interval is None else interval
        return _Point(figure * scale, low * scale, high * scale)

    def value(self) -> dict[str, Any]:
        """Return it as pygal wants it."""
        return {"value": self.at} if self.low == self.high else {"value": self.at, "ci": {"low": self.low, "high": self.high}}


def _config(title: str, unit: str, series: Mapping[str, Sequence[_Point | None]]) -> Any:
    """Return what both charts share; they reach from the lowest end of an interval to the highest, and hold 0."""
    import pygal
    from pygal.style import Style

    points = [point for row in series.values() for point in row if point is not None]
    low, high = min([0.0, *(point.low for point in points)]), max([0.0, *(point.high for point in points)])
    fonts = {key: FONT for key in dir(Style) if key.endswith("font_family")}
    return pygal.Config(
        style=Style(background="white", plot_background="white", colors=COLOURS, ci_colors=COLOURS, **fonts),
        title=title, y_title=unit, width=WIDTH, height=HEIGHT, explicit_size=True, js=(), no_data_text="nothing to show",
        range=(low, high) if low < high else None, include_x_axis=True, max_scale=10, truncate_label=-1,
        value_formatter=lambda value: f"{value:.2f}".rstrip("0").rstrip("."),
    )  # fmt: skip


def _stacked(charts: Mapping[str, Any]) -> bytes:
    """Return one SVG with charts one below the other. Their ids are the names they are given here, not pygal's random ones."""
    ElementTree.register_namespace("", SVG)
    height = HEIGHT * len(charts)
    whole = ElementTree.Element(f"{{{SVG}}}svg", {"width": str(WIDTH), "height": str(height), "viewBox": f"0 0 {WIDTH} {height}"})
    for place, (name, chart) in enumerate(charts.items()):
        chart.uuid = name
        # From text, which leaves out comments: one of pygal's holds the day.
        root = ElementTree.fromstring(chart.render())
        root.set("y", str(place * HEIGHT))
        for parent in list(root.iter()):
            for script in parent.findall(f"{{{SVG}}}script"):
                parent.remove(script)
        whole.append(root)
    drawn: bytes = ElementTree.tostring(whole, encoding="utf-8")
    return b"<?xml version='1.0' encoding='utf-8'?>\n" + drawn + b"\n"
