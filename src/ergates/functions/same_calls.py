"""Whether a job that goes on is made of the calls it was made of before; else results would be those of other items."""

from __future__ import annotations

import pickle
from contextlib import suppress

from ergates.cluster.task import JobId, TaskSpec
from ergates.errors import UsageError
from ergates.functions.payload import decode_payload
from ergates.taskqueue.store import Reader

_SHOWN_CHARACTERS = 60


def check_same(store: Reader, job_id: JobId, job: str, tasks: list[TaskSpec]) -> None:
    """The calls of a job that goes on must be the ones it was made of; else results would be those of other items."""
    hint = "\n  hint: choose another name for other items"
    total = store.status(job_id).total
    if total != len(tasks):
        raise UsageError(f"job={job!r} was made of {total} items, now there are {len(tasks)}{hint}")
    for view, task in zip(store.tasks(job_id), tasks, strict=True):
        if view.spec.payload != task.payload and not _same_arguments(view.spec.payload, task.payload):
            raise UsageError(f"job={job!r} was made of other items: number {view.task} was {view.spec.command}{hint}")


def _same_arguments(old: bytes | None, new: bytes | None) -> bool:
    """Equal arguments need not have equal pickles: the order of a set of texts changes from process to process."""
    assert old is not None and new is not None
    old_arguments, new_arguments = decode_payload(old)[1], decode_payload(new)[1]
    if old_arguments == new_arguments:
        return True
    with suppress(Exception):  # cannot be loaded or compared: then they are not known to be the same
        return bool(pickle.loads(old_arguments) == pickle.loads(new_arguments))  # this user's own store
    return False


def shown_call(name: str, item: object) -> str:
    text = repr(item)
    return f"{name}({text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + '…'})"
