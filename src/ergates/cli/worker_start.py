"""`erg worker start`: work for a cluster's store on this machine."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ergates.cli.ledger_option import ledger_option
from ergates.cli.options import DURATION, PAIR, cluster_options, examples
from ergates.cli.run_options import machine_options

if TYPE_CHECKING:
    from ergates.agent.cluster_worker import ClusterSettings
    from ergates.cli.ledger_option import NamedLedger
    from ergates.drivers.ledgers.address import LedgerAddress
    from ergates.drivers.stores.address import StoreAddress

_WHY = {
    "drained": "told to stop: what ran was let end",
    "given_back": "told to stop at once: what ran was given back",
    "ordered": "drained by order",
    "time": "its time is up",
    "empty": "no task is left",
    "idle": "no work came",
}
_OPEN_STORE = (
    "erg: this store asks for no password: whoever reaches it can run commands here; calls of ergates.map and its kin are refused"
    "\n  hint: `erg store up` makes one with a password"
)


@click.command(
    epilog=examples(
        "erg worker start --store .ergates/store.toml",
        "erg worker start --store redis://head/0 --cpus 8 --memory 64GiB --label rack=b2",
        "erg worker start --resource gpus=0,1 --job j7 --until-empty",
        "erg worker start --time-limit 4h --drain-before 10m --idle-timeout 5m",
    ),
)
@click.option("--job", "served", multiple=True, metavar="JOB", help="Serve only this job; may be given several times.")
@click.option("--label", "--labels", "labels", type=PAIR, multiple=True, metavar="NAME=VALUE",
              help="A label of this machine, for tasks with --require-label.")  # fmt: skip
@machine_options
@click.option("--idle-timeout", type=DURATION, metavar="TIME", help="End after so long without work.")
@click.option("--until-empty", is_flag=True, help="End when no task is left.")
@click.option("--time-limit", type=DURATION, metavar="TIME", help="This allocation ends so long from now.")
@click.option("--ends-at", metavar="TIME", help="This allocation ends then: 2031-02-03T04:05, or seconds since 1970.")
@click.option("--drain-before", type=DURATION, default="60s", show_default=True, metavar="TIME",
              help="Start nothing new so long before that.")  # fmt: skip
@click.option("--config", "node_file", metavar="FILE", type=click.Path(dir_okay=False),
              help="Limits of this machine (cpus, memory, jobs, [labels], drain), read again when they change.")  # fmt: skip
@click.option("--state", "state_dir", metavar="DIR", envvar="ERGATES_WORKER_STATE",
              help="Where outputs lie while tasks run.  [default: in XDG_STATE_HOME, shared by this user's workers]")  # fmt: skip
@click.option("--log", metavar="FILE", help="Append a line for each thing that happens, starts and ends of tasks too.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on standard error but errors.")
@ledger_option
@click.option("--placed-by", default="", hidden=True)
@cluster_options
def command(as_json: bool, **options: Any) -> int:
    """Run tasks of a cluster's store on this machine until told to stop.

    The first Ctrl-C (or TERM) lets what runs end, the second gives it back at once. Nothing is lost either way. Several
    workers may run on one machine; give each its share with --cpus and --memory.
    """
    from ergates.agent.cluster_worker import run_cluster_worker
    from ergates.agent.worker_log import WorkerLog, open_log
    from ergates.cli.jobs import choose_job
    from ergates.cli.opened import named_store
    from ergates.cli.opened_cluster import opened_cluster
    from ergates.clock import SystemClock
    from ergates.drivers.stores.trust import is_guarded

    clock = SystemClock()
    with ExitStack() as stack:
        store = stack.enter_context(opened_cluster())
        address = named_store()
        trusted = address is not None and is_guarded(address)
        if not trusted and not options["quiet"]:
            click.echo(_OPEN_STORE, err=True)
        jobs = tuple(choose_job(store, job).id for job in options["served"])
        settings = replace(_settings(options, jobs, clock.now_ns()), trusted=trusted)
        if options["log"]:
            stream = stack.enter_context(closing(open_log(options["log"])))
        else:
            stream = stack.enter_context(open("/dev/null", "w")) if options["quiet"] else sys.stderr
        log = WorkerLog(stream, clock, attempts=bool(options["log"]))
        ledger = _ledger_to_fill(options["ledger"])
        if ledger is not None:
            from ergates.agent.ledger_thread import LedgerThread
            from ergates.cli.ledger_noted import note_ledger
            from ergates.drivers.ledgers.open_ledger import open_ledger

            note_ledger(store, ledger)
            drains = LedgerThread(
                store,
                lambda: open_ledger(ledger, wait=True),
                clock,
                str(os.getpid()),
                lambda text: log.say("ledger", what=text),
            )
            stack.callback(drains.close)
        _hide_secrets_from_tasks()
        if address is not None:
            _tell_tasks_of(address)
        why = run_cluster_worker(store, settings, log)
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"why": why})
    elif not options["quiet"]:
        click.echo(f"erg: worker ended: {_WHY[why]}", err=True)
    return 0


def _hide_secrets_from_tasks() -> None:
    """Tasks get our environment, and what one prints is kept for all to read: no password may be in it."""
    for name in ("ERGATES_STORE", "ERGATES_LEDGER"):
        os.environ.pop(f"{name}_PASSWORD", None)
        user, at, _ = os.environ.get(name, "").partition("://")[2].rpartition("@")
        if (at and ":" in user) or "password=" in os.environ.get(name, ""):
            del os.environ[name]


def _tell_tasks_of(address: StoreAddress) -> None:
    """Tasks may submit more, and members of a gang talk, through the store: its file, which is its owner's alone, or its URL."""
    os.environ["ERGATES_STORE"] = address.file or address.url


