"""What cores do when idle, whether two threads share one, and which of them are kept free of everything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from ergates.drivers.nodes.interrupts import default_mask_goal, interrupt_goals
from ergates.drivers.nodes.setting import Setting, file_goal, said, untold
from ergates.drivers.nodes.tree import NodeTree, NotHereError
from ergates.experiment.node_forms import format_cpus, format_mask, meaning, parse_cpus, parse_switch
from ergates.experiment.node_plan import Change, Goal

_SMT = "sys/devices/system/cpu/smt/control"
_WORKQUEUES = "sys/devices/virtual/workqueue/cpumask"
_KERNEL_THREAD = 0x00200000
"""PF_KTHREAD of linux/sched.h, among the flags of /proc/PID/stat."""


def _smt(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    if where:
        raise ValueError(f"smt is of the whole node: leave @{where} out")
    goal = file_goal(tree, "smt", _SMT, None if value is None else "on" if parse_switch(value) else "off")
    if goal is None or goal.now.strip() in ("notsupported", "notimplemented"):
        raise NotHereError("one thread a core, or the kernel cannot switch it")
    if goal.now.strip() == "forceoff" and value is not None:
        if goal.want == "off\n":
            return ()
        raise NotHereError("switched off by the kernel's command line (nosmt=force)")
    if goal.want != "off\n":
        return (goal,)
    # An interrupt or a thread that was bound to a core that goes away is let loose on all, and stays so.
    guards = (irq for irq in interrupt_goals(tree, "smt", None) if irq.kind == "file")
    return (goal, *guards, *_thread_goals(tree, "smt", None))


def _cstates(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    goals: list[Goal] = []
    for cpu in _cpus(tree, where):
        states = tree.glob(f"sys/devices/system/cpu/cpu{cpu}/cpuidle/state*")
        allowed = None if value is None else _allowed(tree, states, value, cpu)
        for index, state in enumerate(states):
            want = None if allowed is None else "0" if index < allowed else "1"
            name = tree.text(f"{state}/name") or "?"
            goal = file_goal(tree, "cstates", f"{state}/disable", want, form="number", broad=not where, hint=name)
            goals += [] if goal is None else [goal]
    if not goals:
        raise NotHereError("no idle states here: a virtual machine, or idle=poll on the kernel's command line")
    return goals


def _allowed(tree: NodeTree, states: Sequence[str], value: str, cpu: int) -> int:
    """How many of the states, from the shallowest, may be used."""
    if value in ("all", "none"):
        return len(states) if value == "all" else 1
    if value.endswith("us") and value[:-2].isdigit():
        limit = int(value[:-2])
        within = [int(tree.text(f"{state}/latency") or 0) <= limit for state in states]
        return within.index(False) if False in within else len(states)
    names = [tree.text(f"{state}/name") or "" for state in states]
    lower = [name.lower() for name in names]
    if value.lower() not in lower:
        raise ValueError(
            f"no idle state {value!r} on core {cpu}; there are {', '.join(names) or 'none'}; or say all, none, or a"
            " latency such as 10us"
        )
    return lower.index(value.lower()) + 1


def _cstate_words(goals: Sequence[Goal]) -> str:
    """Which idle states may be used on how many cores."""
    allowed: dict[str, list[str]] = {}
    for goal in goals:
        state = goal.target.rpartition("/")[0]
        names = allowed.setdefault(state.rpartition("/")[0], [])
        if goal.now.strip() == "0":
            names.append(goal.hint)
    counted = Counter(" ".join(names) or "none" for names in allowed.values()).most_common()
    return counted[0][0] if len(counted) == 1 else ", ".join(f"{text} ({times} cores)" for text, times in counted[:3])


def _idle_latency(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    want = None if value is None else {"any": "0", "none": "n/a"}.get(value, value.removesuffix("us"))
    if want is not None and want != "n/a" and not want.isdigit():
        raise ValueError(f"expected any, none or microseconds such as 20us, got {value!r}")
    paths = (f"sys/devices/system/cpu/cpu{cpu}/power/pm_qos_resume_latency_us" for cpu in _cpus(tree, where))
    goals = [file_goal(tree, "idle-latency", path, want, broad=not where) for path in paths]
    there = [goal for goal in goals if goal is not None]
    if not there:
        raise NotHereError("this kernel has no latency limit for each core")
    return there


def _isolate(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    if where:
        raise ValueError(f"isolate takes its cores as its value: isolate={where}")
    if value is None:
        return ()
    online, kept = tree.online_cpus(), parse_cpus(value)
    absent = set(kept) - set(online)
    others = sorted(set(online) - set(kept))
    if absent or not kept:
        raise ValueError(f"no cores {format_cpus(absent) or value} here; there are {format_cpus(online)}")
    if not others:
        raise ValueError("no core would be left for everything else")
    goals: list[Goal] = list(interrupt_goals(tree, "isolate", others, off=kept))
    goals += default_mask_goal(tree, "isolate", others)
    queues = file_goal(tree, "isolate", _WORKQUEUES, format_mask(others), form="mask", optional=True)
    goals += [] if queues is None else [queues]
    return [*goals, *_thread_goals(tree, "isolate", kept)]


def _thread_goals(tree: NodeTree, setting: str, kept: Sequence[int] | None) -> Iterator[Goal]:
    """Threads of programs that may use a core to be kept free, and their other cores. `kept` None: all, only remembered."""
    for folder in tree.glob("proc/[0-9]*/task/[0-9]*"):
        tid = int(folder.rpartition("/")[2])
        start, kernel = thread_start(tree, tid, folder)
        if kernel or not start:
            continue
        try:
            cpus = tree.affinity(tid)
        except OSError:
            continue
        want = None
        if kept is not None:
            left = set(cpus) - set(kept)
            if not left or len(left) == len(cpus):
                continue  # bound to those cores by somebody who meant it, or not on them at all
            want = format_cpus(left)
        yield Goal(
            setting=setting,
            kind="affinity",
            target=f"{tid}@{start}",
            now=format_cpus(cpus),
            want=want,
            form="cpulist",
            optional=True,
            broad=True,
        )


def heirs(tree: NodeTree, changes: Sequence[Change]) -> list[Change]:
    """Threads that moved ones have started since, which inherited where those may run: they get back what their parents get."""
    moved = {int(each.target.partition("@")[0]): each for each in changes if each.kind == "affinity" and each.new}
    found = []
    for folder in tree.glob("proc/[0-9]*/task/[0-9]*") if moved else ():
        tid = int(folder.rpartition("/")[2])
        start, kernel = thread_start(tree, tid, folder)
        if tid in moved or kernel or not start:
            continue
        try:
            now = format_cpus(tree.affinity(tid))
        except OSError:
            continue
        parent = _moved_ancestor(tree, int(folder.split("/")[1]), moved)
        if parent is not None and parent.new == now:
            found.append(replace(parent, target=f"{tid}@{start}"))
    return found


def _moved_ancestor(tree: NodeTree, pid: int, moved: Mapping[int, Change]) -> Change | None:
    while pid > 0:
        if pid in moved and thread_start(tree, pid)[0] == int(moved[pid].target.partition("@")[2]):
            return moved[pid]
        fields = (tree.text(f"proc/{pid}/stat") or "").rpartition(")")[2].split()
        pid = int(fields[1]) if len(fields) > 1 else 0
    return None


def thread_start(tree: NodeTree, tid: int, folder: str = "") -> tuple[int, bool]:
    """When a thread started, in ticks since boot (0: there is none), and whether it is the kernel's."""
    text = tree.text(f"{folder or f'proc/{tid}/task/{tid}'}/stat") or tree.text(f"proc/{tid}/stat")
    fields = (text or "").rpartition(")")[2].split()
    if len(fields) < 20:
        return 0, False
    return int(fields[19]), bool(int(fields[6]) & _KERNEL_THREAD)


