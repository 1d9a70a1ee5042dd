"""Draws a figure of numbers that were computed before (experiment/figures.py) with matplotlib; no window, no global state.

Colours are those of Okabe and Ito, which people with any common colour vision tell apart; every line has a marker of its own too,
so that nothing hangs on colour alone.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ergates.errors import UsageError
from ergates.experiment.figures import Drawing, Panel, Series, place_words
from ergates.experiment.spec import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vPX*"
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "++", "oo", "--")
FORMATS = ("png", "svg", "pdf")
_PANEL_INCHES, _COLUMNS_MOST = (4.4, 3.3), 3
_DPI = 160
_GREY = "#606060"
_DASHES = ("-", "--", "-.", ":")
_LEGEND_ROWS = 22
_TICKS_MOST = 9
_GAP_LEAST = 0.06
"""Of the width of the x axis, between two ticks with numbers."""
_ASIDE = 0.008
"""The same, between two lines."""
_DOTS_MOST = 30
_NARROW = 8
"""Below this factor between its ends a logarithmic axis has the ticks of a linear one."""
_GROUP_WIDTH = 0.8
"""Of the distance of two places, what the bars of one place take."""


def figure_bytes(drawing: Drawing, image: str) -> bytes:
    """The figure as a file of that format; the same numbers give the same bytes.

    Raises:
        UsageError: matplotlib is not installed.
    """
    import matplotlib

    out = io.BytesIO()
    metadata: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[image]
    with matplotlib.rc_context({"svg.hashsalt": drawing.name, "svg.fonttype": "path"}):
        draw(drawing).savefig(out, format=image, dpi=_DPI, metadata=metadata)
    return out.getvalue()


def draw(drawing: Drawing) -> Figure:
    """A figure that a notebook shows, or that can be saved.

    Raises:
        UsageError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    count = max(1, len(drawing.panels))
    columns = 2 if count == 4 else min(count, _COLUMNS_MOST)
    rows = math.ceil(count / columns)
    single = 1.25 if count == 1 else 1.0
    wide = 0.6 + 1.7 * (_legend_columns(drawing) - 1)
    size = (_PANEL_INCHES[0] * columns * single + wide, _PANEL_INCHES[1] * rows * single + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=drawing.shape != "ecdf", sharey=True).flatten()
    for axes in grid[count:]:
        axes.set_visible(False)
    for place, axes in enumerate(grid[:count]):
        panel = drawing.panels[place] if drawing.panels else Panel(title="", series=())
        _draw_panel(axes, panel, drawing)
        if place % columns == 0:
            axes.set_ylabel(drawing.y_label)
        if place + columns >= count:
            axes.set_xlabel(drawing.x_label)
            axes.tick_params(labelbottom=True)
    figure.suptitle(drawing.title, fontsize=12, fontweight="bold")
    if drawing.notes:
        figure.supxlabel("; ".join(drawing.notes), fontsize=7.5, color=_GREY)
    _legend(figure, list(grid[:count]), drawing)
    return figure


