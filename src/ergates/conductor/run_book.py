"""The book of an experiment's runs: takes in those that ended, gathers each, writes its manifest, and says how all stands."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from ergates.clock import Clock
from ergates.cluster.task_state import TaskState
from ergates.conductor.experiment_folder import STANDING, ExperimentFolder
from ergates.conductor.run_manifest import manifest_of
from ergates.conductor.standing import FailedRun, Standing, estimated_left_ns, run_name
from ergates.conductor.submission import earlier_attempts
from ergates.conductor.watching import EndedRun, Watch
from ergates.conductor.whereabouts import Whereabouts
from ergates.errors import ErgatesError
from ergates.experiment.host import ExperimentHost, Hosts
from ergates.experiment.layout import MEMBER, attempt_folder, member_folder_name
from ergates.experiment.points import role_seats
from ergates.experiment.records import Manifest, MemberRecord
from ergates.experiment.run import Run
from ergates.experiment.spec import Experiment

_decode_member = msgspec.json.Decoder(MemberRecord).decode


class RunBook:
    """Args:
    experiment: whose runs.
    folder: of it.
    runs: all that were planned.
    wanted: numbers of those that are asked for now.
    versions: for the manifests.
    clock: of this process.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: ExperimentFolder,
        runs: Sequence[Run],
        wanted: Collection[int],
        versions: Mapping[str, str],
        clock: Clock,
    ) -> None:
        self._experiment, self._folder, self._versions, self._clock = experiment, folder, versions, clock
        self._runs = {run.number: run for run in runs if run.number in wanted}
        self._open = {number for number, run in self._runs.items() if not folder.is_finished(run)}
        self._groups: Mapping[str, Hosts] = {}
        self._hosts: tuple[ExperimentHost, ...] = ()
        self._whereabouts = Whereabouts()
        self._failed: list[FailedRun] = []
        self._running: tuple[str, ...] = ()
        self._ended_now = 0
        self._began_ns = clock.now_ns()
        for number in sorted(self._runs.keys() - self._open):
            self._note(self._runs[number], folder.manifest(self._runs[number]))

    @property
    def open_runs(self) -> frozenset[int]:
        """Numbers of the runs that have no manifest yet."""
        return frozenset(self._open)

    def raised(self, groups: Mapping[str, Hosts], hosts: Iterable[ExperimentHost]) -> None:
        """Hosts are there: what is gathered comes from them, and time counts from now."""
        self._groups, self._hosts = groups, tuple(hosts)
        self._whereabouts = Whereabouts(self._hosts)
        self._began_ns = self._clock.now_ns()

    def take_in(self, ended: Iterable[EndedRun]) -> list[tuple[Run, Manifest]]:
        """Gather runs that ended, and finish each with its manifest. One that somebody cancelled is not finished by that.

        Raises:
            OSError: no room on the disk; what has no manifest is taken in again later.
        """
        finished = []
        for each in ended:
            if each.number in self._open and each.state is not TaskState.CANCELLED:
                run = self._runs[each.number]
                manifest = self._gathered(run, each)
                self._folder.finish(run, manifest)
                if len(manifest.members) == sum(role.count for role in role_seats(self._experiment, run.point)):
                    with suppress(ErgatesError):  # whoever takes the hosts down says what is left there
                        forget_runs(self._folder, [run], self._groups, self._hosts)
                self._open.discard(run.number)
                self._ended_now += 1
                self._note(run, manifest)
                finished.append((run, manifest))
        return finished

    def _gathered(self, run: Run, ended: EndedRun) -> Manifest:
        roles = role_seats(self._experiment, run.point)
        number = ended.attempts[-1].number if ended.attempts else ended.tries
        folder = attempt_folder(self._folder.run_folder(run), number)
        folder.mkdir(parents=True, exist_ok=True)
        members = {}
        groups = [(role.role, role.group) for role in roles for _ in range(role.count)]
        leaders = {attempt.number: attempt.host for attempt in ended.attempts}
        for rank, (role, group) in enumerate(groups):
            name = member_folder_name(rank, role)
            for earlier in range(1, number):  # why it was repeated is to be found here, too
                leader = leaders.get(earlier, "") if rank == 0 else ""
                self._bring(attempt_folder(self._folder.run_folder(run), earlier) / name, group, leader)
            member = self._member(folder / name, group, leaders.get(number, "") if rank == 0 else "")
            if member is not None:
                members[rank] = member
        return manifest_of(
            self._experiment.name,
            run,
            ended,
            roles,
            members,
            folder.name,
            versions=self._versions,
            simulated={host.name for host in self._hosts if host.simulated},
            before=earlier_attempts(self._folder, run),
        )

    def _member(self, folder: Path, group: str, known: str) -> MemberRecord | None:
        """What a member wrote, brought here from whichever host has it; None when nobody does."""
        self._bring(folder, group, known)
        try:
            return _decode_member((folder / MEMBER).read_bytes())
        except (OSError, msgspec.MsgspecError):
            return None

    def _bring(self, folder: Path, group: str, known: str) -> None:
        """From whichever host has it, first from the one that the store knows; it may never have been there."""
        relative, attempt = os.path.relpath(folder, self._folder.path), str(folder.parent)
        for host in self._whereabouts.order(group, attempt, folder.name, known):
            if folder.exists():
                return
            with suppress(ErgatesError):
                self._groups[group].gather(host, relative, folder)
            if folder.exists():
                self._whereabouts.found(host, attempt, folder.name)

    def _note(self, run: Run, manifest: Manifest) -> None:
        if not manifest.ok:
            self._failed.append(FailedRun(number=run.number, name=run_name(run), problem=manifest.problem))

    # --- how it stands ------------------------------------------------------------------------

    def now_running(self, numbers: Iterable[int]) -> None:
        """What the store says is under way."""
        self._running = tuple(run_name(self._runs[number]) for number in sorted(self._open.intersection(numbers)))

    def standing(self) -> Standing:
        elapsed = self._clock.now_ns() - self._began_ns
        finished = len(self._runs) - len(self._open) - len(self._failed)
        return Standing(
            name=self._experiment.name,
            total=len(self._runs),
            finished=finished,
            failed=tuple(self._failed),
            running=self._running,
            elapsed_ns=elapsed,
            left_ns=estimated_left_ns(self._ended_now, elapsed, len(self._open)),
            at_ns=self._clock.now_ns(),
        )

    def write_standing(self) -> None:
        """For others who ask; a full disk must not end the runs for that."""
        temporary = self._folder.path / f".{STANDING}.{os.getpid()}"
        with suppress(OSError):
            temporary.write_bytes(msgspec.json.encode(self.standing()) + b"\n")
            temporary.replace(self._folder.path / STANDING)


def take_in_new(book: RunBook, watch: Watch, *, all_of_them: bool = False) -> list[tuple[Run, Manifest]]:
    """One look at the store."""
    return book.take_in(watch.ended(book.open_runs, all_of_them=all_of_them))


def forget_runs(
    folder: ExperimentFolder, runs: Iterable[Run], groups: Mapping[str, Hosts], hosts: Iterable[ExperimentHost]
) -> None:
    """Every host deletes what it has of these runs: it was gathered, or no store knows it and it would be taken for what is new.

    Raises:
        ErgatesError: a host could not; the others did.
    """
    folders = [str(folder.run_folder(run).relative_to(folder.path)) for run in runs]
    failed = []
    for host in hosts:
        try:
            groups[host.group].forget(host, folders)
        except ErgatesError as error:
            failed.append(error)
    if failed:
        raise failed[0]
