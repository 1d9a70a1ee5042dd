"""Which workers a command means: by id (or its beginning), by host, or all."""

from __future__ import annotations

from collections.abc import Sequence

from ergates.cluster.node import WorkerStatus
from ergates.errors import UsageError

PRESENT = frozenset({"live", "silent"})
"""Standings of workers that can still hear an order."""
_SHOWN = 5


def choose_workers(
    workers: Sequence[WorkerStatus], words: Sequence[str], *, hosts: Sequence[str], everybody: bool
) -> tuple[WorkerStatus, ...]:
    """Those meant, of the workers that are there; the longest registered first.

    Args:
        workers: of the store.
        words: ids or their beginnings; each must mean exactly one worker.
        hosts: names of hosts; each must have a worker.
        everybody: all of them.

    Raises:
        UsageError: nothing was named, or a name means none or several.
    """
    present = [each for each in workers if each.standing in PRESENT]
    if everybody == bool(words or hosts):
        raise UsageError("which workers?\n  hint: name their ids (`erg worker list`), --host HOST, or --all alone")
    if everybody:
        return tuple(present)
    chosen = {_one(present, word) for word in words}
    for host in hosts:
        there = {each.info.id for each in present if each.info.host == host}
        if not there:
            known = sorted({each.info.host for each in present})
            raise UsageError(f"no worker on host {host!r}\n  expected: {_listed(known)}")
        chosen |= there
    return tuple(each for each in present if each.info.id in chosen)


def _one(present: Sequence[WorkerStatus], word: str) -> str:
    found = [each.info.id for each in present if each.info.id.startswith(word)] if word else []
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{word!r} is the beginning of {len(found)} workers\n  expected: more of the id")
    raise UsageError(f"no worker {word!r}\n  expected: {_listed([each.info.id for each in present])}")


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "there are no workers now"
    more = f", ... ({len(names) - _SHOWN} more)" if len(names) > _SHOWN else ""
    return f"one of {', '.join(names[:_SHOWN])}{more}"
