"""Peek, write, forget, with failures at every place; and the pace of it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from ergates.cluster.attempt import Attempt, Kept, Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.task import JobId, TaskId
from ergates.errors import StoreFullError, StoreUnavailableError
from ergates.taskqueue.draining import (
    BATCH_BYTES,
    IDLE_NS,
    RETRY_MOST_NS,
    ROWS_FIRST,
    ROWS_MOST,
    DrainPace,
    move,
    output_bytes,
)
from ergates.taskqueue.ledger import DrainBatch, LedgerJob, LedgerRow
from ergates.units import MIB, SECOND_NS, Nanoseconds

JOB = LedgerJob(uid="u", queue="q", id=JobId("j1"), spec=JobSpec(key="k"), submitted_ns=Nanoseconds(1), total=9)


def row(number: int, kept: Kept | None = None) -> LedgerRow:
    made = Attempt(number=1, outcome=Outcome.SUCCEEDED)
    return LedgerRow(job_uid="u", row=number, task=TaskId(number), attempt=made, kept=kept)


class Store:
    """A list that forgets its head; may fail before or after it did what it was told."""

    def __init__(self, rows: int, chance: random.Random | None = None) -> None:
        self.rows = [row(number) for number in range(1, rows + 1)]
        self._chance = chance

    def undrained(self, most: int) -> DrainBatch:
        _maybe_fail(self._chance)
        rows = tuple(self.rows[:most])
        return DrainBatch(jobs=(JOB,), rows=rows, token=str(rows[-1].row if rows else 0).encode())

    def forget(self, batch: DrainBatch) -> None:
        _maybe_fail(self._chance)
        self.rows = [kept for kept in self.rows if kept.row > int(batch.token)]
        _maybe_fail(self._chance)


class Ledger:
    """A dictionary: writing twice changes nothing. Keeps all of a batch or nothing, as a transaction does."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.rows: dict[tuple[str, int, int], LedgerRow] = {}
        self._chance = chance

    def write(self, batch: DrainBatch) -> int:
        _maybe_fail(self._chance)
        before = len(self.rows)
        for one in batch.rows:
            self.rows.setdefault((one.job_uid, one.task, one.attempt.number), one)
        _maybe_fail(self._chance)
        return len(self.rows) - before

    def jobs(self) -> tuple[LedgerJob, ...]:
        return (JOB,)

    def attempts(
        self, job_uid: str, *, ids: Sequence[tuple[int, int]] = (), since_row: int = 0, kept: bool = True
    ) -> Iterator[LedgerRow]:
        return iter(self.rows.values())


def _maybe_fail(chance: random.Random | None) -> None:
    if chance is not None and chance.random() < 0.2:
        raise chance.choice([StoreUnavailableError, StoreFullError])("away")


def test_all_is_moved_in_order() -> None:
    store, ledger = Store(25), Ledger()
    assert [move(store.undrained(10), store, ledger) for _ in range(4)] == [10, 10, 5, 0]
    assert [one.row for one in ledger.rows.values()] == list(range(1, 26)) and not store.rows


@pytest.mark.parametrize("seed", range(20))
def test_whatever_fails_nothing_is_lost_and_nothing_is_twice(seed: int) -> None:
    chance = random.Random(f"{seed}/drain")
    store, ledger = Store(60, chance), Ledger(chance)
    failures = 0
    while store.rows:
        try:
            move(store.undrained(chance.randrange(1, 20)), store, ledger)
        except (StoreUnavailableError, StoreFullError):
            failures += 1
        held = {one.row for one in store.rows} | {one.row for one in ledger.rows.values()}
        assert held == set(range(1, 61))
    assert failures and [one.row for one in ledger.rows.values()] == list(range(1, 61))


def test_full_batches_follow_each_other_at_once_and_grow() -> None:
    pace = DrainPace()
    seen = []
    for _ in range(6):
        pace = pace.after(pace.most, 0, now_ns=1000)
        assert pace.due_ns == 1000
        seen.append(pace.most)
    assert seen == [1000, 2000, 4000, ROWS_MOST, ROWS_MOST, ROWS_MOST]


def test_little_waits_for_more() -> None:
    """Exchanges come whole, so a batch may be short of what was asked for although more is there."""
    assert DrainPace().after(ROWS_FIRST // 2, 0, now_ns=1000).due_ns == 1000
    assert DrainPace().after(ROWS_FIRST // 4 - 1, 0, now_ns=1000).due_ns == 1000 + IDLE_NS
    assert DrainPace().after(0, 0, now_ns=1000) == DrainPace(due_ns=1000 + IDLE_NS)


def test_large_outputs_make_small_batches() -> None:
    pace = DrainPace().after(ROWS_FIRST, ROWS_FIRST * 128 * 1024, now_ns=0)
    assert 200 < pace.most < 256
    assert pace.most * 128 * 1024 <= BATCH_BYTES
    assert DrainPace().after(1, 1000 * MIB, now_ns=0).most == 1


def test_failures_wait_longer_and_success_forgets_them() -> None:
    pace, waits = DrainPace(most=7), []
    for _ in range(8):
        pace = pace.after_failure(now_ns=0)
        waits.append(pace.due_ns // SECOND_NS)
    assert waits == [1, 2, 4, 8, 16, 32, RETRY_MOST_NS // SECOND_NS, 60] and pace.most == 7
    assert pace.after(3, 0, now_ns=0).failures == 0


def test_outputs_are_weighed() -> None:
    rows = (row(1, Kept(stdout=b"abc", stderr=b"de", result=b"f")), row(2), row(3, Kept()))
    assert output_bytes(DrainBatch(jobs=(), rows=rows, token=b"")) == 6
