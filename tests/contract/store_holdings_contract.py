"""What every store must say of the tasks that are out. See store_contract.py."""

from __future__ import annotations

from store_rig import Rig, at, back, end, finish, register, submit, take


class HoldingsContract:
    """Leases, the oldest first."""

    def test_what_is_held_and_by_whom_the_oldest_first(self, rig: Rig) -> None:
        job = submit(rig.store, 5).id
        register(rig.store, "w1")
        register(rig.store, "w2", "beta")
        assert rig.store.held(10) == ()
        one, two = take(rig.store, 2, now=1)
        (three,) = take(rig.store, 1, "w2", now=2)
        end(rig.store, back(one), now=3)
        (again,) = take(rig.store, 1, "w2", now=4)
        found = rig.open().held(10)
        assert [(held.job, held.task, held.worker, held.fence) for held in found] == [
            (job, 2, "w1", two.fence),
            (job, 3, "w2", three.fence),
            (job, 1, "w2", again.fence),
        ]
        assert [held.since_ns for held in found] in ([at(1), at(2), at(4)], [None] * 3)
        assert [held.task for held in rig.store.held(1)] == [2]
        finish(rig.store, [two])
        rig.store.leave("w2", at(5))
        assert rig.store.held(10) == ()
