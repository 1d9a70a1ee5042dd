"""The nodes of one group of hosts that Slurm gives: asked for, waited for, taken over from an earlier process, given back.

One job of as many nodes as the group has, or the allocation in which we were started. What is ours is known by the job's comment
and the steps' names (slurm_allocation.py), so whoever comes later finds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from ergates.drivers.hosts.local_workers import Place
from ergates.drivers.hosts.slurm_allocation import (
    ADDRESS_FORMAT,
    HOLDER,
    SQUEUE_FORMAT,
    STEP_FORMAT,
    Allocation,
    allocation_arguments,
    comment_in,
    mark_of,
    parse_allocations,
    parse_pairs,
    partition_in,
)
from ergates.drivers.placers.slurm import Slurm
from ergates.drivers.placers.slurm_records import NEVER_STARTS
from ergates.drivers.placers.slurm_words import SlurmError
from ergates.drivers.placers.ssh_worker import is_loopback
from ergates.errors import ErgatesError, UsageError
from ergates.experiment.layout import FOLDER_SUFFIX
from ergates.experiment.spec import HostGroup
from ergates.units import SECOND_NS, format_duration

LOOK_S, STEP_LOOK_S = 1.0, 0.2
GIVE_BACK_S = 20.0
"""What workers may take to give back what runs before Slurm ends them."""
END_S = 180.0
"""Until nothing of a cancelled job is left (KillWait is 30 s by default)."""
SOON_S = 3.0
"""Free nodes are given within this; whoever conducts asks again for others."""
SHORT_S = 60.0
"""An allocation that was asked for so lately and is gone is not asked for again."""
LEAST_LEFT_NS = 120 * SECOND_NS
"""An allocation with less left is not taken over."""
_UNKNOWN = "Invalid job id"


class HeldNodes(Struct, frozen=True, kw_only=True):
    """Which nodes a group has, and how others reach them. `own`: the job is ours to end; else it is the one in which we run."""

    job: str
    own: bool
    nodes: tuple[tuple[str, str], ...]


class SlurmNodes:
    """Args: as of `SlurmHosts`."""

    def __init__(self, group: HostGroup, place: Place, say: Callable[[str], None], *, store_here: bool) -> None:
        self._group, self._say, self._store_here = group, say, store_here
        self._folder = place.hosts
        self._record = self._folder / f"{group.name}.slurm.json"
        self._mark = mark_of(place.folder, group.name)
        self._step_prefix = f"{self._mark}:"
        self._job_name = f"erg:{place.folder.name.removesuffix(FOLDER_SUFFIX)}"
        self._arguments = allocation_arguments(group, self._job_name, self._mark)
        self._slurm = Slurm()
        self._renewed_s = float("-inf")

    def check(self) -> None:
        """Partition, its size and time limit, and what `sbatch --test-only` says; nothing is asked for. Raises UsageError."""
        group = self._group
        self._check_way_to_store()
        if self._outer() is not None or self._ours(comment_in(self._arguments)):
            return
        name = partition_in(group.options)
        partitions = self._slurm.partitions()
        known = ", ".join(sorted(one.name for one in partitions)) or "none"
        found = next((one for one in partitions if one.name == name or (not name and one.default)), None)
        if found is None and name and "," not in name:
            raise self._refused(f"Slurm has no partition {name}", f"one of {known}")
        if found is not None and not found.up:
            raise self._refused(f"partition {found.name} is down", f"one of {known} that is up (`sinfo`)")
        if found is not None and group.count > found.nodes:
            raise self._refused(
                f"partition {found.name} has {found.nodes} nodes, {group.count} are asked for",
                f"count <= {found.nodes}",
            )
        if found is not None and found.limit_ns is not None and (group.time_ns or 0) > found.limit_ns:
            limit = format_duration(found.limit_ns)
            raise self._refused(f"partition {found.name} allows {limit}", f"time of at most {limit}")
        try:
            self._slurm.run([*self._arguments, "--test-only"], stdin=HOLDER)
        except SlurmError as error:
            if error.for_good:
                raise self._refused(error.reason, "something that Slurm can give (`sinfo`)") from error

    def hold(self) -> HeldNodes:
        """Those of the allocation in which we run, or of an earlier process, or new ones: waits as long as Slurm lets us wait.

        Raises:
            UsageError: Slurm would never give them.
            ErgatesError: it gave them and took them away.
        """
        with self._alone() as lock:
            held = self._within_outer()
            if held is None:
                held = self._of_job(self._wait(self._taken_over() or self._submit(lock)))
            self._record.write_bytes(msgspec.json.encode(held))
        return held

    def held_now(self) -> HeldNodes | None:
        """Nodes on which a worker may start now; where the allocation has ended another one is asked for, and not waited for.

        Raises:
            ErgatesError: allocations end as soon as they begin, or it was not ours.
        """
        held = self._held()
        found = [] if held is None else self._asked(f"--jobs={held.job}")
        if held is None or not found or not found[0].running:
            return self._held_anew(held, found)
        return held if self._lasts(found[0]) else None

    def end_workers(self) -> HeldNodes | None:
        """Nothing of ours runs on the nodes any more; those that are still held."""
        held = self._held()
        found = [] if held is None else self._asked(f"--jobs={held.job}")
        if held is None or not found or not found[0].running:
            return None
        self._end_steps([held.job])
        return held

    def release(self) -> None:
        """End the workers, and the job unless it is the one in which we run."""
        with self._alone():
            held = self._held()
            self._end([one.job for one in self._ours()])
            if held is not None and not held.own:
                self._end_steps([held.job])
            self._record.unlink(missing_ok=True)

    # --- what may be refused ------------------------------------------------------------------------

    def _check_way_to_store(self) -> None:
        if not self._store_here:
            return
        named = partition_in(self._group.options)
        partition = [f"--partition={named}"] if named else []
        asked = ["sinfo", "--noheader", "--Node", f"--format={ADDRESS_FORMAT}", *partition]
        away = [node for node, at in parse_pairs(self._slurm.run(asked)) if not is_this_machine(at)]
        if away:
            raise self._refused(
                f"nodes such as {away[0]} do not reach a store that listens on this machine's loopback only",
                'listen = "ADDRESS" in [experiment], one of this machine that the nodes reach, or store = "FILE"',
            )

    def _refused(self, what: str, expected: str) -> UsageError:
        return UsageError(f"hosts.{self._group.name}: {what}\n  expected: {expected}")

    # --- which allocation -----------------------------------------------------------------------------

    def _outer(self) -> Allocation | None:
        """The allocation in which we run, if it has nodes enough."""
        job = os.environ.get("SLURM_JOB_ID", "")
        found = [one for one in self._asked(f"--jobs={job}") if one.running] if job.isdigit() else []
        return found[0] if found and found[0].count >= self._group.count else None

    def _within_outer(self) -> HeldNodes | None:
        """Nodes of the allocation in which we run that no other group of this experiment has."""
        outer = self._outer()
        before = self._held()
        if outer is None or (before is not None and before.own and self._ours()):
            return None
        if before is not None and before.job == outer.job and len(before.nodes) == self._group.count:
            return before
        others = (self._read(path) for path in sorted(self._folder.glob("*.slurm.json")) if path != self._record)
        taken = {node for held in others if held is not None and held.job == outer.job for node, _ in held.nodes}
        free = [pair for pair in self._addresses(outer.nodes) if pair[0] not in taken]
        if len(free) < self._group.count:
            return None
        return HeldNodes(job=outer.job, own=False, nodes=tuple(free[: self._group.count]))

    def _taken_over(self) -> Allocation | None:
        """What an earlier process asked for with the same words; anything else of this group is ended."""
        wanted = comment_in(self._arguments)
        lasting = [one for one in self._ours(wanted) if self._lasts(one)]
        kept = next((one for one in lasting if one.running), lasting[0] if lasting else None)
        self._end([one.job for one in self._ours() if kept is None or one.job != kept.job])
        if kept is not None:
            self._say(f"Slurm job {kept.job} of an earlier start is taken over")
        return kept

    def _lasts(self, one: Allocation) -> bool:
        short = self._group.time_ns is not None and self._group.time_ns < 2 * LEAST_LEFT_NS
        return one.waiting or short or one.left_ns is None or one.left_ns >= LEAST_LEFT_NS

    def _submit(self, lock: int) -> Allocation:
        output = f"--output={self._folder / f'{self._group.name}.slurm-%j.log'}"
        printed = self._slurm.run([*self._arguments, output], stdin=HOLDER, pass_fds=(lock,))
        job = printed.strip().splitlines()[-1].partition(";")[0] if printed.strip() else ""
        found = self._asked(f"--jobs={job}") if job.isdigit() else []
        if not found:
            raise ErgatesError(f"hosts.{self._group.name}: sbatch printed no job that squeue knows: {printed[:200]!r}")
        return found[0]

    def _wait(self, one: Allocation) -> Allocation:
        told = ""
        while not one.running:
            if not one.waiting:
                raise self._lost(one.job, [one])
            if one.reason in NEVER_STARTS:
                self._end([one.job])
                raise self._refused(
                    f"Slurm would never start it: {NEVER_STARTS[one.reason]}", "less, or another partition"
                )
            why = f": {one.reason}" if one.reason not in ("None", told) else ""
            if not told or why:
                self._say(f"Slurm job {one.job} waits for {one.count} nodes{why}")
                told = one.reason
            time.sleep(LOOK_S if told else STEP_LOOK_S)
            found = self._asked(f"--jobs={one.job}")
            if not found:
                raise self._lost(one.job, [])
            one = found[0]
        return one

    def _lost(self, job: str, found: Sequence[Allocation]) -> ErgatesError:
        how = f"{found[0].state} ({found[0].reason})" if found else "squeue does not know it any more"
        return ErgatesError(
            f"hosts.{self._group.name}: Slurm job {job} is gone: {how}"
            "\n  hint: `erg experiment resume` asks for nodes again"
        )

    def _of_job(self, one: Allocation) -> HeldNodes:
        return HeldNodes(job=one.job, own=True, nodes=tuple(self._addresses(one.nodes)))

    def _addresses(self, nodes: str) -> list[tuple[str, str]]:
        """Names of nodes and how others reach them, in Slurm's order."""
        names = self._slurm.run(["scontrol", "show", "hostnames", nodes]).split()
        said = dict(
            parse_pairs(
                self._slurm.run(["sinfo", "--noheader", "--Node", f"--nodes={nodes}", f"--format={ADDRESS_FORMAT}"])
            )
        )
        return [(name, said.get(name) or name) for name in names]

    def _held_anew(self, before: HeldNodes | None, found: Sequence[Allocation]) -> HeldNodes | None:
        """Nodes instead of those of an allocation that has ended; None: Slurm has not given them yet."""
        if before is not None and not before.own:
            raise self._lost(before.job, found)
        with self._alone() as lock:
            one = next(iter(self._ours(comment_in(self._arguments))), None)
            if one is None:
                if time.monotonic() - self._renewed_s < SHORT_S:
                    raise self._lost("" if before is None else before.job, found)
                self._renewed_s = time.monotonic()
                why = f" has ended: {found[0].state}" if found else " is gone"
                self._say(f"Slurm job {before.job if before else ''}{why}; nodes are asked for again")
                one = self._submit(lock)
            until = time.monotonic() + SOON_S
            while one.waiting and time.monotonic() < until:
                time.sleep(STEP_LOOK_S)
                one = next(iter(self._asked(f"--jobs={one.job}")), one)
            if not one.running:
                return None
            held = self._of_job(one)
            self._record.write_bytes(msgspec.json.encode(held))
        return held

    # --- the end ------------------------------------------------------------------------------------

    def _end(self, jobs: Sequence[str]) -> None:
        if not jobs:
            return
        self._end_steps(jobs)
        self._slurm.cancel(jobs)
        until = time.monotonic() + END_S
        while left := [one.job for one in self._asked(f"--jobs={','.join(jobs)}") if _there(one)]:
            if time.monotonic() > until:
                raise ErgatesError(f"Slurm does not end job {', '.join(left)}\n  hint: `scontrol show job` says why")
            time.sleep(STEP_LOOK_S)

    def _end_steps(self, jobs: Sequence[str]) -> None:
        """TERM, on which a worker gives back what runs; what is left after that is killed."""
        for number, wait_s in ((signal.SIGTERM, GIVE_BACK_S), (signal.SIGKILL, END_S)):
            until = time.monotonic() + wait_s
            sent = False
            while steps := [step for job in jobs for step, _ in self.steps(job)]:
                if not sent:
                    with contextlib.suppress(SlurmError):  # over meanwhile
                        self._slurm.run(["scancel", f"--signal={signal.Signals(number).name[3:]}", *steps])
                    sent = True
                if time.monotonic() > until:
                    break
                time.sleep(STEP_LOOK_S)

    # --- what Slurm says --------------------------------------------------------------------------

    def _ours(self, comment: str = "") -> list[Allocation]:
        """Jobs of this group that wait or run; those with this very comment."""
        found = self._asked(f"--user={os.getuid()}", f"--name={self._job_name}")
        return [
            one
            for one in found
            if (one.waiting or one.running)
            and (one.comment == comment if comment else one.comment.startswith(f"{self._mark} "))
        ]

    def _asked(self, *which: str) -> list[Allocation]:
        try:
            printed = self._slurm.run(["squeue", "--noheader", "--states=all", f"--format={SQUEUE_FORMAT}", *which])
        except SlurmError as error:
            if _UNKNOWN in str(error):
                return []
            raise
        return parse_allocations(printed)

    def steps(self, job: str) -> list[tuple[str, str]]:
        """Steps of this group that run there: (id, node)."""
        try:
            printed = self._slurm.run(["squeue", "--steps", "--noheader", f"--jobs={job}", f"--format={STEP_FORMAT}"])
        except SlurmError as error:
            if _UNKNOWN in str(error):
                return []
            raise
        ours = [(step, name) for step, name in parse_pairs(printed) if name.startswith(self._step_prefix)]
        return [(step, name.removeprefix(self._step_prefix)) for step, name in ours]

    def step_name(self, node: str) -> str:
        """What the step of a node's worker is called."""
        return self._step_prefix + node

    # --- what is kept here --------------------------------------------------------------------------

    def _held(self) -> HeldNodes | None:
        return self._read(self._record)

    @staticmethod
    def _read(path: Path) -> HeldNodes | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=HeldNodes)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[int]:
        """One at a time, a submission of somebody who was killed included: sbatch keeps the lock open."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._folder / "slurm.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)


def is_this_machine(address: str) -> bool:
    """Whether a node's address is this machine's."""
    here = os.uname().nodename
    return is_loopback(address) or address in (here, here.partition(".")[0])


def _there(one: Allocation) -> bool:
    return one.waiting or one.state in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT")
