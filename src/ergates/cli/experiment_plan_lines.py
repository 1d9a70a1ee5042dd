"""What `erg experiment plan` prints. Pure: the plan in, lines out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from ergates.cli.tables import Column, table_lines
from ergates.cli.wording import count, plural
from ergates.experiment.duration_estimate import DurationEstimate
from ergates.experiment.layout import shown_value
from ergates.experiment.points import grid_size
from ergates.experiment.preview import CommandLine
from ergates.experiment.run import Run
from ergates.experiment.spec import Experiment, HostGroup, Program, Role
from ergates.units import format_bytes, format_duration

POINTS_SHOWN = 20
_ORDERS = {
    "random": "in a random order (seed {seed})",
    "listed": "point by point",
    "interleaved": "every point once, then again",
}


class Shown(Struct, frozen=True, kw_only=True):
    """Args:
    experiment: with what the command line changed.
    folder: where the runs would lie, for people.
    runs: those asked for, with the numbers they have in that folder.
    folders: of the runs, in the same order.
    finished: of runs by number: whether their figures count.
    folder_problem: why `run` would refuse that folder; empty.
    estimate: of the time for what is missing; None when nothing is known.
    chosen: number of the run whose commands are shown.
    commands: of that run.
    """

    experiment: Experiment
    folder: str
    runs: tuple[Run, ...]
    folders: tuple[str, ...]
    finished: dict[int, bool]
    folder_problem: str
    estimate: DurationEstimate | None
    chosen: int
    commands: tuple[CommandLine, ...]


def plan_lines(shown: Shown, *, every: bool, width: int | None) -> list[str]:
    """All of it.

    Args:
        shown: what was found out.
        every: all points, not the first 20.
        width: of the terminal; None cuts nothing.
    """
    experiment = shown.experiment
    title = f"{experiment.name}: {experiment.description}" if experiment.description else experiment.name
    return [
        title,
        *_sizes(shown),
        "",
        *_host_lines(experiment, width),
        "",
        *_program_lines(experiment.programs),
        *_point_lines(shown, every, width),
        "",
        *_command_lines(shown),
    ]


def _sizes(shown: Shown) -> Iterator[str]:
    experiment = shown.experiment
    points = len({repr(run.point) for run in shown.runs})
    grid = grid_size(experiment)
    axes = " x ".join(f"{axis.name} {len(axis.values)}" for axis in experiment.sweep)
    left_out = f", {count(grid - points)} excluded" if grid > points else ""
    swept = f" ({axes}{left_out})" if axes else ""
    order = _ORDERS[experiment.order].format(seed=experiment.seed)
    limit = f"; at most {format_duration(experiment.time_limit_ns)} each" if experiment.time_limit_ns else ""
    yield f"  {plural(len(shown.runs), 'run')}: {plural(points, 'point')}{swept} x {plural(experiment.repetitions, 'repetition')}"
    again = f"repeated at most {plural(experiment.retries, 'time')}" if experiment.retries else "not repeated"
    yield f"  {order}{limit}; a run that fails is {again}"
    yield f"  into {shown.folder}{_progress(shown)}"
    if shown.folder_problem:
        yield f"  `erg experiment run` would refuse: {shown.folder_problem}"
    if shown.estimate is not None and shown.estimate.runs:
        yield (
            f"  estimate: {format_duration(round(shown.estimate.seconds * 1e9))} for"
            f" {plural(shown.estimate.runs, 'run')}, judged by {plural(shown.estimate.finished, 'finished one')}"
        )


def _progress(shown: Shown) -> str:
    done = [shown.finished[run.number] for run in shown.runs if run.number in shown.finished]
    if not done:
        return ""
    failed = f", {count(done.count(False))} of them failed" if False in done else ""
    return f": {count(len(done))} finished{failed}"


def _host_lines(experiment: Experiment, width: int | None) -> list[str]:
    columns = (Column("hosts"), Column("kind"), Column("count", "right"), Column("roles"), Column("what", elastic=True))
    rows = [
        (group.name, group.kind, count(group.count), _roles_of(group, experiment.roles), _what(group))
        for group in experiment.hosts
    ]
    return table_lines(columns, rows, width)


def _roles_of(group: HostGroup, roles: Sequence[Role]) -> str:
    return ", ".join(f"{role.count} {role.name}" for role in roles if role.group == group.name) or "none: not used"


def _what(group: HostGroup) -> str:
    words = [" ".join(group.hosts)] if group.hosts else []
    words += [f"{group.cpus_milli / 1000:g} cores"] if group.cpus_milli is not None else []
    words += [format_bytes(group.memory_bytes)] if group.memory_bytes is not None else []
    words += [f"{group.rate_bit_s / 1e6:g} Mbit/s"] if group.rate_bit_s is not None else []
    words += [f"{format_duration(group.delay_ns)} delay"] if group.delay_ns else []
    words += [" ".join(group.options)] if group.options else []
    words += [f"for {format_duration(group.time_ns)}"] if group.time_ns is not None else []
    words += [f"setup {group.setup}"] if group.setup else []
    words += [f"prepared: {' '.join(f'{key}={value}' for key, value in group.prepare)}"] if group.prepare else []
    return ", ".join(words)


def _program_lines(programs: Sequence[Program]) -> list[str]:
    columns = (Column("order", "right"), Column("program"), Column("role"), Column("ready when"), Column("ends"))
    rows = [
        (str(program.order), program.name, program.role, _ready(program), _ends(program))
        for program in sorted(programs, key=lambda each: each.order)
    ]
    return table_lines(columns, rows)


def _ready(program: Program) -> str:
    ready = program.ready
    if ready is None:
        return "started" if program.background else "ended well"
    how = f"port {ready.port}" if ready.port else f"it prints {ready.line!r}" if ready.line else f"file {ready.file}"
    return f"{how}, within {format_duration(ready.within_ns)}"


def _ends(program: Program) -> str:
    words = "when the others ended" if program.background else "by itself"
    return words if program.stop_ns is None else f"stopped after {format_duration(program.stop_ns)}"


def _point_lines(shown: Shown, every: bool, width: int | None) -> list[str]:
    axes = [axis.name for axis in shown.experiment.sweep]
    if not axes:
        return []
    per_point: dict[str, list[Run]] = {}
    for run in shown.runs:
        per_point.setdefault(repr(run.point), []).append(run)
    listed = sorted(per_point.values(), key=lambda runs: _rank(shown.experiment, runs[0]))
    columns = (*map(Column, axes), Column("runs", "right"), Column("finished", "right"))
    chosen = listed if every else listed[:POINTS_SHOWN]
    rows = [
        (
            *(shown_value(value) for _, value in runs[0].point),
            count(len(runs)),
            count(sum(run.number in shown.finished for run in runs)) if shown.finished else "",
        )
        for runs in chosen
    ]
    lines = ["", *table_lines(columns, rows, width)]
    if len(chosen) < len(listed):
        lines.append(f"... and {plural(len(listed) - len(chosen), 'point')} more; --all shows them")
    return lines


def _rank(experiment: Experiment, run: Run) -> tuple[int, ...]:
    """Points as the file lists them."""
    values = {axis.name: list(map(repr, axis.values)) for axis in experiment.sweep}
    return tuple(values[name].index(repr(value)) if repr(value) in values[name] else -1 for name, value in run.point)


def _command_lines(shown: Shown) -> Iterator[str]:
    run = next(run for run in shown.runs if run.number == shown.chosen)
    point = " ".join(f"{name}={shown_value(value)}" for name, value in run.point)
    yield f"run {run.number}: {point + ', ' if point else ''}repetition {run.repetition}, seed {run.seed}"
    for each in shown.commands:
        behind = " &" if each.background else ""
        hosts = f" x {each.hosts}" if each.hosts > 1 else ""
        yield f"  {each.role}{hosts}: {each.program}"
        yield f"    {each.line}{behind}"
