"""Circles of waiting tasks are found, however they are made; and only circles are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ergates.taskqueue.dependency_order import find_circle

Graph = dict[int, list[tuple[int, int]]]


def waits_for(after: Graph, task: int, other: int) -> bool:
    return any(first <= other <= last for first, last in after[task])


def has_circle(after: Graph) -> bool:
    """Take away tasks that wait for nobody who is left, until none can be taken."""
    left = set(after)
    while free := {task for task in left if not any(waits_for(after, task, other) for other in left)}:
        left -= free
    return bool(left)


graphs = st.dictionaries(
    st.integers(1, 12),
    st.lists(
        st.tuples(st.integers(1, 12), st.integers(0, 5)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=3
    ),
    max_size=9,
)


@given(graphs)
def test_a_circle_is_found_exactly_when_there_is_one(after: Graph) -> None:
    circle = find_circle(after)
    assert bool(circle) == has_circle(after)
    for task, other in zip(circle, (*circle[1:], *circle[:1]), strict=True):
        assert waits_for(after, task, other)


def test_small_cases() -> None:
    assert find_circle({}) == ()
    assert find_circle({1: []}) == ()
    assert find_circle({1: [(1, 1)]}) == (1,)
    assert find_circle({3: [(1, 2)], 2: [(1, 1)]}) == ()
    assert sorted(find_circle({1: [(3, 3)], 3: [(4, 5)], 5: [(1, 1)]})) == [1, 3, 5]


def test_wide_and_long_graphs_are_searched_in_reasonable_time() -> None:
    """Ten thousand tasks after ten thousand others are 10**8 pairs, and a long chain must not need recursion."""
    wide: Graph = {task: [(1, 10_000)] for task in range(10_001, 20_001)}
    wide |= {task: [(20_001, 20_001)] for task in range(1, 10_001)}
    assert find_circle(wide) == ()
    chain: Graph = {task: [(task + 1, task + 1)] for task in range(1, 50_000)}
    assert find_circle(chain) == ()
    chain[50_000] = [(1, 1)]
    assert len(find_circle(chain)) == 50_000
