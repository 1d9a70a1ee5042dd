"""A run as a task: hosts, limits, and a payload that a member reads back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ergates.agent.experiment_member import FUNCTION
from ergates.conductor.run_task import LATE_NS, run_task, task_of
from ergates.experiment.plan import order_of
from ergates.experiment.run import Run, RunOrder
from ergates.experiment.spec import Axis, Experiment, HostGroup, Program, Role
from ergates.taskqueue.python_call import decode_call
from ergates.units import SECOND_NS, MilliCpus, Nanoseconds

RUN = Run(number=12, point=(("load", 0.5), ("fast", True), ("n", 3)), repetition=2, seed=99)
AXES = tuple(Axis(name=name, values=(value,)) for name, value in RUN.point)
GROUPS = (
    HostGroup(name="lab", kind="namespaces", count=3),
    HostGroup(name="small", kind="simulated", cpus_milli=MilliCpus(500)),
)
SERVE = Program(name="serve", role="server", command="s {load}", grace_ns=Nanoseconds(7 * SECOND_NS))


def experiment(*roles: Role, **fields: Any) -> Experiment:
    given = {"parallel": True, **fields}
    return Experiment(name="e", here="/here", hosts=GROUPS, roles=roles, programs=(SERVE,), sweep=AXES, **given)


def test_a_run_of_several_hosts_is_a_gang_whose_roles_name_their_groups() -> None:
    wanted = experiment(Role(name="server", group="lab"), Role(name="client", group="small", count="{n}"), retries=4)
    task = task_of(wanted, RUN, Path("/runs/0012"))
    need = task.requirement
    assert (need.nodes, need.roles) == (4, (("server", 1), ("client", 3)))
    assert need.labels == (("experiment", "e"),) and need.resources == (("host", 1),)
    assert need.role_labels == (("server", (("group", "lab"),)), ("client", (("group", "small"),)))
    assert need.cpus_milli == 500, "what the smallest host has"
    assert (task.kind, task.retries, task.cwd) == ("python", 4, "/")


def test_hosts_of_this_machine_that_a_run_leaves_over_are_taken_too_unless_runs_may_be_parallel() -> None:
    wanted = experiment(Role(name="server", group="lab"), parallel=False)
    need = task_of(wanted, RUN, "/runs/0012").requirement
    assert need.nodes == 3 and need.roles[0] == ("server", 1)
    assert sum(count for _, count in need.roles) == 3
    assert {labels for _, labels in need.role_labels} == {(("group", "lab"),)}


def test_a_run_of_one_host_is_no_gang_so_that_the_embedded_store_takes_it() -> None:
    need = task_of(experiment(Role(name="server", group="lab")), RUN, "/runs/0012").requirement
    assert (need.nodes, need.roles, need.role_labels) == (1, (), ())
    assert need.labels == (("experiment", "e"), ("group", "lab"))


def test_the_payload_is_json_that_a_member_reads_back_as_it_was() -> None:
    wanted = experiment(Role(name="server", group="lab"), fixed=(("rate", 1.0), ("word", "é {x}")))
    order = order_of(wanted, RUN, "/runs/0012")
    task = run_task(order, wanted)
    assert task.payload is not None and task.payload.startswith(b"{")
    call = decode_call(task.payload)
    assert call.function == FUNCTION
    read = msgspec.convert(call.kwargs["order"], RunOrder)
    assert read == order
    assert [type(value) for _, value in read.run.point] == [float, bool, int]


def test_members_mind_the_time_limit_and_the_queue_only_later() -> None:
    wanted = experiment(Role(name="server", group="lab"), time_limit_ns=Nanoseconds(60 * SECOND_NS))
    task = task_of(wanted, RUN, "/runs/0012")
    assert task.payload is not None
    assert decode_call(task.payload).kwargs["time_limit_ns"] == 60 * SECOND_NS
    assert task.time_limit_ns == (60 + 7) * SECOND_NS + LATE_NS
    assert task_of(experiment(Role(name="server", group="lab")), RUN, "/r").time_limit_ns is None


def test_people_see_which_run_it_is() -> None:
    task = task_of(experiment(Role(name="server", group="lab")), RUN, "/r")
    assert task.command == "run 12 of e: load=0.5 fast=true n=3 repetition 2"
    assert task.labels == {"experiment": "e", "run": "12"}
