"""What every store must do when workers come, fall silent, die and come back; and with clocks. See store_contract.py."""

from __future__ import annotations

from store_rig import (
    BOOT,
    Rig,
    at,
    back,
    commit,
    end,
    finish,
    ids,
    look,
    recount,
    register,
    states,
    submit,
    take,
)

from ergates.cluster.attempt import Outcome
from ergates.cluster.task_state import TaskState
from ergates.taskqueue.store import Cancelled, PastFailures, Returned


class WorkersContract:
    """Liveness, expiry, reaping, epochs, time that goes back."""

    def test_an_unknown_worker_is_stale(self, rig: Rig) -> None:
        job = submit(rig.store, 1).id
        register(rig.store)
        (lease,) = take(rig.store, 1)
        answer = end(rig.store, commit(lease), worker="nobody")
        assert answer.stale and answer.refused == ((job, 1, lease.fence),) and answer.offers == ()
        assert states(rig.store, job) == {1: "leased"}

    def test_a_silent_worker_is_found_after_the_lease_time(self, rig: Rig) -> None:
        job = submit(rig.store, 3).id
        register(rig.store, "w1")
        register(rig.store, "w2", "beta")
        leases = take(rig.store, 2, now=5)
        look(rig.store, "w2", now=34)
        assert rig.store.expired(at(35)) == ()
        look(rig.store, "w2", now=36)
        found = rig.store.expired(at(36))
        assert [(lease.job, lease.task, lease.fence, lease.attempt) for lease in found] == [
            (job, lease.task, lease.fence, 1) for lease in leases
        ]
        assert found[0].spec == leases[0].spec

    def test_a_lease_lives_as_long_as_its_worker_beats(self, rig: Rig) -> None:
        submit(rig.store, 1)
        register(rig.store)
        (lease,) = take(rig.store, 1)
        for second in range(25, 1500, 25):
            look(rig.store, now=second)
            assert rig.store.expired(at(second)) == ()
        assert end(rig.store, commit(lease), now=1510).refused == ()

    def test_the_reaper_commits_for_the_dead(self, rig: Rig) -> None:
        job = submit(rig.store, 3).id
        register(rig.store, "w1", "alpha")
        register(rig.store, "w2", "beta")
        take(rig.store, 2)
        look(rig.store, "w2", now=40)
        one, two = rig.store.expired(at(40))
        lost = Returned(past=PastFailures(losses=1))
        answer = end(rig.store, commit(one, lost, Outcome.LOST, worker="", host=""), worker="w2", now=40)
        assert answer.refused == ()
        ((_, task, made),) = rig.store.attempts(job)
        assert (task, made.outcome, made.worker, made.host) == (1, Outcome.LOST, "w1", "alpha")
        back_again = end(rig.store, commit(two), now=41)
        assert back_again.stale and back_again.refused == ((job, 2, two.fence),)
        assert [lease.task for lease in rig.store.expired(at(41))] == [2]
        assert end(rig.store, commit(two, lost, Outcome.LOST), worker="w2", now=41).refused == ()
        assert rig.store.expired(at(42)) == ()
        again = take(rig.store, 5, worker="w2", now=42)
        assert [(lease.task, lease.attempt, lease.past.losses) for lease in again] == [(1, 2, 1), (2, 2, 1), (3, 1, 0)]
        recount(rig.store)

    def test_who_comes_first_wins(self, rig: Rig) -> None:
        """A worker that beats before anybody committed for it has lost nothing."""
        job = submit(rig.store, 1).id
        register(rig.store, "w1")
        register(rig.store, "w2", "beta")
        (lease,) = take(rig.store, 1)
        look(rig.store, "w2", now=40)
        (found,) = rig.store.expired(at(40))
        assert not look(rig.store, "w1", now=41).stale
        lost = commit(found, Returned(past=PastFailures(losses=1)), Outcome.LOST)
        assert end(rig.store, lost, worker="w2", now=42).refused == ((job, 1, lease.fence),)
        assert end(rig.store, commit(lease), now=43).refused == ()
        assert len(list(rig.store.attempts(job))) == 1

    def test_a_live_workers_lease_cannot_be_taken(self, rig: Rig) -> None:
        submit(rig.store, 1)
        register(rig.store, "w1")
        register(rig.store, "w2", "beta")
        (lease,) = take(rig.store, 1)
        lost = commit(lease, Returned(past=PastFailures(losses=1)), Outcome.LOST)
        assert len(end(rig.store, lost, worker="w2").refused) == 1

    def test_a_reaped_worker_registers_again(self, rig: Rig) -> None:
        job = submit(rig.store, 2).id
        register(rig.store, "w1")
        register(rig.store, "w2", "beta")
        one, two = take(rig.store, 2)
        look(rig.store, "w2", now=40)
        rig.store.expired(at(40))
        end(rig.store, commit(one, Returned(past=PastFailures(losses=1)), Outcome.LOST), worker="w2", now=40)
        assert look(rig.store, "w1", now=41).stale
        register(rig.store, "w1", now=42)
        assert not look(rig.store, "w1", now=42).stale
        assert states(rig.store, job) == {1: "ready", 2: "ready"}
        assert end(rig.store, commit(two), now=42).refused == ((job, 2, two.fence),)
        recount(rig.store)

    def test_registering_again_is_a_new_epoch_without_leases(self, rig: Rig) -> None:
        job = submit(rig.store, 1).id
        register(rig.store)
        (lease,) = take(rig.store, 1)
        register(rig.store, now=1)
        assert states(rig.store, job) == {1: "ready"}
        assert len(end(rig.store, commit(lease)).refused) == 1
        assert list(rig.store.attempts(job)) == []

    def test_a_clean_good_bye_returns_everything_unharmed(self, rig: Rig) -> None:
        job = submit(rig.store, 3).id
        register(rig.store)
        take(rig.store, 2)
        rig.store.cancel(job, [(2, 2)], "no", at(0))
        rig.store.leave("w1", at(1))
        rig.store.leave("w1", at(1))
        rig.store.leave("stranger", at(1))
        assert states(rig.store, job) == {1: "ready", 2: "cancelled", 3: "ready"}
        assert look(rig.store).stale
        register(rig.store, "w2")
        assert [(lease.task, lease.attempt) for lease in take(rig.store, 3, worker="w2")] == [(1, 1), (3, 1)]
        recount(rig.store)

    # --- provably dead on this host -----------------------------------------------------------------

    def test_a_process_that_is_gone_is_dead_at_once(self, rig: Rig) -> None:
        submit(rig.store, 4)
        for number, worker in enumerate(["alive", "gone", "other", "zombie"], 1):
            register(rig.store, worker, rig.host, pid=number, start_ticks=100, boot_id=BOOT)
            take(rig.store, 1, worker=worker)
        rig.process(1, 100)
        rig.process(3, 999)
        rig.process(4, 100, state="Z")
        assert [lease.task for lease in rig.store.expired(at(1), BOOT)] == [2, 3, 4]

    def test_a_reboot_ends_every_worker_of_this_host(self, rig: Rig) -> None:
        submit(rig.store, 2)
        register(rig.store, "w1", rig.host, pid=1, start_ticks=100, boot_id="boot-0")
        register(rig.store, "w2", "elsewhere", pid=1, start_ticks=100, boot_id="boot-0")
        take(rig.store, 1, worker="w1")
        take(rig.store, 1, worker="w2")
        rig.process(1, 100)
        assert [lease.task for lease in rig.store.expired(at(1), BOOT)] == [1]

    def test_processes_of_other_hosts_are_not_looked_for(self, rig: Rig) -> None:
        submit(rig.store, 1)
        register(rig.store, "w1", "elsewhere", pid=77, start_ticks=100, boot_id=BOOT)
        take(rig.store, 1)
        assert rig.store.expired(at(1), BOOT) == ()
        assert rig.store.expired(at(1)) == ()

    # --- the clock is set back ----------------------------------------------------------------------

    def test_a_clock_set_back_makes_no_delay_longer(self, rig: Rig) -> None:
        submit(rig.store, 1)
        register(rig.store)
        end(rig.store, back(*take(rig.store, 1), delay=5))
        hour_ago = -3600.0
        store = rig.open()
        register(store, "w2", now=hour_ago)
        answer = look(store, "w2", now=hour_ago)
        assert answer.next_ready_ns is not None and answer.next_ready_ns <= at(hour_ago + 5)
        assert answer.offers == ()
        assert ids(take(store, 1, worker="w2", now=hour_ago + 5)) == [1]

    def test_a_clock_set_back_makes_no_lease_longer(self, rig: Rig) -> None:
        submit(rig.store, 1)
        register(rig.store)
        take(rig.store, 1)
        hour_ago = -3600.0
        store = rig.open()
        register(store, "w2", "beta", now=hour_ago)
        look(store, "w2", now=hour_ago + 31)
        assert [lease.task for lease in store.expired(at(hour_ago + 31))] == [1]

    def test_workers_of_before_and_after_the_change_live_together(self, rig: Rig) -> None:
        submit(rig.store, 2)
        register(rig.store, "old")
        take(rig.store, 1, worker="old")
        hour_ago = -3600.0
        store = rig.open()
        register(store, "new", "beta", now=hour_ago)
        take(store, 1, worker="new", now=hour_ago)
        for second in range(0, 300, 10):
            assert not look(rig.store, "old", now=second).stale
            assert not look(store, "new", now=hour_ago + second).stale
            assert rig.store.expired(at(second)) == ()
            assert store.expired(at(hour_ago + second)) == ()

    def test_a_delay_that_is_set_after_the_change(self, rig: Rig) -> None:
        job = submit(rig.store, 1).id
        register(rig.store)
        hour_ago = -3600.0
        store = rig.open()
        register(store, "w2", now=hour_ago)
        (lease,) = take(store, 1, worker="w2", now=hour_ago)
        end(store, back(lease, delay=hour_ago + 10), worker="w2", now=hour_ago)
        view = next(store.tasks(job))
        assert (view.state, view.not_before_ns) == (TaskState.DELAYED, at(hour_ago + 10))
        assert look(store, "w2", now=hour_ago + 9).offers == ()
        assert len(look(store, "w2", now=hour_ago + 10).offers) == 1

    def test_revoked_leases_of_the_dead_end_cancelled(self, rig: Rig) -> None:
        job = submit(rig.store, 1).id
        register(rig.store, "w1")
        register(rig.store, "w2", "beta")
        take(rig.store, 1)
        rig.store.set_phase(job, "cancelled", at(1))
        look(rig.store, "w2", now=40)
        (lease,) = rig.store.expired(at(40))
        end(rig.store, commit(lease, Returned(past=PastFailures(losses=1)), Outcome.LOST), worker="w2", now=40)
        assert states(rig.store, job) == {1: "cancelled"}
        assert rig.store.status(job).finished_ns == at(40)
        recount(rig.store)

    def test_a_worker_may_say_that_the_user_cancelled(self, rig: Rig) -> None:
        job = submit(rig.store, 1).id
        register(rig.store)
        (lease,) = take(rig.store, 1)
        end(rig.store, commit(lease, Cancelled(reason="halted")))
        assert [view.reason for view in rig.store.tasks(job)] == ["halted"]
        assert finish(rig.store, []).open_tasks == 0
