"""`erg simulate queue` as a function: scenarios, policies and seeds in, one record per run out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import msgspec
from msgspec import Struct

from ergates.cluster.node import NodeCapacity
from ergates.errors import UsageError
from ergates.simulation.engine import Engine
from ergates.simulation.faults import FaultPlan, draw_faults
from ergates.simulation.omniscient import lower_bound_s, schedule_omnisciently
from ergates.simulation.queue_world import QueueWorld
from ergates.simulation.scenarios import Scenario, scenario_of
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.policies import Policy, make_policy
from ergates.units import SECOND_NS

LIMIT_NS = 48 * 3600 * SECOND_NS
"""A run that takes longer, in virtual time, makes no progress."""
REFERENCE = "omniscient"
IN_ORDER = "omniscient-in-order"
ALL_PEAKS_KNOWN = "all-peaks-known"
REFERENCES = (REFERENCE, IN_ORDER, ALL_PEAKS_KNOWN)
"""Schedules that are computed (omniscient.py): by whole curves, the best of four list orders or the order of the input; and
by peaks held for life."""
BEST_FIXED = "best-fixed"
TROUBLE_NS = 60 * SECOND_NS


class QueueResult(Struct, frozen=True, kw_only=True):
    """One simulated run.

    Args:
        finished: every task ended within the limit.
        makespan_s: from submission to the end of the last task.
        lower_bound_s: nobody can be faster: the largest of longest task, memory-time over memory, core-time over cores.
        wasted_fraction: work of attempts that did not end in success, of all work.
        wasted_gb_hours: memory those attempts held, over time.
        memory_used_fraction: of the nodes' memory, averaged over the makespan.
        oldest_given_back: how often a policy gave back the attempt that guarantees progress.
        jobs: attempts at once, for fixed slots.
    """

    scenario: str
    policy: str
    seed: int
    finished: bool
    makespan_s: float
    lower_bound_s: float
    done: int = 0
    failed: int = 0
    attempts: int = 0
    wasted_fraction: float = 0.0
    wasted_gb_hours: float = 0.0
    memory_used_fraction: float = 0.0
    kernel_kills: int = 0
    evictions: int = 0
    freezes: int = 0
    oldest_given_back: int = 0
    crashes: int = 0
    jobs: int | None = None
    events: int = 0
    digest: str = ""


def simulate_queue(
    scenario: str,
    policy: str,
    seeds: Iterable[int],
    *,
    settings: NodeSettings | None = None,
    faults: bool = False,
    check: bool = False,
    record: bool = False,
    processes: int = 1,
) -> list[QueueResult]:
    """Run one scenario under one policy for each seed, in the order of the seeds.

    Args:
        scenario: a name of `SCENARIOS`.
        policy: a name that `make_policy` knows, `best-fixed` (the fastest `-P` that survives), or one of
            REFERENCES.
        seeds: each makes a workload of its own, and with `faults` its own trouble.
        settings: of every node.
        faults: let things go wrong for a minute first.
        check: check the laws after every event; a broken one raises AssertionError that names the seed.
        record: keep a hash of all actions in `digest`.
        processes: run so many at once.

    Raises:
        UsageError: no such scenario or policy.
    """
    scenario_of(scenario, 0)
    if policy not in REFERENCES and policy != BEST_FIXED:
        make_policy(policy, scenario_of(scenario, 0).nodes[0], NodeSettings())
    elif faults:
        raise UsageError(f"{policy} is computed, not run: it cannot be simulated with faults")
    one = partial(
        _run_seed, scenario, policy, settings=settings or NodeSettings(), faults=faults, check=check, record=record
    )
    if processes <= 1:
        return [one(seed) for seed in seeds]
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(one, seeds))


def run_scenario(
    scenario: Scenario,
    policy: str,
    seed: int,
    *,
    settings: NodeSettings,
    faults: bool = False,
    check: bool = False,
    record: bool = False,
    stop_at_kernel_kill: bool = False,
) -> QueueResult:
    """One run of a given scenario under a policy of a node.

    Raises:
        AssertionError: a law was broken, or no progress was made; names the seed.
    """
    engine = Engine(seed, record=record)
    plan = trouble_for(engine, scenario) if faults else None

    def policy_of(capacity: NodeCapacity) -> Policy:
        return make_policy(policy, capacity, settings)

    try:
        world = QueueWorld(
            engine,
            scenario,
            policy_of,
            plan=plan,
            check=check,
            protects_oldest=policy == "ours",
            stop_at_kernel_kill=stop_at_kernel_kill,
        )
        finished = world.run(LIMIT_NS)
        if check:
            assert finished or stop_at_kernel_kill, f"no end within {LIMIT_NS // SECOND_NS} s of virtual time"
            world.settle()
    except AssertionError as error:
        error.add_note(f"scenario {scenario.name}, policy {policy}, seed {seed}, at {engine.now_ns / 1e9:.6f} s")
        raise
    return _result(world, scenario, policy, seed, settings, record)


def trouble_for(engine: Engine, scenario: Scenario, *, forgets: bool = False) -> FaultPlan:
    """What goes wrong in the first minute of this seed's world; with `forgets` the server also loses its last moments."""
    return draw_faults(
        engine.stream("faults"),
        [f"node{number}" for number in range(1, len(scenario.nodes) + 1)],
        servers=("store",),
        until_ns=TROUBLE_NS,
        crash_every_ns=5 * SECOND_NS,
        partition_every_ns=15 * SECOND_NS,
        forget_every_ns=8 * SECOND_NS if forgets else 0,
    )


