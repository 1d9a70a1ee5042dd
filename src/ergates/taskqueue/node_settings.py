"""How one node decides: every threshold in one place, as fractions of *this* machine.

The numbers were chosen in simulation (200 tasks that ramp to a log-normal peak on 4 GiB, several shapes of ramp, 100
seeds); `benchmarks/` re-runs it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ergates.units import MIB, Bytes, Nanoseconds

MILLISECOND_NS = 1_000_000
SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Settings of a node's policy.

    Args:
        admit_fraction: admission starts by keeping the likely joint use under this share of the capacity.
        admit_fraction_min, admit_fraction_max: bounds of that share, which follows what overflow turns out to cost.
        admit_step, admit_backoff: added per attempt that ends by itself; multiplied per attempt given back.
        waste_accepted: share of the work that may be lost to give-backs before admission becomes careful.
        risk_sigmas: how many standard deviations of the joint peak must still fit.
        freeze_fraction: forecast use above this freezes growing attempts, newest first.
        thaw_fraction: forecast use must be under this before a frozen attempt goes on.
        give_back_fraction: use that freezing cannot keep under this costs the cheapest victim its place.
        refuse_fraction: a lone attempt that gets here cannot fit on this node.
        forecast_ns: how far ahead growth is carried on: a tick, the shell's reaction and the freezer.
        kill_delay_ns: how long the kernel takes to hand memory back after a kill.
        growth_when_returned: what was given back returns with this times what it had reached.
        stalemate: a victim is given back once the frozen have waited, all together, this times what it would lose.
        pressure_to_freeze: PSI `some` share from which one attempt is frozen per tick, near the edge only.
        unknown_fraction: share of the capacity a task of a never seen shape is guessed to need at first.
        unknown_half_life_ns: that guess halves as often as this passes while attempts of the shape show less.
        tick_min_ns, tick_max_ns: bounds of the time between two samples.
        patience_ns: a task that waits this long for room gets it reserved.
        short_ns: attempts that take less are short: many are leased, queued behind each other on a slot.
        queue_ahead_ns: how much work short tasks are queued ahead.
        queue_most: short attempts queued on one slot at most.
        staged_ahead: long tasks held ready beyond what can start now.
        ahead_wall_ns: only tasks known to be shorter than this are held ready; None: all (one machine). What one node of
            a cluster holds ready another cannot run.
        hand_back_after_ns: a staged task that found no room for so long goes back; None keeps it (one machine).
        refuse_unfit: lease and refuse what can never fit here (one machine); a cluster leaves it to other nodes.
        gangs: the store starts tasks on several nodes together; else a task that needs several is unfit.
        jobs: attempts at once at most (`-j`); None leaves it to cores and memory.
        pin: give each attempt its own cores.
    """

    admit_fraction: float = 0.95
    admit_fraction_min: float = 0.8
    admit_fraction_max: float = 1.3
    admit_step: float = 0.03
    admit_backoff: float = 0.95
    waste_accepted: float = 0.04
    risk_sigmas: float = 0.5
    freeze_fraction: float = 0.94
    thaw_fraction: float = 0.91
    give_back_fraction: float = 0.965
    refuse_fraction: float = 0.975
    forecast_ns: int = 60 * MILLISECOND_NS
    kill_delay_ns: int = 120 * MILLISECOND_NS
    growth_when_returned: float = 1.5
    stalemate: float = 2.0
    pressure_to_freeze: float = 0.25
    unknown_fraction: float = 1 / 8
    unknown_half_life_ns: int = 3 * SECOND
    tick_min_ns: int = 10 * MILLISECOND_NS
    tick_max_ns: int = 100 * MILLISECOND_NS
    patience_ns: Nanoseconds = Nanoseconds(60 * SECOND)
    short_ns: int = 20 * MILLISECOND_NS
    queue_ahead_ns: int = 100 * MILLISECOND_NS
    queue_most: int = 128
    staged_ahead: int = 2
    ahead_wall_ns: Nanoseconds | None = None
    hand_back_after_ns: Nanoseconds | None = None
    refuse_unfit: bool = True
    gangs: bool = False
    jobs: int | None = None
    pin: bool = False
    growth_worth_noting_bytes: Bytes = Bytes(2 * MIB)
    """Less than this (or 2 %) is no growth: heaps breathe."""
