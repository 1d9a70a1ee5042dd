"""How well do policies pack a node's memory when nobody said what tasks need? 100 seeds, in virtual time.

The policies are those of production; nodes, memory, kernel and store are simulated (docs/determinism.md), so this says how
good the *decisions* are, not how fast the machinery is: `packing.py` does it with real processes. Each seed is a workload
of its own. Contenders: ours; distComp's rule in shares of this node; the fastest fixed `-P` under which the kernel kills
nothing (each width is tried, which no user can do beforehand); fixed slots that know only cores; kill the newest and try it
again as it was. References: a list schedule that knows every curve (the best of four list orders; and
in the order of the input, which all others are given), and one that knows every peak and holds it for life.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Sequence

from _record import Bar, argument_parser, finish, machine_facts

from ergates.simulation.simulate import ALL_PEAKS_KNOWN, BEST_FIXED, IN_ORDER, REFERENCE, QueueResult, simulate_queue

POLICIES = ("ours", BEST_FIXED, "kill-newest", "distcomp", "fixed", REFERENCE, IN_ORDER, ALL_PEAKS_KNOWN)
WORKLOADS = {
    "ramps": "200 tasks at cpus=0.05, 1-4 s, ramp and plateau to a log-normal peak of 50 MB-1.5 GB; 2 cores, 4 GiB",
    "mixed-shapes": "the same peaks, 2-20 s, ramps, stairs, late spikes and hills; 2 cores, 4 GiB",
    "sized-by-input": "200 tasks whose peak and time follow the size of their input; 2 cores, 4 GiB",
    "cluster": "600 tasks of three programs, a quarter to two cores; 6 nodes of 4 cores and 4 GiB",
}
THE_WORKLOAD = "ramps"


def summary(results: Sequence[QueueResult], reference: Sequence[QueueResult]) -> dict[str, object]:
    """One row of the table. Ratios are taken seed by seed."""
    ratios = sorted(one.makespan_s / best.makespan_s for one, best in zip(results, reference, strict=True))
    return {
        "makespan_s_median": round(statistics.median(one.makespan_s for one in results), 1),
        "over_omniscient_median": round(statistics.median(ratios), 3),
        "over_omniscient_worst": round(ratios[-1], 3),
        "wasted_fraction_mean": round(statistics.fmean(one.wasted_fraction for one in results), 4),
        "wasted_fraction_worst": round(max(one.wasted_fraction for one in results), 4),
        "wasted_gb_hours_mean": round(statistics.fmean(one.wasted_gb_hours for one in results), 5),
        "kernel_kills": sum(one.kernel_kills for one in results),
        "evictions": sum(one.evictions for one in results),
        "failed": sum(one.failed for one in results),
        "unfinished": sum(not one.finished for one in results),
    }


def show(workload: str, rows: dict[str, dict[str, object]]) -> None:
    print(f"\n{workload}: {WORKLOADS[workload]}")
    titles = ("makespan", "x best", "worst", "wasted", "GB h", "kills", "evicted", "failed")
    widths = (10, 7, 7, 7, 9, 7, 8, 7)
    print(f"  {'policy':20}" + "".join(f" {title:>{width}}" for title, width in zip(titles, widths, strict=True)))
    for policy, row in rows.items():
        print(
            f"  {policy:20} {row['makespan_s_median']:8} s {row['over_omniscient_median']:7} "
            f"{row['over_omniscient_worst']:7} {row['wasted_fraction_mean']:7.1%} {row['wasted_gb_hours_mean']:9.5f} "
            f"{row['kernel_kills']:7} {row['evictions']:8} {row['failed']:7}",
            flush=True,
        )


def main() -> None:
    parser = argument_parser(__doc__ or "")
    parser.add_argument(
        "--seeds", type=int, default=100, help="workloads of each kind, of clusters a fifth (default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="at once (default: one a core)")
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS), help="only these")
    options = parser.parse_args()
    count = 3 if options.quick else options.seeds
    facts = machine_facts()
    everything: dict[str, dict[str, dict[str, object]]] = {}
    bars: list[Bar] = []
    for workload in options.workloads:
        seeds = range(1, (count if workload != "cluster" else -(-count // 5)) + 1)  # a cluster is ten times the work
        runs: dict[str, list[QueueResult]] = {}
        for policy in POLICIES:
            started = time.perf_counter()
            runs[policy] = simulate_queue(workload, policy, seeds, processes=options.processes)
            print(f"  {workload} {policy} {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        everything[workload] = {policy: summary(results, runs[REFERENCE]) for policy, results in runs.items()}
        show(workload, everything[workload])
        if workload == THE_WORKLOAD:
            bars = the_bars(runs)
    finish("packing_simulation", options, facts, everything, bars)


def the_bars(runs: dict[str, list[QueueResult]]) -> list[Bar]:
    """On the workload that `packing.py` runs with real processes. Medians over the seeds."""

    def ratio(policy: str, other: str) -> float:
        pairs = zip(runs[policy], runs[other], strict=True)
        return statistics.median(one.makespan_s / two.makespan_s for one, two in pairs)

    ours = runs["ours"]
    return [
        Bar(
            "makespan over an omniscient list schedule in the same order", ratio("ours", IN_ORDER), 1.25, at_least=False
        ),
        Bar("makespan over the best of four such schedules", ratio("ours", REFERENCE), 1.25, at_least=False),
        Bar("times faster than the best fixed -P that survives", ratio(BEST_FIXED, "ours"), 1.3),
        Bar("work wasted, worst seed", max(one.wasted_fraction for one in ours), 0.10, at_least=False),
        Bar("kills by the kernel, all seeds", sum(one.kernel_kills for one in ours), 0, at_least=False),
        Bar("the oldest attempt given back, all seeds", sum(one.oldest_given_back for one in ours), 0, at_least=False),
    ]


if __name__ == "__main__":
    main()
