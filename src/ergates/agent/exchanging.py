"""What a worker and its store say to each other, and when: commits and wants out, leases and offers in, signs of life.

What ended waits a moment for others to share its transaction. What could not be delivered is kept and offered again: a
full store after a second, an absent one with growing pauses. Nothing here decides about tasks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from ergates.agent.copying import Copying, any_copies
from ergates.agent.observer import AttemptObserver
from ergates.agent.peers import Peers
from ergates.agent.store_link import StoreLink
from ergates.clock import Clock
from ergates.cluster.job import JobSpec
from ergates.cluster.node import WorkerInfo, WorkerLoad
from ergates.cluster.task import JobId
from ergates.errors import StoreError, StoreFullError, StoreUnavailableError
from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.reaping import lost_commits
from ergates.taskqueue.store import Commit, Done, Exchanged, Exchanger, History, Lease, PastPeak, Reader, Want
from ergates.units import SECOND_NS, Nanoseconds, format_duration

COMMIT_DELAY_NS = 20_000_000
"""A finished attempt waits at most this long for others to share its transaction."""
COMMIT_BATCH = 256
LOAD_NS = SECOND_NS
"""How often at most the store is told how the node stands."""
LOOK_GAP_NS = 20_000_000
"""A bell that rings all the time is not answered more often than this."""
READY_GAP_NS = 200_000_000
"""Delayed tasks that become ready one after another are not looked for more often than this."""
RETRY_FIRST_NS, RETRY_MOST_NS = SECOND_NS // 2, 5 * SECOND_NS
"""Pauses while the store is away, each twice the one before."""
FULL_RETRY_NS = SECOND_NS
LATE_NS = SECOND_NS
"""An answer that took so long says that the server, or we, stood still: beats of others may have waited behind our question."""
NEVER_NS = 1 << 62
GENERATION_BITS = 32
"""Above these a fence holds the generation: it grows with every other server process (drivers/stores/redis)."""


class Store(Exchanger, Reader, History, Protocol):
    """The sides of the store that a worker uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often a worker talks to its store without a reason.

    Args:
        idle_ns: with nothing to do, the longest time between two exchanges.
        busy_ns: the same while attempts run.
        reap_ns: how often to look for leases of workers that are gone.
        reap_first_ns: the first time after registering.
        announced: the store rings when something is there; else a delayed task is found by looking every `idle_ns`.
    """

    idle_ns: int
    busy_ns: int
    reap_ns: int = 10 * SECOND_NS
    reap_first_ns: int = 0
    announced: bool = False


NEAR = Rhythm(idle_ns=200_000_000, busy_ns=SECOND_NS)
"""A store that is a file here: looking costs little, and nothing announces what comes."""
FAR = Rhythm(
    idle_ns=10 * SECOND_NS,
    busy_ns=5 * SECOND_NS,
    reap_ns=15 * SECOND_NS,
    reap_first_ns=15 * SECOND_NS,
    announced=True,
)
"""A server that rings. A lease lasts 30 s there: three beats. Who comes first after an outage must not reap those whose
beats are only a moment late, so nobody reaps in the first moments."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A commit to be delivered; `lease` is None when observers need not hear of it."""

    commit: Commit
    lease: Lease | None = None
    result: bytes | None = None


class Listener(Protocol):
    """The worker: hears what the store said."""

    def holds(self, key: AttemptKey) -> bool:
        """Whether this lease is one of ours, as far as we know."""
        ...

    def answered(self, answer: Exchanged, leases: tuple[Lease, ...]) -> None:
        """`leases` can be started: what their jobs say is known."""
        ...

    def expelled(self) -> None:
        """Our leases are gone: end everything, then call `readmit`."""
        ...

    def store_is_full(self, error: StoreFullError) -> None: ...

    def store_has_room(self) -> None: ...

    def store_is_away(self, words: str) -> None:
        """In words; empty when it is back."""
        ...


