"""Reading an experiment file: TOML in, a checked `Experiment` out, or everything that is wrong with it.

The grammar is in docs/experiments.md; each of the other `read_*` modules knows some of its tables.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal, cast

from ergates.errors import InputError
from ergates.experiment.reading.read_checks import check_experiment
from ergates.experiment.reading.read_hosts import read_groups, read_roles
from ergates.experiment.reading.read_measures import read_comparison, read_figures, read_measures
from ergates.experiment.reading.read_positions import lines_of
from ergates.experiment.reading.read_problems import Problems
from ergates.experiment.reading.read_programs import read_programs
from ergates.experiment.reading.read_sweep import read_axes, read_excluded, read_fixed
from ergates.experiment.reading.read_table import Table
from ergates.experiment.spec import Experiment
from ergates.units import Nanoseconds

ORDERS = ("random", "listed", "interleaved")
FILE_BYTES_MAX = 4 * 1024**2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PLACE = re.compile(r"\s*\(at line ([0-9]+), column [0-9]+\)")


def read_experiment(path: str | Path) -> Experiment:
    """Read and check an experiment file. Nothing is started or made.

    Raises:
        InputError: the file cannot be read, or something in it is wrong (then an `ExperimentFileError`, which names all of it).
    """
    source = str(path)
    file = Path(path)
    try:
        if file.is_file() and file.stat().st_size > FILE_BYTES_MAX:
            raise InputError(
                "too large for an experiment", source=source, expected=f"at most {FILE_BYTES_MAX >> 20} MiB"
            )
        raw = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", source=source, expected="an experiment file") from None
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError("not UTF-8", source=source, line=line, expected="TOML, which is always UTF-8") from None
    return parse_experiment(text, source, file.absolute().parent)


def parse_experiment(text: str, source: str, here: Path) -> Experiment:
    """The same for the content of a file.

    Args:
        text: TOML.
        source: the file's name, for messages; it names the experiment if the file does not.
        here: the file's folder, absolute.

    Raises:
        InputError: see read_experiment.
    """
    data = _document(text, source)
    problems = Problems(source, lines_of(text))
    document = Table(data, (), "the file", problems)
    experiment = _experiment(document, source, here)
    document.end()
    check_experiment(experiment, problems)
    problems.raise_any()
    return experiment


def _document(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InputError("tables or lists nested too deeply", source=source, expected="TOML") from None
    except ValueError as error:  # tomllib's own, and that of a number with thousands of digits
        message = str(error)
        place = _PLACE.search(message)
        line = int(place[1]) if place else (text.count("\n") + 1 if "end of document" in message else None)
        twice = "overwrite" in message or "twice" in message
        raise InputError(
            f"not TOML: {_PLACE.sub('', message.replace('(at end of document)', 'at the end')).strip()}",
            source=source,
            line=line,
            expected='TOML: [tables], and lines such as key = "text" or key = [1, 2]',
            hint="this name stands there twice" if twice else "",
        ) from None


def _experiment(document: Table, source: str, here: Path) -> Experiment:
    head = document.table("experiment") or Table({}, ("experiment",), "[experiment]", document.problems)
    groups = read_groups(document, here)
    roles = read_roles(document, groups)
    programs = read_programs(document, roles)
    sweep = document.table("sweep")
    axes = () if sweep is None else read_axes(sweep)
    measures = read_measures(document, programs)
    fixed = document.table("fixed")
    experiment = Experiment(
        name=_name(head, source),
        source=source,
        here=str(here),
        description=head.text("description"),
        repetitions=head.integer("repetitions", 1),
        order=cast(Literal["random", "listed", "interleaved"], head.choice("order", ORDERS, "random")),
        seed=head.integer("seed", 0, least=0),
        time_limit_ns=head.duration("time_limit"),
        retries=head.integer("retries", 1, least=0),
        settle_ns=head.duration("settle", Nanoseconds(0)),
        parallel=head.flag("parallel"),
        store=head.text("store"),
        listen=head.text("listen"),
        hosts=groups,
        roles=roles,
        programs=programs,
        sweep=axes,
        exclude=read_excluded(list(document.tables("exclude")), axes),
        fixed=() if fixed is None else read_fixed(fixed),
        measures=measures,
        comparison=read_comparison(document, axes, measures),
        figures=read_figures(document, axes, measures),
    )
    head.end()
    return experiment


def _name(head: Table, source: str) -> str:
    if "name" not in head:
        head.raw("name")
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).stem).strip("-.")
        return stem[:100] or "experiment"
    name = head.text("name")
    if not _NAME.fullmatch(name):
        head.wrong(
            "name", f"cannot be {name!r}", expected="letters, digits, - _ and . (up to 100, a letter or digit first)"
        )
    return name
