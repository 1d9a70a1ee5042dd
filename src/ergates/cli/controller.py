"""`erg controller`: what a cluster has once, if at all. It drains attempts into the ledger, reaps, and serves metrics."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from threading import Event
from types import FrameType
from typing import TypeVar

import click

from ergates.cli.ledger_noted import note_ledger
from ergates.cli.ledger_option import NamedLedger, ledger_option
from ergates.cli.opened import named_store
from ergates.cli.options import DURATION, cluster_options, examples
from ergates.cli.wording import plural
from ergates.errors import StoreUnavailableError, UsageError
from ergates.units import Nanoseconds

T = TypeVar("T")
INTERRUPTED = 130
LOOK_AGAIN_S = 2.0
"""How often to look for a store or ledger that is away when the controller starts."""


@click.command(
    epilog=examples(
        "erg controller --store redis://head --ledger postgresql://erg@db1/ergates",
        "erg controller --store redis://head --ledger ledger.db --metrics-listen 127.0.0.1:9464",
        "erg controller --once            do what there is to do, then end: for cron",
        "erg controller --forget-after 7d --ledger ledger.db",
    )
)
@ledger_option
@click.option("--once", is_flag=True, help="Do what there is to do now, then end.")
@click.option(
    "--metrics-listen",
    metavar="HOST:PORT",
    help="Serve metrics for Prometheus there; nobody is asked for a password.  [default: nowhere]",
)
@click.option(
    "--forget-after",
    type=DURATION,
    metavar="TIME",
    help="Remove finished jobs from the store so long after their end, when all their attempts are drained: 7d."
    "  [default: never]",
)
@cluster_options
def command(
    ledger: NamedLedger | None, once: bool, metrics_listen: str | None, forget_after: int | None, as_json: bool
) -> int:
    """Move attempts from a cluster's store into its ledger, and take back tasks of workers that went away.

    Optional: workers take back tasks, too. It may be started anew, killed, or run twice at any time; nothing is lost or counted
    twice. Without --ledger the store keeps all attempts. --json is for --once.
    """
    address = named_store()
    if address is None:
        raise UsageError(
            "a controller works on a cluster's store: name it with --store or ERGATES_STORE"
            "\n  hint: on one machine there is nothing to control: the store of .ergates is its own ledger"
        )
    if once and metrics_listen:
        raise UsageError("--once ends before anybody could come to --metrics-listen: leave one of them out")
    from ergates.controller.build_controller import built_controller
    from ergates.drivers.ledgers.open_ledger import open_ledger
    from ergates.drivers.stores.open_cluster import open_cluster_store
    from ergates.drivers.stores.server_memory import ServerMemory

    where = None if ledger is None else ledger.address()
    with _stopped_by_signals() as (stop, caught), ExitStack() as stack:
        store = _opened(lambda: open_cluster_store(address), once, stop)
        opened = None if where is None or store is None else _opened(lambda: open_ledger(where), once, stop)
        for each in (store, opened):
            if each is not None:
                stack.enter_context(closing(each))
        if store is not None and not stop.is_set():
            if where is not None:
                note_ledger(store, where)
            memory = ServerMemory(address)
            stack.enter_context(closing(memory))
            controller = stack.enter_context(
                built_controller(
                    store,
                    opened,
                    say=_say,
                    metrics_listen=metrics_listen,
                    memory=memory.read,
                    forget_after_ns=None if forget_after is None else Nanoseconds(forget_after),
                )
            )
            if once:
                _tell(*controller.once(), kept=opened is None, as_json=as_json)
                return 0
            _say(f"store {address}, ledger {where or 'none: attempts stay in the store'}")
            controller.run(stop)
    _say("stopped")
    return INTERRUPTED if signal.SIGINT in caught else 0


def _opened(make: Callable[[], T], once: bool, stop: Event) -> T | None:
    """What `make` opens. A controller that stays waits for a server that is away; None when it is stopped meanwhile."""
    told = ""
    while not stop.is_set():
        try:
            return make()
        except StoreUnavailableError as error:
            if once:
                raise
            if str(error) != told:
                told = str(error)
                _say(f"waiting: {error}")
            stop.wait(LOOK_AGAIN_S)
    return None


@contextmanager
def _stopped_by_signals() -> Iterator[tuple[Event, set[int]]]:
    """TERM, HUP and the first INT end the loop after the step at hand; a second INT ends it at once, which is harmless, too."""
    stop, caught = Event(), set[int]()

    def note(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in caught:
            raise KeyboardInterrupt
        caught.add(number)
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    old = {number: signal.signal(number, note) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield stop, caught
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    click.echo(f"erg controller: {text}", err=True)


def _tell(drained: int, reaped: int, forgotten: int, *, kept: bool, as_json: bool) -> None:
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"drained": drained, "reaped": reaped, "forgotten": forgotten})
    else:
        moved = (
            "no --ledger: attempts stay in the store" if kept else f"{plural(drained, 'attempt')} moved into the ledger"
        )
        gone = f"; {plural(forgotten, 'job')} forgotten" if forgotten else ""
        click.echo(f"{moved}; {plural(reaped, 'lease')} of absent workers ended{gone}")
