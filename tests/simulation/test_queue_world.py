"""A whole queue in virtual time: the same seed is the same world, faults break no law and everything ends, planted bugs are
found. `ERGATES_SOAK_SEEDS` sets the number of seeds of the long test (make soak); a failure names its seed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ergates.cluster.node import NodeCapacity
from ergates.cluster.task_state import TaskState
from ergates.errors import UsageError
from ergates.simulation.engine import Engine
from ergates.simulation.memory_store import MemoryStore
from ergates.simulation.queue_world import LEASE_NS, QueueWorld
from ergates.simulation.scenarios import SCENARIOS, Scenario, ramps, scenario_of, troubled
from ergates.simulation.simulate import BEST_FIXED, run_scenario, simulate_queue, trouble_for
from ergates.simulation.store_server import Request, StoreServer
from ergates.taskqueue.node_events import GiveBack, NodeAction, NodeEvent, NodeSampled
from ergates.taskqueue.node_policy import NodePolicy
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.policies import Policy, make_policy
from ergates.taskqueue.store import Commit, Returned
from ergates.units import SECOND_NS, Nanoseconds

SOAK_SEEDS = int(os.environ.get("ERGATES_SOAK_SEEDS", "2000"))
HOUR_NS = 3600 * SECOND_NS
STUCK_NS = 900 * SECOND_NS


def ours(capacity: NodeCapacity) -> Policy:
    return NodePolicy(capacity, NodeSettings())


def troubled_world(
    seed: int, *, store: MemoryStore | None = None, make: Callable[[NodeCapacity], Policy] = ours, **options: Any
) -> QueueWorld:
    engine, scenario = Engine(seed), troubled(seed)
    return QueueWorld(engine, scenario, make, plan=trouble_for(engine, scenario), store=store, **options)


# --- laws under faults ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(24))
def test_trouble_breaks_no_law_and_every_task_ends(seed: int) -> None:
    result = simulate_queue("troubled", "ours", [seed], faults=True, check=True)[0]
    assert result.finished
    assert result.done + result.failed == len(scenario_of("troubled", seed).tasks)
    assert result.oldest_given_back == 0


@pytest.mark.parametrize("policy", ["fixed", "kill-newest", "distcomp"])
def test_rivals_lose_no_task_either(policy: str) -> None:
    assert simulate_queue("troubled", policy, [3], faults=True, check=True)[0].finished


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_trouble_for_long(record_property: Callable[[str, object], None]) -> None:
    record_property("seeds", SOAK_SEEDS)
    for seed in range(1000, 1000 + SOAK_SEEDS):
        assert simulate_queue("troubled", "ours", [seed], faults=True, check=True)[0].finished, f"seed {seed}"


def test_the_trouble_is_real() -> None:
    """The plans do strike: over some seeds workers crash in every way, and messages get lost and doubled."""
    crashes = drains = lost = doubled = dropped = 0
    for seed in range(8):
        world = troubled_world(seed, check=False)
        assert world.run(HOUR_NS), f"seed {seed}"
        crashes += world.tally.crashes
        drains += world.tally.drains
        lost += world.network.lost
        doubled += world.network.duplicated
        dropped += world.engine.dropped
    assert crashes > 30 and drains > 2 and lost > 50 and doubled > 30 and dropped > 100


# --- the same seed is the same world --------------------------------------------------------------


def test_the_same_seed_gives_the_same_actions_and_another_seed_others() -> None:
    digests = [simulate_queue("troubled", "ours", [seed], faults=True, record=True)[0].digest for seed in (5, 5, 6)]
    assert digests[0] == digests[1] != digests[2]


def test_checking_and_recording_do_not_change_the_world() -> None:
    plain, checked = (
        simulate_queue("troubled", "ours", [4], faults=True, check=check, record=check)[0] for check in (False, True)
    )
    assert (plain.makespan_s, plain.attempts, plain.done) == (checked.makespan_s, checked.attempts, checked.done)


def test_hash_randomisation_and_processes_do_not_change_the_world() -> None:
    program = (
        "from ergates.simulation.simulate import simulate_queue\n"
        "print(simulate_queue('troubled', 'ours', [5], faults=True, record=True)[0].digest)"
    )
    digests = set()
    for hash_seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        run = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        digests.add(run.stdout.strip())
    digests.add(simulate_queue("troubled", "ours", [5], faults=True, record=True)[0].digest)
    assert len(digests) == 1


def test_several_processes_give_the_same_results_in_the_same_order() -> None:
    alone = simulate_queue("troubled", "fixed", [1, 2, 3])
    assert simulate_queue("troubled", "fixed", [1, 2, 3], processes=2) == alone


# --- planted bugs are found -----------------------------------------------------------------------


def found(make_world: Callable[[int], QueueWorld], *, seeds: range = range(40), limit_ns: int = STUCK_NS) -> str:
    """What the simulation says about a bug, from the first seed that meets it; `no end` when tasks are stuck."""
    for seed in seeds:
        try:
            world = make_world(seed)
            if not world.run(limit_ns):
                return "no end"
            world.settle()
        except AssertionError as error:
            return str(error)
    return ""


class NoFence(MemoryStore):
    """Takes any commit for a task that is leased, whoever sends it."""

    def _may_commit(self, worker: str, commit: Commit, lease: Any) -> bool:
        return lease is not None


class NoOwner(MemoryStore):
    """Looks at the fence only when there is a lease, and lets a task be done twice."""

    def _commit(self, worker: str, commit: Commit, now_ns: int) -> bool:
        return super()._commit(worker, commit, now_ns) or True


class LosesReturned(MemoryStore):
    """Forgets when tasks that come back are to be ready again."""

    def _commit(self, worker: str, commit: Commit, now_ns: int) -> bool:
        accepted = super()._commit(worker, commit, now_ns)
        if accepted and isinstance(commit.verdict, Returned):
            self._job(commit.job)._delayed.pop(commit.task, None)
        return accepted


class Miscounts(MemoryStore):
    """Lets a counter drift."""

    def _commit(self, worker: str, commit: Commit, now_ns: int) -> bool:
        if isinstance(commit.verdict, Returned):
            self._job(commit.job).counts[TaskState.READY] += 1
        return super()._commit(worker, commit, now_ns)


class NeverExpires(MemoryStore):
    """Leaves leases with the dead."""

    def expired(self, now_ns: Nanoseconds, live_boot_id: str = "") -> tuple[Any, ...]:
        return ()


@pytest.mark.parametrize(
    ("bug", "says"),
    [
        (NoFence, ""),
        (NoOwner, "committed"),
        (LosesReturned, ""),
        (Miscounts, ""),
        (NeverExpires, "no end"),
    ],
)
def test_a_bad_store_is_found(bug: type[MemoryStore], says: str) -> None:
    caught = found(lambda seed: troubled_world(seed, store=bug(LEASE_NS)))
    assert caught and says in caught, f"{bug.__name__} was not found ({caught!r})"


class EvictsOldest(NodePolicy):
    """Gives back the oldest attempt now and then."""

    def handle(self, event: NodeEvent, now_ns: Nanoseconds) -> list[NodeAction]:
        actions = super().handle(event, now_ns)
        running = self.state.running
        if isinstance(event, NodeSampled) and len(running) > 3 and not any(one.leaving for one in running.values()):
            oldest = next(iter(running.values()))
            oldest.leaving = True
            actions.append(GiveBack(key=oldest.key, reason="", memory_floor_bytes=oldest.used, peak_bytes=oldest.used))  # type: ignore[arg-type]
        return actions


def test_giving_back_the_oldest_is_found() -> None:
    def make(capacity: NodeCapacity) -> Policy:
        return EvictsOldest(capacity, NodeSettings())

    assert "oldest" in found(lambda seed: troubled_world(seed, make=make))


def test_holding_too_many_cores_is_found() -> None:
    class Blind(NodePolicy):
        """Thinks that the node has twice its cores."""

        def __init__(self, capacity: NodeCapacity) -> None:
            doubled = NodeCapacity(
                cpus_milli=capacity.cpus_milli * 2,  # type: ignore[arg-type]
                memory_bytes=capacity.memory_bytes,
                confined=True,
            )
            super().__init__(doubled, NodeSettings())

    assert "of a core" in found(lambda seed: troubled_world(seed, make=Blind))


def test_carrying_out_a_repeated_request_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of a lost answer would belong to a live worker that does not know of them: tasks are stuck."""

    def handle(self: StoreServer, event: Any, now_ns: Nanoseconds) -> Any:
        request: Request = event
        self._answers.pop(request.worker, None)
        return original(self, event, now_ns)

    original = StoreServer.handle
    monkeypatch.setattr(StoreServer, "handle", handle)
    assert found(troubled_world)