def check_matplotlib() -> None:
    """Say what to install before anything is computed. Raises UsageError."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise UsageError("matplotlib draws the figures and is not installed\n  hint: pip install 'ergates[experiment]'")
    os.environ.setdefault("MPLBACKEND", "Agg")


def _draw_panel(axes: Axes, panel: Panel, drawing: Drawing) -> None:
    if panel.title:
        axes.set_title(panel.title, fontsize=9.5)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if drawing.log_x:
        axes.set_xscale("log")
    if drawing.log_y:
        axes.set_yscale("log")
    if not panel.series:
        axes.text(0.5, 0.5, "no run that counts", transform=axes.transAxes, ha="center", color=_GREY)
    numbers = sorted({series.number for other in drawing.panels for series in other.series})
    for series in panel.series:
        match drawing.shape:
            case "line":
                _line(axes, series, drawing, numbers)
            case "ecdf":
                _steps(axes, series)
            case shape:
                _grouped(axes, series, drawing.places, numbers, boxes=shape == "box")
    _heights(axes, drawing)
    if drawing.shape == "line":
        _ticks_of(axes, drawing.places, log=drawing.log_x)
    elif drawing.shape in ("bar", "box"):
        _places(axes, drawing.places)


def _line(axes: Axes, series: Series, drawing: Drawing, numbers: Sequence[int]) -> None:
    """Lines stand a hair apart, so that the whiskers of one do not hide those of another."""
    turn, number = divmod(series.number, len(COLOURS))
    colour, marker = COLOURS[number], MARKERS[(number + turn) % len(MARKERS)]
    aside = _ASIDE * (numbers.index(series.number) - (len(numbers) - 1) / 2) if len(numbers) <= len(MARKERS) else 0.0
    places = [float(place) for place in drawing.places]
    low, high = min(places), max(places)
    x = [
        float(mark.x) * (high / low) ** aside if drawing.log_x and low > 0 else float(mark.x) + aside * (high - low)
        for mark in series.marks
    ]
    axes.errorbar(
        x,
        [mark.y for mark in series.marks],
        yerr=_around(series),
        label=_legend_text(series.label),
        color=colour,
        marker=marker,
        markersize=5,
        linewidth=1.6,
        capsize=3,
        elinewidth=1.1,
        linestyle=_DASHES[turn % len(_DASHES)],
        zorder=3,
    )
    if len(numbers) <= 4:
        for at, mark in zip(x, series.marks, strict=True):
            if 1 < len(mark.values) <= _DOTS_MOST:
                axes.plot([at] * len(mark.values), mark.values, ".", color=colour, alpha=0.3, markersize=4)


def _around(series: Series) -> tuple[list[float], list[float]] | None:
    below = [max(0.0, mark.y - mark.low) for mark in series.marks]
    above = [max(0.0, mark.high - mark.y) for mark in series.marks]
    return (below, above) if any(below) or any(above) else None


def _steps(axes: Axes, series: Series) -> None:
    values = sorted(value for mark in series.marks for value in mark.values)
    shares = [(i + 1) / len(values) for i in range(len(values))]
    axes.step(
        [values[0], *values],
        [0.0, *shares],
        where="post",
        label=_legend_text(series.label),
        color=COLOURS[series.number % len(COLOURS)],
        linestyle=_DASHES[series.number % len(_DASHES)],
        linewidth=1.6,
    )
    axes.set_ylim(0, 1.02)


def _grouped(axes: Axes, series: Series, places: Sequence[Value], numbers: Sequence[int], *, boxes: bool) -> None:
    width = _GROUP_WIDTH / max(1, len(numbers))
    offset = (numbers.index(series.number) - (len(numbers) - 1) / 2) * width
    x = [list(places).index(mark.x) + offset for mark in series.marks]
    colour = COLOURS[series.number % len(COLOURS)]
    if boxes:
        drawn = axes.boxplot(
            [mark.values for mark in series.marks],
            positions=x,
            widths=width * 0.8,
            patch_artist=True,
            label=_legend_text(series.label),
            manage_ticks=False,
            medianprops={"color": "black", "linewidth": 1.4},
            boxprops={"facecolor": colour, "alpha": 0.75},
            flierprops={"markersize": 3},
        )
        for box in drawn["boxes"]:
            box.set_hatch(HATCHES[series.number % len(HATCHES)])
        return
    axes.bar(
        x,
        [mark.y for mark in series.marks],
        width * 0.92,
        yerr=_around(series),
        label=_legend_text(series.label),
        color=colour,
        alpha=0.85,
        hatch=HATCHES[series.number % len(HATCHES)],
        edgecolor="white",
        linewidth=0.5,
        capsize=min(4.0, 20 * width),
        error_kw={"elinewidth": 1.1, "ecolor": "#222222"},
    )


def _heights(axes: Axes, drawing: Drawing) -> None:
    """Plain numbers; the axis starts at 0 where that costs at most half of the room: less would make differences look large."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if drawing.log_y:
        low, high = axes.get_ylim()
        within = high / low < _NARROW  # three ticks or fewer would say nothing
        axes.yaxis.set_major_locator(MaxNLocator(6) if within else LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    if drawing.shape in ("line", "box") and not drawing.log_y:
        values = [
            value for each in drawing.panels for series in each.series for mark in series.marks for value in mark.values
        ]
        if values and 0 <= min(values) < 0.5 * max(values):
            axes.set_ylim(bottom=0)


def _plain(value: float) -> str:
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _ticks_of(axes: Axes, places: Sequence[Value], *, log: bool) -> None:
    """Ticks stand at the values of the sweep, as the file has them; on a linear axis only where there is room for all."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    values = [float(place) for place in places]
    if not log:
        axes.margins(x=0.04)
        gaps = [after - before for before, after in pairwise(values)]
        if gaps and len(values) <= _TICKS_MOST and min(gaps) >= _GAP_LEAST * sum(gaps):
            axes.set_xticks(values, [place_words(place) for place in places])
        return
    step = max(1, math.ceil(len(values) / _TICKS_MOST))
    axes.xaxis.set_major_locator(FixedLocator(values[::step]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))


def _places(axes: Axes, places: Sequence[Value]) -> None:
    labels = [place_words(place) if isinstance(place, str | bool) else _plain(place) for place in places]
    slanted = sum(map(len, labels)) > 45
    axes.set_xticks(range(len(places)), labels, rotation=30 if slanted else 0, ha="right" if slanted else "center")
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(places) - 0.4)


def _legend_columns(drawing: Drawing) -> int:
    labels = {series.label for panel in drawing.panels for series in panel.series}
    return max(1, math.ceil(len(labels) / _LEGEND_ROWS))


def _legend_text(label: str) -> str:
    """What matplotlib shows: a label that is empty or begins with `_` it would leave out."""
    return f" {label}" if label.startswith("_") else label or "''"


def _legend(figure: Figure, panels: Sequence[Axes], drawing: Drawing) -> None:
    """One for all panels, outside of them, in the order of the file."""
    shown: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    order = {_legend_text(series.label): series.number for panel in drawing.panels for series in panel.series}
    labels = sorted(shown, key=lambda label: order.get(label, 0))
    if len(labels) > 1:
        figure.legend(
            [shown[label] for label in labels],
            labels,
            title=drawing.legend.replace("_", " ") or None,
            loc="outside right upper",
            ncols=_legend_columns(drawing),
            frameon=False,
            fontsize=8.5 if len(labels) <= _LEGEND_ROWS // 2 else 7,
            title_fontsize=9,
        )
