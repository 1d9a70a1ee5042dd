"""Makes the runs of an experiment from the first check to the last table: the whole way of `erg experiment run` and `resume`.

```
check everything ─► lock the folder ─► end what an earlier attempt left ─► plan on disk ─► store ─► job ─► hosts ─► workers
                                                                                                            │
              tidy ◄─ hosts and store down ◄─ table ◄─ every run has its manifest, or told to stop ◄─ watch, gather
```
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ergates.agent.signals import caught_signals
from ergates.clock import SystemClock
from ergates.conductor.conducting import Conductor, Display, Why, all_down
from ergates.conductor.experiment_folder import ExperimentFolder
from ergates.conductor.host_groups import HERE, check_all, hosts_of
from ergates.conductor.interrupts import Told, interruptible
from ergates.conductor.leftovers import end_earlier, give_back
from ergates.conductor.node_settings import NodeSettings
from ergates.conductor.run_book import RunBook, forget_runs
from ergates.conductor.run_store import RunStore
from ergates.conductor.standing import Standing
from ergates.conductor.submission import submit_runs
from ergates.conductor.versions import versions_of
from ergates.drivers.alarm import Alarm
from ergates.drivers.hosts.local_workers import Place
from ergates.errors import ErgatesError
from ergates.experiment.host import Hosts
from ergates.experiment.layout import EXPERIMENT
from ergates.experiment.points import role_seats
from ergates.experiment.run import Run
from ergates.experiment.spec import Experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How it ended. `table`: None when no run is finished, or it could not be written."""

    why: Why
    standing: Standing
    table: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be made.

    Args:
        experiment: whose runs.
        text: of its file.
        plan: all runs, given those that were planned before.
        wanted: numbers of those asked for now, of all of them.
        retry_failed: runs that failed for good are tried again.
        keep_hosts: nothing is taken down at the end.
    """

    experiment: Experiment
    text: str
    plan: Callable[[Sequence[Run]], Sequence[Run]]
    wanted: Callable[[Sequence[Run]], Collection[int]]
    retry_failed: bool = False
    keep_hosts: bool = False


def make_runs(folder: ExperimentFolder, asked: Asked, display: Display) -> Ending:
    """Make what is asked for and has not been made.

    Raises:
        UsageError: something refuses: nothing was started.
        ErgatesError: hosts or store cannot be raised, or do not serve any more; everything was taken down.
        KeyboardInterrupt: told to stop before the first run; everything was taken down.
    """
    with interruptible() as told:
        return _make_runs(folder, asked, display, told)


def _make_runs(folder: ExperimentFolder, asked: Asked, display: Display, told: Told) -> Ending:
    experiment = asked.experiment
    place = Place(folder=folder.path, here=Path(experiment.here))
    alone = runs_alone(experiment, asked.plan(()))
    run_store = None if alone else RunStore(experiment, place, display.say)
    groups = hosts_of(experiment, place, display.say)
    settings = NodeSettings(experiment, place, display.say)
    check_all(list(groups.values()), settings.check, *(() if run_store is None else (run_store.check,)))
    with folder.alone():
        ended = end_earlier(place, run_store)
        settings.down()
        if ended:
            display.say(f"ended what an earlier attempt left running ({ended} processes)")
        runs = asked.plan(folder.runs() if folder.begun else ())
        folder.write_plan(experiment, asked.text, runs)
        wanted = frozenset(asked.wanted(runs))
        if asked.retry_failed:
            _take_up_again(folder, runs, wanted)
        again = wanted if asked.retry_failed else frozenset()
        clock = SystemClock()
        book = RunBook(
            experiment, folder, runs, wanted, versions_of(experiment, asked.text.encode(), folder.path), clock
        )
        job = _Job(experiment, folder, place, runs, wanted, again, told)
        why: Why = "finished"
        try:
            if not book.open_runs:
                if place.hosts.exists() and not asked.keep_hosts:
                    all_down(groups, display.say)  # of one that was killed at its very end, or was to keep them
            elif run_store is None:
                with _prepared(settings, keep=asked.keep_hosts):
                    why = _make_alone(job, book, groups, display, clock)
            else:
                with _prepared(settings, keep=asked.keep_hosts):
                    why = _make_on_hosts(job, book, groups, run_store, display, clock, keep=asked.keep_hosts)
        finally:
            book.now_running(())
            book.write_standing()
        if why == "finished" and not asked.keep_hosts:
            if run_store is not None:
                run_store.down()
            folder.tidy()
        return Ending(why=why, standing=book.standing(), table=_table(folder, experiment, book, display))


def end_of_earlier(folder: ExperimentFolder, experiment: Experiment, say: Callable[[str], None]) -> None:
    """End what an attempt in this folder left, before the folder gets another name: by its name its processes are known.

    Raises:
        UsageError: somebody makes its runs now.
        ErgatesError: something does not end.
    """
    place = Place(folder=folder.path, here=Path(experiment.here))
    with folder.alone():
        end_earlier(place, None)
        NodeSettings(experiment, place, say).down()
        _far_settings_undone(folder, place, say)


def _far_settings_undone(folder: ExperimentFolder, place: Place, say: Callable[[str], None]) -> None:
    """Hosts that an earlier attempt left prepared: what they were before is found by the folder's name."""
    if folder.begun and place.hosts.exists():
        earlier = folder.experiment()
        groups = hosts_of(earlier, place, say)
        far = {group.name for group in earlier.hosts if group.prepare and group.kind not in HERE}
        all_down({name: groups[name] for name in far}, say)


