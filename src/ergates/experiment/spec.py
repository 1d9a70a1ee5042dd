"""What an experiment file says, once it has been read and checked: hosts, roles, programs, sweep, measures, comparison, figures.

Texts in which `{name}` stands for a value are kept as written: some values (the axes) are known when the runs are planned, others
(which host has which role) only when a run has its hosts.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ergates.units import Bytes, MilliCpus, Nanoseconds

Value = str | int | float | bool
"""Of an axis, as the file has it."""

HostKind = Literal["local", "simulated", "namespaces", "ssh", "slurm"]


class HostGroup(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Hosts of one kind, `[hosts.NAME]`.

    Args:
        name: roles name it.
        kind: `local` is this machine; `simulated` are `count` workers on this machine, each with the cores and memory said here
            and nothing else of its own; `namespaces` are `count` network namespaces of this machine on one bridge; `ssh` and
            `slurm` are what they say.
        count: how many; for `ssh` all those named.
        hosts: for `ssh`: names as `erg worker up --host` reads them (ranges resolved), or those of `file`.
        cpus_milli, memory_bytes: what a run may use of each; None: what is there.
        rate_bit_s: of each namespace's link; None: not limited.
        delay_ns: added to each packet that a namespace sends.
        directory: for `ssh`: where run folders lie there; empty: in the user's cache.
        send: for `ssh`: files and folders brought there, into what `{here}` means there.
        setup: a script run once on each host before its worker starts; relative to the file.
        options: for `slurm`: options of sbatch, such as `--partition=long`; for `ssh`: none.
        time_ns: for `slurm`: length of the allocation.
        prepare: settings `erg node prepare` makes on each before the runs, undone after them.
    """

    name: str
    kind: HostKind
    count: int = 1
    hosts: tuple[str, ...] = ()
    cpus_milli: MilliCpus | None = None
    memory_bytes: Bytes | None = None
    rate_bit_s: int | None = None
    delay_ns: Nanoseconds = Nanoseconds(0)
    directory: str = ""
    send: tuple[str, ...] = ()
    setup: str = ""
    options: tuple[str, ...] = ()
    time_ns: Nanoseconds | None = None
    prepare: tuple[tuple[str, str], ...] = ()