def test_a_process_left_behind_is_found() -> None:
    world = troubled_world(3, check=False)
    assert world.run(HOUR_NS)
    node = next(iter(world.nodes.values()))
    node.machine.start(("j1", 1, 999), scenario_of("troubled", 3).tasks[0].behaviour, None, world.engine.now_ns)
    node.machine.freeze(("j1", 1, 999), world.engine.now_ns, frozen=True)
    with pytest.raises(AssertionError, match="still running after everything has ended"):
        world.settle()


# --- results --------------------------------------------------------------------------------------


def test_without_trouble_every_scenario_ends_well_under_our_policy() -> None:
    small: dict[str, Callable[[], Scenario]] = {
        "ramps": lambda: ramps(1, 40),
        "troubled": lambda: troubled(1),
    }
    for name, make in small.items():
        scenario = make()
        result = run_scenario(scenario, "ours", 1, settings=NodeSettings(), check=True)
        assert result.finished and result.makespan_s >= 0.99 * result.lower_bound_s, name
        assert result.attempts >= len(scenario.tasks) - sum(1 for task in scenario.tasks if task.spec.after)


def test_all_scenarios_are_the_same_for_the_same_seed() -> None:
    for name in SCENARIOS:
        one, two, other = scenario_of(name, 1), scenario_of(name, 1), scenario_of(name, 2)
        curves = [[task.behaviour.curve.levels for task in scenario.tasks] for scenario in (one, two, other)]
        assert curves[0] == curves[1] != curves[2], name
        assert [task.spec for task in one.tasks] == [task.spec for task in two.tasks]


