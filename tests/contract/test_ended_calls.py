"""Which try of a call counts, and that a call nobody will run is told, too: on a real store, with and without a ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from redis_server import PrivateRedis
from store_rig import commit, end, register, submit, take

from ergates.cluster.attempt import Outcome
from ergates.cluster.task import TaskId
from ergates.drivers.ledgers.sqlite_ledger import SqliteLedger
from ergates.drivers.stores.redis.store import RedisStore
from ergates.functions.ended_calls import EndedCalls
from ergates.taskqueue.draining import move
from ergates.taskqueue.store import Failed, PastFailures, Returned, TaskView
from ergates.units import Nanoseconds

pytestmark = pytest.mark.needs("redis")
AGAIN = Returned(past=PastFailures(failures=1))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisStore]:
    with PrivateRedis(tmp_path) as server:
        opened = RedisStore(server.client, queue="calls", server_time=False)
        register(opened)
        yield opened
        opened.close()


def fail_then(store: RedisStore, *, succeed: bool) -> None:
    """Two tries of the only call: the first fails."""
    (lease,) = take(store)
    end(store, commit(lease, AGAIN, Outcome.FAILED))
    (lease,) = take(store)
    assert lease.attempt == 2
    if succeed:
        end(store, commit(lease))
    else:
        end(store, commit(lease, Failed(reason="twice")))


def test_of_tries_that_were_drained_together_the_last_counts(
    store: RedisStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(store, 1).id
    fail_then(store, succeed=True)
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path)
    assert move(store.undrained(500), store, ledger) == 2
    ledger.close()
    monkeypatch.setenv("ERGATES_LEDGER", str(path))
    calls = EndedCalls(store, job)
    ((task, (last, _)),) = calls.new().items()
    calls.close()
    assert (task, last.number, last.outcome) == (1, 2, Outcome.SUCCEEDED)


class EndsMeanwhile(RedisStore):
    """The second try ends between our two looks."""

    ends = False

    def tasks(self, *args: object, **kwargs: object) -> Iterator[TaskView]:
        if self.ends:
            self.ends = False
            (lease,) = take(self)
            end(self, commit(lease))
        return super().tasks(*args, **kwargs)  # type: ignore[arg-type]


def test_a_try_that_failed_is_not_the_end_of_a_call_whose_next_try_just_ended(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path) as server:
        store = EndsMeanwhile(server.client, queue="calls", server_time=False)
        register(store)
        job = submit(store, 1).id
        (lease,) = take(store)
        end(store, commit(lease, AGAIN, Outcome.FAILED))
        store.ends = True
        calls = EndedCalls(store, job)
        assert calls.new() == {}
        assert [last.outcome for last, _ in calls.new().values()] == [Outcome.SUCCEEDED]
        store.close()


def test_a_call_that_was_cancelled_before_it_was_tried_is_told_once(store: RedisStore) -> None:
    job = submit(store, 3).id
    calls = EndedCalls(store, job)
    assert calls.new() == {}
    store.cancel(job, [(2, 2)], "not needed", Nanoseconds(1))
    ((task, (last, kept)),) = calls.new().items()
    assert (task, last.outcome, last.reason, kept) == (2, Outcome.CANCELLED, "not needed", None)
    assert calls.new() == {}


def outcomes(calls: EndedCalls, tasks: Iterable[int]) -> list[Outcome]:
    ended = calls.new()
    return [ended[TaskId(task)][0].outcome for task in tasks]


def test_a_call_that_failed_for_good_is_told_with_its_last_try(store: RedisStore) -> None:
    job = submit(store, 1).id
    calls = EndedCalls(store, job)
    fail_then(store, succeed=False)
    assert outcomes(calls, [1]) == [Outcome.FAILED]
    assert calls.new() == {}
