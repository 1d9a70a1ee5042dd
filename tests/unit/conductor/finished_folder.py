"""Writes the folder of a finished experiment as its conductor would, with files that a function of the run makes up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ergates.conductor.experiment_folder import ExperimentFolder, folder_of
from ergates.experiment.layout import attempt_folder, member_folder_name
from ergates.experiment.plan import order_of, plan_runs
from ergates.experiment.reading.read_experiment import read_experiment
from ergates.experiment.records import Manifest, MemberRecord, ProgramRecord
from ergates.experiment.run import Run, Seated

Files = Mapping[str, str | bytes]
Made = Callable[[Run, str, int], Files | None]
"""(run, program, rank) -> files of the program; None: the program failed."""


def finished(file: Path, made: Made, *, skipped: Callable[[Run], bool] = lambda run: False) -> ExperimentFolder:
    """All runs of the experiment file, but for those that are skipped."""
    experiment = read_experiment(file)
    folder = ExperimentFolder(folder_of(file))
    runs = plan_runs(experiment)
    folder.write_plan(experiment, file.read_text(), runs)
    for run in runs:
        if not skipped(run):
            attempt = attempt_folder(folder.run_folder(run), 1)
            roles = [seat.role for seat in order_of(experiment, run, attempt).roles for _ in range(seat.count)]
            members = []
            failed = ""
            for rank, role in enumerate(roles):
                records = []
                for program in experiment.programs:
                    if program.role != role:
                        continue
                    own = attempt / member_folder_name(rank, role) / program.name
                    own.mkdir(parents=True)
                    files = made(run, program.name, rank)
                    if files is None:
                        failed = f"{program.name} of {role} on n{rank}: exit code 1"
                    for name, content in (files or {}).items():
                        data = content if isinstance(content, bytes) else content.encode()
                        (own / name).write_bytes(data)
                    records.append(
                        ProgramRecord(
                            name=program.name,
                            folder=program.name,
                            argv=("true",),
                            ok=files is not None,
                            wall_ns=10**9 * (rank + 1),
                            cpu_ns=10**8 * (rank + 1),
                            peak_bytes=2**20 * (rank + 1),
                        )
                    )
                seat = Seated(rank=rank, role=role, index=0, host=f"n{rank}", address="127.0.0.1")
                members.append(MemberRecord(seat=seat, programs=tuple(records), facts={}))
            folder.finish(
                run,
                Manifest(
                    experiment=experiment.name,
                    run=run,
                    ok=not failed,
                    problem=failed,
                    folder="attempt-1",
                    members=tuple(members),
                    started_ns=1_900_000_000 * 10**9 + run.number * 10**9,
                    seconds=1.5,
                ),
            )
    return folder
