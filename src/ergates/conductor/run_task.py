"""A run as a task of the queue: what hosts it needs, and the call its members make.

The call is JSON that names a function of ours, not a pickle: who can write to a store that asks for no password can start
programs on its workers anyway, and nothing more is handed out by this.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ergates.agent.experiment_member import FUNCTION
from ergates.cluster.task import Requirement, TaskSpec
from ergates.experiment.host import EXPERIMENT_LABEL, GROUP_LABEL, WHOLE_HOST
from ergates.experiment.layout import shown_value
from ergates.experiment.plan import order_of
from ergates.experiment.run import Run, RunOrder
from ergates.experiment.spec import Experiment
from ergates.taskqueue.python_call import PythonCall, encode_call
from ergates.units import SECOND_NS, MilliCpus, Nanoseconds

LATE_NS = 60 * SECOND_NS
"""Members mind the time limit themselves, to write down what there was; the queue ends one that does not."""


def task_of(experiment: Experiment, run: Run, folder: str | Path) -> TaskSpec:
    """The task of one run whose attempts lie in `folder`."""
    return run_task(order_of(experiment, run, folder), experiment)


def run_task(order: RunOrder, experiment: Experiment) -> TaskSpec:
    """The task that members with this order are started for.

    A run of one host is an ordinary task, which the store of one machine takes; one of several is a gang.

    Args:
        order: of the run.
        experiment: of which it is.
    """
    run = order.run
    as_json = msgspec.json.decode(msgspec.json.encode(order))
    call = PythonCall(function=FUNCTION, kwargs={"order": as_json, "time_limit_ns": experiment.time_limit_ns})
    point = " ".join(f"{name}={shown_value(value)}" for name, value in run.point)
    return TaskSpec(
        command=f"run {run.number} of {experiment.name}: {point} repetition {run.repetition}".replace(":  ", ": "),
        kind="python",
        requirement=_requirement(order, experiment),
        time_limit_ns=_latest_ns(order, experiment),
        retries=experiment.retries,
        cwd="/",
        labels={"experiment": experiment.name, "run": str(run.number)},
        payload=encode_call(call),
    )


def _requirement(order: RunOrder, experiment: Experiment) -> Requirement:
    of_experiment = (EXPERIMENT_LABEL, experiment.name)
    common = Requirement(cpus_milli=_cpus_milli(order, experiment), resources=((WHOLE_HOST, 1),))
    size = sum(each.count for each in order.roles)
    if size == 1:
        (only,) = [each for each in order.roles if each.count]
        labels = tuple(sorted((of_experiment, (GROUP_LABEL, only.group))))
        return msgspec.structs.replace(common, labels=labels)
    return msgspec.structs.replace(
        common,
        labels=(of_experiment,),
        nodes=size,
        roles=tuple((each.role, each.count) for each in order.roles if each.count),
        role_labels=tuple((each.role, ((GROUP_LABEL, each.group),)) for each in order.roles if each.count),
    )


def _cpus_milli(order: RunOrder, experiment: Experiment) -> MilliCpus:
    """A core, or what the smallest host has: a host is taken as a whole, its programs may use all of it."""
    groups = {each.group for each in order.roles}
    given = [group.cpus_milli for group in experiment.hosts if group.name in groups and group.cpus_milli is not None]
    return MilliCpus(min([1000, *given]))


def _latest_ns(order: RunOrder, experiment: Experiment) -> Nanoseconds | None:
    if experiment.time_limit_ns is None:
        return None
    grace_ns = max((program.grace_ns for program in order.programs), default=0)
    return Nanoseconds(experiment.time_limit_ns + grace_ns + LATE_NS)
