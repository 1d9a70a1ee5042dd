"""What no table shows alone: do names, counts and times of an experiment fit together? Found here, nothing has started yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from ergates.errors import InputError
from ergates.experiment.bindings import MEMBER_NAMES, RUN_NAMES, bound_names, check_command, check_text
from ergates.experiment.layout import shown_value
from ergates.experiment.points import Point, count_name, grid_size, points_of, role_seats
from ergates.experiment.reading.read_hosts import UNKNOWN_COUNT
from ergates.experiment.reading.read_positions import Path
from ergates.experiment.reading.read_problems import Problems, nearest
from ergates.experiment.reading.read_programs import ONLY_PROGRAM
from ergates.experiment.run import RoleSeats
from ergates.experiment.spec import Experiment, Program
from ergates.units import format_duration

RUNS_MAX = 100_000
"""Of one experiment: each leaves a folder, and more is a slip of the finger."""
OWN_COLUMNS = ("run", "repetition", "seed", "ok", "problem", "attempts")
"""Of the table, so that no axis, constant or measure may be called so."""


def check_experiment(experiment: Experiment, problems: Problems) -> None:
    """Add whatever does not fit together."""
    _check_names(experiment, problems)
    if all(axis.values for axis in experiment.sweep):
        check_points(experiment, problems)
    _check_templates(experiment, problems)
    _check_order(experiment, problems)
    _check_times(experiment, problems)
    _check_host_names(experiment, problems)


def _check_names(experiment: Experiment, problems: Problems) -> None:
    own = {*RUN_NAMES, *MEMBER_NAMES, *OWN_COLUMNS}
    axes = [axis.name for axis in experiment.sweep]
    for table, names in (("sweep", axes), ("fixed", [name for name, _ in experiment.fixed])):
        for name in names:
            if name in own:
                problems.add(
                    (table, name), f"[{table}] {name}: this name has a meaning of its own", hint="choose another name"
                )
    for name, _ in experiment.fixed:
        if name in axes:
            problems.add(("fixed", name), f"[fixed] {name} is an axis of [sweep], too", hint="keep one of them")
    for measure in experiment.measures:
        if measure.name in OWN_COLUMNS or measure.name in axes or measure.name in dict(experiment.fixed):
            what = "a column that every table has" if measure.name in OWN_COLUMNS else "an axis or a constant"
            problems.add(("measure", measure.name), f"[measure.{measure.name}]: {measure.name} is {what}, too")


def check_points(experiment: Experiment, problems: Problems) -> None:
    """Whether there are runs, not too many, and enough hosts for each."""
    if experiment.repetitions < 1:
        problems.add(("experiment", "repetitions"), f"repetitions = {experiment.repetitions}: there would be no run")
        return
    size = grid_size(experiment)
    if size * experiment.repetitions > RUNS_MAX:
        factors = " x ".join(str(len(axis.values)) for axis in experiment.sweep) or "1"
        problems.add(
            ("sweep",),
            f"{factors} points x {experiment.repetitions} repetitions are {size * experiment.repetitions:,} runs",
            expected=f"at most {RUNS_MAX:,}",
        )
        return
    if not any(True for _ in points_of(experiment)):
        problems.add(("exclude",), "every point is excluded: there would be no run", hint="leave some point in")
    elif _check_role_names(experiment, problems):
        _check_seats(experiment, problems)


def _check_seats(experiment: Experiment, problems: Problems) -> None:
    """Every point has the hosts that its roles need; a group that is too small is named with the point that needs most."""
    swept = any(isinstance(role.count, str) for role in experiment.roles)
    most: dict[str, tuple[int, list[RoleSeats], Point]] = {}
    for point in points_of(experiment) if swept else islice(points_of(experiment), 1):
        try:
            seats = role_seats(experiment, point)
        except ValueError as error:
            role = next(role.name for role in experiment.roles if str(error).startswith(f"role {role.name} "))
            message = f"[roles.{role}] count: {error}"
            problems.add(("roles", role, "count"), message, expected="a whole number, 1 or more")
            return
        for group in experiment.hosts:
            those = [seat for seat in seats if seat.group == group.name]
            needed = sum(seat.count for seat in those)
            if needed > most.get(group.name, (0,))[0]:
                most[group.name] = needed, those, point
    for group in experiment.hosts:
        needed, those, point = most.get(group.name, (0, [], ()))
        if needed > group.count != UNKNOWN_COUNT:
            roles = " and ".join(f"{seat.count} of {seat.role}" for seat in those)
            at = ", ".join(f"{name}={shown_value(value)}" for name, value in point) if swept else ""
            problems.add(
                ("roles", those[-1].role),
                f"{roles}{f' (at {at})' if at else ''}: {needed} hosts needed, [hosts.{group.name}] has {group.count}",
                hint=_MORE_HOSTS[group.kind == "local"],
            )


_MORE_HOSTS = {
    False: "each role has hosts of its own: add some, or let one role start several programs",
    True: 'this machine is one host: kind = "namespaces" or "simulated" with a count make several of it,'
    " or let one role start several programs",
}


def _check_role_names(experiment: Experiment, problems: Problems) -> bool:
    known = [*(axis.name for axis in experiment.sweep), *(name for name, _ in experiment.fixed)]
    well = True
    for role in experiment.roles:
        if isinstance(role.count, str) and count_name(role.count) not in known:
            problems.add(
                ("roles", role.name, "count"),
                f"[roles.{role.name}] count: nothing is bound to {role.count}",
                hint=nearest(count_name(role.count), known, none="[sweep] has no axis"),
            )
            well = False
    return well


def _check_templates(experiment: Experiment, problems: Problems) -> None:
    variables = [*(axis.name for axis in experiment.sweep), *(name for name, _ in experiment.fixed)]
    names = bound_names(variables, [role.name for role in experiment.roles])

    def check(how: Callable[[str, Sequence[str]], None], text: str, path: Path, what: str) -> None:
        try:
            how(text, names)
        except InputError as error:
            problems.add(path, f"{what}: {error.message}", expected=error.expected, hint=error.hint)

    for program in experiment.programs:
        path = path_of(program, problems)
        shown = f"[{'.'.join(map(str, path))}]"
        check(check_command, program.command, (*path, "command"), f"{shown} command")
        _check_one_word(experiment, program, problems)
        check(check_text, program.cwd, (*path, "cwd"), f"{shown} cwd")
        for name, value in program.env:
            check(check_text, value, (*path, "env", name), f"{shown} env {name}")
        if program.ready is not None:
            check(check_text, program.ready.port, (*path, "ready", "port"), f"{shown} ready port")
        for index, pattern in enumerate(program.gather):
            check(check_text, pattern, (*path, "gather", index), f"{shown} gather")
    for measure in experiment.measures:
        check(check_text, measure.file, ("measure", measure.name, "file"), f"[measure.{measure.name}] file")


def _check_one_word(experiment: Experiment, program: Program, problems: Problems) -> None:
    """A command that is nothing but an axis is one word, so that `sleep 1` would be looked for as a program of that name."""
    name = program.command.strip()[1:-1]
    values = next((axis.values for axis in experiment.sweep if axis.name == name), ())
    lines = [shown_value(value) for value in values if len(shown_value(value).split()) > 1]
    if lines and program.command.strip() == f"{{{name}}}":
        problems.add(
            (*path_of(program, problems), "command"),
            f"{program.command}: a value is one word, so {lines[0]!r} would be the name of a program",
            expected=f'command = "sh -c {program.command}"',
        )


def path_of(program: Program, problems: Problems) -> Path:
    """Where a program stands in the file."""
    if program.name == ONLY_PROGRAM and problems.has(("program",)):
        return ("program",)
    return ("programs", program.name)


def _check_order(experiment: Experiment, problems: Problems) -> None:
    """Whether the run ends, and whether each program's turn comes before it does."""
    foreground = [program for program in experiment.programs if not program.background]
    if not foreground:
        endless = [program for program in experiment.programs if program.stop_ns is None]
        for program in endless[:1]:
            problems.add(
                path_of(program, problems),
                f"all programs are in the background, so a run would never end: {program.name} has no stop",
                hint='leave background out for one of them; with stop = "30s" beside it, that one measures the time',
            )
        return
    for program in experiment.programs:
        before = [other for other in foreground if other.order < program.order]
        if program.background and before == foreground and all(other.ready is None for other in before):
            names = ", ".join(other.name for other in before)
            problems.add(
                (*path_of(program, problems), "order"),
                f"[programs.{program.name}] order: its turn never comes: the run is over when {names} ended",
                hint=f"give {names} a larger order, or a `ready` if it is meant to go on meanwhile",
            )


def _check_times(experiment: Experiment, problems: Problems) -> None:
    limit = experiment.time_limit_ns
    for program in experiment.programs:
        path = path_of(program, problems)
        shown = f"[{'.'.join(map(str, path))}]"
        if limit is not None and experiment.settle_ns + program.start_ns >= limit:
            problems.add(
                (*path, "start"),
                f"{shown} starts after {format_duration(experiment.settle_ns + program.start_ns)} or later,"
                f" and the time limit of a run is {format_duration(limit)}",
            )
        for index, timed in enumerate(program.signals):
            if program.stop_ns is not None and timed.after_ns >= program.stop_ns:
                problems.add(
                    (*path, "signals", index),
                    f"{shown} is stopped after {format_duration(program.stop_ns)}, before this signal",
                )


def _check_host_names(experiment: Experiment, problems: Problems) -> None:
    seen: dict[str, str] = {}
    for group in experiment.hosts:
        for host in group.hosts:
            if host in seen and seen[host] != group.name:
                problems.add(
                    ("hosts", group.name),
                    f"host {host} is in [hosts.{seen[host]}], too",
                    hint="a host is in one group; several roles may be on hosts of one group",
                )
            seen.setdefault(host, group.name)
