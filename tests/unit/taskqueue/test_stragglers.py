"""Which attempts deserve a second copy."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ergates.taskqueue.stragglers import CopyRecord, RunningCopy, worth_duplicating
from ergates.units import SECOND_NS, Nanoseconds

NOW = 10_000 * SECOND_NS
EQUAL = {"s": sorted((100 + number % 7) * SECOND_NS for number in range(50))}
"""Runs of 100 to 106 s."""


def running(task: int, age_s: float, host: str = "a", **fields: bool) -> RunningCopy:
    started = Nanoseconds(NOW - round(age_s * SECOND_NS))
    return RunningCopy(key=("j1", task, task), shape="s", host=host, started_ns=started, **fields)


def chosen(
    *attempts: RunningCopy, slots: int = 100, record: CopyRecord | None = None, **idle: int
) -> list[tuple[int, str]]:
    found = worth_duplicating(
        attempts, EQUAL, idle or {"b": 9}, {}, NOW, slots=slots, record=record or CopyRecord(won=9)
    )  # fmt: skip
    return [(each.key[1], each.host) for each in found]


def test_one_that_runs_much_longer_than_its_like_gets_a_copy() -> None:
    assert chosen(running(1, 400)) == [(1, "b")]
    assert chosen(running(1, 104)) == [], "like the others"
    assert chosen(running(1, 150)) == [], "a copy would hardly be first"
    (told,) = worth_duplicating([running(1, 400)], EQUAL, {"b": 1}, {}, NOW, slots=10)
    assert (
        told.reason
        == "runs for 6 min 40 s, longer than its like; estimated to need 6 min 39 s more, a copy about 1 min 43 s"
    )


def test_no_copy_without_room_or_knowledge() -> None:
    assert chosen(running(1, 400, "b"), b=9) == [], "only its own node is idle"
    assert chosen(running(1, 400), b=0) == []
    assert chosen(running(1, 400, duplicated=True)) == []
    few = {"s": [SECOND_NS] * 4}
    assert worth_duplicating([running(1, 400)], few, {"b": 1}, {}, NOW, slots=10) == []


def test_the_one_with_most_left_goes_first_and_a_tenth_of_the_slots_at_most() -> None:
    slow = [running(task, 300 + task) for task in range(1, 9)]
    assert chosen(*slow, slots=39) == [(8, "b"), (7, "b"), (6, "b")]
    assert chosen(*slow, slots=2) == [(8, "b")]
    copied = [running(8, 308, duplicated=True), running(8, 5, "b", duplicated=True)]
    assert chosen(*slow[:-1], *copied, slots=39) == [(7, "b"), (6, "b")]
    assert chosen(*slow, b=1, c=1) == [(8, "b"), (7, "c")]


def test_copies_that_lost_make_it_careful() -> None:
    slow = [running(task, 300 + task) for task in range(1, 9)]
    assert len(chosen(*slow, record=CopyRecord())) == 2, "two to begin with"
    assert len(chosen(*slow, record=CopyRecord(won=2))) == 6
    assert len(chosen(*slow, record=CopyRecord(won=2, lost=9))) == 1


def test_tasks_of_very_different_lengths_are_left_alone() -> None:
    walls = {"s": sorted(2**number * SECOND_NS for number in range(11))}  # up to 1,024 s
    assert worth_duplicating([running(1, 1500)], walls, {"b": 1}, {}, NOW, slots=10) == []


def test_a_known_slow_node_needs_no_guess() -> None:
    """A tenth of the speed: what has run 300 s there has done 30 s of work."""
    for speed, expected in ((1.0, 0), (0.1, 1)):
        found = worth_duplicating([running(1, 90)], EQUAL, {"b": 1}, {"a": speed}, NOW, slots=10)
        assert len(found) == expected
    fast_first = worth_duplicating([running(1, 400)], EQUAL, {"b": 1, "c": 1}, {"c": 2.0}, NOW, slots=10)
    assert fast_first[0].host == "c"


attempts = st.lists(
    st.tuples(st.integers(1, 40), st.floats(0, 9000), st.sampled_from("abcd"), st.booleans()),
    unique_by=lambda each: each[0],
)


@given(
    attempts,
    st.lists(st.integers(0, 10**13), max_size=40),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 5)),
    st.dictionaries(st.sampled_from("abcdef"), st.floats(0.1, 10)),
    st.integers(1, 200),
    st.builds(CopyRecord, won=st.integers(0, 50), lost=st.integers(0, 50)),
)
def test_laws(
    there: list[tuple[int, float, str, bool]],
    walls: list[int],
    idle: dict[str, int],
    speeds: dict[str, float],
    slots: int,
    record: CopyRecord,
) -> None:
    now_running = [running(task, age, host, duplicated=copied) for task, age, host, copied in there]
    before = dict(idle)
    found = worth_duplicating(now_running, {"s": sorted(walls)}, idle, speeds, NOW, slots=slots, record=record)
    assert idle == before
    host_of = {each.key: each.host for each in now_running if not each.duplicated}
    assert len({each.key for each in found}) == len(found) <= max(1, slots // 10)
    assert all(host_of[each.key] != each.host for each in found), "never beside the original, never a third copy"
    for host, count in Counter(each.host for each in found).items():
        assert count <= idle[host]


def test_one_that_hangs_is_as_suspicious_as_one_that_is_slow() -> None:
    for age_s in (400, 4_000, 400_000):
        assert chosen(running(1, age_s)) == [(1, "b")]
