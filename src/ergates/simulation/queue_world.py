"""A whole task queue in virtual time: one store, n nodes with their policies, a network between them, and what goes wrong.

Everything here is wiring: who hears what, and what an order does to the simulated machines. The decisions are those of
production (`taskqueue/`), the books those of `memory_store.py`. After every event the laws are checked that a run must never
break; at the end, with everything healed, that every task has ended and nothing is left running.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ergates.cluster.job import JobSpec, RetryLimits
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import JobId
from ergates.simulation.engine import Engine
from ergates.simulation.faults import (
    Crash,
    CutOff,
    Drain,
    Fault,
    FaultPlan,
    Forgotten,
    Heal,
    Rejoin,
    Saved,
    schedule_faults,
)
from ergates.simulation.memory_store import MemoryStore
from ergates.simulation.network import Network, NetworkConditions
from ergates.simulation.nodes import AttemptStopped, End, MachineTimes, SimulatedMachine
from ergates.simulation.scenarios import Scenario
from ergates.simulation.simulated_worker import (
    Began,
    DrainAsked,
    KillAll,
    Policy,
    Quit,
    SendRequest,
    SetTimer,
    SimulatedWorker,
    Step,
    Stopped,
)
from ergates.simulation.store_server import Reply, Snapshot, StoreServer
from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.node_events import (
    EndAttempt,
    FreezeAttempt,
    GiveBack,
    HandBack,
    RefuseTask,
    SetOomOrder,
    StartAttempt,
    ThawAttempt,
)
from ergates.units import Nanoseconds

PolicyFactory = Callable[[NodeCapacity], Policy]
LEASE_NS = 6_000_000_000
GRACE_NS = 5_000_000_000
SUPERVISOR_NS = 1_000_000_000
"""A worker's supervisor has killed what it left behind within this."""
PERFECT = NetworkConditions(delay_ns=Nanoseconds(200_000), spread=0.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Something happens on a machine by itself now."""

    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerGone:
    """The machine's supervisor has seen its worker's end and kills what that one had started."""

    keys: tuple[AttemptKey, ...]


@dataclass(slots=True)
class Node:
    """One node through all its lives."""

    name: str
    machine: SimulatedMachine
    worker: SimulatedWorker | None = None
    lives: int = 0
    moved_ns: int | None = None
    steps_left: int | None = None
    """The worker crashes after so many more steps."""
    crash: Crash | None = None
    back_after_ns: int = 0
    """A drained worker starts again so long after its good-bye."""


@dataclass(slots=True)
class Tally:
    """What a run came to. Work in ns, memory over time in byte-ns."""

    useful_work_ns: int = 0
    wasted_work_ns: int = 0
    wasted_byte_ns: float = 0.0
    used_byte_ns: float = 0.0
    evictions: int = 0
    freezes: int = 0
    kernel_kills: int = 0
    attempts: int = 0
    crashes: int = 0
    drains: int = 0
    forgotten: int = 0
    """Times the server came back without its last moments."""
    given_back_oldest: int = 0


class QueueWorld:
    """A running simulation.

    Args:
        engine: fresh; its seed decides everything.
        scenario: tasks, nodes, limits.
        make_policy: of one node.
        network: what links are like; with faults, while they last.
        plan: what goes wrong and until when.
        check: check the laws after every event (slower).
        store: in place of a plain MemoryStore; for tests that plant a bug.
        protects_oldest: whether the policy promises never to give back the oldest attempt.
        stop_at_kernel_kill: end at once when the kernel has to kill.
    """

    def __init__(
        self,
        engine: Engine,
        scenario: Scenario,
        make_policy: PolicyFactory,
        *,
        network: NetworkConditions = PERFECT,
        plan: FaultPlan | None = None,
        check: bool = True,
        store: MemoryStore | None = None,
        protects_oldest: bool = True,
        stop_at_kernel_kill: bool = False,
        times: MachineTimes | None = None,
    ) -> None:
        self.engine, self.scenario, self.plan = engine, scenario, plan
        self.tally = Tally()
        self._make_policy, self._protects_oldest = make_policy, protects_oldest
        self._stop_at_kernel_kill, self._times = stop_at_kernel_kill, times
        self._limits: RetryLimits = scenario.limits
        self.store = store or MemoryStore(lease_ns=LEASE_NS)
        self._store_changed = True
        self._ended_ns: int | None = None
        self._saved: dict[int, Snapshot] = {}
        self.network = Network(engine, plan.conditions if plan is not None else network)
        self.server = StoreServer(self.store, self._on_store_change)
        self.nodes = {
            f"node{number}": Node(f"node{number}", SimulatedMachine(capacity, times))
            for number, capacity in enumerate(scenario.nodes, 1)
        }
        job = JobSpec(key="simulated", name=scenario.name, retry_limits=scenario.limits)
        self.job: JobId = self.store.submit(job, [task.spec for task in scenario.tasks], engine.now_ns).id
        engine.attach("store", self.server.handle, self._perform_reply)
        for node in self.nodes.values():
            self._attach_machine(node)
            self._start_worker(node)
        if plan is not None:
            schedule_faults(engine, self, plan)
        if check:
            engine.check = self.check_invariants

    # --- running ----------------------------------------------------------------------------------

    def run(self, limit_ns: int) -> bool:
        """Go on until every task has ended, or `limit_ns`. Returns whether they all have."""
        self.engine.run(limit_ns)
        return self._ended_ns is not None

    def settle(self) -> None:
        """After the end: whatever still runs must be gone soon. Raises AssertionError when something is left."""
        self.engine.run(self.engine.now_ns + 60_000_000_000)
        left = [(node.name, key) for node in self.nodes.values() for key in node.machine.all_keys()]
        assert not left, f"still running after everything has ended: {left}"
        self.server.check_ledger(self.job)

    @property
    def ended_ns(self) -> int | None:
        """When the last task ended."""
        return self._ended_ns

    # --- laws -------------------------------------------------------------------------------------

    def check_invariants(self, now_ns: Nanoseconds) -> None:  # noqa: ARG002 - the shape of a check
        """Raises AssertionError. Called after every event; looks again at what that event can have changed."""
        if self._store_changed:
            self._store_changed = False
            self.store.check_invariants()
            status = self.store.status(self.job)
            assert sum(status.counts.values()) == len(self.scenario.tasks), f"tasks lost or invented: {status.counts}"
            assert status.counts["done"] == len(self.server.witness.done), "the store counts other tasks as done"
        node = self.nodes.get(self.engine.last_target)
        worker = None if node is None else node.worker
        if node is None or worker is None:
            return
        worker.policy.check_invariants()
        held = sum(
            worker.running[key].lease.spec.requirement.cpus_milli
            for key in node.machine.attempts
            if key in worker.running
        )
        assert held <= node.machine.capacity.cpus_milli, f"{node.name} holds {held} thousandths of a core"

    # --- workers ----------------------------------------------------------------------------------

    def _start_worker(self, node: Node) -> None:
        node.lives += 1
        life = f"{node.name}/{node.lives}"
        info = WorkerInfo(id=life, host=node.name, capacity=node.machine.capacity)
        node.worker = SimulatedWorker(
            name=node.name,
            info=info,
            policy=self._make_policy(node.machine.capacity),
            machine=node.machine,
            limits=self._limits,
            rng=self.engine.stream(f"{life}/backoff"),
        )

        def perform(step: Any, now_ns: Nanoseconds) -> None:
            self._perform(node, step, now_ns)

        self.engine.attach(node.name, node.worker.handle, perform)
        self.engine.at(self.engine.now_ns, node.name, Began())

    def _perform(self, node: Node, step: Step, now_ns: Nanoseconds) -> None:
        """One step of a worker. The crash between two steps comes before this one."""
        if node.steps_left is not None:
            node.steps_left -= 1
            if node.steps_left < 0 and node.crash is not None:
                self._strike(node, node.crash)
                return
        machine = node.machine
        match step:
            case SendRequest(request=request):
                self.network.send(node.name, "store", request)
                return
            case SetTimer(at_ns=at_ns, event=event):
                self.engine.at(at_ns, node.name, event)
                return
            case Quit():
                self.engine.crash(node.name)
                node.worker = None
                self.tally.drains += 1
                self._later(node.back_after_ns, lambda: self._start_worker(node))
                return
            case StartAttempt(key=key, after=after):
                self.tally.attempts += 1
                machine.start(key, self.scenario.tasks[key[1] - 1].behaviour, after, now_ns)
            case FreezeAttempt(key=key):
                self.tally.freezes += 1
                machine.freeze(key, now_ns, frozen=True)
            case ThawAttempt(key=key):
                machine.freeze(key, now_ns, frozen=False)
            case GiveBack(key=key):
                self._check_victim(node, key)
                self.tally.evictions += 1
                machine.kill(key, 0, now_ns)
            case RefuseTask(key=key):
                machine.kill(key, 0, now_ns)
            case HandBack(key=key) | EndAttempt(key=key):
                machine.kill(key, GRACE_NS, now_ns)
            case SetOomOrder(oldest_first=keys):
                machine.set_oom_order(keys)
            case KillAll():
                for key in machine.all_keys():
                    machine.kill(key, 0, now_ns)
            case _:
                raise TypeError(f"nobody performs {step!r}")
        self._watch(node)

    def _check_victim(self, node: Node, key: AttemptKey) -> None:
        """The law of progress: the oldest attempt that stays is not given back for memory."""
        worker = node.worker
        assert worker is not None
        staying = [
            other
            for other in node.machine.attempts
            if other in worker.running and (other == key or worker.running[other].order is None)
        ]
        if staying and staying[0] == key:
            self.tally.given_back_oldest += 1
            assert not self._protects_oldest, f"{node.name} gives back its oldest attempt {key}"

    def _perform_reply(self, reply: Reply, now_ns: Nanoseconds) -> None:  # noqa: ARG002 - the shape of a perform
        self.network.send("store", reply.to, reply.answer)

    def _on_store_change(self) -> None:
        self._store_changed = True
        if self._ended_ns is None and self.store.all_ended:
            self._ended_ns = self.engine.now_ns
            self.engine.stop()

    # --- machines ---------------------------------------------------------------------------------

    def _attach_machine(self, node: Node) -> None:
        def handle(event: Any, now_ns: Nanoseconds) -> None:
            if isinstance(event, WorkerGone):
                for key in event.keys:
                    node.machine.kill(key, 0, now_ns)
            elif event.at_ns == node.moved_ns:
                node.moved_ns = None
            self._watch(node)

        self.engine.attach(f"{node.name}/machine", handle)

    def _watch(self, node: Node) -> None:
        """Tell what is over, and be woken when the machine moves next."""
        now_ns = self.engine.now_ns
        machine = node.machine
        stopped = machine.take_stopped(now_ns)
        if machine.node_killed:
            self._strike(node, Crash(name=node.name, down_ns=Nanoseconds(5_000_000_000), whole_node=True))
            return
        if machine.kernel_kills and self._stop_at_kernel_kill:
            self.engine.stop()
            return
        if stopped:
            self._count(stopped)
            if self.engine.alive(node.name):
                self.engine.at(now_ns, node.name, Stopped(attempts=tuple(stopped)))
        next_ns = machine.next_ns()
        if next_ns is not None and (node.moved_ns is None or next_ns != node.moved_ns):
            node.moved_ns = next_ns
            self.engine.at(next_ns, f"{node.name}/machine", Moved(at_ns=next_ns))

    def _count(self, stopped: Iterable[AttemptStopped]) -> None:
        for attempt in stopped:
            self.tally.used_byte_ns += attempt.byte_ns
            if attempt.end is End.BY_ITSELF and attempt.exit_code == 0:
                self.tally.useful_work_ns += attempt.work_ns
            else:
                self.tally.wasted_work_ns += attempt.work_ns
                self.tally.wasted_byte_ns += attempt.byte_ns

    # --- faults -----------------------------------------------------------------------------------

    def perform_fault(self, fault: Fault) -> None:
        """Let it happen. A crash of what is down already changes nothing."""
        match fault:
            case Crash(name="store"):
                self._crash_store(fault)
            case Saved(number=number):
                self._saved[number] = self.server.snapshot()
            case Forgotten():
                self._forget(fault)
            case Crash(name=name, after_actions=steps):
                node = self.nodes[name]
                if not self.engine.alive(name):
                    return
                if steps:
                    node.steps_left, node.crash = steps, fault
                else:
                    self._strike(node, fault)
            case Drain(name=name, down_ns=down_ns, give_back=give_back):
                self.nodes[name].back_after_ns = down_ns
                self.engine.at(self.engine.now_ns, name, DrainAsked(give_back=give_back))
            case CutOff(names=names):
                self.network.partition(names)
            case Rejoin():
                self.network.heal()
            case Heal():
                self.network.heal()
                self.network.conditions = PERFECT
                for node in self.nodes.values():
                    node.steps_left = node.crash = None

    def _crash_store(self, crash: Crash) -> None:
        if not self.engine.crash("store"):
            return
        self.tally.crashes += 1

        def restart() -> None:
            self.engine.attach("store", self.server.handle, self._perform_reply)

        self._later(crash.down_ns, restart)

    def _forget(self, fault: Forgotten) -> None:
        """What was saved on the way that is forgotten now is gone, too: then a later process has all of this one."""
        if self._ended_ns is not None or not self.engine.crash("store"):
            return
        self.tally.forgotten += 1
        known = self._saved.pop(fault.number, None)
        self._saved.clear()

        def restart() -> None:
            self.server.start_again(known, self.engine.now_ns)
            self.engine.attach("store", self.server.handle, self._perform_reply)

        self._later(fault.down_ns, restart)

    def _strike(self, node: Node, crash: Crash) -> None:
        """The worker dies; with the whole node, everything on it does at once, else the supervisor kills it soon."""
        node.steps_left = node.crash = None
        was_up = self.engine.crash(node.name)
        node.worker = None
        self.tally.crashes += 1
        if crash.whole_node:
            self._count(node.machine.take_all(self.engine.now_ns))
            self.tally.kernel_kills += node.machine.kernel_kills
            node.machine = SimulatedMachine(node.machine.capacity, self._times)
            node.moved_ns = None
        else:
            keys = tuple(node.machine.all_keys())
            wait_ns = self.engine.stream("supervisor").randrange(SUPERVISOR_NS)
            self.engine.at(self.engine.now_ns + wait_ns, f"{node.name}/machine", WorkerGone(keys=keys))
        if was_up:  # else its restart is on the way already
            self._later(crash.down_ns, lambda: self._start_worker(node))

    def _later(self, wait_ns: int, action: Callable[[], None]) -> None:
        """Restarts are events of the world, which never crashes."""
        if not self.engine.alive("world"):
            self.engine.attach("world", lambda event, _now: event())
        at_ns = self.engine.now_ns + wait_ns
        if self.plan is not None and self.engine.now_ns <= self.plan.healed_ns:
            at_ns = min(at_ns, self.plan.healed_ns)
        self.engine.at(at_ns, "world", action)