class Role(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`[roles.NAME]`: so many hosts of a group. `count` is a number or the name of an axis, as `{clients}`."""

    name: str
    group: str
    count: int | str = 1


class Ready(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a program is ready, exactly one of these; `within_ns` later the run has failed.

    Args:
        port: somebody listens on this TCP port of its host (a text with placeholders).
        line: a regular expression that a line of its output, either stream, holds.
        file: exists, relative to the program's folder.
    """

    port: str = ""
    line: str = ""
    file: str = ""
    within_ns: Nanoseconds = Nanoseconds(30 * 10**9)


class TimedSignal(Struct, frozen=True, kw_only=True):
    """Sent to the program so long after it started."""

    after_ns: Nanoseconds
    signal: str


class Program(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`[programs.NAME]`: what every host of a role starts in a run.

    Args:
        role: whose hosts.
        command: a template (taskqueue/inputs/template.py).
        order: starts when every program of a smaller number is ready: has shown it (`ready`), or, if it has no `ready`, has
            started when it is in the background and ended well when it is not.
        ready: how it shows that it is; None.
        start_ns: waits so long after its turn has come.
        stop_ns: is stopped so long after it started; None: when it ends, or the run does.
        background: a server or a monitor: it is stopped once every program in the foreground has ended. A background program that
            ends before has failed, unless its exit code is among `success`.
        stop_signal, grace_ns: how it is stopped, and when it is killed after that.
        signals: sent to it in between.
        success: exit codes that are well. One stopped by us with `stop_signal` ended well whatever it says.
        env: added; values are templates.
        cwd: a template; empty: the program's own folder in the run's, so that whatever it writes is kept.
        gather: globs, relative to its folder or absolute; what is kept beside its output. Empty: all that lies in its folder.
    """

    name: str
    role: str
    command: str
    order: int = 0
    ready: Ready | None = None
    start_ns: Nanoseconds = Nanoseconds(0)
    stop_ns: Nanoseconds | None = None
    background: bool = False
    stop_signal: str = "TERM"
    grace_ns: Nanoseconds = Nanoseconds(5 * 10**9)
    signals: tuple[TimedSignal, ...] = ()
    success: tuple[int, ...] = (0,)
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = ""
    gather: tuple[str, ...] = ()


class Axis(Struct, frozen=True, kw_only=True):
    """One line of `[sweep]`."""

    name: str
    values: tuple[Value, ...]


Record = Literal["seconds", "cpu_seconds", "peak_bytes", "joules", "dollars"]
"""What we know of every program (the first three) or of every run ourselves."""
Combine = Literal["mean", "sum", "max", "min", "median", "first", "list"]


class Measure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `[measure]`: a column of the table.

    Exactly one of `record`, `json`, `csv` and `regex` is set; the last three read `file`.

    Args:
        name: of the column.
        program: whose file or record; empty for a record of the whole run.
        file: in the program's folder (a template); `stdout` and `stderr` are its output.
        json: path such as `latency.p99` or `results[0].rate`; in JSON Lines the last line counts.
        csv: column of a table with a header.
        regex: its first group, or the whole match, of the last place that matches.
        quantile: 0 to 1: this quantile of a CSV column instead of its `combine`.
        record: one of our own.
        combine: how several values (rows of a column, hosts of a role) become one.
        unit: for axes of figures.
        optional: a run that lacks it is not failed; its cell is empty.
        better: which way is good, for the words of a comparison.
    """

    name: str
    program: str = ""
    file: str = "stdout"
    json: str = ""
    csv: str = ""
    regex: str = ""
    quantile: float | None = None
    record: Record | None = None
    combine: Combine = "mean"
    unit: str = ""
    optional: bool = False
    better: Literal["lower", "higher"] = "lower"


class Comparison(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`[compare]`: every value of `axis` against `baseline`, at each point of the other axes.

    Args:
        measures: columns; empty: all.
        statistic: what stands for the repetitions.
        confidence: of the bootstrap interval of the ratio.
        paired: repetition against repetition of the same number.
    """

    axis: str
    baseline: Value
    measures: tuple[str, ...] = ()
    statistic: Literal["mean", "median", "min", "max"] = "median"
    confidence: float = 0.95
    paired: bool = False


class Figure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`[plot.NAME]`: `y` (a measure) over `x` (an axis), one line or bar for each value of `by`; `rows` makes panels.

    `kind`: `line` with its interval, `bar`, `box`, or `ecdf` of all repetitions; empty: a line when x is numeric, else bars.
    """

    name: str
    x: str
    y: str
    by: str = ""
    panels: str = ""
    kind: Literal["", "line", "bar", "box", "ecdf"] = ""
    log_x: bool = False
    log_y: bool = False
    title: str = ""


class Experiment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole file.

    Args:
        name: names its folder, job and hosts: letters, digits, `-`, `_`, `.`.
        source: path of the file as given; for messages.
        here: its folder, absolute: what `{here}` means on hosts that share our file system.
        repetitions: of every point.
        order: `random` shuffles all runs by `seed`; `listed` is axis by axis; `interleaved` makes every point once, then again.
        seed: of the order; `{seed}` in templates is another one for each (point, repetition), the same in every plan.
        time_limit_ns: of one run; None.
        retries: how often a failed run is repeated before it is named failed.
        settle_ns: pause before the first program of a run.
        parallel: whether runs may be made at the same time on simulated hosts and namespaces, which share this machine; on
            hosts that are machines of their own as many are made at a time as there are hosts for.
        store: a store's address or file where hosts are other machines; empty: a private one, as long as there are runs.
        listen: address on which the private store may be reached from other machines.
        exclude: points left out, each the values it has.
        fixed: names with a value that is no axis: constants for templates.
    """

    name: str
    source: str = ""
    here: str = ""
    description: str = ""
    repetitions: int = 1
    order: Literal["random", "listed", "interleaved"] = "random"
    seed: int = 0
    time_limit_ns: Nanoseconds | None = None
    retries: int = 1
    settle_ns: Nanoseconds = Nanoseconds(0)
    parallel: bool = False
    store: str = ""
    listen: str = ""
    hosts: tuple[HostGroup, ...] = ()
    roles: tuple[Role, ...] = ()
    programs: tuple[Program, ...] = ()
    sweep: tuple[Axis, ...] = ()
    exclude: tuple[tuple[tuple[str, Value], ...], ...] = ()
    fixed: tuple[tuple[str, Value], ...] = ()
    measures: tuple[Measure, ...] = ()
    comparison: Comparison | None = None
    figures: tuple[Figure, ...] = ()
