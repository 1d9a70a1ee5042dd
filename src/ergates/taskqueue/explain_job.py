"""Why the tasks of a whole job wait: which resource blocks how many of them, and on which nodes.

Tasks of one resource class wait for the same, so the work is by class, never by task. A class that no live node could hold
even when empty is blocked by what those nodes lack; one that some could hold is blocked by what is held there. Which files
a node has is known to its worker alone, so paths are named but not judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from ergates.cluster.job import JobStatus
from ergates.cluster.node import NodeCapacity, WorkerStatus
from ergates.cluster.task import Requirement
from ergates.taskqueue.gang_roles import Seating, kind_of, role_words, seats_of
from ergates.taskqueue.orders import ordered
from ergates.taskqueue.slots import Choice, Slots, choices_of
from ergates.taskqueue.store import Offer, Seat
from ergates.taskqueue.unfit import ROLE, Lack, lacks
from ergates.units import format_bytes, format_duration

HOSTS_NAMED = 3
NOTHING = "nothing"


class Blocked(Struct, frozen=True, kw_only=True):
    """Tasks that wait for the same.

    Args:
        tasks: how many.
        resource: what blocks them: `gpus`, `cpus`, `memory`, `label arch`, `time`, `nodes`, `role server`, `workers`, or
            `nothing`.
        possible: whether the live nodes could ever run them.
        hosts: that could; sorted, each once.
        sentence: all of it in words.
    """

    tasks: int
    resource: str
    possible: bool
    hosts: tuple[str, ...]
    sentence: str


class _Class(Struct, frozen=True):
    """One requirement that waits, and what was found about it."""

    requirement: Requirement
    tasks: int
    resource: str
    capable: tuple[WorkerStatus, ...]
    lacking: tuple[Lack, ...] = ()
    short: tuple[int, ...] = ()
    """Roles of a gang that not enough nodes can take, or are free for."""
    takers: int = 0
    """Nodes that could take one of them."""


def blocked(
    offers: Iterable[Offer], workers: Iterable[WorkerStatus], now_ns: int, *, gangs: bool = False
) -> tuple[Blocked, ...]:
    """What blocks the tasks that are ready, most tasks first.

    Args:
        offers: what waits, by class and priority.
        workers: as the store knows them; those that are not live do not count.
        now_ns: for workers that end.
        gangs: whether the workers start tasks on several nodes together (`NodeSettings.gangs`).
    """
    live = tuple(worker for worker in workers if worker.standing == "live")
    waiting: Counter[Requirement] = Counter()
    for offer in offers:
        waiting[offer.requirement] += offer.waiting
    groups: dict[tuple[str, bool, tuple[str, ...]], list[_Class]] = {}
    for requirement, tasks in waiting.items():
        if tasks > 0:
            found = _classify(requirement, tasks, live, now_ns, gangs)
            groups.setdefault((found.resource, bool(found.capable), _hosts(found.capable)), []).append(found)
    told = [_told(classes, live, now_ns, gangs) for classes in groups.values()]
    return tuple(sorted(told, key=lambda each: (-each.tasks, each.resource, each.sentence)))


def explain_job(
    status: JobStatus, found: Sequence[Blocked], *, ahead: int = 0, assembling: Seat | None = None
) -> list[str]:
    """Everything there is to say about the tasks of a job that wait.

    Args:
        status: of the job.
        found: of its ready tasks, by `blocked`.
        ahead: tasks of other jobs that are ready and have a higher priority than any of it.
        assembling: the gang that assembles now, of whatever job.
    """
    counts = status.counts
    sentences = []
    if status.phase in ("paused", "cancelled"):
        sentences.append(f"The job is {status.phase}: nothing of it starts.")
    running = counts.get("leased", 0)
    if running:
        sentences.append(f"{_tasks(running)} {_form(running, 'is', 'are')} running or about to.")
    blocked_by_others = counts.get("blocked", 0)
    if blocked_by_others:
        sentences.append(f"{_tasks(blocked_by_others)} {_waits(blocked_by_others)} for others that come first.")
    delayed = counts.get("delayed", 0)
    if delayed:
        sentences.append(f"{_tasks(delayed)} came back and {_waits(delayed)} before being tried again.")
    if ahead and counts.get("ready", 0):
        sentences.append(f"{_tasks(ahead)} of other jobs {_form(ahead, 'goes', 'go')} first: their priority is higher.")
    sentences += [each.sentence for each in found]
    if assembling is not None and assembling.job == status.id:
        sentences.append(f"A gang of it assembles: {seats_words(assembling)}.")
    if not sentences:
        sentences.append("Nothing of it waits.")
    return sentences


def seats_words(seat: Seat) -> str:
    """How far a gang is."""
    return f"{seat.taken} of {seat.size} workers keep room for it"


# --- one class --------------------------------------------------------------------------------------------------------


def _classify(requirement: Requirement, tasks: int, live: tuple[WorkerStatus, ...], now_ns: int, gangs: bool) -> _Class:
    if not live:
        return _Class(requirement, tasks, "workers", ())
    if requirement.nodes > 1 and not gangs:
        return _Class(requirement, tasks, "nodes", ())
    found = [
        (worker, lacks(requirement, Slots(_capacity(worker)), left_ns=_left_ns(worker, now_ns))) for worker in live
    ]
    capable = tuple(worker for worker, missing in found if not missing)
    if requirement.role_labels and any(lack.resource == ROLE for _, missing in found for lack in missing):
        found = [(worker, [lack for lack in missing if lack.resource != ROLE]) for worker, missing in found]
    able = [worker for worker, missing in found if not missing]
    short = _short_roles(requirement, able)
    if able and short:
        roles = " and ".join(requirement.roles[place][0] for place in short)
        kinds = [kind_of(requirement, _capacity(worker).labels) for worker in able]
        takers = sum(1 for kind in kinds if not set(kind).isdisjoint(short))
        return _Class(requirement, tasks, f"role {roles}", (), (), short, takers)
    if len(capable) < requirement.nodes and capable:
        return _Class(requirement, tasks, "nodes", (), ())
    if not capable:
        # What every node lacks is the answer; where each lacks something else, what most of them lack.
        by_resource = Counter(lack.resource for _, missing in found for lack in missing)
        resource, times = by_resource.most_common(1)[0]
        lacking = tuple(lack for _, missing in found for lack in missing if lack.resource == resource)
        if times < len(live):
            resource = " and ".join(sorted(by_resource))
            lacking = tuple(missing[0] for _, missing in found)
        return _Class(requirement, tasks, resource, (), lacking)
    hindrances = [_hindrance(requirement, worker) for worker in capable]
    free = [worker for worker, each in zip(capable, hindrances, strict=True) if each == NOTHING]
    short = _short_roles(requirement, free)
    if len(free) >= requirement.nodes and not short:
        return _Class(requirement, tasks, NOTHING, capable)
    if requirement.nodes > 1:
        return _Class(requirement, tasks, "nodes", capable, (), short)
    resource = Counter(each for each in hindrances if each != NOTHING).most_common(1)[0][0]
    return _Class(requirement, tasks, resource, capable)


def _short_roles(requirement: Requirement, workers: Iterable[WorkerStatus]) -> tuple[int, ...]:
    """Places of roles that these workers are too few for; empty where no role asks for labels."""
    if not requirement.role_labels:
        return ()
    seating = Seating(seats_of(requirement))
    for worker in workers:
        seating.add(kind_of(requirement, _capacity(worker).labels))
    return seating.short()


def _hindrance(requirement: Requirement, worker: WorkerStatus) -> str:
    """What keeps a worker that could hold it from starting one more now."""
    if worker.orders.drain:
        return "draining workers"
    if worker.load.note:
        return "idle workers"
    capacity, load = _capacity(worker), worker.load
    first = ""
    for choice in choices_of(requirement):
        held = _choice_held(choice, capacity, worker)
        if not held:
            first = ""
            break
        first = first or held
    if first:
        return first
    if requirement.memory_bytes and load.used_bytes + requirement.memory_bytes > capacity.memory_bytes:
        return "memory"
    return NOTHING


def _choice_held(choice: Choice, capacity: NodeCapacity, worker: WorkerStatus) -> str:
    held = dict(worker.load.resources_held)
    amounts = {resource.name: resource.amount for resource in capacity.resources}
    for name, amount in choice.resources:
        if amount > amounts.get(name, 0) - held.get(name, 0):
            return name
    return "cpus" if choice.cpus_milli > capacity.cpus_milli - worker.load.cpus_milli_held else ""


def _capacity(worker: WorkerStatus) -> NodeCapacity:
    return ordered(worker.info.capacity, worker.orders)


def _left_ns(worker: WorkerStatus, now_ns: int) -> int | None:
    return None if worker.info.ends_ns is None else worker.info.ends_ns - now_ns


# --- in words ---------------------------------------------------------------------------------------------------------


def _told(classes: Sequence[_Class], live: tuple[WorkerStatus, ...], now_ns: int, gangs: bool) -> Blocked:
    first = classes[0]
    tasks = sum(each.tasks for each in classes)
    words = _busy(first, classes, tasks) if first.capable else _impossible(classes, tasks, live, now_ns, gangs)
    paths = sorted({path for each in classes for path in each.requirement.paths})
    if paths and first.resource in (NOTHING, "cpus"):
        words += f" {_form(tasks, 'It needs', 'They need')} {_some(paths)}: only the workers know whether it is there."
    return Blocked(
        tasks=tasks,
        resource=first.resource,
        possible=bool(first.capable),
        hosts=_hosts(first.capable),
        sentence=words,
    )


def _impossible(classes: Sequence[_Class], tasks: int, live: tuple[WorkerStatus, ...], now_ns: int, gangs: bool) -> str:
    """No live node could hold them."""
    first, resource = classes[0], classes[0].resource
    who = f"{_tasks(tasks)} {_form(tasks, 'needs', 'need')}"
    capacities = [(worker.info.host, _capacity(worker)) for worker in live]
    if resource == "workers":
        return f"{_tasks(tasks)} {_waits(tasks)}: no worker is live."
    if first.short:
        return f"{who} {_wanted_roles(first, live)}."
    if resource == "nodes":
        wanted = max(each.requirement.nodes for each in classes)
        if not gangs:
            return f"{who} {wanted} nodes at once: the live workers start tasks on one node only."
        return f"{who} {wanted} nodes at once: of the {len(live)} live workers, fewer can hold a member each."
    if resource == "memory":
        host, most = max(((host, one.memory_bytes) for host, one in capacities), key=lambda pair: pair[1])
        wanted_bytes = _range([each.requirement.memory_bytes for each in classes], format_bytes)
        return f"{who} {wanted_bytes} of memory: the largest live node has {format_bytes(most)} ({host})."
    if resource == "time":
        longest = max(left for worker in live if (left := _left_ns(worker, now_ns)) is not None)
        wanted_time = _range([each.requirement.min_time_ns for each in classes], format_duration)
        return f"{who} {wanted_time}: the worker with the most time left ends in {format_duration(max(0, longest))}."
    mixed = " and " in resource
    if resource.startswith("label ") and not mixed:
        return (
            f"{who} {_wanted_label(classes, resource)}: {_labels_there(resource.removeprefix('label '), capacities)}."
        )
    if mixed or any(each.requirement.alternatives for each in classes):
        return f"{_tasks(tasks)} {_form(tasks, 'fits', 'fit')} no live node: {_reasons(first, live)}."
    if resource == "cpus":
        host, cores = max(((host, one.cpus_milli) for host, one in capacities), key=lambda pair: pair[1])
        wanted_cores = _range([each.requirement.cpus_milli for each in classes], _cores)
        return f"{who} {wanted_cores} cores: the largest live node has {_cores(cores)} ({host})."
    amounts = [(host, _amount(one, resource)) for host, one in capacities]
    host, amount = max(amounts, key=lambda pair: pair[1])
    wanted_amount = _range([dict(each.requirement.resources).get(resource, 0) for each in classes], str)
    there = f"no live node has more than {amount} ({host})" if amount else "no live node has any"
    return f"{who} {resource}={wanted_amount}: {there}."


def _busy(first: _Class, classes: Sequence[_Class], tasks: int) -> str:
    """Some live nodes could hold them, and what is held there."""
    capable, resource = first.capable, first.resource
    nodes = f"{len(capable)} {_form(len(capable), 'node', 'nodes')} ({_some(_hosts(capable))})"
    waits = f"{_tasks(tasks)} {_waits(tasks)}"
    if resource == NOTHING:
        its, it = _form(tasks, "its", "their"), _form(tasks, "it", "them")
        turn = f"{its} turn: nothing blocks {it}, unless {its} memory is predicted not to fit"
        return f"{waits} for {turn}; {nodes} could take {it}."
    if resource == "draining workers":
        return f"{waits} for other workers: {nodes} could hold them, but drain."
    if resource == "idle workers":
        notes = sorted({worker.load.note for worker in capable if worker.load.note})
        return f"{waits}: {nodes} could hold them, but start nothing: {_some(notes)}."
    if resource == "nodes":
        wanted = max(each.requirement.nodes for each in classes)
        roles = f", and the free ones are too few for {_roles(first)}" if first.short else ""
        return f"{waits} for {wanted} free nodes at once; {nodes} could hold a member each{roles}."
    if resource == "memory":
        in_use = format_bytes(sum(worker.load.used_bytes for worker in capable))
        all_of_it = format_bytes(sum(_capacity(worker).memory_bytes for worker in capable))
        return f"{waits} for memory: {nodes} could hold them, with {in_use} of {all_of_it} in use."
    if resource == "cpus":
        held_milli = sum(worker.load.cpus_milli_held for worker in capable)
        total_milli = sum(_capacity(worker).cpus_milli for worker in capable)
        return f"{waits} for cores: {nodes} could hold them, {_of_all(held_milli, total_milli, _cores)} held."
    held = sum(dict(worker.load.resources_held).get(resource, 0) for worker in capable)
    total = sum(_amount(_capacity(worker), resource) for worker in capable)
    has = _form(len(capable), "has", "have")
    return f"{waits} for {resource}: {nodes} {has} enough, {_of_all(held, total, str)} held."


def _reasons(first: _Class, live: Sequence[WorkerStatus]) -> str:
    """One line of its words for a few nodes."""
    told = [f"{worker.info.host}: {lack.words}" for worker, lack in zip(live, first.lacking, strict=False)]
    more = f", and {len(live) - HOSTS_NAMED} more" if len(live) > HOSTS_NAMED else ""
    return "; ".join(told[:HOSTS_NAMED]) + more


def _wanted_roles(first: _Class, live: Sequence[WorkerStatus]) -> str:
    """How many nodes the roles that are short of some want, and how many could take one of them."""
    one = len(first.short) == 1
    wanted = sum(first.requirement.roles[place][1] for place in first.short)
    there = f"{f'only {first.takers}' if first.takers else 'none'} could take {'it' if one else 'one of them'}"
    return f"{wanted} {_form(wanted, 'node', 'nodes')} at once for {_roles(first)}: of the {len(live)} live workers {there}"


def _roles(found: _Class) -> str:
    """`the role server (group=big)`."""
    return f"the {_form(len(found.short), 'role', 'roles')} {' and '.join(role_words(found.requirement, found.short))}"


def _wanted_label(classes: Sequence[_Class], resource: str) -> str:
    name = resource.removeprefix("label ")
    return f"the label {name}=" + " or ".join(sorted({dict(each.requirement.labels)[name] for each in classes}))


def _labels_there(name: str, capacities: Sequence[tuple[str, NodeCapacity]]) -> str:
    values = sorted({one.labels[name] for _, one in capacities if name in one.labels})
    return f"live nodes have {_some([f'{name}={value}' for value in values])}" if values else "no live node has it"


def _amount(capacity: NodeCapacity, name: str) -> int:
    return next((resource.amount for resource in capacity.resources if resource.name == name), 0)


def _of_all(held: int, total: int, shown: Callable[[int], str]) -> str:
    return f"all {shown(total)} are" if held >= total else f"{shown(held)} of {shown(total)} are"


def _cores(cpus_milli: int) -> str:
    return f"{cpus_milli / 1000:g}"


def _range(values: Sequence[int], shown: Callable[[int], str]) -> str:
    least, most = min(values), max(values)
    return shown(most) if least == most else f"{shown(least)} to {shown(most)}"


def _hosts(workers: Iterable[WorkerStatus]) -> tuple[str, ...]:
    return tuple(sorted({worker.info.host for worker in workers}))


def _some(names: Sequence[str]) -> str:
    more = len(names) - HOSTS_NAMED
    return ", ".join(names[:HOSTS_NAMED]) + (f" and {more} more" if more > 0 else "")


def _tasks(number: int) -> str:
    return f"{number:,} {_form(number, 'task', 'tasks')}"


def _waits(number: int) -> str:
    return _form(number, "waits", "wait")


def _form(number: int, one: str, many: str) -> str:
    return one if number == 1 else many
