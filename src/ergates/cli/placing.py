"""What `erg worker up` and `down` share: options about ssh and hosts, a run that Ctrl-C ends in order, and what is shown.

While it goes on a terminal shows one line; at the end there is one table, with what to do about each kind of failure below.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from ergates.cli.opened import named_store
from ergates.cli.options import applied
from ergates.cli.tables import Column, clean, table_lines
from ergates.cli.terminal import LiveArea, width_of
from ergates.cli.wording import plural, shortened
from ergates.errors import UsageError
from ergates.units import format_duration

if TYPE_CHECKING:
    from ergates.drivers.placers.hosts import Host
    from ergates.drivers.placers.many_hosts import HostReport, ManyHosts
    from ergates.drivers.placers.ssh_command import SshOptions
    from ergates.drivers.stores.address import StoreAddress

INTERRUPTED = 130
_FRAME_S = 0.2
_COLUMNS = (Column("host"), Column("state"), Column("time", "right"), Column("what"))

ssh_options = applied(
    (
        click.option("--parallel", default=32, show_default=True, type=click.IntRange(1, 512), help="Hosts at a time."),
        click.option(
            "--ssh-config",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Use this file instead of ~/.ssh/config.",
        ),
        click.option(
            "-o", "--ssh-option", "ssh_settings", multiple=True, metavar="KEY=VALUE", help="A setting of ssh_config(5)."
        ),
        click.option(
            "--host-keys",
            type=click.Choice(["accept-new", "known"]),
            default="accept-new",
            show_default=True,
            help="Pin the key of a host that is met for the first time, or want it in ~/.ssh/known_hosts. A changed one is"
            " always refused.",
        ),
        click.option(
            "--connect-timeout", default=10, show_default=True, type=click.IntRange(1, 600), help="Seconds of one try."
        ),
        click.option(
            "--python", default="", metavar="PATH", help="Python >= 3.11 on the hosts.  [default: found there]"
        ),
    )
)


def ssh_options_from(options: dict[str, Any]) -> SshOptions:
    """The options above, as the driver wants them."""
    from ergates.drivers.placers.ssh_command import SshOptions

    return SshOptions(
        config=options["ssh_config"],
        options=options["ssh_settings"],
        host_keys=options["host_keys"],
        connect_timeout_s=options["connect_timeout"],
        python=options["python"],
    )


def cluster_address() -> StoreAddress:
    """The store whose workers are meant. Raises UsageError where none is named, or one that no other host can reach."""
    address = named_store()
    if address is None:
        raise UsageError(
            "workers on other hosts need a store that they can reach\n"
            "  hint: --store URL|FILE or ERGATES_STORE; `erg store up` makes one"
        )
    if address.socket:
        raise UsageError(
            f"{address}: a Unix socket cannot be reached from other hosts\n  hint: name the store by its host"
        )
    return address


def hosts_from(host_file: str | None, names: Sequence[str]) -> tuple[Host, ...]:
    """Of `--hosts FILE` and `--host`; a host that both name is an error, too."""
    from ergates.drivers.placers.hosts import named_hosts, read_hosts

    hosts: tuple[Host, ...] = ()
    if host_file is not None:
        source = "<stdin>" if host_file == "-" else host_file
        with click.open_file(host_file) as file:
            hosts = read_hosts(file, source)
    more = named_hosts(",".join(names)) if names else ()
    twice = {host.name for host in hosts} & {host.name for host in more}
    if twice:
        raise UsageError(f"--host: {sorted(twice)[0]} is in {host_file}, too")
    return (*hosts, *more)


class ProgressLine:
    """One live line on a terminal, nothing elsewhere."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._live = LiveArea(stream) if stream.isatty() else None

    async def follow(self, many: ManyHosts) -> None:
        """Draw it until cancelled."""
        while self._live is not None:
            self._live.draw([shortened(progress_text(many.reports), max(20, width_of(self._stream) - 1))])
            await asyncio.sleep(_FRAME_S)

    def erase(self) -> None:
        if self._live is not None:
            self._live.erase()


def progress_text(reports: Sequence[HostReport]) -> str:
    """`12 of 40 hosts done, 1 failed; 3 installing, 24 waiting, 1 trying again; node07: Connection refused`."""
    settled = [report for report in reports if report.settled]
    failed = sum(report.failed for report in settled)
    steps = Counter(report.state.partition(":")[0] for report in reports if not report.settled)
    text = f"{len(settled)} of {plural(len(reports), 'host')} done"
    if failed:
        text += f", {failed} failed"
    if steps:
        text += "; " + ", ".join(f"{number} {step}" for step, number in steps.items())
    odd = next((report for report in reports if ":" in report.state and not report.settled), None)
    return clean(f"{text}; {odd.host}: {odd.state.partition(': ')[2]}" if odd is not None else text)


def run_to_end(work: Coroutine[Any, Any, object], many: ManyHosts) -> bool:
    """Run it with a progress line; True when a signal ended it early. Every ssh has ended then, and the reports say how far."""
    progress = ProgressLine(sys.stderr)

    async def interruptible() -> bool:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
        drawing = asyncio.ensure_future(progress.follow(many))
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        finally:
            drawing.cancel()
        return task.cancelled()

    try:
        return asyncio.run(interruptible())
    finally:
        progress.erase()


def shown(reports: Sequence[HostReport], *, as_json: bool, interrupted: bool, good: str) -> int:
    """Print what came of it and return the exit code."""
    if as_json:
        from ergates.cli.json_output import print_json

        print_json(list(reports))
    else:
        click.echo("\n".join(report_lines(reports)))
        click.echo(sum_of(reports, good))
    if interrupted:
        return INTERRUPTED
    return 1 if any(report.failed for report in reports) else 0


def report_lines(reports: Sequence[HostReport]) -> list[str]:
    """The table, then each hint once with the hosts it is for. What went wrong is not cut: a terminal may wrap it."""
    rows = [
        (
            report.host,
            report.state.partition(":")[0],
            format_duration(round(report.seconds * 1e9)),
            report.trouble or report.note,
        )
        for report in reports
    ]
    lines = table_lines(_COLUMNS, rows)
    hints: dict[str, list[str]] = {}
    for report in reports:
        if report.hint:
            hints.setdefault(report.hint, []).append(report.host)
    for hint, hosts in hints.items():
        lines.append(clean(f"  hint ({_some(hosts)}): {hint}"))
    return lines


def _some(hosts: Sequence[str]) -> str:
    return ", ".join(hosts) if len(hosts) <= 4 else f"{', '.join(hosts[:3])} and {len(hosts) - 3} more"


def sum_of(reports: Sequence[HostReport], good: str) -> str:
    """`3 of 4 hosts up, 1 failed`; after an interruption also how many were left in the middle."""
    failed = Counter(report.state for report in reports if report.failed)
    well = len(reports) - failed.total()
    rest = "".join(f", {number} {state}" for state, number in failed.items())
    return f"{well} of {plural(len(reports), 'host')} {good}{rest}"
