"""A part of an experiment, or other values, said on the command line: `--only`, `--set`, `--repetitions`. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence

from msgspec.structs import replace

from ergates.errors import InputError
from ergates.experiment.layout import shown_value
from ergates.experiment.reading.read_checks import check_points
from ergates.experiment.reading.read_problems import Problems, nearest
from ergates.experiment.reading.read_sweep import read_axes, value_of_axis
from ergates.experiment.reading.read_table import Table
from ergates.experiment.spec import Axis, Experiment, Value

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


def changed(
    experiment: Experiment, *, sets: Sequence[str] = (), only: Sequence[str] = (), repetitions: int | None = None
) -> Experiment:
    """The experiment with other values, and then only some of them.

    Args:
        experiment: as the file has it.
        sets: `NAME=VALUE,VALUE`: other values of an axis (also a TOML list or range), or another one of a constant.
        only: `AXIS=VALUE,VALUE`: values of an axis that stay; of several for one axis, all of them.
        repetitions: another number of them.

    Raises:
        InputError: one of these cannot be read, names what is not there, leaves no run, or needs more hosts than there are.
    """
    for text in sets:
        experiment = _with_values(experiment, text)
    experiment = _narrowed(experiment, only)
    if repetitions is not None:
        experiment = replace(experiment, repetitions=repetitions)
    problems = Problems(" ".join([*(f"--set {text}" for text in sets), *(f"--only {text}" for text in only)]), {})
    check_points(experiment, problems)
    problems.raise_any()
    return experiment


def _with_values(experiment: Experiment, text: str) -> Experiment:
    source = f"--set {text}"
    name, values_text = _split(text, source)
    fixed = dict(experiment.fixed)
    old = next((axis for axis in experiment.sweep if axis.name == name), None)
    if old is None and name not in fixed:
        known = [*(axis.name for axis in experiment.sweep), *fixed]
        raise InputError(f"no axis and no constant {name!r}", source=source, hint=nearest(name, known))
    like = old.values if old is not None else (fixed[name],)
    values = _values(name, values_text, like, source)
    if old is None:
        if len(values) != 1:
            raise InputError(f"{name} is a constant of [fixed], and has one value", source=source)
        return replace(
            experiment, fixed=tuple((*each,) if each[0] != name else (name, values[0]) for each in experiment.fixed)
        )
    new = Axis(name=name, values=values)
    return replace(experiment, sweep=tuple(new if axis.name == name else axis for axis in experiment.sweep))


def _narrowed(experiment: Experiment, only: Sequence[str]) -> Experiment:
    kept: dict[str, list[Value]] = {}
    known = {axis.name: axis for axis in experiment.sweep}
    for text in only:
        source = f"--only {text}"
        name, values_text = _split(text, source)
        if name not in known:
            raise InputError(
                f"no axis {name!r}", source=source, hint=nearest(name, known, none="the file sweeps nothing")
            )
        axis = known[name]
        for value in _values(name, values_text, axis.values, source):
            own = value_of_axis(axis, value)
            if own is None:
                shown = shown_value(value)
                raise InputError(
                    f"{name} has no value {shown}", source=source, hint=nearest(shown, map(shown_value, axis.values))
                )
            kept.setdefault(name, []).append(own)
    narrowed = tuple(
        Axis(name=axis.name, values=tuple(value for value in axis.values if value in kept.get(axis.name, axis.values)))
        for axis in experiment.sweep
    )
    return replace(experiment, sweep=narrowed)


def _split(text: str, source: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not equals or not name.strip() or not values.strip():
        raise InputError("no values", source=source, expected="NAME=VALUE or NAME=VALUE,VALUE")
    return name.strip(), values.strip()


def _values(name: str, text: str, like: Sequence[Value], source: str) -> tuple[Value, ...]:
    """As a line of `[sweep]` would be read; words between commas need no quotes."""
    raw: object = [_plain(each.strip(), like) for each in text.split(",")]
    if text[0] in "[{":
        try:
            raw = tomllib.loads(f"values = {text}")["values"]
        except ValueError as error:
            raise InputError(
                f"not TOML: {error}", source=source, expected="[1, 2] or { from = 1, to = 9, step = 2 }"
            ) from None
    problems = Problems(source, {})
    axes = read_axes(Table({name: raw}, (), "the axis", problems))
    problems.raise_any()
    return axes[0].values


def _plain(text: str, like: Sequence[Value]) -> Value:
    """A number where the axis has numbers; a text where all that it has are texts."""
    if all(isinstance(each, str) for each in like):
        return text
    if text in ("true", "false"):
        return text == "true"
    if _WHOLE.fullmatch(text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text
