"""What a task is told of what it got: ERG_CPUS, ERG_RESOURCES, and the devices it may use."""

from __future__ import annotations

from ergates.agent.launches import LaunchBuilder, LaunchBuilders
from ergates.cluster.gang import GangSeat, role_of
from ergates.cluster.job import JobSpec
from ergates.cluster.task import Alternative, JobId, Kind, Requirement, TaskId, TaskSpec
from ergates.taskqueue.node_events import StartAttempt
from ergates.taskqueue.store import Lease, PastFailures
from ergates.units import MilliCpus, Nanoseconds

GPU = Alternative(cpus_milli=MilliCpus(500), resources=(("gpus", 1),))
EITHER = Requirement(cpus_milli=MilliCpus(2000), alternatives=(GPU,))


def told(requirement: Requirement, **start: object) -> tuple[dict[str, str], int]:
    spec = TaskSpec(command="sim", requirement=requirement, env={"MINE": "1"})
    lease = Lease(job=JobId("j1"), task=TaskId(3), fence=9, attempt=2, spec=spec, past=PastFailures())
    builder = LaunchBuilder("j1", JobSpec(key="k"), Nanoseconds(0), base_env={})
    launch = builder.build(lease, StartAttempt(key=("j1", 3, 9), **start))  # type: ignore[arg-type]
    given = dict(launch.env_changes)
    assert (given.pop("ERG_TASK_ID"), given.pop("ERG_ATTEMPT"), given.pop("MINE")) == ("3", "2", "1")
    return given, launch.cpus_milli


def test_a_gangs_member_is_told_who_it_is_and_runs_the_command_of_its_role() -> None:
    roles = (("server", 1), ("client", 2))
    spec = TaskSpec(
        command="client", requirement=Requirement(nodes=3, roles=roles), role_commands=(("server", "serve -p 1"),)
    )
    found = []
    for rank in (0, 2):
        seat = GangSeat(rank=rank, size=3, role=role_of(roles, rank), hosts=("a", "b", "c"))
        lease = Lease(job=JobId("j1"), task=TaskId(3), fence=9, attempt=2, spec=spec, past=PastFailures(), gang=seat)
        builder = LaunchBuilder("j1", JobSpec(key="k"), Nanoseconds(0), base_env={})
        found.append(builder.build(lease, StartAttempt(key=("j1", 3, 9))))
    assert [launch.argv for launch in found] == [("serve", "-p", "1"), ("client",)]
    told = [{name: value for name, value in launch.env_changes.items() if "GANG" in name} for launch in found]
    shared = {"ERG_GANG_ID": "j1.3.2", "ERG_GANG_FENCE": "9", "ERG_GANG_SIZE": "3", "ERG_GANG_HOSTS": "a,b,c"}
    assert told == [
        {**shared, "ERG_GANG_RANK": "0", "ERG_GANG_ROLE": "server"},
        {**shared, "ERG_GANG_RANK": "2", "ERG_GANG_ROLE": "client"},
    ]


def test_a_plain_task_is_told_nothing_more() -> None:
    assert told(Requirement()) == ({}, 1000)


def test_devices_that_were_not_given_are_hidden() -> None:
    given, cpus_milli = told(EITHER)
    assert cpus_milli == 2000
    assert given == {"ERG_CPUS": "2", "ERG_RESOURCES": "", "CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}


def test_what_was_given_instead_is_told() -> None:
    given, cpus_milli = told(EITHER, alternative=GPU, indices=(("gpus", (3,)),))
    assert cpus_milli == 500
    assert given == {
        "ERG_CPUS": "0.5",
        "ERG_RESOURCES": "gpus=1",
        "ERG_GPUS": "3",
        "CUDA_VISIBLE_DEVICES": "3",
        "HIP_VISIBLE_DEVICES": "3",
    }


def test_counted_resources_are_told_too() -> None:
    given, _ = told(Requirement(resources=(("licences", 2),)))
    assert given == {"ERG_CPUS": "1", "ERG_RESOURCES": "licences=2"}


def labels_told(builders: LaunchBuilders, job: JobSpec, kind: Kind = "command") -> str:
    lease = Lease(
        job=JobId("j1"), task=TaskId(3), fence=9, attempt=1, spec=TaskSpec(command="x", kind=kind), past=PastFailures()
    )
    return builders.of("j1", job).build(lease, StartAttempt(key=("j1", 3, 9))).env["ERG_LABELS"]


def test_tasks_see_the_labels_of_their_node_as_they_are_when_they_start() -> None:
    job = JobSpec(key="k", env={"ERG_LABELS": "mine"})
    builders = LaunchBuilders("w", Nanoseconds(0), {"rack": "b2", "arch": "x86"})
    assert labels_told(builders, job) == "arch=x86,rack=b2" == labels_told(builders, job, "container")
    builders.relabel({"rack": "b3"})
    assert labels_told(builders, job) == "rack=b3"
    builders.relabel({})
    assert labels_told(builders, job) == ""
