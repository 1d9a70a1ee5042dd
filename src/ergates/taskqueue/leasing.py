"""How much to lease: what can start now, and a little more so that the node never waits for the store.

Of short tasks, enough for the next tenth of a second, refilled when half of it is used, so that a round trip serves
hundreds. Of long ones two more than fit: more would only be kept from other nodes. Rows of the store are served strictly by
priority; among equals the largest known need first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ergates.cluster.task import Requirement
from ergates.taskqueue.admission import Admission
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.node_state import NodeState
from ergates.taskqueue.peak_history import PeakHistory
from ergates.taskqueue.store import Offer, Want

MOST_AT_ONCE = 1024
REFUSED_AT_ONCE = 256
"""Tasks that can never fit are leased only to be refused."""
Kind = tuple[str, Requirement]
"""(job, requirement): what an offer tells of the tasks behind it."""


def is_short(history: PeakHistory, settings: NodeSettings) -> bool:
    """Whether tasks of this shape have all been quick lately."""
    return (
        history.ended >= 3 and history.wall_ns < settings.short_ns and history.longest_wall_ns < 10 * settings.short_ns
    )


def queue_depth(history: PeakHistory, settings: NodeSettings) -> int:
    """How many short attempts of this shape may wait on one slot, the running one included."""
    return min(settings.queue_most, max(2, int(settings.queue_ahead_ns / max(history.wall_ns, 1.0))))


def in_order(offers: Iterable[Offer]) -> list[Offer]:
    """Offers as they should be served."""
    return sorted(offers, key=lambda offer: (-offer.priority, -offer.requirement.memory_bytes))


@dataclass(slots=True)
class Leasing:
    """What to ask for, and when to look again.

    `low_water`: nothing need be asked while more than this is staged or queued. `gang`: a seat in it is among the wants, and its
    room must be kept free from now on; `gang_bytes` are what a member is expected to need.
    """

    wants: list[Want]
    low_water: int = 0
    gang: Offer | None = None
    gang_bytes: float = 0.0


def plan(
    offers: Iterable[Offer],
    state: NodeState,
    admission: Admission,
    known: dict[Kind, PeakHistory],
    settings: NodeSettings,
    now_ns: int,
) -> Leasing:
    """Decide what to ask for.

    Args:
        offers: in the order they should be served.
        state: the node's books.
        admission: how much memory is still to be given.
        known: the history of what was leased last of each kind.
        settings: of the node.
        now_ns: now.
    """
    leasing = Leasing([])
    promised = 0
    for offer in offers:
        if offer.waiting <= 0:
            continue
        history = known.get((offer.job, offer.requirement))
        staged = sum(1 for one in state.staged if one.priority >= offer.priority)
        unfit = state.unfit(offer.requirement, now_ns) is not None
        if offer.requirement.nodes > 1 and not unfit:
            # A member needs its room at the very moment the others have theirs: nothing less urgent may take it.
            if not promised and not staged:
                _plan_seat(leasing, offer, state, admission, history, now_ns)
            break
        if unfit:
            count = REFUSED_AT_ONCE - staged
        elif history is not None and is_short(history, settings):
            places = max(1, state.slots.free_count(offer.requirement, 1024) + len(state.open_places))
            target = min(MOST_AT_ONCE, places * queue_depth(history, settings))
            ahead = state.queued + staged
            leasing.low_water = max(leasing.low_water, target // 2)
            count = target - ahead if ahead <= target // 2 else 0
        else:
            ahead = settings.staged_ahead if _worth_holding(history, settings) else 0
            count = _startable(offer, state, admission, history, now_ns) + ahead - staged
        count = min(count - promised, offer.waiting)
        if count > 0:
            leasing.wants.append(Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=count))
            promised += count
    return leasing


def _plan_seat(
    leasing: Leasing,
    offer: Offer,
    state: NodeState,
    admission: Admission,
    history: PeakHistory | None,
    now_ns: int,
) -> None:
    """Ask for a seat if a member could start now."""
    alone = not state.running and state.slots.fits(offer.requirement)
    if state.reserved is None and (alone or _startable(offer, state, admission, history, now_ns) > 0):
        leasing.wants.append(Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=1))
        leasing.gang = offer
        leasing.gang_bytes = max(0.0 if history is None else _mean(history, now_ns), offer.requirement.memory_bytes)


def _mean(history: PeakHistory, now_ns: int) -> float:
    mean, _ = history.distribution(now_ns).beyond(0.0)
    return mean * _typical_scale(history) * history.share


def _worth_holding(history: PeakHistory | None, settings: NodeSettings) -> bool:
    """Whether a task is over so soon that a round trip to the store would be felt."""
    longest_ns = settings.ahead_wall_ns
    return longest_ns is None or (history is not None and history.ended > 0 and history.wall_ns < longest_ns)


def _startable(
    offer: Offer,
    state: NodeState,
    admission: Admission,
    history: PeakHistory | None,
    now_ns: int,
) -> int:
    cores = max(1, state.capacity.cpus_milli // 1000)
    slots = state.slots.free_count(offer.requirement, MOST_AT_ONCE)
    if history is None:
        return min(slots, 4 * cores) if admission.open else 0
    mean, variance = history.distribution(now_ns).beyond(0.0)
    mean = mean * _typical_scale(history) * history.share
    return admission.count_that_fits(max(mean, offer.requirement.memory_bytes), variance, slots)


def _typical_scale(history: PeakHistory) -> float:
    """Of the last run: an offer does not tell the sizes of the tasks behind it."""
    return history.scale(history.runs[-1][0]) if history.runs else 1.0