def _cpus(tree: NodeTree, where: str) -> tuple[int, ...]:
    cpus = tree.chosen_cpus(where)
    return tree.online_cpus() if cpus is None else cpus


def isolated_by_kernel(tree: NodeTree) -> str:
    """Cores that the kernel's command line isolates, as a list; empty: none."""
    return meaning(tree.text("sys/devices/system/cpu/isolated") or "", "cpulist")


SETTINGS = (
    Setting(
        "smt",
        "on or off",
        "two threads of one core share its units and caches: a neighbour changes what is measured",
        _smt,
    ),
    Setting(
        "cstates",
        "all, none, the deepest state allowed such as C1, or a latency such as 2us",
        "a core that sleeps deeply takes 100 µs and more to wake: that is in every tail",
        _cstates,
        "cores such as 2-5",
        _cstate_words,
    ),
    Setting(
        "idle-latency",
        "any, none, or microseconds such as 20us",
        "the kernel's own limit on how long a core may take to wake; drivers obey it, too",
        _idle_latency,
        "cores such as 2-5",
        lambda goals: {"0": "any", "n/a": "none"}.get(said(goals), said(goals)),
    ),
    Setting(
        "isolate",
        "cores such as 2-5",
        "whatever else runs on a measured core is in the measurement: programs, interrupts and kernel work go to the others",
        _isolate,
        words=untold,
    ),
)
