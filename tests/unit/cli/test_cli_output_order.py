"""Outputs come out whole, in order, tagged, and byte for byte."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ergates.cli.output_order import InOrder, WholeLines, tagged


@given(st.integers(min_value=0, max_value=30), st.sets(st.integers(min_value=1, max_value=30)), st.integers())
def test_items_come_out_in_order_as_soon_as_nothing_before_them_is_missing(
    count: int, skipped: set[int], seed: int
) -> None:
    order: InOrder[int] = InOrder(skipped)
    coming = [i for i in range(1, count + 1) if i not in skipped]
    shuffled = random.Random(seed).sample(coming, len(coming))
    released: list[int] = []
    offered: set[int] = set()
    for item in shuffled:
        offered.add(item)
        released += order.offer(item, item)
        first_missing = next((i for i in coming if i not in offered), count + 1)
        assert released == [i for i in coming if i < first_missing]
    assert released == coming
    assert order.rest() == []


def test_what_waits_for_a_task_that_never_ended_comes_at_the_end_in_order() -> None:
    order: InOrder[str] = InOrder()
    assert order.offer(5, "five") == []
    assert order.offer(3, "three") == []
    assert order.offer(1, "one") == ["one"]
    assert order.rest() == ["three", "five"]
    assert order.rest() == []


def test_every_line_is_tagged_and_the_last_gets_its_end() -> None:
    assert tagged(b"a\n\nb", b"7") == b"7\ta\n7\t\n7\tb\n"
    assert tagged(b"\xff\x00\n", b"x y") == b"x y\t\xff\x00\n"
    assert tagged(b"", b"7") == b""


@given(st.lists(st.binary(max_size=20)))
def test_whole_lines_lose_nothing_and_cut_only_at_line_ends(pieces: list[bytes]) -> None:
    lines = WholeLines()
    taken = [lines.take(piece) for piece in pieces]
    assert all(text == b"" or text.endswith(b"\n") for text in taken)
    rest = lines.rest()
    assert b"\n" not in rest
    assert b"".join(taken) + rest == b"".join(pieces)