def _run_seed(
    scenario_name: str, policy: str, seed: int, *, settings: NodeSettings, faults: bool, check: bool, record: bool
) -> QueueResult:
    scenario = scenario_of(scenario_name, seed)
    if policy in REFERENCES:
        makespan_s = schedule_omnisciently(scenario, hold_peaks=policy == ALL_PEAKS_KNOWN, in_order=policy == IN_ORDER)
        return QueueResult(
            scenario=scenario.name,
            policy=policy,
            seed=seed,
            finished=True,
            makespan_s=makespan_s,
            lower_bound_s=lower_bound_s(scenario),
            done=len(scenario.tasks) - scenario.unfit(),
            failed=scenario.unfit(),
        )
    if policy == BEST_FIXED:
        return _best_fixed(scenario, seed, settings)
    return run_scenario(scenario, policy, seed, settings=settings, faults=faults, check=check, record=record)


def _best_fixed(scenario: Scenario, seed: int, settings: NodeSettings) -> QueueResult:
    """The fastest `-P N` under which the kernel kills nothing: what somebody would find who tried them all.

    Ends after two widths in a row that do not survive, or when more width brings nothing more.
    """
    best: QueueResult | None = None
    failed = 0
    for jobs in range(1, 10_000):
        result = run_scenario(
            scenario, "fixed", seed, settings=dataclasses.replace(settings, jobs=jobs), stop_at_kernel_kill=True
        )
        survived = result.finished and result.kernel_kills == 0
        failed = 0 if survived else failed + 1
        if survived and best is not None and result.makespan_s == best.makespan_s:
            break
        if survived and (best is None or result.makespan_s < best.makespan_s):
            best = result
        if failed == 2:
            break
    assert best is not None, "not even one task at a time survives"
    return msgspec.structs.replace(best, policy=BEST_FIXED)


def _result(
    world: QueueWorld, scenario: Scenario, policy: str, seed: int, settings: NodeSettings, record: bool
) -> QueueResult:
    tally, engine = world.tally, world.engine
    ended_ns = world.ended_ns
    makespan_ns = engine.now_ns if ended_ns is None else ended_ns
    status = world.store.status(world.job)
    work_ns = tally.useful_work_ns + tally.wasted_work_ns
    memory_bytes = sum(node.memory_bytes for node in scenario.nodes)
    return QueueResult(
        scenario=scenario.name,
        policy=policy,
        seed=seed,
        finished=ended_ns is not None,
        makespan_s=makespan_ns / SECOND_NS,
        lower_bound_s=lower_bound_s(scenario),
        done=status.counts["done"],
        failed=status.counts["failed"] + status.counts["cancelled"],
        attempts=tally.attempts,
        wasted_fraction=tally.wasted_work_ns / work_ns if work_ns else 0.0,
        wasted_gb_hours=tally.wasted_byte_ns / 1e9 / (3600 * SECOND_NS),
        memory_used_fraction=tally.used_byte_ns / (memory_bytes * makespan_ns) if makespan_ns else 0.0,
        kernel_kills=tally.kernel_kills + sum(node.machine.kernel_kills for node in world.nodes.values()),
        evictions=tally.evictions,
        freezes=tally.freezes,
        oldest_given_back=tally.given_back_oldest,
        crashes=tally.crashes,
        jobs=settings.jobs,
        events=engine.events,
        digest=engine.digest() if record else "",
    )
