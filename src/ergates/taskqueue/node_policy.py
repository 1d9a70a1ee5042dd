"""All decisions of one node in one object: events in, orders out. The worker's loop and the simulator both drive it.

It keeps no time and reads nothing: `handle(event, now_ns)` is its whole life. The parts decide
(`admission`, `eviction`, `leasing`, `slots`); this file only puts them in order.

The shell's side of the bargain: after each exchange it tells `TasksLeased` (if any), then `OffersSeen`; a later `AskForTasks`
replaces an earlier one that was not exchanged yet; every order that ends an attempt is followed by its
`AttemptEnded`; a queued attempt starts when the one before it on its slot has ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, assert_never

from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import Requirement
from ergates.taskqueue import eviction, leasing
from ergates.taskqueue.admission import Admission
from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.memory import MemoryModel
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
    RestEnded,
    RestStarted,
    SetOomOrder,
    StartAttempt,
    TasksLeased,
    ThawAttempt,
    WakeAt,
)
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.node_state import NodeState, Place, Staged
from ergates.taskqueue.offers_known import OffersKnown
from ergates.taskqueue.peak_history import PeakHistory
from ergates.taskqueue.running import Running
from ergates.taskqueue.store import Lease, Offer, PastPeak, Seat
from ergates.units import Bytes, Nanoseconds, format_bytes

OOM_ORDER_AFTER_NS = 200_000_000
"""Younger attempts are not ordered: most are gone before the order is written."""
FORECAST_EVERY_NS = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCounts:
    """How a node stands, for displays."""

    running: int
    frozen: int
    staged: int
    queued: int
    cpus_milli_held: int
    waiting_for: str
    resources_held: tuple[tuple[str, int], ...] = ()


class Policy(Protocol):
    """What the worker and the simulator drive; ours and its rivals."""

    def handle(self, event: NodeEvent, now_ns: Nanoseconds) -> list[NodeAction]: ...

    def counts(self) -> NodeCounts: ...

    def check_invariants(self) -> None: ...


class NodePolicy:
    """Packs one node.

    Args:
        capacity: what the node may hand out.
        settings: thresholds.
        history: peaks remembered from earlier runs, oldest first, to start from.
        ends_ns: when the worker ends; None when that is not known.
    """

    def __init__(
        self,
        capacity: NodeCapacity,
        settings: NodeSettings,
        history: Iterable[PastPeak] = (),
        *,
        ends_ns: Nanoseconds | None = None,
    ) -> None:
        self.capacity, self.settings = capacity, settings
        self.memory = MemoryModel(capacity.memory_bytes, settings)
        self.memory.recall(history)
        self.state = NodeState(capacity, pin=settings.pin, jobs=settings.jobs, ends_ns=ends_ns, gangs=settings.gangs)
        self.admission = Admission(capacity.memory_bytes, settings)
        self._waits = OffersKnown(self.state, refuse_unfit=settings.refuse_unfit)
        self._offers: list[Offer] = []
        """Of what waits, what is worth leasing, in order."""
        self._known: dict[leasing.Kind, PeakHistory] = {}
        self._asked_priority: int | None = None
        self._low_water = 0
        self._gang_classes: dict[int, Requirement] = {}
        self._declined: int | None = None
        """Class of a gang whose seat is to be given up."""
        self._draining = self._resting = False
        self._used_bytes = 0
        self._forecast_ns = 0
        self._oom_order: tuple[AttemptKey, ...] = ()
        self._waiting_for = ""
        self._actions: list[NodeAction] = []

    def handle(self, event: NodeEvent, now_ns: Nanoseconds) -> list[NodeAction]:
        """Take in one event; returns what to do, in order."""
        self._actions = []
        match event:
            case AttemptEnded():
                self._ended(event, now_ns)
            case TasksLeased(leases=leases):
                for lease in leases:
                    self._leased(lease, now_ns)
                if self._draining or self._resting:
                    self._hand_back_staged("the worker stops" if self._draining else "the node rests")
            case OffersSeen(offers=offers, seat=seat):
                self._asked_priority = None
                self._seated(seat)
                paths = self._waits.saw(offers, now_ns)
                if paths:
                    self._actions.append(CheckPaths(paths=paths))
                self._choose_offers(now_ns)
            case NodeSampled():
                self._sampled(event, now_ns)
                self._low_water = 1 << 30
            case LeasesRevoked(keys=keys):
                for key in keys:
                    self._end(EndAttempt(key=key, reason="cancelled by the user"))
                self._keep_oldest_running(now_ns)
            case DrainStarted(give_back=give_back):
                self._drain(give_back)
            case RestStarted(reason=reason):
                self._resting = True
                self._decline()
                self._hand_back_staged(reason)
            case RestEnded():
                self._resting = False
            case PathsChecked(paths=paths, missing=missing):
                self.state.paths.checked(paths, missing, now_ns)
                self._choose_offers(now_ns)
            case NodeChanged():
                self._changed(event, now_ns)
            case _:
                assert_never(event)
        if not (self._draining or self._resting):
            self._start_staged(now_ns)
            self._ask(now_ns)
        return self._actions

    def counts(self) -> NodeCounts:
        """How the node stands now."""
        frozen = sum(1 for attempt in self.state.running.values() if attempt.frozen)
        return NodeCounts(
            running=len(self.state.running),
            frozen=frozen,
            staged=len(self.state.staged),
            queued=self.state.queued,
            cpus_milli_held=self.capacity.cpus_milli - self.state.slots.cpus_milli_free,
            waiting_for=self._waiting_for if self.state.staged and not self.state.running else "",
            resources_held=self.state.slots.resources_held(),
        )

    def unfit_classes(self, now_ns: Nanoseconds) -> tuple[int, ...]:
        """Ids of offered classes that this node cannot serve as it is: for the next exchange."""
        unfit = self._waits.unfit_classes(now_ns)
        return unfit if self._declined is None else (*unfit, self._declined)

    def learned(self) -> list[PastPeak]:
        """Peaks that ended since the last call, to be remembered for the next run."""
        return self.memory.learned()

    def check_invariants(self) -> None:
        """Raises AssertionError. For tests and simulations."""
        self.state.check_invariants()
        running = list(self.state.running.values())
        staying = [attempt for attempt in running if not attempt.leaving]
        assert not staying or not staying[0].frozen, "the oldest is frozen"

    # --- ends -------------------------------------------------------------------------------------

    def _ended(self, event: AttemptEnded, now_ns: int) -> None:
        found = self.state.end(event.key, now_ns)
        if found is None:
            self.state.unstage(event.key)  # it could not even be handed to a launcher
            return
        attempt, next_head = found
        peak = max(event.peak_bytes, attempt.reached)
        if event.gave_back:
            if peak > 0:
                attempt.sizing.reached(peak, now_ns)
        else:
            share = attempt.share_of_peak(now_ns)
            if share is not None:
                attempt.sizing.share_seen(share)
            if not attempt.short and not attempt.leaving:
                self.admission.work_done(attempt.worked_ns(now_ns))
            attempt.sizing.ended(peak, event.wall_ns, attempt.plateau_ns(now_ns), now_ns)
        self.admission.remove(attempt)
        self._used_bytes = max(0, self._used_bytes - attempt.used)
        if next_head is not None:
            next_head.mean, next_head.variance = attempt.mean, attempt.variance
            self.admission.add(next_head)
        self._keep_oldest_running(now_ns)

    def _keep_oldest_running(self, now_ns: int) -> None:
        for attempt in self.state.running.values():
            if not attempt.leaving:
                if attempt.frozen:
                    attempt.thaw(now_ns)
                    self._actions.append(ThawAttempt(key=attempt.key))
                return

    def _end(self, action: EndAttempt | HandBack) -> None:
        """End an attempt wherever it is: staged, queued or running."""
        place = self.state.places.get(action.key)
        if place is None:
            if self.state.unstage(action.key) is not None:
                self._actions.append(action)
            return
        attempt = next(attempt for attempt in place.queue if attempt.key == action.key)
        if not attempt.leaving:
            attempt.leaving = True
            self._actions.append(action)

    def _drain(self, give_back: bool) -> None:
        self._draining = True
        self._decline()
        self._hand_back_staged("the worker stops")
        if give_back:
            for key in list(self.state.places):
                self._end(HandBack(key=key, reason="the worker stops at once"))

    def _hand_back_staged(self, reason: str) -> None:
        for staged in list(self.state.staged):
            self._end(HandBack(key=staged.key, reason=reason))

    # --- memory -----------------------------------------------------------------------------------

    def _sampled(self, event: NodeSampled, now_ns: int) -> None:
        running = self.state.running
        for key, used in event.attempts:
            attempt = running.get(key)
            if attempt is not None:
                attempt.sampled(used, now_ns, self.settings)
        self._used_bytes = event.used_bytes
        if now_ns - self._forecast_ns >= FORECAST_EVERY_NS:
            self._forecast_ns = now_ns
            for attempt in running.values():
                attempt.forecast_demand(now_ns)
        for attempt in running.values():
            if attempt.leaving:
                attempt.mean, attempt.variance = float(attempt.used), 0.0
        reserved = () if self.state.reserved is None else (self.state.reserved,)
        self.admission.recount((*running.values(), *reserved), event.used_bytes)
        relief = eviction.relieve(
            list(running.values()),
            event.used_bytes,
            self.capacity.memory_bytes,
            event.pressure_fraction,
            self.settings,
            now_ns,
        )
        self._perform(relief, now_ns)
        frozen = any(attempt.frozen for attempt in running.values())
        limit = self.settings.freeze_fraction * self.capacity.memory_bytes
        self.admission.open = not (frozen or relief.give_back or relief.refuse) and relief.forecast_bytes < limit
        self._order_oom(now_ns)
        self._unqueue(now_ns)
        if running or self.state.staged:
            self._actions.append(WakeAt(at_ns=Nanoseconds(now_ns + self._tick_ns(relief.forecast_bytes))))

    def _perform(self, relief: eviction.Relief, now_ns: int) -> None:
        for attempt in relief.freeze:
            attempt.freeze(now_ns)
            self._actions.append(FreezeAttempt(key=attempt.key))
        for attempt in relief.thaw:
            attempt.thaw(now_ns)
            self._actions.append(ThawAttempt(key=attempt.key))
        share = self._used_bytes / self.capacity.memory_bytes
        for attempt in relief.give_back:
            attempt.leaving = True
            self.admission.work_lost(attempt.worked_ns(now_ns), now_ns)
            floor = min(self.capacity.memory_bytes, int(attempt.reached * self.settings.growth_when_returned))
            reason = f"given back at {format_bytes(attempt.reached)}: the node was at {share:.0%} of its memory"
            self._actions.append(
                GiveBack(
                    key=attempt.key,
                    reason=reason,
                    memory_floor_bytes=Bytes(floor),
                    peak_bytes=Bytes(attempt.reached),
                )
            )
        if relief.refuse is not None:
            attempt = relief.refuse
            attempt.leaving = True
            reason = f"needs more than {format_bytes(attempt.reached)}"
            self._actions.append(RefuseTask(key=attempt.key, reason=reason, peak_bytes=Bytes(attempt.reached)))

    def _unqueue(self, now_ns: int) -> None:
        """A short attempt that turns out long must not hold up those queued behind it."""
        for place in self.state.open_places:
            if len(place.queue) > 1 and now_ns - place.queue[0].started_ns > 10 * self.settings.short_ns:
                for attempt in list(place.queue)[1:]:
                    self._end(HandBack(key=attempt.key, reason="the task before it on its slot takes long"))

    def _order_oom(self, now_ns: int) -> None:
        order = tuple(
            key
            for key, attempt in self.state.running.items()
            if not attempt.leaving and now_ns - attempt.started_ns >= OOM_ORDER_AFTER_NS
        )
        if order and order != self._oom_order:
            self._actions.append(SetOomOrder(oldest_first=order))
        self._oom_order = order

    def _tick_ns(self, forecast_bytes: float) -> int:
        """Until half of the room that is left could be used up by a ramp that starts now."""
        settings, capacity = self.settings, self.capacity
        room = settings.freeze_fraction * capacity.memory_bytes - forecast_bytes
        # Half of the node per second, or 1 GB/s per core (what one core can fault in), whichever is less.
        steepest = min(0.5 * capacity.memory_bytes, 1e9 * max(1.0, capacity.cpus_milli / 1000)) / 1e9
        rising = sum(max(0.0, attempt.slope) for attempt in self.state.running.values() if not attempt.frozen)
        until_ns = 0.5 * max(0.0, room) / max(steepest, 2 * rising)
        return int(min(max(until_ns, settings.tick_min_ns), settings.tick_max_ns))

    # --- starting ---------------------------------------------------------------------------------

    def _start_staged(self, now_ns: int) -> None:
        staged_before = self.state.staged
        if not staged_before:
            return
        kept: list[Staged] = []
        blocked: Staged | None = None
        reserved = False
        for staged in staged_before:
            if self._refused(staged, now_ns):
                continue
            hopeless = blocked is not None and _alike(blocked, staged)
            waits = self._asked_priority is not None and staged.priority < self._asked_priority
            if reserved or hopeless or waits or not self._start(staged, now_ns):
                kept.append(staged)
                blocked = staged
                reserved = reserved or now_ns - staged.since_ns > self.settings.patience_ns
        self.state.staged = kept
        after_ns = self.settings.hand_back_after_ns
        if after_ns is not None and kept:
            for staged in [one for one in kept if now_ns - one.since_ns > after_ns and self.state.running]:
                self._end(HandBack(key=staged.key, reason="this node has had no room for it"))

    def _refused(self, staged: Staged, now_ns: int) -> bool:
        reason = self.state.unfit(staged.requirement, now_ns)
        if reason is None:
            return False
        if not self.settings.refuse_unfit:  # the node changed since; others may have what it needs
            self._actions.append(HandBack(key=staged.key, reason=reason))
            return True
        self._actions.append(RefuseTask(key=staged.key, reason=reason, peak_bytes=Bytes(staged.sizing.reached_before)))
        return True

    def _start(self, staged: Staged, now_ns: int) -> bool:
        """Start it in a slot of its own, or queue it behind another short one. False: not now."""
        history = staged.sizing.history()
        short = leasing.is_short(history, self.settings) and not staged.waits
        if self.state.slots.fits(staged.requirement):
            mean, variance = staged.sizing.demand(0, 0, 0, 0, now_ns)
            if self.admission.fits(mean, variance) or self._alone():
                attempt = Running(staged.key, staged.sizing, staged.priority, now_ns, short)
                attempt.mean, attempt.variance = mean, variance
                self.admission.add(attempt)
                place = self.state.start(attempt, staged.requirement)
                staged.sizing.began(now_ns)
                self._order_start(staged, place, None, now_ns)
                return True
            self._waiting_for = f"memory: {format_bytes(self._used_bytes)} are in use"
        else:
            self._waiting_for = "a free core or resource"
        if not short:
            return False
        place_or_none = self._shortest_queue(staged, leasing.queue_depth(history, self.settings), now_ns)
        if place_or_none is None:
            return False
        attempt = Running(staged.key, staged.sizing, staged.priority, now_ns, short)
        self._order_start(staged, place_or_none, self.state.queue(attempt, place_or_none), now_ns)
        return True

    def _order_start(self, staged: Staged, place: Place, after: AttemptKey | None, now_ns: int) -> None:
        prediction = staged.sizing.predict(now_ns)
        self._actions.append(
            StartAttempt(
                key=staged.key,
                after=after,
                cpu_ids=place.slot.cpu_ids,
                indices=place.slot.indices,
                alternative=place.slot.alternative,
                predicted_bytes=prediction.peak_bytes,
                basis=prediction.basis,
            )
        )

    def _alone(self) -> bool:
        """Nothing of ours runs, so the next may start whatever it needs, unless others have filled the machine."""
        full = self.settings.give_back_fraction * self.capacity.memory_bytes
        return not self.state.running and (self.capacity.confined or self._used_bytes < full)

    def _shortest_queue(self, staged: Staged, depth: int, now_ns: int) -> Place | None:
        best: Place | None = None
        for place in self.state.open_places:
            head = place.queue[0]
            if (
                len(place.queue) < depth
                and head.short
                and head.sizing.fine is staged.sizing.fine
                and place.slot.requirement == staged.requirement
                and now_ns - head.started_ns < 10 * self.settings.short_ns
                and not head.frozen
                and (best is None or len(place.queue) < len(best.queue))
            ):
                best = place
        return best

    # --- leasing ----------------------------------------------------------------------------------

    def _choose_offers(self, now_ns: int) -> None:
        self._offers = self._waits.worth_leasing(now_ns)
        self._low_water = 1 << 30

    def _changed(self, event: NodeChanged, now_ns: int) -> None:
        self.capacity = event.capacity
        self.admission.capacity_bytes = event.capacity.memory_bytes
        self.state.limit(event.capacity, event.jobs)
        self.state.ends_ns = event.ends_ns
        reserved = self.state.reserved
        if reserved is not None and self.state.unfit(reserved.requirement, now_ns) is not None:
            self._decline()
        self._choose_offers(now_ns)

    def _ask(self, now_ns: int) -> None:
        if self._asked_priority is not None or not self._offers:
            return
        if self.state.queued + len(self.state.staged) > self._low_water:
            return
        planned = leasing.plan(self._offers, self.state, self.admission, self._known, self.settings, now_ns)
        self._low_water = max(planned.low_water, self.settings.staged_ahead)
        if planned.wants:
            self._asked_priority = planned.wants[0].priority
            self._actions.append(AskForTasks(wants=tuple(planned.wants)))
        if planned.gang is not None:
            offer = planned.gang
            self._gang_classes = {offer.class_id: offer.requirement}
            self.admission.add(self.state.reserve(offer.class_id, offer.requirement, planned.gang_bytes))

    # --- gangs ------------------------------------------------------------------------------------

    def _leased(self, lease: Lease, now_ns: int) -> None:
        """Stage it; a gang's member takes the room that was kept for it, before anything else can."""
        if lease.gang is not None:
            self._unreserve()
        sizing = self.memory.sizing((lease.job, lease.task), lease.spec, lease.past.last_peak_bytes)
        staged = self.state.stage(lease, sizing, now_ns)
        self._known[(staged.job, staged.requirement)] = sizing.history()
        ready = not (self._draining or self._resting) and self.state.unfit(staged.requirement, now_ns) is None
        if lease.gang is not None and ready and self._start(staged, now_ns):
            self.state.unstage(staged.key)

    def _seated(self, seat: Seat | None) -> None:
        """The store says whether we have a seat: the room follows."""
        if seat is None:
            self._unreserve()
            self._declined = None
        elif self.state.reserved is None:  # a late answer: we had given up the room
            needed = self._gang_classes.get(seat.class_id)
            if needed is None or self._draining or self._resting or not self.state.slots.fits(needed):
                self._declined = seat.class_id
            else:
                self.admission.add(self.state.reserve(seat.class_id, needed, float(needed.memory_bytes)))

    def _unreserve(self) -> None:
        reserved = self.state.unreserve()
        if reserved is not None:
            self.admission.remove(reserved)

    def _decline(self) -> None:
        """Give the seat up, if we have one."""
        if self.state.reserved is not None:
            self._declined = self.state.reserved.class_id
            self._unreserve()


def _alike(one: Staged, other: Staged) -> bool:
    """Whether what keeps the one from starting keeps the other too."""
    history = one.sizing.fine
    return history is other.sizing.fine and history.fit is None and one.requirement == other.requirement
