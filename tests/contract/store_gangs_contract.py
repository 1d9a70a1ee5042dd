"""What a store of many machines must do with gangs: tasks that start on several workers at once, or not at all.
A test file of a driver subclasses `GangsContract` next to `StoreContract`; the rig is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from store_rig import LEASE_NS, SECOND, Rig, Store, at, attempt, look, recount, register, states, submit, take

from ergates.cluster.attempt import Outcome
from ergates.cluster.task import Requirement, TaskSpec
from ergates.taskqueue.store import (
    CANCELLED_BY_USER,
    Assembling,
    Cancelled,
    Changes,
    Commit,
    Done,
    Exchanged,
    Failed,
    Lease,
    PastFailures,
    Returned,
    Want,
)

LOST = Returned(past=PastFailures(losses=1))


def gang(nodes: int, *, priority: int = 0, roles: tuple[tuple[str, int], ...] = (), **more: object) -> TaskSpec:
    needed = Requirement(nodes=nodes, roles=roles, **more)  # type: ignore[arg-type]
    return TaskSpec(command="mpi", requirement=needed, priority=priority)


def workers(store: Store, *names: str, now: float = 0) -> None:
    """Each on a host of its own, `h-NAME`."""
    for name in names:
        register(store, name, f"h-{name}", now)


def sit(
    store: Store, worker: str, now: float = 0, unfit: Sequence[int] = (), commits: Sequence[Commit] = ()
) -> Exchanged:
    """Ask for a seat in the first gang on offer, as a worker does that has room."""
    offers = store.exchange(worker, commits, [], at(now), unfit=unfit).offers
    wants = [
        Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=1)
        for offer in offers
        if offer.requirement.nodes > 1
    ]
    return store.exchange(worker, [], wants[:1], at(now), unfit=unfit)


def started(store: Store, *names: str, now: float = 0) -> list[Lease]:
    """All take a seat; the leases of the members in the order of `names`."""
    found = {}
    for name in names:
        found[name] = list(sit(store, name, now).leases)
    for name in names:
        found[name] += look(store, name, now).leases
    return [next(lease for lease in found[name] if lease.gang is not None) for name in names]


def end_of(lease: Lease, outcome: Outcome = Outcome.SUCCEEDED, **fields: object) -> Commit:
    """One member's end."""
    assert lease.gang is not None
    verdict = Done() if outcome is Outcome.SUCCEEDED else Failed(reason="exit code 1")
    return Commit(
        job=lease.job, task=lease.task, fence=lease.fence, seat=lease.gang.rank, verdict=verdict,
        attempt=attempt(lease, outcome, **fields),
    )  # fmt: skip


def whole(lease: Lease, outcome: Outcome = Outcome.SUCCEEDED, verdict: object = None) -> Commit:
    """The gang's one attempt, by its leader."""
    chosen = Done() if verdict is None else verdict
    return Commit(
        job=lease.job, task=lease.task, fence=lease.fence, attempt=attempt(lease, outcome),
        verdict=chosen,  # type: ignore[arg-type]
    )  # fmt: skip


def say(store: Store, worker: str, *commits: Commit, now: float = 0) -> Exchanged:
    return store.exchange(worker, commits, [], at(now))


