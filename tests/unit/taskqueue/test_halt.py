"""`--halt` in GNU parallel's words."""

from __future__ import annotations

import pytest

from ergates.errors import UsageError
from ergates.taskqueue.halt import HaltRule, halt_reached, parse_halt


def test_reads_counts_and_shares() -> None:
    assert parse_halt("never") is None
    assert parse_halt("soon,fail=1") == HaltRule(stop="soon", watched="fail", count=1)
    assert parse_halt("now,fail=10%") == HaltRule(stop="now", watched="fail", fraction=0.1)
    assert parse_halt("now,success=1") == HaltRule(stop="now", watched="success", count=1)


@pytest.mark.parametrize("text", ["", "later,fail=1", "now,fail", "now,fail=0", "now,fail=1.5", "now,fail=101%", "2"])
def test_says_what_was_expected(text: str) -> None:
    with pytest.raises(UsageError, match="expected: never, or WHEN"):
        parse_halt(text)


@pytest.mark.parametrize(
    ("rule", "succeeded", "failed", "stop"),
    [
        ("soon,fail=2", 100, 1, None),
        ("soon,fail=2", 0, 2, "soon"),
        ("now,fail=10%", 0, 1, None),  # too early for a share
        ("now,fail=10%", 17, 1, None),
        ("now,fail=10%", 9, 1, "now"),
        ("now,success=1", 1, 0, "now"),
        ("soon,done=5", 2, 3, "soon"),
        ("never", 0, 1000, None),
    ],
)
def test_decides(rule: str, succeeded: int, failed: int, stop: str | None) -> None:
    assert halt_reached(parse_halt(rule), succeeded, failed) == stop