def runs_alone(experiment: Experiment, runs: Sequence[Run]) -> bool:
    """Whether every run takes one host, and that is this machine: then it needs no store but a file."""
    return all(group.kind == "local" for group in experiment.hosts) and all(
        sum(role.count for role in role_seats(experiment, run.point)) == 1 for run in runs
    )


@dataclass(frozen=True, slots=True)
class _Job:
    experiment: Experiment
    folder: ExperimentFolder
    place: Place
    runs: Sequence[Run]
    wanted: frozenset[int]
    again: frozenset[int]
    told: Told


def _make_on_hosts(
    job: _Job,
    book: RunBook,
    groups: dict[str, Hosts],
    run_store: RunStore,
    display: Display,
    clock: SystemClock,
    *,
    keep: bool,
) -> Why:
    alarm = Alarm()
    try:
        with _taken_down(groups, run_store, display, keep=keep):
            run_store.up()
            with closing(run_store.open()) as store:
                hosts = tuple(host for group in groups.values() for host in group.up())
                submitted = submit_runs(
                    store,
                    job.experiment,
                    job.folder,
                    job.place,
                    job.runs,
                    job.wanted,
                    clock,
                    again=job.again,
                    forget=lambda runs: forget_runs(job.folder, runs, groups, hosts),
                )
                give_back(store, submitted, clock)
                for group in groups.values():
                    group.start_workers(run_store.file, job.experiment.name)
                book.raised(groups, hosts)
                near = frozenset(group.name for group in job.experiment.hosts if group.kind in HERE)
                conductor = Conductor(
                    job.experiment, store, run_store, submitted, book, groups, hosts, near, display, clock
                )
                with caught_signals(True, alarm) as signals:
                    job.told.check()
                    return conductor.run(signals, alarm)
    finally:
        alarm.close()


@contextmanager
def _prepared(settings: NodeSettings, *, keep: bool) -> Iterator[None]:
    try:
        settings.up()
        yield
    finally:
        if not keep:
            with caught_signals():
                settings.down()


@contextmanager
def _taken_down(groups: dict[str, Hosts], run_store: RunStore, display: Display, *, keep: bool) -> Iterator[None]:
    """Whatever happens inside, nothing is left running after it; who is impatient then has to wait for that all the same."""
    try:
        yield
    finally:
        if not keep:
            with caught_signals():
                all_down(groups, display.say)
                try:
                    run_store.down()
                except (ErgatesError, OSError) as error:
                    display.say(f"the store of the runs was not stopped: {error}")


def _make_alone(job: _Job, book: RunBook, groups: dict[str, Hosts], display: Display, clock: SystemClock) -> Why:
    from ergates.conductor.alone import run_alone

    hosts = tuple(host for group in groups.values() for host in group.up())
    book.raised(groups, hosts)
    job.told.check()
    return run_alone(job.experiment, job.folder, job.place, job.runs, job.wanted, book, display, clock, again=job.again)


def _take_up_again(folder: ExperimentFolder, runs: Sequence[Run], wanted: Collection[int]) -> None:
    """Runs that failed for good lose their manifests, which stay under another name."""
    for run in runs:
        if run.number in wanted and folder.is_finished(run) and not folder.manifest(run).ok:
            folder.reopen(run)


def _table(folder: ExperimentFolder, experiment: Experiment, book: RunBook, display: Display) -> Path | None:
    if not book.standing().ended:
        return None
    from ergates.conductor.results import write_table

    try:
        return write_table(folder.path, experiment, display.say)
    except ErgatesError as error:
        display.say(f"no table: {error}\n  hint: mend [measure] in the file, then: erg experiment gather")
        return None


def kept_text(folder: ExperimentFolder) -> str:
    """Of the file as it was when the runs were planned. Raises OSError."""
    return (folder.path / EXPERIMENT).read_text(errors="surrogateescape")
