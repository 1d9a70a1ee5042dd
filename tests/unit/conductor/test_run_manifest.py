"""What a manifest says of runs that went well, failed, or left less behind than they should."""

from __future__ import annotations

from msgspec.structs import replace

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.task_state import TaskState
from ergates.cluster.usage import Usage
from ergates.conductor.run_manifest import manifest_of
from ergates.conductor.watching import EndedRun
from ergates.experiment.records import Manifest, MemberRecord, ProgramRecord
from ergates.experiment.run import RoleSeats, Run, Seated
from ergates.units import Microjoules, Nanoseconds

RUN = Run(number=3, point=(("a", 1),), repetition=1, seed=7)
ROLES = (RoleSeats(role="server", group="lab", count=1), RoleSeats(role="client", group="lab", count=1))
WELL = Attempt(number=1, outcome=Outcome.SUCCEEDED, started_ns=Nanoseconds(10), ended_ns=Nanoseconds(90))
DONE = EndedRun(number=3, state=TaskState.DONE, attempts=(WELL,), tries=1)


def member(rank: int, role: str, *, ok: bool = True, problem: str = "", own: str = "") -> MemberRecord:
    program = ProgramRecord(
        name=f"the-{role}",
        folder=role,
        argv=("true",),
        started_ns=1_000_000_000 + rank,
        ended_ns=3_500_000_000 + rank,
        ok=ok,
        problem=problem,
    )
    seat = Seated(rank=rank, role=role, index=0, host=f"lab-{rank + 1}", address="::1")
    return MemberRecord(seat=seat, programs=(program,), facts={}, problem=own)


def manifest(ended: EndedRun, *members: MemberRecord, before: tuple[str, ...] = ()) -> Manifest:
    return manifest_of(
        "x",
        RUN,
        ended,
        ROLES,
        {one.seat.rank: one for one in members},
        "attempt-1",
        versions={"ergates": "1"},
        simulated=("lab-2",),
        before=before,
    )


def test_a_run_that_went_well() -> None:
    made = manifest(DONE, member(1, "client"), member(0, "server"))
    assert (made.ok, made.problem, made.attempts, made.past) == (True, "", 1, ())
    assert [one.seat.role for one in made.members] == ["server", "client"]
    assert made.seconds == 2.500000001 and (made.started_ns, made.ended_ns) == (10, 90)
    assert (made.joules, made.joules_by, made.dollars, made.simulated) == (None, "unknown", None, True)


def test_clocks_of_other_machines_do_not_stretch_a_run() -> None:
    server, client = member(0, "server"), member(1, "client")
    (program,) = client.programs
    hour_ns = 3600 * 10**9
    late = replace(program, started_ns=2_000_000_000 + hour_ns, ended_ns=2_500_000_000 + hour_ns)
    client = replace(client, programs=(late,), facts={"boot_id": "another"})
    took = replace(WELL, usage=Usage(wall_ns=Nanoseconds(3_000_000_000)))
    ended = EndedRun(number=3, state=TaskState.DONE, attempts=(took,), tries=1)
    assert manifest(ended, server, client).seconds == 3.0
    assert manifest(ended, server, replace(client, programs=())).seconds == 2.5


def test_a_success_that_left_no_files_does_not_count() -> None:
    made = manifest(DONE, member(0, "server"))
    assert not made.ok and made.problem == "the files of rank 1 (client 0) are not there"


def test_a_failure_names_program_role_and_host_and_what_came_before() -> None:
    failed = replace(WELL, number=2, outcome=Outcome.FAILED, reason="rank 1: exit code 1")
    lost = replace(WELL, outcome=Outcome.LOST, reason="its worker went away")
    ended = EndedRun(
        number=3, state=TaskState.FAILED, attempts=(lost, failed), tries=2, reason="exit code 1 (tried twice)"
    )
    made = manifest(
        ended, member(0, "server"), member(1, "client", ok=False, problem="exit code 1"), before=("earlier-1",)
    )
    assert not made.ok and made.problem == "the-client of client on lab-2: exit code 1"
    assert (made.attempts, made.past) == (3, ("earlier-1", "attempt 1: its worker went away"))


def test_a_failure_without_files_says_what_the_store_says() -> None:
    lost = replace(WELL, outcome=Outcome.LOST, reason="its worker went away")
    ended = EndedRun(number=3, state=TaskState.FAILED, attempts=(lost,), tries=1, reason="quarantined: lost 11 times")
    assert manifest(ended).problem == "quarantined: lost 11 times"
    slow = EndedRun(
        number=3,
        state=TaskState.FAILED,
        attempts=(replace(WELL, outcome=Outcome.TIMED_OUT, reason="ran into its time limit"),),
        tries=1,
    )
    both = manifest(slow, member(0, "server", own="cut off"))
    assert both.problem == "server on lab-1: cut off; ran into its time limit"


def test_joules_say_how_they_were_obtained() -> None:
    usage = Usage(energy_uj=Microjoules(2_500_000), energy_label="measured")
    metered = EndedRun(number=3, state=TaskState.DONE, attempts=(replace(WELL, usage=usage),), tries=1)
    made = manifest(metered, member(0, "server"), member(1, "client"))
    assert (made.joules, made.joules_by) == (2.5, "measured")
