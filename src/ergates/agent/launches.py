"""From a lease to something a launcher can start: argument vector, environment, directory, input."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping

from ergates.cluster.gang import GangSeat
from ergates.cluster.job import JobSpec
from ergates.cluster.task import Requirement
from ergates.taskqueue.command import argv_of
from ergates.taskqueue.launching import AttemptKey, Launch
from ergates.taskqueue.node_events import StartAttempt
from ergates.taskqueue.slots import Choice, choices_of
from ergates.taskqueue.store import Lease
from ergates.units import Nanoseconds

_VISIBLE_DEVICES = {"gpus": ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"), "gpu": ("CUDA_VISIBLE_DEVICES",)}


_JOBS_KEPT = 64


class LaunchBuilders:
    """The builders of the jobs lately served.

    Args:
        worker_id: whose tasks they are.
        grace_ns: between TERM and KILL.
        labels: of this node.
    """

    def __init__(self, worker_id: str, grace_ns: Nanoseconds, labels: Mapping[str, str] | None = None) -> None:
        self._worker_id, self._grace_ns, self._labels = worker_id, grace_ns, dict(labels or {})
        self._builders: OrderedDict[str, LaunchBuilder] = OrderedDict()

    def of(self, job: str, spec: JobSpec) -> LaunchBuilder:
        """The builder of one job."""
        builder = self._builders.get(job)
        if builder is None or builder.spec is not spec:
            builder = LaunchBuilder(job, spec, self._grace_ns, self._worker_id, labels=self._labels)
            self._builders[job] = builder
            if len(self._builders) > _JOBS_KEPT:
                self._builders.popitem(last=False)
        else:
            self._builders.move_to_end(job)
        return builder

    def relabel(self, labels: Mapping[str, str]) -> None:
        """The node carries these from now on; tasks that start later see them."""
        if labels != self._labels:
            self._labels = dict(labels)
            self._builders.clear()


class LaunchBuilder:
    """Builds launches for the tasks of one job; what they share is made once."""

    def __init__(
        self,
        job: str,
        spec: JobSpec,
        grace_ns: Nanoseconds,
        worker_id: str = "",
        base_env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self._job = job
        self.spec = spec
        self._grace_ns = grace_ns
        base = os.environ if base_env is None else base_env
        labelled = ",".join(f"{name}={value}" for name, value in sorted((labels or {}).items()))
        shared = {**spec.env, "ERG_JOB": job, "ERG_JOB_ID": job, "ERG_WORKER": worker_id, "ERG_LABELS": labelled}
        self._env = {**base, **shared}
        self._container_env = shared

    def build(self, lease: Lease, start: StartAttempt, scratch: str = "", work: str = "") -> Launch:
        """One launch, in the directory `work` where it has one.

        Tasks see ERG_JOB (and, as of old, ERG_JOB_ID), ERG_TASK_ID, ERG_ATTEMPT, ERG_WORKER, ERG_LABELS (of the node, sorted),
        ERG_TASK_DIR (`scratch`; empty: its slot has one), and for indexed GPUs CUDA_VISIBLE_DEVICES. What was given to one that
        asked for more than a core is in ERG_CPUS and ERG_RESOURCES.
        """
        task = lease.spec
        held: Choice = start.alternative or task.requirement
        changes = {"ERG_TASK_ID": str(lease.task), "ERG_ATTEMPT": str(lease.attempt)}
        if scratch:
            changes["ERG_TASK_DIR"] = scratch
        if task.requirement.alternatives or task.requirement.resources:
            changes |= _given(task.requirement, held)
        for name, indices in start.indices:
            listed = ",".join(map(str, indices))
            changes[f"ERG_{name.upper()}"] = listed
            for variable in _VISIBLE_DEVICES.get(name, ()):
                changes[variable] = listed
        command = task.command
        if lease.gang is not None:
            changes |= _gang(lease, lease.gang)
            command = dict(task.role_commands).get(lease.gang.role, command)
        if task.env:
            changes.update(task.env)
        key: AttemptKey = (lease.job, lease.task, lease.fence)
        return Launch(
            key=key,
            argv=() if task.kind == "python" else argv_of(command),
            env=self._container_env if task.kind == "container" else self._env,
            env_changes=changes,
            cwd=os.path.join(work, task.cwd or "") if work else task.cwd or self.spec.cwd or "/",
            stdin_data=task.stdin.data if task.stdin else None,
            stdin_path=task.stdin.path if task.stdin else None,
            time_limit_ns=task.time_limit_ns,
            grace_ns=self._grace_ns,
            cpu_ids=start.cpu_ids,
            payload=task.payload,
            image=task.image,
            mounts=(*task.mounts, f"{scratch}:{scratch}") if scratch and task.kind == "container" else task.mounts,
            memory_limit_bytes=task.requirement.memory_bytes or None if task.kind == "container" else None,
            cpus_milli=held.cpus_milli,
            output_job=self._job,
        )


def _gang(lease: Lease, gang: GangSeat) -> dict[str, str]:
    """Variables that tell a member of a gang who it is and where the others are."""
    return {
        "ERG_GANG_ID": f"{lease.job}.{lease.task}.{lease.attempt}",
        "ERG_GANG_FENCE": str(
            lease.fence
        ),  # of this lease alone: an attempt handed back untried gives its number to the next
        "ERG_GANG_RANK": str(gang.rank),
        "ERG_GANG_SIZE": str(gang.size),
        "ERG_GANG_ROLE": gang.role,
        "ERG_GANG_HOSTS": ",".join(gang.hosts),
    }


def _given(requirement: Requirement, held: Choice) -> dict[str, str]:
    """Variables that tell a task which of its alternatives it got; devices it did not get are hidden from it."""
    given = {
        "ERG_CPUS": f"{held.cpus_milli / 1000:g}",
        "ERG_RESOURCES": ",".join(f"{name}={amount}" for name, amount in held.resources),
    }
    got = {name for name, _ in held.resources}
    for choice in choices_of(requirement):
        for name, _ in choice.resources:
            if name not in got:
                given |= dict.fromkeys(_VISIBLE_DEVICES.get(name, ()), "")
    return given
