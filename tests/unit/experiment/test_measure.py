"""What measures read: JSON, JSON Lines, CSV, regular expressions, our own records; and what they say when nothing is there."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.experiment.json_path import found_at, parse_json_path, shown_path
from ergates.experiment.measure import UnmeasuredError, combined, quantile, values_in, values_recorded
from ergates.experiment.records import Manifest, MemberRecord, ProgramRecord
from ergates.experiment.run import Run, Seated
from ergates.experiment.spec import Measure

DOCUMENT = {"latency": {"p50": 10, "p99": 80.5}, "results": [{"rate": 7}, {"rate": 9}], "a.b": {"c": 1}, "none": None}


def json_of(path: str, text: str) -> list[Any]:
    return values_in(Measure(name="m", json=path), text)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("latency.p99", [80.5]),
        ("results[0].rate", [7]),
        ("results[-1].rate", [9]),
        ("results[*].rate", [7, 9]),
        ("latency[*]", [10, 80.5]),
        ('["a.b"].c', [1]),
    ],
)
def test_json_paths(path: str, values: list[float]) -> None:
    assert json_of(path, json.dumps(DOCUMENT, indent=2)) == values
    assert shown_path(parse_json_path(path)) == path


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a]b", "[0]x", 'a["b'])
def test_a_wrong_path_says_what_one_looks_like(path: str) -> None:
    with pytest.raises(ValueError, match=r"expected a path such as latency\.p99"):
        parse_json_path(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("latency.p98", "'latency' has no 'p98': did you mean 'p99'?"),
        ("speed", "the document has no 'speed': it has latency, results, a.b, none"),
        ("results[2].rate", r"'results' has 2 elements: there is no \[2\]"),
        ("latency.p99.x", "'latency.p99' is 80.5: there is no 'x' in it"),
        ("none", "expected a number at 'none', found null"),
        ("latency", "expected a number at 'latency', found an object"),
    ],
)
def test_what_is_missing_in_json_is_said(path: str, message: str) -> None:
    with pytest.raises(UnmeasuredError, match=message):
        json_of(path, json.dumps(DOCUMENT))


def test_the_last_line_counts_in_json_lines_and_after_other_output() -> None:
    assert json_of("n", '{"n": 1}\n{"n": 2}\n{"n": 3}\n\n') == [3]
    assert json_of("n", 'starting\nwarm\n{"n": 4}\n') == [4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ('{"n": 1', "expected JSON"),
        ('{"n": 1}\n{"n": 2', "line 2 is no JSON either"),
        ('{"n": NaN}', "expected a number at 'n', found nan"),
        ('{"n": "nan"}', "expected a number, found 'nan'"),
        ('{"n": 1e999}', "expected a number at 'n', found inf"),
        ('{"n": 1' + "0" * 400 + "}", "found one of 1329 bits"),
        ('{"n": 1' + "0" * 9000 + "}", "Exceeds the limit"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_json_that_is_cut_off_or_no_number_is_never_a_figure(text: str, message: str) -> None:
    with pytest.raises(UnmeasuredError, match=message):
        json_of("n", text)


def csv_of(text: str, **how: Any) -> Any:
    measure = Measure(name="m", csv="us", **how)
    return combined(measure, values_in(measure, text))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_columns_by_their_heading(delimiter: str) -> None:
    text = "\n".join(delimiter.join(row) for row in [("at", " us "), ("0", "10"), ("1", ""), ("2", "30.5")])
    assert csv_of(text) == pytest.approx(20.25)
    assert csv_of(text, combine="max") == 30.5
    assert csv_of("us\n1\n2\n3\n", combine="sum") == 6
    assert csv_of("us\r\n1\r\n2\r\n", combine="list") == [1, 2]
    assert csv_of('\ufeffname,us\n"a,b",4\n', combine="first") == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("at,uss\n1,2\n", "no column 'us': did you mean 'uss'?"),
        ("at,us\n", "the column 'us' has no rows"),
        ("at,us\n1,2\n3", "line 3 has 1 cells, none for 'us': is it cut off"),
        ("at,us\n1,fast\n", "line 2 has 'fast'"),
        ("at,us\n1,inf\n", "found 'inf'"),
    ],
)
def test_csv_that_does_not_hold_it_says_where(text: str, message: str) -> None:
    with pytest.raises(UnmeasuredError, match=message):
        csv_of(text)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40), st.floats(0, 1))
def test_quantiles_are_those_of_numpy(numbers: list[float], fraction: float) -> None:
    assert quantile(numbers, fraction) == pytest.approx(float(numpy.quantile(numbers, fraction)), rel=1e-9, abs=1e-6)


@given(
    st.lists(st.one_of(st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False)), min_size=1)
)
def test_numbers_come_out_of_csv_and_json_as_they_went_in(numbers: list[float]) -> None:
    out = io.StringIO()
    csv.writer(out).writerows([["x", "us"], *([i, number] for i, number in enumerate(numbers))])
    assert csv_of(out.getvalue(), combine="list") == numbers
    assert json_of("v", json.dumps({"v": numbers})) == numbers


@given(st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda key: '"' not in key), st.integers(), min_size=1))
def test_every_key_has_a_path(document: dict[str, int]) -> None:
    for key, value in document.items():
        path = shown_path((key,)) if key.strip() else f'["{key}"]'
        assert found_at(document, parse_json_path(path)) == [value]


def test_a_regular_expression_takes_the_first_group_of_the_last_match() -> None:
    text = "warm 1.5 s\nround 1: 2.5 s\nround 2: 3.5 s\n1,234,567 cycles\n"
    assert values_in(Measure(name="m", regex=r"round \d+: ([0-9.]+) s"), text) == [3.5]
    assert values_in(Measure(name="m", regex=r"^[0-9,]+(?= cycles$)"), text) == [1234567]
    with pytest.raises(UnmeasuredError, match="expected a place that matches"):
        values_in(Measure(name="m", regex="nowhere"), text)
    with pytest.raises(UnmeasuredError, match="did not take part"):
        values_in(Measure(name="m", regex="(x)?warm"), text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("7", 7), ("-7", -7), ("+7", 7), ("1700000000123456789", 1700000000123456789), ("1,234", 1234)),
        *(("7.0", 7.0), ("-1e-3", -0.001), ("1,234.5", 1234.5), ("1_000", "1_000"), ("12,34", "12,34"), ("٣", 3.0)),
    ],
)
def test_numbers_as_programs_print_them(text: str, value: float | str) -> None:
    (found,) = values_in(Measure(name="m", regex="^.*$"), text)
    assert (found, type(found)) == (value, type(value))


def test_values_of_all_hosts_become_one() -> None:
    values = [3, 1, 2, 2]
    ways = {"mean": 2.0, "sum": 8, "max": 3, "min": 1, "median": 2, "first": 3, "list": values}
    for how, cell in ways.items():
        assert combined(Measure(name="m", combine=how), values) == cell  # type: ignore[arg-type]
    assert combined(Measure(name="m", quantile=0.75), [1, 2, 3, 4, 5]) == 4
    assert combined(Measure(name="m"), ["reno"]) == "reno"
    with pytest.raises(UnmeasuredError, match="expected a number, found 'reno'"):
        combined(Measure(name="m"), ["reno", "cubic"])
    with pytest.raises(UnmeasuredError, match="no value"):
        combined(Measure(name="m"), [])


def manifest(**said: Any) -> Manifest:
    members = tuple(
        MemberRecord(
            seat=Seated(rank=rank, role="client", index=rank, host=f"n{rank}", address=""),
            programs=(
                ProgramRecord(
                    name="load", folder="load", argv=(), wall_ns=10**9 * rank, cpu_ns=10**8, peak_bytes=2**20 * rank
                ),
            ),
            facts={},
        )
        for rank in (1, 2)
    )
    run = Run(number=1, point=(), repetition=1, seed=0)
    return Manifest(experiment="x", run=run, ok=True, members=members, seconds=9.5, **said)


def test_our_own_records_of_programs_and_of_runs() -> None:
    assert values_recorded(Measure(name="m", program="load", record="seconds"), manifest()) == [1.0, 2.0]
    assert values_recorded(Measure(name="m", record="seconds"), manifest()) == [9.5]
    assert values_recorded(Measure(name="m", record="cpu_seconds"), manifest()) == [pytest.approx(0.2)]
    assert values_recorded(Measure(name="m", record="peak_bytes"), manifest()) == [2**21]
    assert values_recorded(Measure(name="m", record="joules"), manifest(joules=12.5)) == [12.5]
    assert values_recorded(Measure(name="m", record="dollars"), manifest(dollars=0.0)) == [0.0]


def test_energy_that_nobody_measured_is_not_zero() -> None:
    with pytest.raises(UnmeasuredError, match="nothing here measures energy"):
        values_recorded(Measure(name="m", record="joules"), manifest())
    with pytest.raises(UnmeasuredError, match="no host has a record of the program 'server'"):
        values_recorded(Measure(name="m", program="server", record="seconds"), manifest())


def test_sums_of_many_numbers_are_exact() -> None:
    tenths = [0.1] * 10
    assert combined(Measure(name="m", combine="sum"), tenths) == 1.0
    assert combined(Measure(name="m"), tenths) == math.fsum(tenths) / 10