def test_fixed_slots_survive_at_their_best_width_and_not_far_beyond() -> None:
    best = simulate_queue("ramps", BEST_FIXED, [2])[0]
    assert best.finished and best.kernel_kills == 0 and best.jobs is not None
    beyond = run_scenario(ramps(2), "fixed", 2, settings=NodeSettings(jobs=best.jobs + 2), stop_at_kernel_kill=True)
    assert beyond.kernel_kills > 0 and not beyond.finished


def test_wasted_work_is_what_did_not_succeed() -> None:
    calm = simulate_queue("ramps", "distcomp", [1])[0]
    assert (calm.evictions, calm.kernel_kills, calm.wasted_fraction) == (0, 0, 0.0)
    assert calm.attempts == calm.done == 200
    rough = simulate_queue("ramps", "kill-newest", [1])[0]
    assert rough.evictions > 0 and 0 < rough.wasted_fraction < 1 and rough.wasted_gb_hours > 0
    assert rough.done == 200


def test_wrong_names_are_refused_with_the_right_ones() -> None:
    with pytest.raises(UsageError, match="expected: one of ramps, mixed-shapes"):
        simulate_queue("rams", "ours", [1])
    with pytest.raises(UsageError, match="no memory policy"):
        simulate_queue("ramps", "theirs", [1])
    with pytest.raises(UsageError, match="cannot be simulated with faults"):
        simulate_queue("ramps", "omniscient", [1], faults=True)


def test_a_broken_law_names_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(self: QueueWorld, now_ns: Nanoseconds) -> None:
        assert now_ns < SECOND_NS, "planted"

    monkeypatch.setattr(QueueWorld, "check_invariants", check)
    with pytest.raises(AssertionError, match="planted") as caught:
        simulate_queue("troubled", "ours", [17], check=True)
    assert "seed 17" in "".join(caught.value.__notes__)


def test_rivals_are_made_by_name() -> None:
    for name in ("ours", "fixed", "distcomp", "kill-newest"):
        make_policy(name, ramps(1, 1).nodes[0], NodeSettings()).check_invariants()
