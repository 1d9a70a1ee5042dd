"""Figures as files: drawn all before the first is written, so that a wrong name leaves nothing half-done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from ergates.conductor.draw_figure import figure_bytes
from ergates.drivers.whole_file import write_whole
from ergates.errors import UsageError
from ergates.experiment.figures import drawing_of, figures_of
from ergates.experiment.spec import Experiment, Figure
from ergates.experiment.table import Table


def write_figures(
    to: Path, experiment: Experiment, table: Table, names: Sequence[str], formats: Iterable[str]
) -> tuple[Path, ...]:
    """Draw them.

    Args:
        to: a folder; it is made.
        experiment: whose `[plot]` is drawn, or the default figures where it has none.
        table: of its finished runs.
        names: only these; empty: all.
        formats: of FORMATS, each figure in each.

    Raises:
        UsageError: no such figure, nothing to draw, or matplotlib is not installed.
        OSError: no room, no right.
    """
    if not table.rows:
        raise UsageError(f"{experiment.name}: no run is finished yet\n  hint: erg experiment status says how far it is")
    drawings = [drawing_of(figure, experiment, table) for figure in _chosen(figures_of(experiment, table), names)]
    kinds = tuple(dict.fromkeys(formats))
    images = {to / f"{drawing.name}.{kind}": figure_bytes(drawing, kind) for drawing in drawings for kind in kinds}
    to.mkdir(parents=True, exist_ok=True)
    for path, data in images.items():
        write_whole(path, data)
    return tuple(images)


def _chosen(figures: Sequence[Figure], names: Sequence[str]) -> list[Figure]:
    known = {figure.name: figure for figure in figures}
    if not known:
        raise UsageError("nothing to draw: no measure is a number, and [plot] names no figure")
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(known)}"
            raise UsageError(f"no figure {name!r}\n  hint: {hint}")
    return [known[name] for name in dict.fromkeys(names or known)]
