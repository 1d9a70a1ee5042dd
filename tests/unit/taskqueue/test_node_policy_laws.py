"""Laws of every node policy, under any order of events that a worker could tell it.

A tiny worker carries out the actions and checks each against its own books; Hypothesis chooses what happens next.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ergates.cluster.node import NamedResource, NodeCapacity
from ergates.cluster.task import Alternative, JobId, Requirement, TaskId, TaskSpec
from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.node_events import (
    AskForTasks,
    AttemptEnded,
    CheckPaths,
    DrainStarted,
    EndAttempt,
    FreezeAttempt,
    GiveBack,
    HandBack,
    LeasesRevoked,
    NodeAction,
    NodeChanged,
    NodeEvent,
    NodeSampled,
    OffersSeen,
    PathsChecked,
    RefuseTask,
    SetOomOrder,
    StartAttempt,
    TasksLeased,
    ThawAttempt,
    WakeAt,
)
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.policies import make_policy
from ergates.taskqueue.store import Lease, Offer, PastFailures
from ergates.units import GIB, MIB, Bytes, MilliCpus, Nanoseconds

CAPACITY = NodeCapacity(
    cpus_milli=MilliCpus(3000),
    cpu_ids=(0, 1, 2),
    memory_bytes=Bytes(4 * GIB),
    confined=True,
    resources=(NamedResource(name="gpus", amount=2, indices=(0, 1)),),
)
REQUIREMENTS = (
    Requirement(cpus_milli=MilliCpus(50)),
    Requirement(cpus_milli=MilliCpus(1000)),
    Requirement(cpus_milli=MilliCpus(2500), memory_bytes=Bytes(GIB)),
    Requirement(cpus_milli=MilliCpus(500), resources=(("gpus", 1),)),
    Requirement(cpus_milli=MilliCpus(9000)),
    Requirement(cpus_milli=MilliCpus(2000), alternatives=(Alternative(resources=(("gpus", 1),)), Alternative())),
    Requirement(cpus_milli=MilliCpus(100), paths=("/data",)),
)
COMMANDS = ("/bin/true", "sim --seed 1 --size 10", "sim --seed 2 --size 999", "sort big.csv")


class TinyWorker:
    """Plays the worker: leases, runs, samples; fails the test on an action that makes no sense."""

    def __init__(self, name: str) -> None:
        self.ours = name == "ours"
        self.policy = make_policy(name, CAPACITY, NodeSettings(pin=True))
        self.now_ns = 1_000_000_000
        self.tasks = 0
        self.staged: dict[AttemptKey, Lease] = {}
        self.places: list[list[AttemptKey]] = []
        """Attempts by slot; the first of each runs."""
        self.order: list[AttemptKey] = []
        """What runs, oldest first."""
        self.leases: dict[AttemptKey, Lease] = {}
        self.cpus_milli = int(CAPACITY.cpus_milli)
        self.cores: dict[AttemptKey, int] = {}
        self.indices: dict[AttemptKey, tuple[tuple[str, tuple[int, ...]], ...]] = {}
        self.frozen: set[AttemptKey] = set()
        self.ending: set[AttemptKey] = set()
        self.used: dict[AttemptKey, int] = {}
        self.wants: AskForTasks | None = None
        self.draining = False
        self.to_look_for: tuple[str, ...] = ()
        self.met: set[str] = set()

    def tell(self, event: NodeEvent) -> None:
        before = len(self.places)
        for action in self.policy.handle(event, Nanoseconds(self.now_ns)):
            self.perform(action)
        self.policy.check_invariants()
        held = sum(self.cores[place[0]] for place in self.places)
        assert held <= (self.cpus_milli if len(self.places) > before else CAPACITY.cpus_milli)
        gpus = [gpu for place in self.places for _, got in self.indices[place[0]] for gpu in got]
        assert len(gpus) == len(set(gpus)), "a gpu is held twice"
        staying = [key for key in self.order if key not in self.ending]
        assert not staying or staying[0] not in self.frozen, "the oldest is frozen"

    def perform(self, action: NodeAction) -> None:
        self.met.add(type(action).__name__)
        match action:
            case StartAttempt(key=key, after=after):
                assert not self.draining
                self.leases[key] = self.staged.pop(key)
                self.indices[key] = action.indices
                self.cores[key] = (action.alternative or self.leases[key].spec.requirement).cpus_milli
                if after is None:
                    self.places.append([key])
                    self.order.append(key)
                    self.used[key] = 0
                else:
                    (place,) = [place for place in self.places if place[-1] == after]
                    place.append(key)
            case FreezeAttempt(key=key):
                assert key in self.order and key not in self.frozen
                self.frozen.add(key)
            case ThawAttempt(key=key):
                self.frozen.remove(key)
            case GiveBack(key=key):
                assert key in self.order
                staying = [one for one in self.order if one not in self.ending]
                assert not self.ours or key != staying[0], "the oldest is given back for memory"
                assert action.memory_floor_bytes <= CAPACITY.memory_bytes
                self.ending.add(key)
            case RefuseTask(key=key) | EndAttempt(key=key) | HandBack(key=key):
                if self.staged.pop(key, None) is None:
                    assert any(key in place for place in self.places) and key not in self.ending
                    self.ending.add(key)
            case AskForTasks(wants=wants):
                assert not self.draining and all(want.count > 0 for want in wants)
                self.wants = action
            case SetOomOrder(oldest_first=keys):
                assert set(keys) <= set(self.order)
            case WakeAt(at_ns=at_ns):
                assert at_ns > self.now_ns
            case CheckPaths(paths=paths):
                self.to_look_for = paths

    # --- what may happen ----------------------------------------------------------------------------

    def lease_some(self, choice: int) -> None:
        requirement = REQUIREMENTS[choice % len(REQUIREMENTS)]
        priority = choice % 3
        offer = Offer(job=JobId("j"), class_id=0, requirement=requirement, priority=priority, waiting=1 + choice)
        wants, self.wants = self.wants, None
        leases = []
        for _ in range(min(wants.wants[0].count, 20) if wants is not None else 0):
            self.tasks += 1
            spec = TaskSpec(command=COMMANDS[choice % len(COMMANDS)], requirement=requirement, priority=priority)
            lease = Lease(
                job=JobId("j"), task=TaskId(self.tasks), fence=self.tasks, attempt=1, spec=spec, past=PastFailures()
            )
            leases.append(lease)
            self.staged["j", self.tasks, self.tasks] = lease
        if leases:
            self.tell(TasksLeased(leases=tuple(leases)))
        self.tell(OffersSeen(offers=(offer,)))

    def end_one(self, choice: int) -> None:
        keys = [key for place in self.places for key in place if key in self.ending] or [p[0] for p in self.places]
        if keys:
            self.finish(keys[choice % len(keys)], peak=choice * MIB, wall_ns=choice * 100_000)

    def finish(self, key: AttemptKey, peak: int, wall_ns: int) -> None:
        (place,) = [place for place in self.places if key in place]
        head = place[0] == key
        place.remove(key)
        if head:
            self.order.remove(key)
            self.used.pop(key)
            if place:
                self.order.append(place[0])
                self.used[place[0]] = 0
            else:
                self.places.remove(place)
        self.frozen.discard(key)
        gave_back = key in self.ending
        self.ending.discard(key)
        self.tell(
            AttemptEnded(
                key=key,
                wall_ns=Nanoseconds(wall_ns),
                peak_bytes=Bytes(peak),
                succeeded=not gave_back,
                gave_back=gave_back,
            )
        )

    def grow(self, choice: int) -> None:
        """Everything that is not frozen grows; sample it."""
        room = CAPACITY.memory_bytes - sum(self.used.values())
        for at, key in enumerate(self.used):
            if key not in self.frozen:
                self.used[key] += min(room // (len(self.used) + 1), (choice * (at + 1) % 97) * 8 * MIB)
        attempts = tuple((key, Bytes(size)) for key, size in self.used.items())
        self.tell(NodeSampled(used_bytes=Bytes(sum(self.used.values())), attempts=attempts))

    def revoke(self, choice: int) -> None:
        keys = [key for key in [*self.staged, *self.leases] if key not in self.ending]
        if keys:
            self.tell(LeasesRevoked(keys=(keys[choice % len(keys)],)))

    def look(self, choice: int) -> None:
        """Answer what was asked for; the file is there, or (seldom) not."""
        if self.to_look_for:
            paths, self.to_look_for = self.to_look_for, ()
            self.tell(PathsChecked(paths=paths, missing=paths if choice % 5 == 0 else ()))

    def limit(self, choice: int) -> None:
        """People give the node fewer cores, or all of them back."""
        self.cpus_milli = (1000, 2500, 3000)[choice % 3]
        self.tell(NodeChanged(capacity=replace(CAPACITY, cpus_milli=MilliCpus(self.cpus_milli))))

    def drain(self, choice: int) -> None:
        if choice % 40 == 1:  # seldom, for it ends the interesting part
            self.draining = True
            self.tell(DrainStarted(give_back=choice % 80 == 1))


STEPS: tuple[Callable[[TinyWorker, int], None], ...] = (
    TinyWorker.lease_some,
    TinyWorker.lease_some,
    TinyWorker.end_one,
    TinyWorker.grow,
    TinyWorker.grow,
    TinyWorker.grow,
    TinyWorker.revoke,
    TinyWorker.look,
    TinyWorker.limit,
    TinyWorker.drain,
)


def walk(name: str, seed: int) -> TinyWorker:
    """A hundred random steps. Drawn here and not by Hypothesis, whose small numbers hardly ever fill a node."""
    rng = random.Random(f"{seed}/walk")
    worker = TinyWorker(name)
    worker.lease_some(0)
    for _ in range(100):
        worker.now_ns += rng.choice((1, 10_000_000, 100_000_000, 2_000_000_000))
        rng.choice(STEPS)(worker, rng.randint(0, 200))
    return worker


@pytest.mark.parametrize("name", ["ours", "distcomp", "fixed", "kill-newest"])
@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**64))
def test_any_order_of_events(name: str, seed: int) -> None:
    walk(name, seed)


@pytest.mark.parametrize("name", ["ours", "distcomp", "fixed", "kill-newest"])
@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**64))
def test_every_leased_task_is_dealt_with_in_the_end(name: str, seed: int) -> None:
    worker = walk(name, seed)
    worker.limit(2)  # heal: all cores are back,
    worker.tell(OffersSeen(offers=()))  # asks are answered, everything that runs ends, nothing new comes
    for _ in range(2000):
        worker.now_ns += 3_000_000_000
        if not worker.staged and not worker.places:
            return
        if worker.places:
            worker.finish((sorted(worker.ending) or [worker.places[0][0]])[0], peak=MIB, wall_ns=10_000_000)
        else:
            worker.tell(NodeSampled(used_bytes=Bytes(0), attempts=()))
    raise AssertionError(f"left over: {worker.staged} {worker.places}")


def test_the_walks_come_across_every_action() -> None:
    met: set[str] = set()
    for seed in range(60):
        met |= walk("ours", seed).met
    assert met >= {action.__name__ for action in get_args(NodeAction)}
