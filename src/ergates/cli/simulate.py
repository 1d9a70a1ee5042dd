"""`erg simulate`: the policies of a run on simulated machines, with the very code that production uses."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from typing import get_args

import click

from ergates.cli.options import Parsed, examples, local_options
from ergates.cli.tables import Column, table_lines
from ergates.cli.terminal import width_of
from ergates.simulation.scenarios import SCENARIOS
from ergates.simulation.simulate import BEST_FIXED, REFERENCES, QueueResult, simulate_queue
from ergates.taskqueue.policies import PolicyName

POLICIES: tuple[str, ...] = get_args(PolicyName)


def _seeds(text: str) -> tuple[int, ...]:
    first, dots, last = text.partition("..")
    if not first.isdigit() or (dots and not last.isdigit()):
        raise ValueError(f"expected a seed such as 7, or a range such as 1..100; got {text!r}")
    return tuple(range(int(first), int(last or first) + 1))


@click.group()
def command() -> None:
    """Try scheduling policies on simulated machines. One seed makes one whole simulated world."""


@command.command(
    help="Run SCENARIO under some policies: makespan against the bound nobody can beat, wasted work, kills.\n\n"
    f"Scenarios: {', '.join(SCENARIOS)}.  [default: ramps]",
    epilog=examples(
        "erg simulate queue                                ours against the others",
        "erg simulate queue cluster --policy ours --seeds 1..20",
        "erg simulate queue troubled --faults --check --policy ours --seeds 1..50",
    ),
)
@click.argument("scenario", default="ramps", metavar="[SCENARIO]")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help=f"{', '.join((*POLICIES, BEST_FIXED, *REFERENCES))}; several are compared.  [default: all]",
)
@click.option("--seeds", type=Parsed("seeds", _seeds), default="1..3", show_default=True, help="One seed, or a range.")
@click.option("--faults", is_flag=True, help="Let nodes, network and store fail for a minute first.")
@click.option("--check", is_flag=True, help="Check the laws after every event.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Simulate so many at once.")
@local_options
def queue(
    scenario: str,
    policies: tuple[str, ...],
    seeds: tuple[int, ...],
    faults: bool,
    check: bool,
    processes: int,
    state_dir: str | None,
    as_json: bool,
) -> None:
    """Run SCENARIO under some policies: makespan against the bound nobody can beat, wasted work, kills."""
    del state_dir  # every command has it; a simulation needs no store
    chosen = policies or ((*POLICIES,) if faults else (*POLICIES, BEST_FIXED, *REFERENCES))
    results = [
        result
        for policy in chosen
        for result in simulate_queue(scenario, policy, seeds, faults=faults, check=check, processes=processes)
    ]
    if as_json:
        from ergates.cli.json_output import print_json

        print_json(results)
    else:
        click.echo("\n".join(result_lines(chosen, results, width_of(sys.stdout, 120))))


def result_lines(policies: Sequence[str], results: Sequence[QueueResult], width: int) -> list[str]:
    """One row a policy, medians over the seeds."""
    columns = (
        Column("policy", elastic=True),
        Column("seeds", "right"),
        Column("makespan", "right"),
        Column("x bound", "right"),
        Column("wasted", "right"),
        Column("memory used", "right"),
        Column("kernel kills", "right"),
        Column("evictions", "right"),
        Column("failed", "right"),
    )
    rows = []
    for policy in policies:
        own = [result for result in results if result.policy == policy]
        stuck = sum(not result.finished for result in own)
        rows.append(
            (
                policy,
                f"{len(own)}" + (f" ({stuck} unfinished)" if stuck else ""),
                f"{statistics.median(result.makespan_s for result in own):,.0f} s",
                f"{statistics.median(result.makespan_s / result.lower_bound_s for result in own):.2f}",
                f"{statistics.median(result.wasted_fraction for result in own):.1%}",
                f"{statistics.median(result.memory_used_fraction for result in own):.0%}",
                f"{sum(result.kernel_kills for result in own):,}",
                f"{sum(result.evictions for result in own):,}",
                f"{sum(result.failed for result in own):,}",
            )
        )
    return table_lines(columns, rows, width)
