"""What a run leaves behind: one record of each program, one of each member, one manifest of the run."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ergates.experiment.run import Run, Seated


class ProgramRecord(Struct, frozen=True, kw_only=True):
    """One program on one host.

    Args:
        folder: relative to the member's folder.
        argv: exactly what was started.
        started_ns, ready_ns, ended_ns: by the host's own wall clock; None: it did not come to that.
        exit_code, signal: as waited for; one of them, None for both when it never started.
        stopped: whether we told it to end.
        ok: whether that counts as well; `problem` says in words why not.
        wall_ns: by a clock that does not jump.
        cpu_ns, peak_bytes: of the program and the children it waited for.
        peak_sampled: `peak_bytes` is only the largest seen by looking now and then, at the program alone: a lower bound.
        files: (path relative to the folder, bytes) of what was kept.
    """

    name: str
    folder: str
    argv: tuple[str, ...]
    started_ns: int | None = None
    ready_ns: int | None = None
    ended_ns: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    stopped: bool = False
    ok: bool = False
    problem: str = ""
    wall_ns: int = 0
    cpu_ns: int = 0
    peak_bytes: int = 0
    peak_sampled: bool = False
    files: tuple[tuple[str, int], ...] = ()


class MemberRecord(Struct, frozen=True, kw_only=True):
    """`member.json` in a member's folder: written last, so that a folder without it is of a member that did not come to its end.

    Args:
        facts: of the host: kernel, CPU model, cores, memory, governor, turbo, time synchronisation, versions, container limits.
        problem: why this member failed apart from its programs; empty.
    """

    seat: Seated
    programs: tuple[ProgramRecord, ...]
    facts: dict[str, Any]
    problem: str = ""


class Manifest(Struct, frozen=True, kw_only=True):
    """`manifest.json` of a run, written when everything of it has been gathered: what makes a run finished.

    Args:
        experiment: its name.
        run: which.
        ok: whether its figures count.
        problem: why not, naming role, host and program.
        attempts: how often it was tried, this one included; `past` says of each earlier one how it ended.
        folder: of the attempt that counts, relative to the run's.
        members: in the order of the ranks.
        started_ns, ended_ns: of that attempt, by the store's clock.
        seconds: of that attempt, from the start of its first program to the end of its last.
        joules, joules_by, dollars: of the attempt; `joules_by` is `measured`, `modelled`, `estimated` or `unknown`.
        versions: of ergates, of Python; commit of the experiment's folder and whether it had changes; digest of the file.
        simulated: whether a host of it was simulated.
    """

    experiment: str
    run: Run
    ok: bool
    problem: str = ""
    attempts: int = 1
    past: tuple[str, ...] = ()
    folder: str = ""
    members: tuple[MemberRecord, ...] = ()
    started_ns: int = 0
    ended_ns: int = 0
    seconds: float = 0.0
    joules: float | None = None
    joules_by: str = "unknown"
    dollars: float | None = None
    versions: dict[str, str] = {}
    simulated: bool = False
