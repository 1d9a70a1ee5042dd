"""What to do when memory runs short: freeze the newest that grows, give back the cheapest, never the oldest.

A ladder. Each step is cheaper to undo than the next: admission has already stopped; a frozen attempt keeps its memory
and its work but grows no more; an attempt that is given back frees its memory and loses its work. Growth is carried on
over the time until the next look, so a steep ramp counts before it arrives. Frozen attempts wait for the others
to end; when they have waited, all together, as long as the cheapest victim has worked, that one is given back (as
with renting or buying skis: the loss is at most twice the best). The oldest attempt always runs, so a node always
makes progress.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.running import Running


@dataclass(slots=True)
class Relief:
    """What to do now. At most one of the lists `freeze` and `thaw` has entries besides the oldest's thaw."""

    freeze: list[Running] = field(default_factory=list)
    thaw: list[Running] = field(default_factory=list)
    give_back: list[Running] = field(default_factory=list)
    refuse: Running | None = None
    forecast_bytes: float = 0.0


def relieve(
    running: Sequence[Running],
    used_bytes: int,
    capacity_bytes: int,
    pressure_fraction: float | None,
    settings: NodeSettings,
    now_ns: int,
) -> Relief:
    """Decide for one sample of the node.

    Args:
        running: oldest first, attempts on their way out included.
        used_bytes: what counts against the capacity now.
        capacity_bytes: of the node.
        pressure_fraction: PSI `some`, None where there is none.
        settings: of the node.
        now_ns: time of the sample.
    """
    relief = Relief()
    staying = [attempt for attempt in running if not attempt.leaving]
    leaving_bytes = sum(attempt.used for attempt in running if attempt.leaving)
    if not staying:
        relief.forecast_bytes = float(used_bytes)
        return relief
    oldest = staying[0]
    if oldest.frozen:
        relief.thaw.append(oldest)
    growing = [attempt for attempt in staying if attempt is oldest or (not attempt.frozen and attempt.slope > 0)]
    rising = sum(max(0.0, attempt.slope) for attempt in growing)
    rising = _freeze(relief, growing[1:], rising, used_bytes, capacity_bytes, pressure_fraction, settings)
    relief.forecast_bytes = used_bytes + rising * settings.forecast_ns
    after_kill = used_bytes - leaving_bytes + rising * settings.kill_delay_ns
    _give_back(relief, staying, after_kill, leaving_bytes, capacity_bytes, settings, now_ns)
    if relief.freeze or relief.give_back or relief.refuse is not None:
        return relief
    frozen = [attempt for attempt in staying if attempt.frozen and attempt is not oldest]
    _thaw(relief, frozen, rising, used_bytes, capacity_bytes, settings)
    if frozen and len(relief.thaw) == 0 and leaving_bytes == 0:
        _end_stalemate(relief, frozen, settings, now_ns)
    return relief


def _freeze(
    relief: Relief,
    candidates: Sequence[Running],
    rising: float,
    used_bytes: int,
    capacity_bytes: int,
    pressure_fraction: float | None,
    settings: NodeSettings,
) -> float:
    """Freeze the newest growing attempts until the forecast fits. Returns what still rises, in bytes per ns."""
    limit = settings.freeze_fraction * capacity_bytes
    squeezed = (
        pressure_fraction is not None
        and pressure_fraction >= settings.pressure_to_freeze
        and used_bytes > settings.thaw_fraction * capacity_bytes
    )
    for attempt in reversed(candidates):
        if used_bytes + rising * settings.forecast_ns <= limit and not squeezed:
            break
        relief.freeze.append(attempt)
        rising -= attempt.slope
        squeezed = False  # one at a time for pressure: the kernel's average lags by seconds
    return max(rising, 0.0)


def _give_back(
    relief: Relief,
    staying: Sequence[Running],
    after_kill: float,
    leaving_bytes: int,
    capacity_bytes: int,
    settings: NodeSettings,
    now_ns: int,
) -> None:
    limit = settings.give_back_fraction * capacity_bytes
    candidates = list(staying[1:])
    while after_kill > limit and candidates:
        victim = cheapest(candidates, after_kill - limit, now_ns)
        candidates.remove(victim)
        relief.give_back.append(victim)
        after_kill -= victim.used
    lone = len(staying) == 1 and leaving_bytes == 0
    if lone and after_kill > settings.refuse_fraction * capacity_bytes and staying[0].used > capacity_bytes / 2:
        relief.refuse = staying[0]
    relief.freeze = [attempt for attempt in relief.freeze if attempt not in relief.give_back]


def _thaw(
    relief: Relief,
    frozen: Sequence[Running],
    rising: float,
    used_bytes: int,
    capacity_bytes: int,
    settings: NodeSettings,
) -> None:
    """Thaw the oldest frozen attempt if it can go on for a while."""
    if not frozen:
        return
    first = frozen[0]
    # Half a second of its growth must fit, else it would be frozen again at once.
    ahead = used_bytes + rising * settings.forecast_ns + max(0.0, first.slope) * 5e8
    if min(ahead, used_bytes + max(first.mean - first.used, 0.0)) < settings.thaw_fraction * capacity_bytes:
        relief.thaw.append(first)


def _end_stalemate(relief: Relief, frozen: Sequence[Running], settings: NodeSettings, now_ns: int) -> None:
    """Give back the cheapest frozen attempt once waiting has cost as much as it would lose."""
    waited_ns = sum(now_ns - attempt.frozen_since_ns for attempt in frozen if attempt.frozen_since_ns is not None)
    if len(frozen) < 2:
        return
    victim = cheapest(frozen, 0.0, now_ns)
    if waited_ns > settings.stalemate * max(victim.worked_ns(now_ns), 1_000_000_000):
        relief.give_back.append(victim)


def cheapest(candidates: Iterable[Running], needed_bytes: float, now_ns: int) -> Running:
    """The attempt that loses the least work for the bytes won; more bytes than needed count for nothing."""

    def cost(attempt: Running) -> float:
        won = min(attempt.used, needed_bytes) if needed_bytes > 0 else attempt.used
        return (attempt.worked_ns(now_ns) + 50_000_000) / max(won, 1)

    return min(candidates, key=lambda attempt: (cost(attempt), -attempt.started_ns))
