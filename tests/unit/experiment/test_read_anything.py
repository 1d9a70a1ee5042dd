"""Whatever stands where something else belongs: an experiment, or an error that names a line. Never an exception of Python's."""

from __future__ import annotations

import copy
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ergates.errors import InputError
from ergates.experiment.plan import plan_runs
from ergates.experiment.preview import command_lines
from ergates.experiment.reading.read_experiment import parse_experiment
from ergates.experiment.spec import Experiment

EVERYTHING = Path(__file__).parent / "everything" / "everything.toml"
DOCUMENT = tomllib.loads(EVERYTHING.read_text())
ODD: tuple[Any, ...] = (
    0, -1, 7, 2**70, 0.0, -2.5, float("nan"), float("inf"), True, False, "", " ", "x", "{x}", "{}", "(", "\0", "é\n", "1h",
    [], [[]], [1, "a"], ["a", "a"], [{}], {}, {"a": 1}, {"from": 1, "to": 2}, {"kind": "ssh"}, {"": {"": []}},
    datetime(2026, 11, 21),
)  # fmt: skip


def toml_of(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_of(key)} = {toml_of(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\u{ord(each):04x}" if not each.isalnum() else each for each in value) + '"'
    return value.isoformat() if isinstance(value, datetime) else str(value)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [found for key, inner in items for found in places(inner, (*path, key))]


def with_odd(path: tuple[Any, ...], odd: Any, *, beside: bool) -> str:
    document = copy.deepcopy(DOCUMENT)
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    if beside and isinstance(inner, dict):
        inner["odd"] = odd
    else:
        inner[path[-1]] = odd
    return "\n".join(f"{toml_of(key)} = {toml_of(value)}" for key, value in document.items())


def read(text: str) -> None:
    try:
        experiment = parse_experiment(text, "odd.toml", EVERYTHING.parent)
    except InputError as error:
        assert error.message
        return
    runs = plan_runs(experiment)
    assert runs
    assert msgspec.json.decode(msgspec.json.encode(experiment), type=Experiment) == experiment
    command_lines(experiment, runs[0], Path("/runs"))


def test_written_anew_it_is_the_same_file() -> None:
    text = "\n".join(f"{toml_of(key)} = {toml_of(value)}" for key, value in DOCUMENT.items())
    assert parse_experiment(text, "e", EVERYTHING.parent) == parse_experiment(
        EVERYTHING.read_text(), "e", EVERYTHING.parent
    )


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(places(DOCUMENT)), st.sampled_from(ODD), st.booleans())
def test_an_odd_value_anywhere(path: tuple[Any, ...], odd: Any, beside: bool) -> None:
    read(with_odd(path, odd, beside=beside))


@settings(deadline=None)
@given(
    st.integers(0, len(EVERYTHING.read_text())),
    st.integers(0, 40),
    st.sampled_from(["", "[", '"', "=", "{", "\n", "''"]),
)
def test_a_piece_cut_out(at: int, size: int, instead: str) -> None:
    text = EVERYTHING.read_text()
    read(text[:at] + instead + text[at + size :])
