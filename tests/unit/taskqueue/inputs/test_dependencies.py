"""`after`: names, numbers, ranges, forward references, circles, and skipped tasks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ergates.cluster.task import TaskSpec
from ergates.errors import InputError
from ergates.taskqueue.inputs.dependencies import Ranges, Record, resolve
from ergates.taskqueue.inputs.lines import Problems


def record(name: str | None, *after: str, line: int | None = None) -> Record:
    return Record(line, TaskSpec(command=name or "x"), name, after)


def after(*records: Record | None, keep_going: bool = False) -> list[Ranges]:
    return [task.after for task in resolve(records, "t.jsonl", Problems(keep_going=keep_going))]


def test_names_numbers_and_ranges_become_ids() -> None:
    assert after(record("a"), record(None, "a"), record(None, "1", "2"), record(None, "1..3")) == [
        (), ((1, 1),), ((1, 1), (2, 2)), ((1, 3),),
    ]  # fmt: skip


def test_an_id_goes_before_a_number() -> None:
    assert after(record("2"), record("b"), record(None, "2")) == [(), (), ((1, 1),)]


def test_a_task_may_come_after_a_later_one() -> None:
    assert after(record(None, "b"), record("b", "3..4"), record("c"), record("d")) == [((2, 2),), ((3, 4),), (), ()]


def test_tasks_stream_until_the_first_forward_reference() -> None:
    consumed = []

    def records() -> Iterator[Record]:
        for number in range(1, 6):
            consumed.append(number)
            yield record(f"t{number}", "t5") if number == 3 else record(f"t{number}")

    tasks = resolve(records(), "t.jsonl", Problems())
    next(tasks)
    assert consumed == [1]
    next(tasks)
    next(tasks)
    assert consumed == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            [record("alpha"), record(None, "alhpa", line=7)],
            r"t\.jsonl:7: after names 'alhpa'[\s\S]*did you mean 'alpha'",
        ),
        ([record(None, "9")], "'9', and there is no such task"),
        ([record("a"), record(None, "1..9")], "'1..9', and there is no such task"),
        ([record("a"), record(None, "0")], "not a range"),
        ([record("a"), record("b"), record(None, "2..1")], "not a range"),
        ([record("a", "a")], "after itself"),
        ([record("a"), record(None, "1..2")], "after itself"),
        ([record("a", "b"), record("b", "c"), record("c", "a")], r"task 1 waits for itself in a circle"),
        ([record("a", line=3), record("a", line=5)], r"t\.jsonl:5: the id 'a' is taken by line 3"),
    ],
)
def test_impossible_dependencies_are_errors(records: list[Record], message: str) -> None:
    with pytest.raises(InputError, match=message):
        after(*records)


def test_skipped_tasks_move_ids_and_take_their_dependents_with_them() -> None:
    found = after(
        record("a"), None, record("c", "2"), record("d", "1"), record("e", "d"), record("f", "4..5"), keep_going=True
    )
    assert found == [(), ((1, 1),), ((2, 2),), ((2, 3),)]


def test_skipping_reaches_through_forward_references() -> None:
    found = after(
        record("a", "b"), record("b", "nobody"), record("c", "a"), record("d"), record("e", "d"), keep_going=True
    )
    assert found == [(), ((1, 1),)]


def test_a_circle_is_skipped_and_the_rest_goes_on() -> None:
    found = after(record("a", "b"), record("b", "a"), record("c"), record("d", "c"), record("e", "a"), keep_going=True)
    assert found == [(), ((1, 1),)]
