"""The states of a task: one small machine, in this file and nowhere else.

```
             blocked ──(all it comes after are done)──► ready
                │                                        │ ▲
    (one of them failed)                        (leased) │ │ (returned, not before now)
                ▼                                        ▼ │
            cancelled ◄──(user)── ready|delayed        leased ──(returned, later)──► delayed ──(time)──► ready
                                                        │  │
                                            (succeeded) │  │ (limits used up, or cannot ever fit)
                                                        ▼  ▼
                                                     done  failed
```
`retry` by the user takes failed and cancelled tasks back to ready (or blocked); `edit --rerun` done ones, too. What waits
then comes after something that is not done any more: it is blocked again.
"""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    BLOCKED = "blocked"
    READY = "ready"
    DELAYED = "delayed"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED})

TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.BLOCKED: frozenset({TaskState.READY, TaskState.CANCELLED}),
    TaskState.READY: frozenset({TaskState.LEASED, TaskState.CANCELLED, TaskState.BLOCKED}),
    TaskState.DELAYED: frozenset({TaskState.READY, TaskState.CANCELLED, TaskState.BLOCKED}),
    TaskState.LEASED: frozenset(
        {TaskState.READY, TaskState.DELAYED, TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED}
    ),
    TaskState.DONE: frozenset({TaskState.READY, TaskState.BLOCKED}),
    TaskState.FAILED: frozenset({TaskState.READY, TaskState.BLOCKED}),
    TaskState.CANCELLED: frozenset({TaskState.READY, TaskState.BLOCKED}),
}


def may_become(before: TaskState, after: TaskState) -> bool:
    """Whether the machine above has an arrow from `before` to `after`."""
    return after in TRANSITIONS[before]