def _ledger_to_fill(named: NamedLedger | None) -> LedgerAddress | None:
    """A file that only the environment names is this machine's, to look into: a worker would scatter records over machines."""
    if named is None:
        return None
    address = named.address()
    return None if named.from_environment and address.path is not None else address


def _settings(options: dict[str, Any], jobs: tuple[Any, ...], now_ns: int) -> ClusterSettings:
    from ergates.agent.cluster_worker import ClusterSettings
    from ergates.cli.requests import run_settings
    from ergates.drivers.stores.state_dir import make_worker_dir

    named = Path(options["state_dir"]) if options["state_dir"] else None
    machine = {**options, "halt": None, "node_label": options["labels"]}
    return ClusterSettings(
        run=run_settings(machine, str(make_worker_dir(named=named))),
        jobs=jobs,
        idle_timeout_ns=options["idle_timeout"],
        until_empty=options["until_empty"],
        ends_ns=_ends_ns(options, now_ns),
        drain_before_ns=options["drain_before"],
        node_file=options["node_file"],
        placed_by=options["placed_by"],
    )


def _ends_ns(options: dict[str, Any], now_ns: int) -> Any:
    from ergates.errors import UsageError

    limit_ns, at = options["time_limit"], options["ends_at"]
    if at is None:
        return None if limit_ns is None else now_ns + limit_ns
    if limit_ns is not None:
        raise UsageError("--time-limit and --ends-at say the same thing: give one")
    ends_ns = moment_ns(at)
    if ends_ns <= now_ns:
        raise UsageError(f"--ends-at {at}: that is over")
    return ends_ns


def moment_ns(text: str) -> int:
    """Seconds since 1970, or a date and time of the reader's time zone unless it names one. Raises UsageError."""
    from datetime import datetime

    from ergates.errors import UsageError

    try:
        return int(text) * 1_000_000_000 if text.isdigit() else int(datetime.fromisoformat(text).timestamp() * 1e9)
    except ValueError:
        raise UsageError(
            f"--ends-at {text!r}\n  expected: 2031-02-03T04:05:06, 2031-02-03T04:05:06Z or seconds since 1970"
        ) from None
