"""From what the members of a run wrote, and what the store says of its attempts, to its manifest. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.task_state import TaskState
from ergates.conductor.watching import EndedRun
from ergates.experiment.records import Manifest, MemberRecord
from ergates.experiment.run import RoleSeats, Run

PROBLEMS_SHOWN = 3


def manifest_of(
    experiment: str,
    run: Run,
    ended: EndedRun,
    roles: Sequence[RoleSeats],
    members: Mapping[int, MemberRecord],
    folder: str,
    *,
    versions: Mapping[str, str],
    simulated: Collection[str],
    before: Sequence[str] = (),
) -> Manifest:
    """What is to be known of a run that ended.

    Args:
        experiment: its name.
        run: which.
        ended: how.
        roles: in the order of the ranks.
        members: what those that came to their end wrote, by rank.
        folder: of the attempt, relative to the run's.
        versions: see versions.py.
        simulated: names of hosts that are.
        before: attempts that the store knows nothing of.
    """
    last = ended.attempts[-1] if ended.attempts else None
    problem = "; ".join(problems(ended, last, roles, members))
    there = tuple(members[rank] for rank in sorted(members))
    usage = None if last is None else last.usage
    joules = usage is not None and usage.energy_label != "unknown"
    return Manifest(
        experiment=experiment,
        run=run,
        ok=not problem,
        problem=problem,
        attempts=ended.tries + len(before),
        past=(*before, *(_told(attempt) for attempt in ended.attempts[:-1])),
        folder=folder,
        members=there,
        started_ns=last.started_ns if last else 0,
        ended_ns=last.ended_ns if last else 0,
        seconds=_span_ns(there, None if usage is None else usage.wall_ns) / 1e9,
        joules=usage.energy_uj / 1e6 if usage is not None and joules else None,
        joules_by=usage.energy_label if usage is not None else "unknown",
        dollars=None if usage is None or usage.cost_usd_micros is None else usage.cost_usd_micros / 1e6,
        versions=dict(versions),
        simulated=any(member.seat.host in simulated for member in there),
    )


def _span_ns(members: Iterable[MemberRecord], attempt_ns: int | None) -> int:
    """From the first start of a program to the last end.

    Clocks of different machines disagree: the span is at least the longest that one clock saw, and at most the attempt's.
    """
    spans: dict[object, list[int]] = {}
    for member in members:
        moments = spans.setdefault(member.facts.get("boot_id"), [])
        for program in member.programs:
            if program.started_ns is not None and program.ended_ns is not None:
                moments += (program.started_ns, program.ended_ns)
    every = [moments for moments in spans.values() if moments]
    if not every:
        return 0
    longest = max(max(moments) - min(moments) for moments in every)
    whole = max(map(max, every)) - min(map(min, every))
    return max(longest, whole if attempt_ns is None else min(whole, attempt_ns))


def problems(
    ended: EndedRun, last: Attempt | None, roles: Sequence[RoleSeats], members: Mapping[int, MemberRecord]
) -> Iterator[str]:
    """Why its figures do not count, naming role, host and program; nothing when they do."""
    said = list(problems_of_members(members))
    succeeded = ended.state is TaskState.DONE
    if said:
        yield from said[:PROBLEMS_SHOWN]
        if len(said) > PROBLEMS_SHOWN:
            yield f"and {len(said) - PROBLEMS_SHOWN} more"
    if not succeeded and (not said or (last is not None and last.outcome is not Outcome.FAILED)):
        yield ended.reason or (last.reason if last else "") or ended.state.value
    seats = [(role.role, index) for role in roles for index in range(role.count)]
    missing = [rank for rank in range(len(seats)) if rank not in members]
    if succeeded and missing:
        role, index = seats[missing[0]]
        yield f"the files of rank {missing[0]} ({role} {index}) are not there"


def problems_of_members(members: Mapping[int, MemberRecord]) -> Iterator[str]:
    """Those of programs first: what happened to the member is mostly their doing."""
    for rank in sorted(members):
        member = members[rank]
        for program in member.programs:
            if not program.ok and program.problem:
                yield f"{program.name} of {member.seat.role} on {member.seat.host}: {program.problem}"
    for rank in sorted(members):
        member = members[rank]
        if member.problem:
            yield f"{member.seat.role} on {member.seat.host}: {member.problem}"


def _told(attempt: Attempt) -> str:
    return f"attempt {attempt.number}: {attempt.reason or attempt.outcome.value}"
