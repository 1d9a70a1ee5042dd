"""Ranges, lists, files of values, and their combinations."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.errors import InputError
from ergates.taskqueue.inputs.parameters import cross, crossed_size, list_groups, parameter_group
from ergates.taskqueue.inputs.request import ArgumentList
from ergates.taskqueue.inputs.template import Row


def opener(**files: bytes) -> Callable[[str], io.BytesIO]:
    return lambda name: io.BytesIO(files[name])


def values(text: str, **files: bytes) -> list[str]:
    return [row[0] for row in parameter_group(f"p={text}", opener(**files)).rows]


def lists(*given: ArgumentList, colsep: str | None = None, **files: bytes) -> list[Row]:
    return list(cross(list_groups(given, colsep, opener(**files))))


def listed(*values: str, linked: bool = False) -> ArgumentList:
    return ArgumentList(values=values, linked=linked)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1..4", ["1", "2", "3", "4"]),
        ("1..10..3", ["1", "4", "7", "10"]),
        ("1..9..3", ["1", "4", "7"]),
        ("3..1", ["3", "2", "1"]),
        ("10..1..-4", ["10", "6", "2"]),
        ("-1..1", ["-1", "0", "1"]),
        ("08..11", ["08", "09", "10", "11"]),
        ("5..5", ["5"]),
        ("0.1..0.5..0.1", ["0.1", "0.2", "0.3", "0.4", "0.5"]),
        ("0..1..0.5", ["0.0", "0.5", "1.0"]),
        ("1,2,4", ["1", "2", "4"]),
        ("a,b c,", ["a", "b c", ""]),
        ("1..3,8,10..12..2", ["1", "2", "3", "8", "10", "12"]),
        ("lru", ["lru"]),
        ("a=b", ["a=b"]),
        ("1..", ["1.."]),
        ("x..y", ["x..y"]),
    ],
)
def test_values_of_a_parameter(text: str, expected: list[str]) -> None:
    assert values(text) == expected


def test_values_from_a_file_leave_blank_lines_out() -> None:
    assert values("@names", names="a b\n\né\r\n x\n".encode()) == ["a b", "é", " x"]
    assert values("@names", names=b"caf\xe9") == ["caf\udce9"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "not a parameter"),
        ("seed=", "not a parameter"),
        ("=1", "not a parameter"),
        ("1x=1", "not a parameter"),
        ("a b=1", "not a parameter"),
        ("p=1..5..0", "never gets to its end"),
        ("p=1..5..-1", "never gets to its end"),
        ("p=1..1000000000", "1,000,000,000 values"),
        ("p=1..2..1.1.1", "not a number"),
        ("p=@empty", r"empty: no values"),
        ("p=@nul", r"nul:2: the line holds a NUL byte"),
    ],
)
def test_a_bad_parameter_says_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parameter_group(text, opener(empty=b"\n\n", nul=b"a\nb\0\n"))


def test_the_first_parameter_varies_slowest() -> None:
    groups = [parameter_group(text, opener()) for text in ("a=1,2", "b=x,y,z")]
    assert crossed_size(groups) == 6
    assert list(cross(groups)) == [("1", "x"), ("1", "y"), ("1", "z"), ("2", "x"), ("2", "y"), ("2", "z")]


def test_no_groups_are_one_empty_combination() -> None:
    assert list(cross([])) == [()]
    assert crossed_size([]) == 1


def test_too_many_combinations_are_refused_before_anything_is_made() -> None:
    groups = [parameter_group(f"{name}=1..1000", opener()) for name in "abc"]
    with pytest.raises(InputError, match=r"1,000 x 1,000 x 1,000 = 1,000,000,000 combinations"):
        crossed_size(groups)


def test_lists_cross_and_linked_lists_walk_together() -> None:
    assert lists(listed("a", "b"), listed("1", "2")) == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]
    assert lists(listed("a", "b"), listed("c", "d", "e", linked=True)) == [("a", "c"), ("b", "d")]
    assert lists(listed("a", "b"), listed("1", "2", linked=True), listed("x", "y")) == [
        ("a", "1", "x"), ("a", "1", "y"), ("b", "2", "x"), ("b", "2", "y"),
    ]  # fmt: skip


def test_files_of_values_keep_blank_lines_as_gnu_parallel_does() -> None:
    assert lists(ArgumentList(file="f"), f=b"a\n\nb\n") == [("a",), ("",), ("b",)]


def test_colsep_cuts_values_into_columns() -> None:
    assert lists(ArgumentList(file="f"), colsep=r"\t", f=b"a\tb\nc\td\n") == [("a", "b"), ("c", "d")]
    assert lists(listed("a,b"), listed("c"), colsep=",") == [("a", "b", "c")]
    assert lists(ArgumentList(file="f"), colsep=" +", f=b"a  b c\n") == [("a", "b", "c")]


@pytest.mark.parametrize(
    ("colsep", "content", "message"),
    [
        (",", b"a,b\nc\n", r"f:2: 1 columns, and the first line has 2"),
        ("(", b"a", "not a regular expression"),
        ("(,)", b"a", "has groups"),
        (",*", b"a", "matches the empty text"),
    ],
)
def test_bad_columns_are_errors(colsep: str, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lists(ArgumentList(file="f"), colsep=colsep, f=content)


def test_the_first_list_is_streamed() -> None:
    def endless() -> Iterator[bytes]:
        number = 0
        while True:
            number += 1
            yield b"%d\n" % number

    groups = list_groups((ArgumentList(file="-"), listed("a", "b")), None, lambda name: nullcontext(endless()))
    rows = cross(groups)
    assert [next(rows) for _ in range(4)] == [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")]
    assert crossed_size(groups) is None


@given(text=st.text(max_size=30) | st.text("0123456789.-,@=", max_size=20))
def test_arbitrary_parameters_give_values_or_an_input_error(text: str) -> None:
    try:
        group = parameter_group(text, opener_of_nothing)
    except InputError:
        return
    assert group.size == len(list(group.rows)) > 0


def opener_of_nothing(name: str) -> io.BytesIO:
    raise FileNotFoundError(2, "No such file or directory", name)
