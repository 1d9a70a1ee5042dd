"""Brings workers up on hosts reached by ssh: programs sent where they are missing, workers started, and seen in the store.

A host's worker is "up" when the store has heard from it, not when a command returned. Doing it again changes nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ergates.cluster.node import WorkerStatus
from ergates.drivers.placers.conversation import Conversation
from ergates.drivers.placers.far_tags import tags_of
from ergates.drivers.placers.hosts import Host
from ergates.drivers.placers.many_hosts import HostReport, HostRun, ManyHosts
from ergates.drivers.placers.placed_hosts import PlacedHosts
from ergates.drivers.placers.roster_watch import PRESENT, RosterWatch
from ergates.drivers.placers.ssh_words import HostError, Reason
from ergates.drivers.placers.wheelhouse import Wheelhouse, WheelhouseError

INSTALL_TIMEOUT_S = 600.0
STEP_TIMEOUT_S = 60.0
ALIVE_EVERY_S = 1.0


def placed_by(host: str) -> str:
    """How a worker says that we placed it: `WorkerInfo.placed_by`."""
    return f"ssh:{host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpPlan:
    """What is to be on every host.

    Args:
        cluster: name of the cluster: of the directory there.
        command: of the worker on a host; the first word is a program of the environment that is installed there, and
            `{home}` in a word stands for the worker's directory there.
        files: what is put into that directory first: name to content; readable by their owner alone.
        count: workers on each host.
        setup: a script that is run first on each host, None for none.
        join_s: how long a worker may take until the store has heard from it.
        environment: added to that of a host's workers.
    """

    cluster: str
    command: Callable[[Host], Sequence[str]]
    files: Mapping[str, bytes] = field(default_factory=dict)
    count: int = 1
    setup: bytes | None = None
    join_s: float = 60.0
    environment: Callable[[Host], Mapping[str, str]] = lambda _host: {}


class SshUp:
    """`up` on many hosts.

    Args:
        many: reaches them.
        wheelhouse: what is sent.
        watch: the roster of the store.
        placed: remembers hosts.
        plan: what is to be there.
    """

    def __init__(
        self, many: ManyHosts, wheelhouse: Wheelhouse, watch: RosterWatch, placed: PlacedHosts, plan: UpPlan
    ) -> None:
        self._many, self._wheelhouse, self._watch, self._placed, self._plan = many, wheelhouse, watch, placed, plan

    async def run(self, hosts: Sequence[Host]) -> list[HostReport]:
        """One report for each host, in their order."""
        return await self._many.each(hosts, self._up)

    async def _up(self, run: HostRun) -> None:
        async with run.reached() as talk:
            if self._plan.setup is not None:
                await self._set_up(run, talk, self._plan.setup)
            key, seen = await programs_there(
                run, talk, self._wheelhouse, self._plan.cluster, lambda seen: self._starts_any(seen)
            )
            run.report.sent_bytes = talk.sent_bytes
            records: dict[int, dict[str, Any]] = {}
            for number in range(1, self._plan.count + 1):
                there = seen["workers"].get(str(number))
                records[number] = there or await self._start(run, talk, key, number)
            self._look_at(run, key, records)
            run.now("joining")
            await self._joined(run, talk, {number: int(record["pid"]) for number, record in records.items()})
            run.now("already up" if all(str(number) in seen["workers"] for number in records) else "up")

    def _look_at(self, run: HostRun, key: str, records: Mapping[int, dict[str, Any]]) -> None:
        """Somebody may have started what runs there: under another name, or another version of us."""
        for record in records.values():
            if record["name"] != placed_by(run.host.name):
                other = str(record["name"]).removeprefix(placed_by(""))
                raise HostError(
                    Reason(f"a worker runs there already: the host was brought up as {other}", "name each host once")
                )
            if record["key"] != key:
                run.report.note = "runs another version of the programs; take it down and up again to renew it"

    async def _set_up(self, run: HostRun, talk: Conversation, script: bytes) -> None:
        run.now("setting up")
        answer = await talk.ask("set_up", script, cluster=self._plan.cluster)
        if answer["code"] != 0:
            last = _last_line(answer["tail"]) or "it printed nothing"
            how = f"exit code {answer['code']}" if answer["code"] > 0 else f"signal {-answer['code']}"
            raise HostError(
                Reason(f"the set-up script failed there, {how}: {last}", f"all it printed: {answer['log']} there")
            )

    def _starts_any(self, seen: Mapping[str, Any]) -> bool:
        return bool({str(number) for number in range(1, self._plan.count + 1)} - seen["workers"].keys())

    async def _start(self, run: HostRun, talk: Conversation, key: str, number: int) -> dict[str, Any]:
        run.now("starting")
        await asyncio.to_thread(self._placed.add, run.host)
        files = {name: base64.b64encode(content).decode() for name, content in self._plan.files.items()}
        return await talk.ask(
            "start",
            name=placed_by(run.host.name),
            cluster=self._plan.cluster,
            key=key,
            number=number,
            files=files,
            command=list(self._plan.command(run.host)),
            environment=dict(self._plan.environment(run.host)),
            timeout_s=STEP_TIMEOUT_S,
        )

    async def _joined(self, run: HostRun, talk: Conversation, pids: Mapping[int, int]) -> None:
        """Wait until the store has heard from every worker; a worker that ends instead is told with its last words."""
        name = placed_by(run.host.name)

        def here(workers: tuple[WorkerStatus, ...]) -> bool:
            ours = {w.info.pid: w.info.id for w in workers if w.info.placed_by == name and w.standing in PRESENT}
            run.report.workers = [ours[pid] for pid in pids.values() if pid in ours]
            return len(run.report.workers) == len(pids)

        waiting = asyncio.create_task(self._watch.until(here))
        until = time.monotonic() + self._plan.join_s
        try:
            while not (await asyncio.wait([waiting], timeout=ALIVE_EVERY_S))[0]:
                for number in pids:
                    await self._check_alive(talk, number, late=time.monotonic() > until)
            await waiting
        finally:
            waiting.cancel()

    async def _check_alive(self, talk: Conversation, number: int, *, late: bool) -> None:
        answer = await talk.ask("alive", cluster=self._plan.cluster, number=number, timeout_s=STEP_TIMEOUT_S)
        last = _last_line(answer["tail"])
        log = f"its log is {answer['log']} there"
        if not answer["alive"]:
            raise HostError(Reason(f"the worker ended: {last or 'without a word'}", log))
        if late and self._watch.trouble:
            raise HostError(Reason(f"the worker runs; whether it joined is not known: {self._watch.trouble}", log))
        if late:
            what = f"the worker runs, but the store did not hear from it within {self._plan.join_s:.0f} s"
            raise HostError(Reason(f"{what}{': ' if last else ''}{last}", f"can that host reach the store? {log}"))


async def programs_there(
    run: HostRun,
    talk: Conversation,
    wheelhouse: Wheelhouse,
    cluster: str,
    needed: Callable[[Mapping[str, Any]], bool] = lambda _seen: True,
) -> tuple[str, dict[str, Any]]:
    """See that the programs are on a host; returns their key there, and what was seen there: `installed`, and `workers`.

    Args:
        run: of the host.
        talk: to it.
        wheelhouse: what is sent.
        cluster: whose workers are looked for.
        needed: whether they are sent where they are missing, by what was seen.

    Raises:
        HostError: there are none for it, or it does not take them.
    """
    tags = tags_of(talk.facts)
    run.now("gathering wheels")
    try:
        bundle = await wheelhouse.bundle(tags)
    except WheelhouseError as error:
        what, _, hint = str(error).partition("\n")
        raise HostError(Reason(what, hint.strip().removeprefix("hint: "))) from error
    # An environment belongs to one Python at one path: hosts may share a home and differ in that.
    where = f"{bundle.sha256} {talk.facts['executable']} {talk.facts['python']} {talk.facts['machine']}"
    key = hashlib.sha256(where.encode()).hexdigest()[:20]
    seen = await talk.ask("look", cluster=cluster, key=key, timeout_s=STEP_TIMEOUT_S)
    if not seen["installed"] and needed(seen):
        run.now("installing")
        await talk.ask("install", bundle.tar, key=key, sha256=bundle.sha256, timeout_s=INSTALL_TIMEOUT_S)
    return key, seen


def _last_line(text: str) -> str:
    """A message of ours has its point in the line that begins with `erg:`; of other programs it is the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("erg:")), lines[-1] if lines else "")[:300]
