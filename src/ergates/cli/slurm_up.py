"""`erg worker slurm up`: ask Slurm for so many workers, once."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from ergates.cli.options import cluster_options, examples
from ergates.cli.placing import cluster_address
from ergates.cli.slurm_options import allocation_options, plan_of
from ergates.cli.wording import plural
from ergates.errors import UsageError

if TYPE_CHECKING:
    from ergates.cli.slurm_options import Plan
    from ergates.drivers.placers.slurm import Slurm


@click.command(
    epilog=examples(
        "erg worker slurm up --nodes 8 --time 1h --store store.toml",
        "erg worker slurm up --nodes 2 --time 30m --partition gpu -- --gres=gpu:2",
        "erg worker slurm up --nodes 100 --time 1h --cpus 4 --memory 16GiB   four cores of shared nodes",
    )
)
@click.option("--nodes", type=click.IntRange(1, 100_000), required=True, help="Workers, each on one node.")
@allocation_options
@cluster_options
@click.argument("sbatch_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS OF sbatch]")
def command(nodes: int, sbatch_options: tuple[str, ...], as_json: bool, dry_run: bool, **options: Any) -> None:
    """Submit an array of workers. They wait in Slurm's queue, work while there is work, and end before their walltime.

    The node running this, and the nodes, must see the same store file, the same Python and the same --folder.
    """
    from ergates.drivers.placers.slurm import Slurm

    slurm = Slurm()
    plan = plan_of(cluster_address(), sbatch_options, options)
    if dry_run:
        show_submission(plan, min(nodes, options["array_at_most"]))
        return
    slurm.check(plan.shape)
    jobs = submit_all(slurm, plan, nodes, options["array_at_most"])
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"jobs": jobs, "workers": nodes, "logs": str(plan.folder.logs())})
    else:
        click.echo(f"asked Slurm for {plural(nodes, 'worker')}: {', '.join(f'job {job}' for job in jobs)}")
        click.echo(f"they log to {plan.folder.logs()}; `erg worker slurm list` shows them")


def submit_all(slurm: Slurm, plan: Plan, nodes: int, array_at_most: int) -> list[str]:
    """Arrays of at most so many elements; returns their job ids.

    Raises:
        SlurmError: one was refused; those before it stay.
        UsageError: another process places workers of this pool.
    """
    from ergates.clock import SystemClock
    from ergates.drivers.placers.slurm_words import SlurmError

    jobs: list[str] = []
    clock, folder = SystemClock(), plan.folder
    hold = folder.lock()
    try:
        if folder.open_intent(slurm.allocations(plan.pool), clock.now_ns()) is not None:
            raise UsageError(
                "whether Slurm took the last submission of this pool is not known yet\n"
                "  hint: try again in three minutes, or look with `erg worker slurm list`"
            )
        for begin in range(0, nodes, array_at_most):
            count = min(array_at_most, nodes - begin)
            token = folder.intend(count, clock.now_ns())
            try:
                job = slurm.submit(plan.pool, plan.shape, count, token, plan.script, str(folder.logs()), hold=hold)
            except SlurmError as error:
                if not error.outcome_unknown:
                    folder.settle()
                if jobs:
                    click.echo(f"submitted before this: {', '.join(jobs)}", err=True)
                raise
            folder.settle(job)
            jobs.append(job)
    finally:
        folder.unlock()
    return jobs


def show_submission(plan: Plan, count: int) -> None:
    """What `--dry-run` prints: the command, and the script it would read."""
    from ergates.drivers.placers.slurm_array import sbatch_arguments

    click.echo(shlex.join(sbatch_arguments(plan.pool, plan.shape, count, "TOKEN", str(plan.folder.logs()))))
    click.echo(plan.script, nl=False)
