"""The miss-ratio plot: one panel for each trace, one line for each policy, cache size on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # a file is drawn, no window
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator


@dataclass(frozen=True, slots=True)
class Result:
    """One run: what was asked, what came out, what it cost."""

    policy: str
    size: int
    requests: int
    objects: int
    alpha: float
    miss_ratio: float
    wall_s: float
    peak_bytes: int

    @property
    def trace(self) -> tuple[int, float, int]:
        return self.requests, self.alpha, self.objects


STYLES = {
    # policy: label, colour (Okabe and Ito's, told apart by everybody), marker
    "fifo": ("FIFO", "#999999", "s"),
    "lru": ("LRU", "#0072B2", "o"),
    "clock": ("CLOCK (FIFO-reinsertion)", "#56B4E9", "^"),
    "lfu": ("LFU", "#CC79A7", "v"),
    "sieve": ("SIEVE", "#E69F00", "D"),
    "s3fifo": ("S3-FIFO", "#D55E00", "P"),
    "opt": ("Belady's optimum", "#000000", ""),
}
INK = "#333333"


def draw(results: Sequence[Result], path: Path) -> None:
    """Write the figure as PNG; panels in order of skew, then of length."""
    traces = sorted({result.trace for result in results}, key=lambda trace: (trace[1], trace[0]))
    rows = 2 if len(traces) > 3 else 1
    columns = -(-len(traces) // rows)
    figure, grid = pyplot.subplots(
        rows,
        columns,
        figsize=(4.1 * columns, 3.4 * rows + 1.2),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08),
    )
    panels = [grid[row][column] for column in range(columns) for row in range(rows)]
    for axes, trace in zip(panels, traces, strict=False):
        _panel(axes, [result for result in results if result.trace == trace], trace)
    for axes in panels[len(traces) :]:
        axes.set_axis_off()
    figure.suptitle("How often seven caches miss, by size and skew of the requests", fontsize=15, color=INK)
    for axes in grid[-1]:
        axes.set_xlabel("cache size, share of all objects", color=INK)
    for axes in grid[:, 0]:
        axes.set_ylabel("miss ratio (lower is better)", color=INK)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=10)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _panel(axes: Axes, results: Sequence[Result], trace: tuple[int, float, int]) -> None:
    requests, alpha, objects = trace
    for policy, (label, colour, marker) in STYLES.items():
        points = sorted((result.size / objects, result.miss_ratio) for result in results if result.policy == policy)
        if not points:
            continue
        dashed = policy == "opt"
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=colour,
            label=label,
            marker=marker or None,
            markersize=4.5,
            linewidth=1.4,
            linestyle="--" if dashed else "-",
        )
    axes.set_title(f"α = {alpha:g}: {_short(requests)} requests, {_short(objects)} objects", fontsize=10, color=INK)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([0.001, 0.01, 0.1, 0.4]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.1%}" if share < 0.01 else f"{share:.0%}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:.0%}"))
    axes.set_ylim(0, 1)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.tick_params(colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _short(count: int) -> str:
    return f"{count / 1e6:g} M" if count >= 1_000_000 else f"{count / 1e3:g} k"
