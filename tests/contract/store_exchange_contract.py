"""What every store must do with leases and commits. See store_contract.py."""

from __future__ import annotations

import pytest
from store_rig import (
    Rig,
    at,
    back,
    commit,
    end,
    finish,
    ids,
    lines,
    look,
    recount,
    register,
    requirement,
    states,
    submit,
    take,
)

from ergates.cluster.attempt import Outcome
from ergates.cluster.task import JobId, TaskSpec
from ergates.taskqueue.store import Commit, Done, Failed, Offer, PastFailures, Returned, Want


class ExchangeContract:
    """Leases, fences, offers, priorities, delays."""

    def test_leases_come_in_the_order_of_wants_and_ids(self, rig: Rig) -> None:
        job = submit(rig.store, [*lines(3), *lines(3, priority=5)]).id
        register(rig.store)
        high, low = look(rig.store).offers
        assert (high.priority, low.priority, high.waiting, low.waiting) == (5, 0, 3, 3)
        wants = [Want(job=job, class_id=row.class_id, priority=row.priority, count=2) for row in (low, high)]
        answer = rig.store.exchange("w1", [], wants, at(0))
        assert ids(answer.leases) == [1, 2, 4, 5]
        assert [offer.waiting for offer in answer.offers] == [1, 1]
        assert all(lease.attempt == 1 and lease.past == PastFailures() for lease in answer.leases)
        assert len({lease.fence for lease in answer.leases}) == 4
        recount(rig.store)

    def test_no_task_is_leased_twice(self, rig: Rig) -> None:
        submit(rig.store, 5)
        register(rig.store)
        register(rig.store, "w2")
        assert ids(take(rig.store, 3)) == [1, 2, 3]
        assert ids(take(rig.open(), 3, worker="w2")) == [4, 5]
        assert take(rig.store, 3) == ()

    def test_wants_for_nothing(self, rig: Rig) -> None:
        job = submit(rig.store, 1).id
        register(rig.store)
        (offer,) = look(rig.store).offers
        wants = [
            Want(job=job, class_id=offer.class_id, priority=99, count=1),
            Want(job=job, class_id=12345, priority=0, count=1),
            Want(job=job, class_id=offer.class_id, priority=0, count=0),
            Want(job=JobId("j77"), class_id=offer.class_id, priority=0, count=1),
        ]
        assert rig.store.exchange("w1", [], wants, at(0)).leases == ()

    def test_a_commit_counts_once(self, rig: Rig) -> None:
        job = submit(rig.store, 2).id
        register(rig.store)
        one, two = take(rig.store, 2)
        answer = end(rig.store, commit(one), commit(one, Failed(reason="twice in one call")))
        assert answer.refused == ((job, 1, one.fence),)
        assert end(rig.store, commit(one, Failed(reason="once more"))).refused == ((job, 1, one.fence),)
        assert states(rig.store, job) == {1: "done", 2: "leased"}
        assert end(rig.store, commit(two)).open_tasks == 0
        assert len(list(rig.store.attempts(job))) == 2
        assert rig.store.status(job).phase == "finished"
        recount(rig.store)

    def test_a_commit_that_is_not_ours(self, rig: Rig) -> None:
        job = submit(rig.store, 2).id
        register(rig.store)
        register(rig.store, "w2")
        (lease,) = take(rig.store, 1)
        forged = Commit(job=job, task=lease.task, fence=lease.fence + 1, attempt=None, verdict=Done())
        unleased = Commit(job=job, task=type(lease.task)(2), fence=lease.fence, attempt=None, verdict=Done())
        elsewhere = Commit(job=JobId("j8"), task=lease.task, fence=lease.fence, attempt=None, verdict=Done())
        nonsense = Commit(job=JobId("?"), task=lease.task, fence=lease.fence, attempt=None, verdict=Done())
        answer = end(rig.store, forged, unleased, elsewhere, nonsense)
        assert len(answer.refused) == 4
        assert end(rig.store, commit(lease), worker="w2").refused == ((job, 1, lease.fence),)
        assert states(rig.store, job) == {1: "leased", 2: "ready"}
        assert end(rig.store, commit(lease)).refused == ()

    def test_commit_and_lease_in_one_call(self, rig: Rig) -> None:
        job = submit(rig.store, 3).id
        register(rig.store)
        (lease,) = take(rig.store, 1)
        (offer,) = look(rig.store).offers
        want = Want(job=job, class_id=offer.class_id, priority=0, count=5)
        answer = rig.store.exchange("w1", [back(lease)], [want], at(0))
        assert ids(answer.leases) == [1, 2, 3]
        assert (answer.leases[0].attempt, answer.leases[0].past.memory) == (2, 1)
        assert answer.leases[0].fence != lease.fence

    def test_fences_never_repeat(self, rig: Rig) -> None:
        submit(rig.store, 3)
        register(rig.store)
        seen: set[int] = set()
        for store in (rig.store, rig.open(), rig.open()):
            leases = take(store, 3)
            assert len(leases) == 3
            assert seen.isdisjoint(lease.fence for lease in leases)
            seen |= {lease.fence for lease in leases}
            end(store, *(commit(lease, Returned(past=lease.past), Outcome.RETURNED) for lease in leases))

    # --- offers and priority ----------------------------------------------------------------------

    def test_offers_are_sorted_by_priority_then_by_job(self, rig: Rig) -> None:
        one = submit(rig.store, [*lines(1, priority=1), *lines(1, priority=7)], key="a").id
        two = submit(rig.store, [*lines(1, priority=7), *lines(1, priority=9)], key="b").id
        register(rig.store)
        offers = look(rig.store).offers
        assert [(offer.job, offer.priority) for offer in offers] == [(two, 9), (one, 7), (two, 7), (one, 1)]
        assert [offer.job for offer in look(rig.store, jobs=[one]).offers] == [one, one]
        assert look(rig.store, jobs=[one]).open_tasks == 2
        assert look(rig.store).open_tasks == 4

    def test_at_most_64_offers_the_most_urgent_ones(self, rig: Rig) -> None:
        submit(rig.store, [TaskSpec(command="c", priority=number % 100) for number in range(300)])
        register(rig.store)
        offers = look(rig.store).offers
        assert [offer.priority for offer in offers] == list(range(99, 35, -1))
        assert {offer.waiting for offer in offers} == {3}

    def test_classes_a_worker_cannot_serve_hide_nothing(self, rig: Rig) -> None:
        big = [TaskSpec(command="big", requirement=requirement(n), priority=5) for n in range(1, 101)]
        submit(rig.store, [*big, TaskSpec(command="small", priority=1)])
        register(rig.store)
        seen: set[int] = set()
        for _ in range(3):
            offers = rig.store.exchange("w1", [], [], at(0), unfit=sorted(seen)).offers
            seen |= {offer.class_id for offer in offers if offer.requirement.memory_bytes}
        assert [offer.requirement.memory_bytes for offer in offers] == [0]
        assert len(seen) == 100

    def test_strict_priority_holds_for_any_number_of_tasks(self, rig: Rig) -> None:
        submit(rig.store, [TaskSpec(command="c", priority=number * 7 % 30) for number in range(3000)])
        register(rig.store)
        order = []
        while leases := take(rig.store, 77):
            order += [lease.spec.priority for lease in leases]
            finish(rig.store, leases)
        assert order == sorted(order, reverse=True) and len(order) == 3000

    def test_equal_requirements_are_one_class(self, rig: Rig) -> None:
        needs = [requirement(5), requirement(5), requirement(6)]
        submit(rig.store, [TaskSpec(command="c", requirement=need) for need in needs], key="a")
        submit(rig.store, [TaskSpec(command="c", requirement=need) for need in needs[:1]], key="b")
        register(rig.store)
        offers = look(rig.store).offers
        assert sorted((offer.job, offer.requirement.memory_bytes, offer.waiting) for offer in offers) == [
            ("j1", 5, 2), ("j1", 6, 1), ("j2", 5, 1),
        ]  # fmt: skip
        assert len({offer.class_id for offer in offers}) == 2

    def test_aging_lifts_an_old_job(self, rig: Rig) -> None:
        old = submit(rig.store, lines(1, priority=1), key="old", aging_ns=at(10) - at(0)).id
        young = submit(rig.store, lines(1, priority=5), key="young", now=35).id
        register(rig.store)
        assert [offer.job for offer in look(rig.store, now=39).offers] == [young, old]
        offers = look(rig.store, now=50).offers
        assert [(offer.job, offer.priority) for offer in offers] == [(old, 1), (young, 5)]
        assert ids(take(rig.store, 1, now=50)) == [1]

    def test_enough_failures_stop_a_job(self, rig: Rig) -> None:
        job = submit(rig.store, 5, max_failed_tasks=2).id
        register(rig.store)
        one, two, three = take(rig.store, 3)
        (offer,) = look(rig.store).offers
        end(rig.store, commit(one, Failed(reason="x")))
        assert len(look(rig.store).offers) == 1
        answer = end(rig.store, commit(two, Failed(reason="x")))
        assert answer.offers == () and answer.open_tasks == 3
        want = Want(job=job, class_id=offer.class_id, priority=0, count=1)
        assert rig.store.exchange("w1", [], [want], at(0)).leases == ()
        assert finish(rig.store, [three]).refused == ()
        rig.store.retry(job, [(1, 1)], at(1))
        assert look(rig.store).offers[0].waiting == 3

    # --- tasks that come back ---------------------------------------------------------------------

    def test_a_delayed_task_waits_for_its_time(self, rig: Rig) -> None:
        job = submit(rig.store, 2).id
        register(rig.store)
        one, two = take(rig.store, 2)
        answer = end(rig.store, back(one, delay=20), back(two, delay=10))
        assert answer.next_ready_ns == at(10) and answer.offers == () and answer.open_tasks == 2
        view = next(rig.store.tasks(job))
        assert (view.state, view.not_before_ns, view.reason) == ("delayed", at(20), "memory was short")
        assert look(rig.store, now=9.9).offers == ()
        answer = look(rig.store, now=10)
        assert [offer.waiting for offer in answer.offers] == [1] and answer.next_ready_ns == at(20)
        (lease,) = take(rig.store, 5, now=10)
        assert (lease.task, lease.attempt, lease.past) == (2, 2, PastFailures(memory=1, last_peak_bytes=999))
        assert ids(take(rig.store, 5, now=25)) == [1]
        assert look(rig.store, now=25).next_ready_ns is None
        recount(rig.store)

    def test_a_delay_in_the_past_is_none(self, rig: Rig) -> None:
        job = submit(rig.store, 1).id
        register(rig.store)
        end(rig.store, back(*take(rig.store, 1, now=5), delay=3), now=5)
        assert states(rig.store, job) == {1: "ready"}

    def test_delays_of_jobs_that_lease_nothing_do_not_wake(self, rig: Rig) -> None:
        job = submit(rig.store, 1).id
        other = submit(rig.store, 1, key="other").id
        register(rig.store)
        one, two = take(rig.store, 2)
        end(rig.store, back(one, delay=20), back(two, delay=30))
        assert look(rig.store, jobs=[other]).next_ready_ns == at(30)
        rig.store.set_phase(job, "paused", at(1))
        assert look(rig.store).next_ready_ns == at(30)

    def test_a_raised_requirement_is_another_class(self, rig: Rig) -> None:
        submit(rig.store, 2)
        register(rig.store)
        (lease,) = take(rig.store, 1)
        raised = requirement(10**9)
        answer = end(rig.store, back(lease, requirement=raised))
        assert [(offer.requirement, offer.waiting) for offer in answer.offers] == [
            (requirement(), 1), (raised, 1),
        ]  # fmt: skip
        assert [lease.spec.requirement for lease in take(rig.store, 2)] == [requirement(), raised]
        recount(rig.store)

    def test_another_host_is_preferred_while_one_lives(self, rig: Rig) -> None:
        submit(rig.store, 2)
        register(rig.store, "w1", "alpha")
        register(rig.store, "w2", "beta")
        (lease,) = take(rig.store, 1)
        answer = end(rig.store, back(lease, avoid_host="alpha"))
        assert [offer.waiting for offer in answer.offers] == [1]
        assert ids(take(rig.store, 5)) == [2]
        assert [offer.waiting for offer in look(rig.store, "w2").offers] == [1]
        assert ids(take(rig.store, 5, worker="w2")) == [1]
        recount(rig.store)

    def test_a_task_is_given_to_the_host_it_avoids_when_no_other_lives(self, rig: Rig) -> None:
        submit(rig.store, 2)
        register(rig.store, "w1", "alpha")
        register(rig.store, "w3", "alpha")
        end(rig.store, back(*take(rig.store, 1), avoid_host="alpha"))
        answer = look(rig.store)
        assert [offer.waiting for offer in answer.offers] == [2]
        assert ids(take(rig.store, 2)) == [1, 2]

    def test_a_host_that_left_or_fell_silent_is_not_waited_for(self, rig: Rig) -> None:
        submit(rig.store, 2)
        register(rig.store, "w1", "alpha")
        register(rig.store, "w2", "beta")
        register(rig.store, "w3", "gamma")
        end(rig.store, back(*take(rig.store, 1), avoid_host="alpha"))
        rig.store.leave("w2", at(1))
        assert [offer.waiting for offer in look(rig.store, now=2).offers] == [1]
        assert [offer.waiting for offer in look(rig.store, now=31).offers] == [2]

    def test_nobody_waits_for_ever_for_another_host(self, rig: Rig) -> None:
        """The other host may be too small, or busy for days: after two lease times the preference lapses."""
        submit(rig.store, 1)
        register(rig.store, "w1", "alpha")
        register(rig.store, "w2", "beta")
        end(rig.store, back(*take(rig.store, 1), avoid_host="alpha"))
        for second in range(1, 60, 10):
            look(rig.store, "w2", now=second)
            assert look(rig.store, now=second).offers == ()
        look(rig.store, "w2", now=61)
        assert ids(take(rig.store, 1, now=61)) == [1]

    def test_a_lease_handed_back_untried_leaves_no_trace(self, rig: Rig) -> None:
        job = submit(rig.store, 1).id
        register(rig.store)
        (lease,) = take(rig.store, 1)
        end(rig.store, commit(lease, Returned(past=lease.past), Outcome.RETURNED))
        assert list(rig.store.attempts(job)) == []
        (again,) = take(rig.store, 1)
        assert (again.attempt, again.past) == (1, PastFailures())

    @pytest.mark.parametrize("count", [1, 250])
    def test_large_batches(self, rig: Rig, count: int) -> None:
        job = submit(rig.store, count).id
        register(rig.store)
        leases = take(rig.store, count)
        assert len(leases) == count
        answer = finish(rig.store, leases)
        assert answer.refused == () and answer.open_tasks == 0
        assert rig.store.status(job).counts["done"] == count

    def test_an_offer_is_a_plain_record(self, rig: Rig) -> None:
        job = submit(rig.store, 2).id
        register(rig.store)
        (offer,) = look(rig.store).offers
        assert offer == Offer(job=job, class_id=offer.class_id, requirement=requirement(), priority=0, waiting=2)
