"""What Slurm's programs print, read into records. Pure: text in, records out.

`squeue` and `sinfo` are asked for fields with a mark between them, not for JSON: of 22.05 and older the JSON forgets filters
and prints the whole cluster. Fields that may hold anything (name, comment) come last.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ergates.units import SECOND_NS, Nanoseconds

PLACED_BY = "slurm:"
"""What a worker's `placed_by` begins with; the rest is the id of its allocation."""
SQUEUE_FORMAT = "%F|%K|%A|%T|%r|%P|%N|%L|%S|%V|%j|%k"
SINFO_FORMAT = "%P|%a|%l|%c|%m|%D"
_PENDING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
_OVER = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT",
})  # fmt: skip
_DURATION = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)")
NEVER_STARTS = {
    "PartitionTimeLimit": "it asks for more time than its partition allows",
    "PartitionNodeLimit": "it asks for more nodes than its partition allows",
    "PartitionConfig": "its partition does not allow what it asks for",
    "PartitionInactive": "its partition is inactive",
    "PartitionDown": "its partition is down",
    "BadConstraints": "no node has what it asks for",
    "InvalidAccount": "its account is not valid",
    "InvalidQOS": "its QOS is not valid",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmAllocation:
    """One task of an array, waiting, running or over.

    Args:
        id: `ARRAYJOB_TASK`, as scancel takes it and workers are known by.
        job: of the array.
        state: Slurm's word, such as `PENDING`.
        reason: Slurm's word for why it waits or ended, `None` for none.
        node: where it runs or ran; empty before.
        left_ns: of its time limit; None for no limit.
        started_s: seconds since 1970; None when it did not start.
        name, comment: as submitted.
    """

    id: str
    job: str
    state: str
    reason: str
    partition: str
    node: str
    left_ns: Nanoseconds | None
    started_s: int | None
    name: str
    comment: str

    @property
    def pending(self) -> bool:
        return self.state in _PENDING

    @property
    def over(self) -> bool:
        return self.state in _OVER

    @property
    def running(self) -> bool:
        """It has its node, perhaps not quite ready yet, or not quite free again."""
        return not self.pending and not self.over

    @property
    def words(self) -> str:
        """For people: `12_3 FAILED on n1 (NonZeroExitCode)`."""
        where = f" on {self.node}" if self.node else ""
        reason = NEVER_STARTS.get(self.reason, "" if self.reason == "None" else self.reason)
        return f"{self.id} {self.state}{where}" + (f" ({reason})" if reason else "")

    @property
    def never_starts(self) -> str:
        """Why it will wait for ever unless somebody changes something; empty when it just waits for its turn."""
        return NEVER_STARTS.get(self.reason, "") if self.pending else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A partition as `sinfo` shows it, of all its nodes the least. `limit_ns` None: no limit."""

    name: str
    default: bool
    up: bool
    limit_ns: Nanoseconds | None
    cpus: int
    memory_mib: int
    nodes: int


def parse_squeue(text: str) -> list[SlurmAllocation]:
    """Rows printed with SQUEUE_FORMAT, `--array` and times as seconds since 1970; other people's and odd rows are left out."""
    found = []
    for line in text.splitlines():
        fields = line.split("|", 11)
        if len(fields) < 12 or not fields[0].isdigit() or not fields[1].isdigit():
            continue  # no element of an array: none of ours
        job, task, _, state, reason, partition, node, left, started, _, name, comment = fields
        row = SlurmAllocation(
            id=f"{job}_{task}", job=job, state=state, reason=reason, partition=partition, node=node,
            left_ns=parse_time(left), started_s=int(started) if started.isdigit() and state not in _PENDING else None,
            name=name, comment=comment,
        )  # fmt: skip
        found.append(row)
    return sorted(found, key=lambda row: tuple(int(part) for part in row.id.split("_")))


def parse_sinfo(text: str) -> list[Partition]:
    """Rows printed with SINFO_FORMAT and `--exact`: one for each kind of node of a partition."""
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) != 6:
            continue
        name, available, limit, cpus, memory, nodes = (field.strip() for field in fields)
        one = Partition(
            name=name.rstrip("*"), default=name.endswith("*"), up=available == "up", limit_ns=parse_time(limit),
            cpus=_number(cpus), memory_mib=_number(memory), nodes=_number(nodes),
        )  # fmt: skip
        before = found.get(one.name)
        found[one.name] = one if before is None else _together(before, one)
    return list(found.values())


def parse_time(text: str) -> Nanoseconds | None:
    """`1-02:03:04`, `2:03:04` or `3:04`; None for `UNLIMITED`, `infinite`, `NOT_SET`, `N/A` and the like."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return Nanoseconds((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * SECOND_NS)


def format_time(duration_ns: int) -> str:
    """`HH:MM:SS` for `--time`, rounded up to a second; Slurm counts whole minutes and rounds up again."""
    seconds = -(-duration_ns // SECOND_NS)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _together(one: Partition, other: Partition) -> Partition:
    return Partition(
        name=one.name, default=one.default, up=one.up, limit_ns=one.limit_ns, cpus=min(one.cpus, other.cpus),
        memory_mib=min(one.memory_mib, other.memory_mib), nodes=one.nodes + other.nodes,
    )  # fmt: skip


def _number(text: str) -> int:
    match = re.match(r"\d+", text)  # "64+" where nodes differ
    return int(match[0]) if match else 0
