"""Shapes keep what stays the same between the tasks of a sweep, and find its numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.cluster.task import TaskSpec
from ergates.taskqueue.shape import Shape, shape_of


def shape(command: str | tuple[str, ...]) -> Shape:
    return shape_of(TaskSpec(command=command))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sim --seed 7 --size 10", "sim --seed 8 --size 2.5"),
        ("./sim --seed=7 data/a.csv", "/opt/bin/sim --seed=12 other/b.csv"),
        ("sort -j4 part-01.txt", "sort -j16 part-17.txt"),
        ("python train.py run1 lr=1e-3", "python train.py run22 lr=5e-4"),
        (("sim", "--size", "10k"), "sim --size 20M"),
    ],
)
def test_parameters_do_not_change_the_shape(one: str, other: str) -> None:
    assert shape(one).fine == shape(other).fine


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sim --seed 7", "sim --size 7"),
        ("git clone", "git fetch"),
        ("python a.py 1", "python b.py 1"),
        ("sim in.csv", "sim in.parquet"),
    ],
)
def test_different_work_has_different_shapes(one: str, other: str) -> None:
    assert shape(one).coarse != shape(other).coarse


def test_words_count_in_the_fine_shape_only() -> None:
    lru, fifo = shape("sim --policy lru --size 3"), shape("sim --policy fifo --size 3")
    assert lru.fine != fifo.fine
    assert lru.coarse == fifo.coarse


def test_numbers_are_features_in_order() -> None:
    assert shape("sim --seed 7 --size 10k -j4").numbers == (7.0, 10_000.0, 4.0)


def test_images_and_kinds_are_part_of_the_shape() -> None:
    command = TaskSpec(command="sim 1")
    container = TaskSpec(command="sim 1", kind="container", image="debian:12")
    assert shape_of(command).fine != shape_of(container).fine


def test_a_huge_line_has_the_shape_of_its_beginning() -> None:
    assert len(shape("sim " + "x" * 10_000_000).fine) < 2_100


@given(st.text(max_size=200))
def test_any_text_has_a_shape(text: str) -> None:
    assert shape(text) == shape(text)


def test_calls_of_one_function_have_one_shape() -> None:
    calls = [TaskSpec(command=f"train({number}, 'a')", kind="python") for number in (1, 22)]
    shapes = [shape_of(call) for call in calls]
    assert shapes[0].fine == shapes[1].fine
    assert shapes[0].fine != shape_of(TaskSpec(command="other(1, 'a')", kind="python")).fine