class Exchanging:
    """One worker's talk with its store.

    Args:
        worker: who is told.
        jobs: to serve; empty for all.
        load: how the node stands, for people; None where nobody asks.
        load_changed: whether that is worth telling before the next beat.
        peers: kept up to date where there are any.
        copying: looks for attempts of others that this worker should run, too; None where there is only one node.
        spare: whether it has room that nothing on offer could use.
    """

    def __init__(
        self,
        worker: Listener,
        info: WorkerInfo,
        store: Store,
        link: StoreLink,
        clock: Clock,
        *,
        rhythm: Rhythm,
        jobs: Sequence[JobId],
        observers: Sequence[AttemptObserver],
        load: Callable[[], WorkerLoad] | None,
        load_changed: Callable[[], bool],
        unfit: Callable[[], tuple[int, ...]],
        learned: Callable[[], list[PastPeak]],
        peers: Peers | None,
        copying: Copying | None = None,
        spare: Callable[[], bool] = lambda: False,
    ) -> None:
        self._worker, self._info, self._store, self._link, self._clock = worker, info, store, link, clock
        self._rhythm, self._jobs, self._observers = rhythm, tuple(jobs), tuple(observers)
        self._load, self._load_changed = load, load_changed
        self._unfit, self._learned, self._peers = unfit, learned, peers
        self._copying, self._spare = copying, spare
        self._random = random.Random(f"{info.id}/backoff")
        self.specs: dict[JobId, JobSpec] = {}
        self._generation, self._fresh = 0, set[JobId]()  # the jobs whose specs were read from this server process
        """Of every job whose leases were handed to the worker."""
        self.wants: tuple[Want, ...] = ()
        self.open_tasks: int | None = None
        self.orders_seen = 0
        self.registered = False
        self.look = False
        """The store rang."""
        self._readmitted = True
        self._unspecified: list[Lease] = []
        """Leased, but what their job says is not known yet."""
        self._outbox: list[Ending] = []
        self._sent: list[Ending] = []
        self._oldest_ns = 0
        self._last_ns = self._next_reap_ns = self._next_load_ns = 0
        self._ready_ns: int | None = None
        self._not_before_ns = 0
        self._away_since_ns = 0
        self._failures = 0
        self._full = False

    # --- what the worker wants of it ----------------------------------------------------------

    def commit(self, commit: Commit, lease: Lease | None = None, result: bytes | None = None) -> None:
        """Deliver this with the next exchange."""
        if not self._outbox:
            self._oldest_ns = self._clock.now_ns()
        self._outbox.append(Ending(commit, lease, result))

    @property
    def undelivered(self) -> int:
        """Commits and leases that the store, or the worker, does not know of yet."""
        return len(self._outbox) + len(self._sent) + len(self._unspecified)

    @property
    def refused(self) -> bool:
        """Whether the store is full or away: what is offered to it has to wait."""
        return self._full or bool(self._away_since_ns)

    def register(self) -> None:
        """Announce the worker, at once. Raises StoreError."""
        now = self._clock.now_ns()
        self._store.register(self._info, now)
        self._registered_at(now)

    def readmit(self) -> None:
        """Nothing of the old epoch runs any more: register again."""
        self._readmitted = True

    def turn(self, now: Nanoseconds, *, idle: bool) -> None:
        """Take in what the store answered, and ask what is due."""
        self._link.deliver()
        if self._link.busy or now < self._not_before_ns:
            return
        if not self.registered:
            if self._readmitted:
                self._link.ask(
                    lambda: self._store.register(self._info, now), lambda _: self._registered_at(now), self._failed
                )
            return
        # An exchange says that we live, so one comes first; but where one is always due, the dead must not wait for ever.
        reap_waited = self._last_ns >= self._next_reap_ns and not self.refused
        if now >= self._exchange_due_ns(idle) and not reap_waited:
            self.exchange(now)
        if self._link.busy or self.refused:
            return
        if now >= self._next_reap_ns:
            self.reap(now)
        elif self._peers is not None and self._peers.due(now, idle=idle):
            self._link.ask(self._peers.ask, self._peers.heard, self._failed)
        elif self._copying is not None and self._may_copy() and self._copying.due(now):
            self._link.ask(self._copying.ask, self._copying.heard, self._failed)

    def _may_copy(self) -> bool:
        """Whether looking for attempts to copy makes sense now: there is room, and a job whose tasks may run twice."""
        return bool(self.open_tasks) and any_copies(self.specs) and self._spare()

    def due_ns(self, *, idle: bool) -> int:
        """When `turn` has something to do, unless the store speaks first."""
        if self._link.busy or not (self.registered or self._readmitted):
            return NEVER_NS
        if not self.registered:
            return self._not_before_ns
        due_ns = self._exchange_due_ns(idle)
        if self._copying is not None and self._may_copy():
            due_ns = min(due_ns, self._copying.next_ns)
        return max(self._not_before_ns, due_ns if self.refused else min(due_ns, self._next_reap_ns))

    def _exchange_due_ns(self, idle: bool) -> int:
        copies_wanted = self._copying is not None and self._copying.wants
        if self.wants or copies_wanted or self._away_since_ns:  # who was away asks as soon as its pause is over
            return 0
        if self._outbox:
            return 0 if len(self._outbox) >= COMMIT_BATCH else self._oldest_ns + COMMIT_DELAY_NS
        due_ns = self._last_ns + (self._rhythm.idle_ns if idle else self._rhythm.busy_ns)
        if self.look:
            due_ns = min(due_ns, self._last_ns + LOOK_GAP_NS)
        if self._load is not None and self._load_changed():
            due_ns = min(due_ns, self._next_load_ns)
        if self._unspecified:
            due_ns = min(due_ns, self._last_ns + SECOND_NS)
        if self._rhythm.announced and self._ready_ns is not None:
            due_ns = min(due_ns, max(self._ready_ns, self._last_ns + READY_GAP_NS))
        return due_ns

    # --- questions ----------------------------------------------------------------------------

    def exchange(self, now: Nanoseconds) -> None:
        """Commit and lease. The store must not be busy."""
        self._sent, self._outbox = self._outbox, []
        wants, self.wants = self.wants, ()
        asked = wants if self._copying is None else (*wants, *self._copying.take_wants())
        self.look, self._last_ns = False, now
        commits = [ending.commit for ending in self._sent]
        load = None
        if self._load is not None and now >= self._next_load_ns:
            load, self._next_load_ns = self._load(), now + LOAD_NS
        unfit, orders_seen, needed = self._unfit(), self.orders_seen, {lease.job for lease in self._unspecified}

        def call() -> tuple[Exchanged, dict[JobId, JobSpec]]:
            answer = self._store.exchange(
                self._info.id, commits, asked, now, self._jobs, unfit=unfit, load=load, orders_seen=orders_seen
            )
            self._notice_generation(answer.leases)
            return answer, self._specs_of(needed | {lease.job for lease in answer.leases})

        def failed(error: StoreError) -> None:
            self._outbox, self._sent = self._sent + self._outbox, []
            self.wants = self.wants or wants
            self._failed(error)

        self._link.ask(call, self._exchanged, failed)

    def _notice_generation(self, leases: Sequence[Lease]) -> None:
        """Fences of a new generation: another server process, which may have forgotten a job and given its number anew."""
        newest = max((lease.fence >> GENERATION_BITS for lease in leases), default=0)
        if newest > self._generation:
            self._generation, self._fresh = newest, set()

    def _specs_of(self, jobs: set[JobId]) -> dict[JobId, JobSpec]:
        """In the store's thread. What is leased is leased: a store that goes away in between is asked again later."""
        found: dict[JobId, JobSpec] = {}
        for job in jobs:
            if job not in self._fresh:
                try:
                    found[job] = self._store.spec(job)
                except StoreUnavailableError:
                    break
        return found

    def reap(self, now: Nanoseconds) -> None:
        """Judge the leases of workers that are gone and commit them as lost; let the store remember what was learned."""
        self._next_reap_ns = now + self._rhythm.reap_ns
        peaks = self._learned()

        def call() -> tuple[tuple[Lease, ...], dict[JobId, JobSpec]]:
            leases = self._store.expired(now, self._info.boot_id)
            specs = self._specs_of({lease.job for lease in leases})
            if peaks:
                self._store.remember_peaks(self._of_here(peaks))
            return leases, specs

        self._link.ask(call, lambda found: self._found_lost(found, now), self._failed)

    def _of_here(self, peaks: Sequence[PastPeak]) -> list[PastPeak]:
        """With the host they were seen on."""
        return [replace(peak, host=self._info.host) for peak in peaks]

    def _found_lost(self, found: tuple[tuple[Lease, ...], dict[JobId, JobSpec]], asked_ns: int) -> None:
        self._heard()
        leases, specs = found
        self.specs |= specs
        self._fresh |= specs.keys()
        if self._rhythm.announced and self._clock.now_ns() - asked_ns > LATE_NS:
            self._reap_later()
            return
        # Our own: we slept longer than a lease; the next exchange says whether they still are.
        ours = {(ending.commit.job, ending.commit.task, ending.commit.fence) for ending in self._outbox}
        others = [
            lease
            for lease in leases
            if lease.job in self.specs and _key(lease) not in ours and not self._worker.holds(_key(lease))
        ]
        now = self._clock.now_ns()
        for commit in lost_commits(others, lambda job: self.specs[job].retry_limits, now, self._random):
            self.commit(commit)

    # --- answers ------------------------------------------------------------------------------

    def _registered_at(self, now: int) -> None:
        self._heard()
        self.registered = True
        self._last_ns = 0
        self._next_reap_ns = now + self._rhythm.reap_first_ns

    def _exchanged(self, answered: tuple[Exchanged, dict[JobId, JobSpec]]) -> None:
        answer, specs = answered
        self._heard()
        self.specs |= specs
        self._fresh |= specs.keys()
        if answer.stale:
            self._outbox, self._sent, self._unspecified, self.wants = [], [], [], ()
            self.registered = self._readmitted = False
            self._worker.expelled()
            return
        self._announce(answer)
        self.open_tasks, self._ready_ns = answer.open_tasks, answer.next_ready_ns
        leases = [*self._unspecified, *answer.leases]
        self._unspecified = [lease for lease in leases if lease.job not in self.specs]
        ready = tuple(lease for lease in leases if lease.job in self.specs)
        self._worker.answered(answer, ready)

    def _announce(self, answer: Exchanged) -> None:
        sent, self._sent = self._sent, []
        refused = set(answer.refused)
        for ending in sent:
            commit, lease = ending.commit, ending.lease
            was_refused = (commit.job, commit.task, commit.fence) in refused
            if lease is not None and lease.copy_of_host and self._copying is not None:
                self._copying.ended(won=isinstance(commit.verdict, Done) and not was_refused)
            if lease is None or commit.attempt is None or was_refused:
                continue
            for observer in self._observers:
                observer.attempt_ended(lease, commit.attempt, commit.verdict, ending.result)

    def _heard(self) -> None:
        if self._full or self._away_since_ns:
            self._reap_later()
        if self._full:
            self._full = False
            self._worker.store_has_room()
        self._not_before_ns = self._failures = 0
        if self._away_since_ns:
            self._away_since_ns = 0
            self._worker.store_is_away("")

    def _reap_later(self) -> None:
        """Others may not have found the store again yet: give them a lease's time before calling them dead."""
        self._next_reap_ns = max(self._next_reap_ns, self._clock.now_ns() + self._rhythm.reap_first_ns)

    def _failed(self, error: StoreError) -> None:
        now = self._clock.now_ns()
        if isinstance(error, StoreFullError):
            self._full = True
            self._not_before_ns = now + FULL_RETRY_NS
            self._worker.store_is_full(error)
        elif isinstance(error, StoreUnavailableError):
            pause_ns = min(RETRY_MOST_NS, RETRY_FIRST_NS << min(self._failures, 10))
            self._failures += 1
            self._not_before_ns = now + int(pause_ns * self._random.uniform(0.8, 1.0))
            self._away_since_ns = self._away_since_ns or now
            waited_ns = now - self._away_since_ns
            since = f" since {format_duration(waited_ns)}" if waited_ns else ""
            self._worker.store_is_away(f"the store is away{since}: {error}")
        else:
            raise error

    # --- the end ------------------------------------------------------------------------------

    def leave(self, timeout_s: float) -> None:
        """Say good-bye; leases still held are returned. A store that is away finds out by itself."""
        if not self._link.close(timeout_s):
            return
        try:
            self._store.remember_peaks(self._of_here(self._learned()))
            self._store.leave(self._info.id, self._clock.now_ns())
        except (StoreFullError, StoreUnavailableError) as error:
            self._worker.store_is_away(f"left without a word: {error}")


def _key(lease: Lease) -> AttemptKey:
    return (lease.job, lease.task, lease.fence)