class GangsContract:
    """Seats, starts, ends, deaths."""

    def test_a_gang_starts_when_its_last_seat_is_taken(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(3, roles=(("server", 1), ("client", 2)))]).id
        workers(rig.store, "w1", "w2", "w3")
        first = sit(rig.store, "w1")
        assert first.seat is not None and (first.seat.taken, first.seat.size) == (1, 3)
        assert first.leases == () and states(rig.store, job) == {1: "ready"}
        assert sit(rig.store, "w2").leases == ()
        (third,) = sit(rig.store, "w3").leases
        (one,), (two,) = look(rig.store, "w1").leases, look(rig.store, "w2").leases
        seats = [lease.gang for lease in (one, two, third)]
        assert [(seat.rank, seat.size, seat.role) for seat in seats if seat] == [
            (0, 3, "server"), (1, 3, "client"), (2, 3, "client"),
        ]  # fmt: skip
        assert {seat.hosts for seat in seats if seat} == {("h-w1", "h-w2", "h-w3")}
        assert len({(lease.job, lease.task, lease.fence, lease.attempt) for lease in (one, two, third)}) == 1
        assert states(rig.store, job) == {1: "leased"}
        answer = look(rig.store, "w1")
        assert answer.leases == () and answer.seat is None and answer.revoked == ()
        recount(rig.store)

    def test_it_is_not_offered_while_too_few_workers_could_serve_it(self, rig: Rig) -> None:
        submit(rig.store, [gang(2)])
        workers(rig.store, "w1")
        assert look(rig.store, "w1").offers == ()
        workers(rig.store, "w2")
        (offer,) = look(rig.store, "w1", now=2).offers
        assert offer.requirement.nodes == 2
        unfit = rig.store.exchange("w2", [], [], at(4), unfit=[offer.class_id])
        assert unfit.offers == () and look(rig.store, "w1", now=6).offers == ()
        assert cast(Assembling, rig.store).assembling() is None

    def test_a_worker_has_one_seat(self, rig: Rig) -> None:
        submit(rig.store, [gang(2)] * 2)
        workers(rig.store, "w1", "w2")
        assert sit(rig.store, "w1").seat
        again = sit(rig.store, "w1")
        assert again.offers == () and again.leases == () and again.seat is not None and again.seat.taken == 1

    def test_one_gang_assembles_at_a_time_the_most_urgent(self, rig: Rig) -> None:
        submit(rig.store, [gang(2), gang(3, priority=5)])
        workers(rig.store, "w1", "w2", "w3")
        for worker in ("w1", "w2"):
            (offer,) = look(rig.store, worker).offers
            assert (offer.requirement.nodes, offer.priority) == (3, 5)
            sit(rig.store, worker)
        assert [lease.task for lease in sit(rig.store, "w3").leases] == [2]
        (offer,) = look(rig.store, "w3", now=2).offers
        assert offer.requirement.nodes == 2

    def test_a_more_urgent_gang_takes_the_turn(self, rig: Rig) -> None:
        submit(rig.store, [gang(2)])
        workers(rig.store, "w1", "w2")
        assert sit(rig.store, "w1").seat
        urgent = submit(rig.store, [gang(2, priority=1)], key="urgent").id
        (offer,) = look(rig.store, "w2", now=2).offers
        assert offer.job == urgent
        assert look(rig.store, "w1", now=2).seat is None

    def test_a_seat_is_lost_with_its_worker(self, rig: Rig) -> None:
        submit(rig.store, [gang(2)])
        workers(rig.store, "w1", "w2", "w3")
        sit(rig.store, "w1")
        look(rig.store, "w2", now=LEASE_NS / SECOND + 5)
        look(rig.store, "w3", now=LEASE_NS / SECOND + 5)
        answer = sit(rig.store, "w2", now=LEASE_NS / SECOND + 6)
        assert answer.leases == () and answer.seat is not None and answer.seat.taken == 1
        rig.store.leave("w2", at(37))
        workers(rig.store, "w2", now=38)
        assert look(rig.store, "w2", now=38).seat is None

    def test_a_seat_of_an_unfit_class_is_given_up(self, rig: Rig) -> None:
        submit(rig.store, [gang(2)])
        workers(rig.store, "w1", "w2", "w3")
        (offer,) = look(rig.store, "w1").offers
        assert sit(rig.store, "w1").seat
        assert rig.store.exchange("w1", [], [], at(1), unfit=[offer.class_id]).seat is None
        seat = sit(rig.store, "w2", now=2).seat
        assert seat is not None and seat.taken == 1

    def test_a_gang_that_does_not_come_together_lets_others_try(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(3, priority=1)]).id
        other = submit(rig.store, [gang(2)], key="other").id
        workers(rig.store, "w1", "w2", "w3")
        sit(rig.store, "w1")
        for second in range(25, 630, 25):
            for worker in ("w1", "w2", "w3"):
                look(rig.store, worker, now=second)
        (offer,) = look(rig.store, "w2", now=630).offers
        assert offer.job == other and look(rig.store, "w1", now=630).seat is None
        for second in range(650, 760, 25):
            for worker in ("w1", "w2", "w3"):
                look(rig.store, worker, now=second)
        assert {offer.job for offer in look(rig.store, "w3", now=770).offers} == {job}

    def test_what_is_cancelled_while_it_assembles_never_starts(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(2)]).id
        workers(rig.store, "w1", "w2")
        sit(rig.store, "w1")
        rig.store.cancel(job, [(1, 1)], "no more", at(1))
        assert sit(rig.store, "w2", now=1).leases == ()
        assert look(rig.store, "w1", now=2).seat is None
        recount(rig.store)

    def test_a_paused_job_assembles_nothing(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(2)]).id
        workers(rig.store, "w1", "w2")
        sit(rig.store, "w1")
        rig.store.set_phase(job, "paused", at(1))
        assert sit(rig.store, "w2", now=1).leases == ()
        rig.store.set_phase(job, "active", at(2))
        assert len(started(rig.store, "w1", "w2", now=4)) == 2

    def test_all_ends_become_one_attempt(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(2)]).id
        workers(rig.store, "w1", "w2")
        one, two = started(rig.store, "w1", "w2")
        assert say(rig.store, "w2", end_of(two), now=3).refused == ()
        assert look(rig.store, "w1", now=3).gang_ends == ()
        (ends,) = say(rig.store, "w1", end_of(one), now=4).gang_ends
        assert (ends.job, ends.task, ends.fence, ends.cause) == (job, 1, one.fence, None)
        assert [end.attempt.outcome for end in ends.ends if end] == [Outcome.SUCCEEDED] * 2
        assert look(rig.store, "w1", now=4).gang_ends == (ends,)
        assert look(rig.store, "w2", now=4).gang_ends == ()
        assert states(rig.store, job) == {1: "leased"} and list(rig.store.attempts(job)) == []
        answer = say(rig.store, "w1", whole(one), now=5)
        assert answer.refused == () and answer.gang_ends == ()
        assert states(rig.store, job) == {1: "done"} and len(list(rig.store.attempts(job))) == 1
        recount(rig.store)

    def test_the_first_bad_end_ends_the_others(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(3)]).id
        workers(rig.store, "w1", "w2", "w3")
        one, two, three = started(rig.store, "w1", "w2", "w3")
        say(rig.store, "w2", end_of(two, Outcome.FAILED, reason="exit code 1"), now=1)
        key = (job, 1, one.fence)
        assert look(rig.store, "w1", now=1).revoked == (key,)
        assert look(rig.store, "w3", now=1).revoked == (key,)
        assert look(rig.store, "w2", now=1).revoked == ()
        say(rig.store, "w3", end_of(three, Outcome.CANCELLED), now=2)
        (ends,) = say(rig.store, "w1", end_of(one, Outcome.CANCELLED), now=2).gang_ends
        assert ends.cause == 1
        cause = ends.ends[1]
        assert cause is not None and isinstance(cause.verdict, Failed) and cause.attempt.reason == "exit code 1"
        say(rig.store, "w1", whole(one, Outcome.FAILED, Failed(reason="rank 1: exit code 1")), now=3)
        assert states(rig.store, job) == {1: "failed"}
        assert all(look(rig.store, worker, now=4).revoked == () for worker in ("w1", "w2", "w3"))
        recount(rig.store)

    def test_a_member_handed_back_ends_the_gang(self, rig: Rig) -> None:
        submit(rig.store, [gang(2)])
        workers(rig.store, "w1", "w2")
        one, two = started(rig.store, "w1", "w2")
        assert two.gang is not None
        unharmed = Commit(
            job=two.job, task=two.task, fence=two.fence, attempt=None, verdict=Returned(past=two.past), seat=1
        )
        say(rig.store, "w2", unharmed, now=1)
        (ends,) = say(rig.store, "w1", end_of(one, Outcome.CANCELLED), now=2).gang_ends
        assert ends.cause == 1 and ends.ends[1] is None

    def test_a_member_whose_worker_leaves_is_handed_back(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(2)]).id
        workers(rig.store, "w1", "w2")
        one, _ = started(rig.store, "w1", "w2")
        rig.store.leave("w2", at(1))
        assert look(rig.store, "w1", now=1).revoked == ((job, 1, one.fence),)
        (ends,) = say(rig.store, "w1", end_of(one, Outcome.CANCELLED), now=2).gang_ends
        assert ends.cause == 1

    def test_a_member_whose_worker_dies_is_reaped(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(3)]).id
        workers(rig.store, "w1", "w2", "w3")
        one, two, three = started(rig.store, "w1", "w2", "w3")
        for worker in ("w1", "w3"):
            look(rig.store, worker, now=25)
        (found,) = rig.store.expired(at(40))
        assert found.gang == two.gang and (found.fence, found.host) == (two.fence, "h-w2")
        assert say(rig.store, "w3", end_of(found, Outcome.LOST, reason="its worker went away"), now=40).refused == ()
        assert rig.store.expired(at(41)) == ()
        assert look(rig.store, "w2", now=41).stale
        assert look(rig.store, "w1", now=41).revoked == ((job, 1, one.fence),)
        say(rig.store, "w3", end_of(three, Outcome.CANCELLED), now=42)
        (ends,) = say(rig.store, "w1", end_of(one, Outcome.CANCELLED), now=42).gang_ends
        assert ends.cause == 1
        say(rig.store, "w1", whole(one, Outcome.LOST, LOST), now=43)
        assert states(rig.store, job) == {1: "ready"} and len(list(rig.store.attempts(job))) == 1
        recount(rig.store)

    def test_when_its_leader_dies_a_gang_is_lost_and_its_members_end(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(2)]).id
        workers(rig.store, "w1", "w2", "w3")
        one, two = started(rig.store, "w1", "w2")
        look(rig.store, "w2", now=25)
        look(rig.store, "w3", now=25)
        (found,) = rig.store.expired(at(40))
        assert found.gang is None and found.fence == one.fence
        lost = Commit(job=job, task=found.task, fence=found.fence, attempt=attempt(found, Outcome.LOST), verdict=LOST)
        assert say(rig.store, "w3", lost, now=40).refused == ()
        assert look(rig.store, "w2", now=41).revoked == ((job, 1, two.fence),)
        assert say(rig.store, "w2", end_of(two), now=42).refused == ()
        assert look(rig.store, "w2", now=42).revoked == ()
        assert states(rig.store, job) == {1: "ready"}
        again = started(rig.store, "w2", "w3", now=43)
        assert {lease.attempt for lease in again} == {2} and again[0].fence > two.fence
        recount(rig.store)

    def test_a_silent_member_of_a_gang_that_is_gone_has_to_start_over(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(2)]).id
        workers(rig.store, "w1", "w2", "w3")
        one, _ = started(rig.store, "w1", "w2")
        look(rig.store, "w3", now=25)
        found = next(lease for lease in rig.store.expired(at(40)) if lease.gang is None)
        lost = Commit(job=job, task=found.task, fence=found.fence, attempt=attempt(found, Outcome.LOST), verdict=LOST)
        assert found.fence == one.fence and say(rig.store, "w3", lost, now=40).refused == ()
        assert rig.store.expired(at(41)) == ()  # nothing is left to reap of it, and it still runs its member
        assert look(rig.store, "w2", now=42).stale
        recount(rig.store)

    def test_a_stale_member_changes_nothing(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(2)]).id
        workers(rig.store, "w1", "w2", "w3")
        one, two = started(rig.store, "w1", "w2")
        rig.store.leave("w1", at(1))
        register(rig.store, "w1", "h-w1", 1)
        new_one, new_three = started(rig.store, "w1", "w3", now=3)
        assert new_one.fence != one.fence
        assert look(rig.store, "w2", now=3).revoked == ((job, 1, two.fence),)
        say(rig.store, "w2", end_of(two, Outcome.FAILED), now=4)
        say(rig.store, "w2", end_of(two, Outcome.FAILED), now=4)
        assert look(rig.store, "w1", now=5).revoked == () and look(rig.store, "w3", now=5).revoked == ()
        foreign = end_of(new_three, Outcome.FAILED)
        assert say(rig.store, "w2", foreign, now=5).refused == ((job, 1, new_three.fence),)
        assert say(rig.store, "w1", whole(one), now=5).refused == ((job, 1, one.fence),)
        assert states(rig.store, job) == {1: "leased"}
        recount(rig.store)

    def test_an_end_counts_once(self, rig: Rig) -> None:
        submit(rig.store, [gang(2)])
        workers(rig.store, "w1", "w2")
        one, two = started(rig.store, "w1", "w2")
        say(rig.store, "w2", end_of(two), now=1)
        assert say(rig.store, "w2", end_of(two), now=1).refused == ((two.job, 1, two.fence),)
        assert look(rig.store, "w1", now=1).gang_ends == ()
        assert len(say(rig.store, "w1", end_of(one), now=2).gang_ends) == 1

    def test_who_leads_may_tell_its_end_again_while_the_gang_waits_and_no_longer(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(3)]).id
        workers(rig.store, "w1", "w2", "w3")
        one, two, three = started(rig.store, "w1", "w2", "w3")
        for second in (1, 2):
            told = say(rig.store, "w1", end_of(one), now=second)
            assert told.refused == () and told.gang_ends == ()
        assert say(rig.store, "w3", end_of(one), now=2).refused == ((job, 1, one.fence),)
        say(rig.store, "w2", end_of(two), now=3)
        assert say(rig.store, "w1", end_of(one), now=3).gang_ends == ()
        say(rig.store, "w3", end_of(three), now=4)
        (ends,) = say(rig.store, "w1", end_of(one), now=4).gang_ends
        assert [end.attempt.outcome for end in ends.ends if end] == [Outcome.SUCCEEDED] * 3
        say(rig.store, "w1", whole(one), now=5)
        assert say(rig.store, "w1", end_of(one), now=6).refused == ((job, 1, one.fence),)
        assert states(rig.store, job) == {1: "done"} and len(list(rig.store.attempts(job))) == 1
        recount(rig.store)

    def test_who_led_a_gang_that_is_gone_is_told_so(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(2)]).id
        workers(rig.store, "w1", "w2")
        one, two = started(rig.store, "w1", "w2")
        unharmed = Commit(job=job, task=one.task, fence=one.fence, attempt=None, verdict=Returned(past=one.past))
        assert say(rig.store, "w1", unharmed, now=1).refused == ()
        assert say(rig.store, "w1", end_of(one), now=2).refused == ((job, 1, one.fence),)
        assert look(rig.store, "w1", now=2).revoked == ()
        assert say(rig.store, "w2", end_of(two), now=2).refused == (), "the last of it"
        assert states(rig.store, job) == {1: "ready"}
        recount(rig.store)

    def test_the_user_cancels_a_running_gang(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(2)]).id
        workers(rig.store, "w1", "w2")
        one, two = started(rig.store, "w1", "w2")
        assert rig.store.cancel(job, [(1, 1)], "enough", at(1)) == 1
        key = (job, 1, one.fence)
        assert look(rig.store, "w1", now=1).revoked == (key,) and look(rig.store, "w2", now=1).revoked == (key,)
        say(rig.store, "w2", end_of(two, Outcome.CANCELLED), now=2)
        (ends,) = say(rig.store, "w1", end_of(one, Outcome.CANCELLED), now=2).gang_ends
        assert ends.cause == CANCELLED_BY_USER
        say(rig.store, "w1", whole(one, Outcome.CANCELLED, Cancelled()), now=3)
        (view,) = rig.store.tasks(job)
        assert (view.state.value, view.reason) == ("cancelled", "enough")
        recount(rig.store)

    def test_ordinary_tasks_pass_a_gang_that_assembles(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(2), TaskSpec(command="true")]).id
        workers(rig.store, "w1", "w2")
        sit(rig.store, "w1")
        assert [lease.task for lease in take(rig.store, 1, "w1")] == [2]
        assert states(rig.store, job) == {1: "ready", 2: "leased"}

    def test_an_edited_gang_assembles_anew(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(3)]).id
        workers(rig.store, "w1", "w2", "w3")
        sit(rig.store, "w1")
        rig.store.edit(job, [(1, Changes(requirement=Requirement(nodes=2)))], at(1))  # type: ignore[list-item]
        assert look(rig.store, "w1", now=3).seat is None
        members = started(rig.store, "w1", "w2", now=3)
        assert [lease.gang.size for lease in members if lease.gang] == [2, 2]

    def test_who_assembles_is_shown(self, rig: Rig) -> None:
        job = submit(rig.store, [gang(2)]).id
        workers(rig.store, "w1", "w2")
        sit(rig.store, "w1")
        seat = cast(Assembling, rig.store).assembling()
        assert seat is not None and (seat.job, seat.taken, seat.size) == (job, 1, 2)
        sit(rig.store, "w2")
        assert cast(Assembling, rig.store).assembling() is None
