"""Which comparison is meant: that of the file, changed by what somebody says, or, without one in the file, the clear one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from msgspec import structs

from ergates.errors import UsageError
from ergates.experiment.layout import shown_value
from ergates.experiment.spec import Comparison, Experiment, Value
from ergates.experiment.statistics.samples import is_number, values_of
from ergates.experiment.table import Table


def chosen_comparison(
    experiment: Experiment, table: Table, axis: str = "", baseline: Value | None = None, measures: Sequence[str] = ()
) -> Comparison:
    """What `compare` is to do.

    Args:
        experiment: whose `[compare]` holds where nothing else is said.
        table: of its finished runs.
        axis: another one; its baseline is then its first value unless said.
        baseline: a value of the axis, or how the table shows it.
        measures: only these.

    Raises:
        UsageError: no such axis, value or measure, no number among the measures; or it is not clear which axis.
    """
    check_measures(experiment, table, measures)
    said = experiment.comparison
    name = axis or (said.axis if said else _likely_axis(experiment, table))
    _check_known(name, table.names("axis"), "axis")
    values = values_of(table, experiment, name)
    if baseline is not None:
        chosen = _value_shown(baseline, values, name)
    elif said and said.axis == name:
        chosen = said.baseline
    else:
        chosen = values[0]
    base = structs.replace(said, axis=name, baseline=chosen) if said else Comparison(axis=name, baseline=chosen)
    return structs.replace(base, measures=tuple(measures)) if measures else base


def check_measures(experiment: Experiment, table: Table, measures: Sequence[str]) -> None:
    """Whether there are finished runs with numbers, and these measures among them. Raises UsageError."""
    if not table.rows:
        raise UsageError(f"{experiment.name}: no run is finished yet\n  hint: erg experiment status says how far it is")
    if not any(is_number(table, measure) for measure in table.names("measure")):
        raise UsageError("nothing to compare: no measure is a number\n  hint: [measure] says what is taken from a run")
    for measure in measures:
        _check_known(measure, table.names("measure"), "measure")
        if not is_number(table, measure):
            raise UsageError(f"measure {measure} has no numbers to compare")


def _likely_axis(experiment: Experiment, table: Table) -> str:
    """The only axis with several values, or the only one of them with texts."""
    swept = [name for name in table.names("axis") if len(values_of(table, experiment, name)) > 1]
    texts = [name for name in swept if not is_number(table, name)]
    for likely in (swept, texts):
        if len(likely) == 1:
            return likely[0]
    if not swept:
        raise UsageError(
            "nothing to compare: no axis has two values\n"
            "  hint: --summary shows the repetitions by themselves; [sweep] names axes and their values"
        )
    raise UsageError(
        f"which axis is to be compared? The file has no [compare]\n  expected: --axis, one of {', '.join(swept)}"
    )


def _check_known(name: str, known: Iterable[str], what: str) -> None:
    names = list(known)
    if name not in names:
        close = get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(names) or 'none'}"
        raise UsageError(f"no {what} {name!r}\n  hint: {hint}")


def _value_shown(baseline: Value, values: Sequence[Value], axis: str) -> Value:
    for value in values:
        if value == baseline or shown_value(value) == shown_value(baseline):
            return value
    raise UsageError(
        f"{axis} has no value {shown_value(baseline)}\n  expected: one of {', '.join(map(shown_value, values))}"
    )
