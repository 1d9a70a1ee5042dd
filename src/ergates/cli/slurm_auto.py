"""`erg worker slurm auto`: keep allocations sized to the queue, until interrupted."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ergates.cli.options import DURATION, cluster_options, examples
from ergates.cli.placing import cluster_address
from ergates.cli.slurm_options import allocation_options, expected_capacity, plan_of
from ergates.cli.wording import local_time, plural

if TYPE_CHECKING:
    from ergates.clock import Clock
    from ergates.controller.slurm_placing import SlurmPlacing


@click.command(
    epilog=examples(
        "erg worker slurm auto --time 4h --workers-max 50 --store store.toml",
        "erg worker slurm auto --time 1h --partition gpu --name gpu -- --gres=gpu:1",
        "erg worker slurm auto --time 4h --dry-run   what it would do now",
    )
)
@click.option(
    "--workers-max",
    default=16,
    show_default=True,
    type=click.IntRange(1),
    help="Allocations at once, waiting ones included.",
)
@click.option(
    "--pending-max",
    default=4,
    show_default=True,
    type=click.IntRange(1),
    help="Allocations that wait for nodes at once.",
)
@click.option(
    "--worth",
    "worth_ns",
    type=DURATION,
    default="5m",
    show_default=True,
    help="Work that makes an allocation worth its start.",
)
@click.option("--every", "every_ns", type=DURATION, default="15s", show_default=True, help="Between two looks.")
@allocation_options
@cluster_options
@click.argument("sbatch_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS OF sbatch]")
def command(sbatch_options: tuple[str, ...], as_json: bool, dry_run: bool, **options: Any) -> int:
    """Ask Slurm for workers while tasks wait, and take waiting allocations back when nothing needs them.

    It may be killed and started again at any time: what it asked for is found again. After refusals, and allocations that
    end before their worker came, it waits longer each time, and gives up (exit code 1) after a few in a row. Workers without
    work end by themselves. Interrupted, it leaves allocations as they are.
    """
    from ergates.clock import SystemClock
    from ergates.controller.slurm_placing import Asking, SlurmPlacing
    from ergates.drivers.placers.slurm import Slurm
    from ergates.drivers.stores.open_cluster import open_cluster_store
    from ergates.taskqueue.placement import PlacementLimits
    from ergates.units import Nanoseconds

    address = cluster_address()
    slurm, clock = Slurm(), SystemClock()
    plan = plan_of(address, sbatch_options, options)
    capacity = expected_capacity(slurm, plan, dict(options["labels"]))
    limits = PlacementLimits(
        workers_max=options["workers_max"], pending_max=options["pending_max"], array_max=options["array_at_most"],
        walltime_ns=plan.shape.walltime_ns, drain_ns=Nanoseconds(plan.drain_ns), worth_ns=options["worth_ns"],
    )  # fmt: skip
    store = open_cluster_store(address)
    try:
        hold = -1 if dry_run else plan.folder.lock()
        asking = Asking(shape=plan.shape, script=plan.script, capacity=capacity)
        placing = SlurmPlacing(slurm, plan.folder, hold, store, asking, limits, clock, _sayer(clock, as_json=as_json))
        if dry_run:
            _show(placing)
            return 0
        return _run(placing, options["every_ns"])
    finally:
        plan.folder.unlock()
        store.close()


def _run(placing: SlurmPlacing, every_ns: int) -> int:
    """Look again and again until somebody says stop, or it gave up."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not stop.is_set():
            placing.look()
            if placing.state.given_up:
                return 1
            stop.wait(every_ns / 1e9)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    click.echo("stopped; allocations stay as they are: `erg worker slurm down` ends them", err=True)
    return 0


def _show(placing: SlurmPlacing) -> None:
    """What `--dry-run` prints: twice looked, for demand has to last."""
    from ergates.taskqueue.placement import CancelPending, Submit

    placing.state = placing.decide().state
    decision = placing.decide()
    tasks, more = plural(decision.demand.tasks, "waiting task"), plural(decision.demand.workers, "more worker")
    click.echo(f"{tasks} that such workers could run, worth {more}")
    for note in decision.notes:
        click.echo(note)
    for action in decision.actions:
        if isinstance(action, Submit):
            click.echo(f"would ask Slurm for {plural(action.count, 'worker')}")
        elif isinstance(action, CancelPending):
            click.echo(f"would take back {', '.join(action.ids)}")


def _sayer(clock: Clock, *, as_json: bool) -> Callable[[str], None]:
    """Prints one dated line for each thing done."""

    def say(text: str) -> None:
        now_ns = clock.now_ns()
        click.echo(json.dumps({"at_ns": now_ns, "text": text}) if as_json else f"{local_time(now_ns)}  {text}")

    return say
