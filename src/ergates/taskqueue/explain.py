"""Why a task waits, why it came back, and what its memory was predicted from: sentences for people.

Pure: everything it knows is handed in. Reasons come in the order in which they bind, so the first one is the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import RetryLimits
from ergates.cluster.node import NodeCapacity, WorkerStatus
from ergates.cluster.task_state import TaskState
from ergates.taskqueue.explain_job import NOTHING, blocked
from ergates.taskqueue.gang_roles import role_words
from ergates.taskqueue.memory import MemoryModel
from ergates.taskqueue.slots import Slots, choice_words
from ergates.taskqueue.store import Offer, TaskView
from ergates.taskqueue.unfit import lacks
from ergates.units import Nanoseconds, format_bytes, format_duration


def explain(
    task: TaskView,
    attempts: Sequence[Attempt],
    offers: Sequence[Offer] = (),
    capacity: NodeCapacity | None = None,
    memory: MemoryModel | None = None,
    *,
    now_ns: Nanoseconds,
    limits: RetryLimits | None = None,
    paused: bool = False,
    workers: Sequence[WorkerStatus] = (),
) -> list[str]:
    """Everything there is to say about one task.

    Args:
        task: as the store shows it.
        attempts: of this task, oldest first.
        offers: what waits in the store.
        capacity: of the node it would run on; None when no worker is known, or when there are several.
        memory: what was learned; None when nothing was recalled.
        now_ns: now.
        limits: of its job, to say how many tries are left.
        paused: whether its job is paused.
        workers: of a cluster, instead of `capacity`.
    """
    sentences = [_state(task, offers, capacity, now_ns, paused, workers)]
    sentences += _came_back(attempts)
    if limits is not None and attempts and task.state in (TaskState.READY, TaskState.DELAYED, TaskState.LEASED):
        sentences += _tries_left(task, limits)
    sentences.append(_requirement(task))
    sentences += _prediction(task, attempts, memory, now_ns)
    return sentences


def _state(
    task: TaskView,
    offers: Sequence[Offer],
    capacity: NodeCapacity | None,
    now_ns: int,
    paused: bool,
    workers: Sequence[WorkerStatus],
) -> str:
    match task.state:
        case TaskState.BLOCKED:
            return f"It waits for {_count(task.blocked_by, 'task')} that it comes after."
        case TaskState.DELAYED:
            left = format_duration(max(0, task.not_before_ns - now_ns))
            return f"It waits {left} more before it is tried again: {task.reason or 'it came back'}."
        case TaskState.READY:
            return _why_ready(task, offers, capacity, paused, workers, now_ns)
        case TaskState.LEASED:
            return f"It is held by worker {task.worker}, to run next or running now."
        case TaskState.DONE:
            return f"It is done, after {_count(task.attempts, 'attempt')}."
        case TaskState.FAILED:
            return f"It failed: {task.reason or 'no reason was recorded'}."
        case TaskState.CANCELLED:
            return f"It was cancelled: {task.reason or 'by the user'}."


def _why_ready(
    task: TaskView,
    offers: Sequence[Offer],
    capacity: NodeCapacity | None,
    paused: bool,
    workers: Sequence[WorkerStatus],
    now_ns: int,
) -> str:
    if paused:
        return "It is ready, but its job is paused."
    if capacity is None and not any(worker.standing == "live" for worker in workers):
        return "It is ready; no worker runs that could take it."
    requirement = task.spec.requirement
    if capacity is not None:
        missing = lacks(requirement, Slots(capacity), gangs=False)
        if missing:
            return f"It can never run on this node: it {missing[0].words}."
    else:
        alone = Offer(job=task.job, class_id=0, requirement=requirement, priority=task.spec.priority, waiting=1)
        (found,) = blocked([alone], workers, now_ns, gangs=True)
        if found.resource != NOTHING:
            return f"It is ready. {found.sentence.replace('1 task ', 'It ', 1)}"
    ahead = sum(offer.waiting for offer in offers if offer.priority > task.spec.priority)
    if ahead:
        return f"It is ready, behind {_count(ahead, 'task')} of higher priority."
    beside = sum(offer.waiting for offer in offers if offer.priority == task.spec.priority) - 1
    waits = "for a free core, resource or enough free memory"
    return f"It is ready and waits {waits}" + (f", beside {beside} others of its priority." if beside > 0 else ".")


def _came_back(attempts: Sequence[Attempt]) -> list[str]:
    sentences = []
    for attempt in attempts:
        where = f" on {attempt.host}" if attempt.host else ""
        if attempt.outcome is Outcome.SUCCEEDED:
            if attempt.reason:
                sentences.append(f"Attempt {attempt.number}{where} succeeded: {attempt.reason}.")
            continue
        lasted = format_duration(attempt.usage.wall_ns) if attempt.usage.wall_ns else ""
        after = f" after {lasted}" if lasted else ""
        sentences.append(f"Attempt {attempt.number}{where} ended{after}: {attempt.reason or attempt.outcome.value}.")
    return sentences


def _tries_left(task: TaskView, limits: RetryLimits) -> list[str]:
    past = task.past
    failures = limits.failures if task.spec.retries is None else task.spec.retries
    used = [
        (past.failures, failures, "failures"),
        (past.memory, limits.memory, "returns for memory"),
        (past.losses, limits.losses, "losses of its node"),
        (past.timeouts, limits.timeouts, "time limits"),
    ]
    words = [f"{count} of {allowed} {what}" for count, allowed, what in used if count]
    return [f"It has used up {', '.join(words)}."] if words else []


def _requirement(task: TaskView) -> str:
    requirement = task.spec.requirement
    cores = requirement.cpus_milli / 1000
    parts = [f"{cores:g} core" if cores == 1 else f"{cores:g} cores"]
    if requirement.memory_bytes:
        why = "raised after it came back" if task.past.memory else "declared"
        parts.append(f"at least {format_bytes(requirement.memory_bytes)} of memory ({why})")
    parts += [f"{name}={amount}" for name, amount in requirement.resources]
    if requirement.nodes > 1:
        roles = ", ".join(role_words(requirement, range(len(requirement.roles)))) if requirement.role_labels else ""
        parts.append(f"{requirement.nodes} such nodes at once" + (f" (roles {roles})" if roles else ""))
    parts += [f"the label {name}={value}" for name, value in requirement.labels]
    parts += [f"the path {path}" for path in requirement.paths]
    if requirement.min_time_ns:
        parts.append(f"a worker that lives {format_duration(requirement.min_time_ns)} more")
    text = f"It needs {', '.join(parts)}"
    if requirement.alternatives:
        text += "; of cores and resources also " + ", or ".join(choice_words(one) for one in requirement.alternatives)
    return f"{text}."


def _prediction(task: TaskView, attempts: Sequence[Attempt], memory: MemoryModel | None, now_ns: int) -> list[str]:
    sentences = []
    predicted = next((one for one in reversed(attempts) if one.predicted_bytes), None)
    if predicted is not None:
        used = predicted.usage.peak_bytes
        reached = f"; it reached {format_bytes(used)}" if used else ""
        sentences.append(
            f"Attempt {predicted.number} was predicted to stay under {format_bytes(predicted.predicted_bytes)}{reached}."
        )
    if memory is not None:
        sizing = memory.sizing((task.job, task.task), task.spec, task.past.last_peak_bytes)
        prediction = sizing.predict(now_ns)
        which = "Another run's" if task.state in (TaskState.DONE, TaskState.CANCELLED) else "Its"
        sentences.append(f"{which} memory is predicted as {format_bytes(prediction.peak_bytes)}: {prediction.basis}.")
    return sentences


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
