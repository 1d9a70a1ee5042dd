"""Tables of parameters: CSV, TSV and JSON Lines."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.errors import InputError
from ergates.taskqueue.inputs.grid import grid_group
from ergates.taskqueue.inputs.lines import Problems
from ergates.taskqueue.inputs.parameters import ValueGroup
from ergates.taskqueue.inputs.request import GridFormat
from ergates.taskqueue.inputs.template import Row


def group(
    content: bytes, name: str = "g.csv", form: GridFormat = "auto", problems: Problems | None = None
) -> ValueGroup:
    return grid_group(lambda _: io.BytesIO(content), name, form, problems or Problems())


def table(content: bytes, name: str = "g.csv", problems: Problems | None = None) -> tuple[tuple[str, ...], list[Row]]:
    found = group(content, name, problems=problems)
    return found.names, list(found.rows)


def test_columns_become_names() -> None:
    assert table(b"seed, size\n1,2\n\n3,4\n") == (("seed", "size"), [("1", "2"), ("3", "4")])
    assert table(b"\xef\xbb\xbfseed\r\n1\r\n") == (("seed",), [("1",)])


def test_quoted_values_may_hold_anything() -> None:
    assert table('a,b\n"x,y","say ""hi"""\n"two\nlines",é\n'.encode())[1] == [("x,y", 'say "hi"'), ("two\nlines", "é")]


def test_tabs_separate_in_tsv() -> None:
    assert table(b"a\tb\n1,5\t2\n", "g.tsv")[1] == [("1,5", "2")]
    assert group(b"a\tb\n", "-", "tsv").names == ("a", "b")


def test_json_lines_rows_are_objects() -> None:
    names, rows = table(
        b'{"seed": 1, "name": "x y", "on": true}\n\n{"name": "z", "seed": 2.5, "on": false}\n', "g.jsonl"
    )
    assert names == ("seed", "name", "on")
    assert rows == [("1", "x y", "true"), ("2.5", "z", "false")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.csv", b"", r"g\.csv:1: no header"),
        ("g.csv", b"a,a\n1,2\n", r"g\.csv:1: the column 'a' twice"),
        ("g.csv", b"a,,b\n", r"g\.csv:1: a column without a name"),
        ("g.csv", b"a,b\n1,2\n1\n", r"g\.csv:3: 1 values for 2 columns\n.*a, b"),
        ("g.csv", b'a,b\n1,"2\n', r"g\.csv:2: "),
        ("g.csv", b'a,b\n"1"x,2\n', r"g\.csv:2: "),
        ("g.csv", b"a,b\n1,\0\n", r"g\.csv:2: the line holds a NUL byte"),
        ("g.csv", b"a\n" + b"x" * 200_000, r"g\.csv:2: field larger"),
        ("g.jsonl", b"", r"g\.jsonl: no rows"),
        ("g.jsonl", b"[1]\n", r"g\.jsonl:1: not a JSON object"),
        ("g.jsonl", b'{"": 1}\n', r"g\.jsonl:1: not a JSON object with names"),
        ("g.jsonl", b'{"a": 1}\n{"b": 1}\n', r"g\.jsonl:2: other keys than in the first row: a, b"),
        ("g.jsonl", b'{"a": [1]}\n', r"g\.jsonl:1: the value of 'a' is neither"),
        ("g.jsonl", b'{"a": null}\n', r"g\.jsonl:1: the value of 'a' is neither"),
        ("g.jsonl", b'{"a": 1\n', r"g\.jsonl:1: "),
    ],
)
def test_a_bad_table_is_an_error_with_its_place(name: str, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        table(content, name)


def test_keep_going_skips_bad_rows() -> None:
    problems = Problems(keep_going=True)
    assert table(b"a,b\n1\n2,3\n4,5,6\n", problems=problems)[1] == [("2", "3")]
    assert [error.line for error in problems.first] == [2, 4]


@given(
    rows=st.lists(
        st.lists(
            st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=8),
            min_size=2,
            max_size=2,
        ),
        max_size=6,
    )
)
def test_what_csv_writes_is_read_back(rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["a", "b"], *rows])
    assert table(text.getvalue().encode())[1] == [tuple(row) for row in rows]


@given(content=st.binary(max_size=200), name=st.sampled_from(["g.csv", "g.tsv", "g.jsonl"]))
def test_arbitrary_bytes_give_rows_or_an_input_error(content: bytes, name: str) -> None:
    try:
        names, rows = table(content, name)
    except InputError:
        return
    assert all(len(row) == len(names) for row in rows)
