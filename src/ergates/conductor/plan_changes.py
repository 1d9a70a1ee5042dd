"""An experiment whose file changed since its first runs: what may be added, and what makes it another one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from ergates.errors import UsageError
from ergates.experiment.plan import same_run
from ergates.experiment.run import Run
from ergates.experiment.spec import Experiment

FREE = frozenset({
    "source", "here", "description", "order", "retries", "store", "listen", "measures", "comparison", "figures",
})  # fmt: skip
"""What says nothing of how a run was made."""
ADDED_TO = frozenset({"sweep", "repetitions", "exclude"})
"""Compared by the runs that follow from them."""
_SHOWN = 8
_encode = msgspec.json.Encoder(order="sorted").encode


def wanted_numbers(runs: Sequence[Run], asked: Iterable[Run]) -> tuple[int, ...]:
    """Numbers of the runs that are asked for now, whatever numbers they have there."""
    same = {same_run(run.point, run.repetition) for run in asked}
    return tuple(run.number for run in runs if same_run(run.point, run.repetition) in same)


def refuse_other(
    before: Experiment, after: Experiment, planned: Sequence[Run], plan: Sequence[Run], folder: str
) -> None:
    """A file may get more values and repetitions, and other measures and figures; runs that were made stay its runs.

    Args:
        before: as it was.
        after: as it is.
        planned: every run of the file as it was.
        plan: every run of the file as it is.
        folder: for the message.

    Raises:
        UsageError: it is another experiment, and how it differs.
    """
    found = list(differences(before, after))
    still = {same_run(run.point, run.repetition) for run in plan}
    gone = [run for run in planned if same_run(run.point, run.repetition) not in still]
    if gone and not found:
        shown = " ".join(f"{name}={value}" for name, value in gone[0].point)
        found.append(
            f"{len(gone)} of its {len(planned)} runs are not in the file any more, such as {shown} r{gone[0].repetition}"
        )
    if found:
        more = [f"... and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        lines = "".join(f"\n  {line}" for line in [*found[:_SHOWN], *more])
        raise UsageError(
            f"{after.source} is not the experiment of which {folder} holds runs:{lines}"
            "\n  expected: the same, or more values and repetitions"
            "\n  hint: --folder DIR makes its runs elsewhere, --again sets the old folder aside, --only AXIS=VALUE makes a part"
        )


def differences(before: Experiment, after: Experiment) -> Iterator[str]:
    """What differs of all that shapes a run, `programs.server.command: 'a' is now 'b'`."""
    for name in before.__struct_fields__:
        if name not in FREE | ADDED_TO:
            yield from _differing(name, getattr(before, name), getattr(after, name))
    axes = [axis.name for axis in before.sweep], [axis.name for axis in after.sweep]
    if set(axes[0]) != set(axes[1]):
        yield f"sweep: the axes were {', '.join(axes[0]) or 'none'}, and are {', '.join(axes[1]) or 'none'}"


def _differing(name: str, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, msgspec.Struct) and type(before) is type(after):
        for field in before.__struct_fields__:
            yield from _differing(f"{name}.{field}", getattr(before, field), getattr(after, field))
    elif _named(before) and _named(after):
        old, new = _by_name(before), _by_name(after)
        for each in [*old, *(each for each in new if each not in old)]:
            if each not in new:
                yield f"{name}.{each} is gone"
            elif each not in old:
                yield f"{name}.{each} is new"
            else:
                yield from _differing(f"{name}.{each}", old[each], new[each])
        if list(old) != list(new) and set(old) == set(new):
            yield f"{name}: the order was {', '.join(old)}, and is {', '.join(new)}"
    else:
        yield f"{name}: {_shown(before)} is now {_shown(after)}"


def _named(value: Any) -> bool:
    """Whether these are things with names, or pairs that begin with one."""
    return isinstance(value, tuple) and all(
        hasattr(each, "name") or (isinstance(each, tuple) and len(each) == 2) for each in value
    )


def _by_name(things: tuple[Any, ...]) -> dict[str, Any]:
    return dict(each if isinstance(each, tuple) else (each.name, each) for each in things)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else _encode(value).decode()
    return repr(text if len(text) <= 60 else text[:57] + "...")
