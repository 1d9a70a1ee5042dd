"""What figures show, and that they can be drawn: lines, bars, boxes, cumulative shares, panels, nothing at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product

import pytest
from msgspec import structs

from ergates.conductor.draw_figure import COLOURS, draw, figure_bytes
from ergates.experiment.figures import Drawing, default_figures, drawing_of
from ergates.experiment.measure import Cell
from ergates.experiment.records import Manifest
from ergates.experiment.run import Run
from ergates.experiment.spec import Axis, Comparison, Experiment, Figure, Measure, Value
from ergates.experiment.table import Measured, Table, table_of

AXES: dict[str, Sequence[Value]] = {"policy": ("fcfs", "darc"), "load": (0.1, 0.5, 0.9)}
TAIL = Figure(name="tail", x="load", y="p99", by="policy")


def made(
    axes: dict[str, Sequence[Value]] = AXES,
    repetitions: int = 5,
    cell: Callable[[dict[str, Value], int], Cell] | None = None,
) -> tuple[Experiment, Table]:
    source = random.Random("figures")
    experiment = Experiment(
        name="made-up",
        sweep=tuple(Axis(name=name, values=tuple(values)) for name, values in axes.items()),
        measures=(Measure(name="p99", unit="us"),),
    )
    runs = []
    every = [
        (dict(zip(axes, point, strict=True)), r) for point in product(*axes.values()) for r in range(1, repetitions + 1)
    ]
    for number, (point, repetition) in enumerate(every, 1):
        value = cell(point, repetition) if cell else source.uniform(90, 110)
        run = Run(number=number, point=tuple(point.items()), repetition=repetition, seed=0)
        ok = value is not None
        manifest = Manifest(experiment="made-up", run=run, ok=ok, problem="" if ok else "died")
        runs.append(Measured(manifest=manifest, values={"p99": value}))
    return experiment, table_of(experiment, runs)


def drawn(figure: Figure, **how: object) -> Drawing:
    return drawing_of(figure, *made(**how))  # type: ignore[arg-type]


def test_a_line_for_each_policy_with_the_interval_of_the_median() -> None:
    drawing = drawn(TAIL)
    (panel,) = drawing.panels
    assert [series.label for series in panel.series] == ["fcfs", "darc"]
    assert [mark.x for mark in panel.series[0].marks] == [0.1, 0.5, 0.9]
    for series in panel.series:
        for mark in series.marks:
            assert mark.y == sorted(mark.values)[2]
            assert min(mark.values) <= mark.low <= mark.y <= mark.high <= max(mark.values)
    assert (drawing.x_label, drawing.y_label, drawing.legend) == ("load", "p99 [us]", "policy")
    assert drawing.notes == ("median of 5 repetitions; whiskers: 95 % bootstrap interval",)


def test_few_repetitions_show_their_range_and_say_so() -> None:
    drawing = drawn(TAIL, repetitions=3)
    assert drawing.notes == ("median of 3 repetitions; whiskers: lowest to highest",)
    for series in drawing.panels[0].series:
        for mark in series.marks:
            assert (mark.low, mark.high) == (min(mark.values), max(mark.values))
    assert drawn(TAIL, repetitions=1).notes == ("median of 1 repetition",)


def test_failed_runs_are_left_out_and_counted() -> None:
    drawing = drawn(TAIL, cell=lambda point, r: None if (point["policy"], r) == ("darc", 1) else float(r))
    assert drawing.notes == (
        "median of 4 to 5 repetitions; whiskers: 95 % bootstrap interval",
        "3 failed runs left out",
    )
    assert {mark.values for mark in drawing.panels[0].series[1].marks} == {(2.0, 3.0, 4.0, 5.0)}


def test_runs_of_different_points_are_never_thrown_together() -> None:
    axes = {**AXES, "cap": (90, 120)}
    (panel,) = drawn(TAIL, axes=axes).panels
    assert [series.label for series in panel.series] == [
        *("fcfs, cap=90", "fcfs, cap=120", "darc, cap=90", "darc, cap=120"),
    ]
    assert all(len(mark.values) == 5 for series in panel.series for mark in series.marks)
    panels = drawn(structs.replace(TAIL, panels="cap"), axes=axes).panels
    assert [panel.title for panel in panels] == ["cap=90", "cap=120"]
    assert [series.label for series in panels[1].series] == ["fcfs", "darc"]


def test_a_line_has_one_colour_in_all_panels_even_where_another_is_missing() -> None:
    def cell(point: dict[str, Value], repetition: int) -> Cell:
        return None if (point["policy"], point["cap"]) == ("fcfs", 120) else 1.0

    panels = drawn(structs.replace(TAIL, panels="cap"), axes={**AXES, "cap": (90, 120)}, cell=cell).panels
    assert [[(series.label, series.number) for series in panel.series] for panel in panels] == [
        [("fcfs", 0), ("darc", 1)],
        [("darc", 1)],
    ]


def test_an_ecdf_is_of_all_runs_of_a_line_and_of_all_elements_of_lists() -> None:
    figure = Figure(name="all", x="", y="p99", by="policy", kind="ecdf")
    drawing = drawn(figure, cell=lambda point, r: [1.0, 2.0, float(r)])
    assert [len(series.marks[0].values) for series in drawing.panels[0].series] == [45, 45]
    assert drawing.notes == ("45 values a line, over every load",)
    assert (drawing.x_label, drawing.y_label) == ("p99 [us]", "share of runs at or below")


def test_the_statistic_is_that_of_the_comparison() -> None:
    experiment, table = made()
    mean = structs.replace(
        experiment, comparison=Comparison(axis="policy", baseline="fcfs", statistic="mean", confidence=0.9)
    )
    drawing = drawing_of(TAIL, mean, table)
    mark = drawing.panels[0].series[0].marks[0]
    assert mark.y == pytest.approx(sum(mark.values) / 5)
    assert drawing.notes == ("mean of 5 repetitions; whiskers: 90 % bootstrap interval",)


@pytest.mark.parametrize(
    ("axes", "x", "by", "panels", "log_x"),
    [
        (AXES, "load", "policy", "", False),
        ({**AXES, "cap": (90, 120)}, "load", "policy", "cap", False),
        ({"size": (1, 4, 16, 64), "policy": ("a", "b")}, "size", "policy", "", True),
        ({"policy": ("a", "b"), "engine": ("x", "y", "z")}, "engine", "policy", "", False),
        ({"load": (0.5,)}, "", "", "", False),
    ],
)
def test_default_figures(axes: dict[str, Sequence[Value]], x: str, by: str, panels: str, log_x: bool) -> None:
    experiment, table = made(axes)
    assert default_figures(experiment, table) == (Figure(name="p99", x=x, y="p99", by=by, panels=panels, log_x=log_x),)


ODD: dict[str, Sequence[Value]] = {"policy": tuple(f"p{i}" for i in range(11)), "size": (0.001, 1, 1000, 10**9)}


@pytest.mark.parametrize("kind", ["", "line", "bar", "box", "ecdf"])
@pytest.mark.parametrize(
    ("axes", "by", "panels"),
    [(AXES, "policy", ""), (AXES, "", "policy"), ({"load": (1,)}, "", ""), ({**ODD, "load": (1, 2)}, "policy", "size")],
)
def test_every_kind_is_drawn_without_a_warning(
    kind: str, axes: dict[str, Sequence[Value]], by: str, panels: str
) -> None:
    figure = Figure(name="f", x="" if kind == "ecdf" else "load", y="p99", by=by, panels=panels, kind=kind)  # type: ignore[arg-type]
    drawing = drawn(figure, axes=axes, repetitions=2)
    picture = draw(drawing)
    shown = [axes for axes in picture.axes if axes.get_visible()]
    assert len(shown) == len(drawing.panels)
    for pair in shown:
        assert pair.lines or pair.patches or pair.containers
    assert shown[0].get_ylabel() in ("p99 [us]", "share of runs at or below")
    assert figure_bytes(drawing, "png").startswith(b"\x89PNG")


def test_nothing_that_counts_is_drawn_as_such() -> None:
    picture = draw(drawn(TAIL, cell=lambda point, repetition: None))
    assert [text.get_text() for text in picture.axes[0].texts] == ["no run that counts"]


def test_every_line_is_in_the_legend_whatever_its_value() -> None:
    figure = draw(drawn(TAIL, axes={**AXES, "policy": ("", "_new", "old")}))
    assert [text.get_text().strip() for text in figure.legends[0].get_texts()] == ["''", "_new", "old"]


def test_a_logarithmic_axis_of_less_than_a_decade_has_ticks() -> None:
    figure = draw(drawn(structs.replace(TAIL, log_y=True)))  # from 90 to 110
    figure.canvas.draw()
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    assert len([tick for tick in axes.get_yticks() if low <= tick <= high]) >= 3


def test_the_same_numbers_give_the_same_file() -> None:
    for kind in ("png", "svg", "pdf"):
        assert figure_bytes(drawn(TAIL), kind) == figure_bytes(drawn(TAIL), kind)


def test_neighbouring_colours_differ_in_brightness_or_hue_for_everybody() -> None:
    """Okabe and Ito's colours: no two of the first eight are alike when red and green are one."""

    def without_red_green(colour: str) -> tuple[float, float]:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return (0.3 * red + 0.6 * green + 0.1 * blue, blue - (red + green) / 2)

    seen = [without_red_green(colour) for colour in COLOURS]
    for i, one in enumerate(seen):
        for other in seen[i + 1 :]:
            assert max(abs(one[0] - other[0]), abs(one[1] - other[1])) > 0.1
