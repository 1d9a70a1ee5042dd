"""One piece of work on many hosts at once: so many at a time, each with its own outcome, none stopped by another's failure.

A host that still boots is tried again with growing pauses; its place is free for others meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from msgspec import Struct

from ergates.drivers.placers.conversation import GREETING_TIMEOUT_S, Conversation, open_conversation
from ergates.drivers.placers.hosts import Host
from ergates.drivers.placers.ssh_command import Ssh
from ergates.drivers.placers.ssh_words import HostError

CROWDED_TRIES = 4
"""An sshd lets few connections log in at once (MaxStartups) and closes others: those come again, also without --wait."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0

GOOD = ("up", "already up", "down", "not up")
"""Outcomes that leave nothing to be done."""


class HostReport(Struct, kw_only=True):
    """How one host stands; at the end, what came of it.

    Args:
        host: name, as given.
        state: a step (`connecting`, `installing`, ...) or an outcome (`up`, `already up`, `down`, `not up`, `failed`,
            `interrupted`).
        seconds: since we turned to it.
        workers: ids of its workers, where known.
        sent_bytes: of programs that were sent to it.
        trouble, hint: what went wrong and what to do about it; empty when nothing did.
        note: something worth knowing though nothing went wrong.
    """

    host: str
    state: str = "waiting"
    seconds: float = 0.0
    workers: list[str] = []
    sent_bytes: int = 0
    trouble: str = ""
    hint: str = ""
    note: str = ""

    @property
    def settled(self) -> bool:
        """Whether nothing more will be done about it."""
        return self.failed or self.state in GOOD

    @property
    def failed(self) -> bool:
        return self.state in ("failed", "interrupted")


_TROUBLE_MAX = 300
Told = Callable[[Sequence[HostReport]], None]


class HostRun:
    """The work on one host: its report, and a way to reach it."""

    def __init__(self, host: Host, report: HostReport, many: ManyHosts) -> None:
        self.host, self.report, self._many = host, report, many

    def now(self, step: str) -> None:
        """Say which step is being done."""
        self.report.state = step
        self._many.tell()

    @contextlib.asynccontextmanager
    async def reached(self) -> AsyncIterator[Conversation]:
        """A conversation with the host, tried again while waiting may help and `wait_s` lasts.

        Raises:
            HostError: it was not reached, or what was done inside failed.
        """
        many, tries, pause = self._many, 0, FIRST_PAUSE_S
        until = time.monotonic() + many.wait_s
        async with contextlib.AsyncExitStack() as stack:
            while True:
                self.now("connecting")
                tries += 1
                try:
                    async with contextlib.AsyncExitStack() as trying:
                        await trying.enter_async_context(many.places)
                        talk = open_conversation(many.ssh.command(self.host), timeout_s=many.greeting_s)
                        conversation = await trying.enter_async_context(talk)
                        stack.push_async_exit(trying.pop_all())
                        break
                except HostError as error:
                    reason = error.reason
                    left_s = until - time.monotonic()
                    if reason.may_pass and left_s > 0:
                        pause = min(pause, left_s)  # the last try is at the very end
                    elif not (reason.crowded and tries < CROWDED_TRIES):
                        raise
                    self.now(f"trying again: {reason.what}")
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            yield conversation


class ManyHosts:
    """Runs work on hosts.

    Args:
        ssh: builds the command lines.
        parallel: hosts at a time.
        wait_s: how long a host may still boot.
        connect_timeout_s: of one try.
    """

    def __init__(
        self,
        ssh: Ssh,
        *,
        parallel: int = 32,
        wait_s: float = 0.0,
        connect_timeout_s: int = 10,
    ) -> None:
        self.ssh, self.wait_s = ssh, wait_s
        self.greeting_s = GREETING_TIMEOUT_S + connect_timeout_s
        self.places = asyncio.Semaphore(parallel)
        self.reports: list[HostReport] = []
        self._told: Told | None = None

    def listen(self, told: Told) -> None:
        """Have `told` called with all reports whenever one changes."""
        self._told = told

    def tell(self) -> None:
        if self._told is not None:
            self._told(self.reports)

    async def each(self, hosts: Sequence[Host], work: Callable[[HostRun], Awaitable[None]]) -> list[HostReport]:
        """Do `work` on every host; it says by `HostRun.now` what came of it. Failures end in the reports.

        When this is cancelled, every ssh is ended before it returns, and the reports say how far each host came.
        """
        self.reports = [HostReport(host=host.name) for host in hosts]
        runs = [HostRun(host, report, self) for host, report in zip(hosts, self.reports, strict=True)]
        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(self._one(run, work))
        return self.reports

    async def _one(self, run: HostRun, work: Callable[[HostRun], Awaitable[None]]) -> None:
        begun, report = time.monotonic(), run.report
        try:
            await work(run)
        except HostError as error:
            report.trouble, report.hint = error.reason.what, error.reason.hint
            report.state = "failed"
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # What a host answers is its own affair: one that talks nonsense fails alone, the others go on.
            report.trouble = f"what it answered makes no sense: {type(error).__name__}: {error}"[:_TROUBLE_MAX]
            report.hint = "is it the host that you mean, and is it well?"
            report.state = "failed"
        except asyncio.CancelledError:
            if not report.settled:
                report.trouble = f"interrupted while {report.state}"
                report.state = "interrupted"
            raise
        finally:
            report.seconds = round(time.monotonic() - begun, 3)
            self.tell()
