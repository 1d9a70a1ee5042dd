"""What a family tells of each of its settings: name, values, why it matters, and the goals a wish comes to on this node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ergates.drivers.nodes.tree import NodeTree, NotHereError
from ergates.experiment.node_forms import Form, meaning
from ergates.experiment.node_plan import Goal

Look = Callable[[NodeTree, str, str | None], Sequence[Goal]]
"""(tree, where, value) -> goals. None asks only what there is. Raises NotHereError; ValueError for a value that cannot be."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One name of the table.

    Args:
        values: what may be said, for people.
        place: what WHERE means; empty: it takes none.
        words: what goals say now, together; empty: nothing to tell.
        why: in a sentence, for whoever wonders what it does to a measurement.
    """

    name: str
    values: str
    why: str
    look: Look
    place: str = ""
    words: Callable[[Sequence[Goal]], str] = field(default=lambda goals: said(goals))


def said(goals: Sequence[Goal]) -> str:
    """`powersave`, or `powersave (6), performance (2)`."""
    counted = Counter(meaning(goal.now, goal.form) for goal in goals).most_common()
    if len(counted) == 1:
        return counted[0][0]
    shown = [f"{text} ({times})" for text, times in counted[:3]]
    return ", ".join(shown + ["..."] * (len(counted) > 3))


def untold(_: Sequence[Goal]) -> str:
    """Nothing to tell where nothing was asked."""
    return ""


def switch_words(on: str, off: str) -> Callable[[Sequence[Goal]], str]:
    """`on` where every goal says `on` (as the kernel writes it), `off` where all say `off`."""

    def words(goals: Sequence[Goal]) -> str:
        texts = {meaning(goal.now, goal.form) for goal in goals}
        return "on" if texts == {on} else "off" if texts == {off} else said(goals)

    return words


def file_goal(
    tree: NodeTree,
    setting: str,
    path: str,
    want: str | None,
    *,
    form: Form = "plain",
    optional: bool = False,
    broad: bool = True,
    hint: str = "",
) -> Goal | None:
    """The goal of one file; None where it is not there or cannot be read (a core that went offline, a driver without it)."""
    try:
        now = tree.read(path)
    except OSError:
        return None
    text = None if want is None else f"{want}\n"
    return Goal(
        setting=setting,
        kind="file",
        target=path,
        now=now,
        want=text,
        form=form,
        optional=optional,
        broad=broad,
        hint=hint,
    )


def one_file(
    setting: str, path: str, absent: str, *, form: Form = "plain", words: Callable[[str], str] = str, hint: str = ""
) -> Look:
    """A setting that is one file. `words` turns what people say into what the kernel reads."""

    def look(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
        if where:
            raise ValueError(f"{setting} is of the whole node: leave @{where} out")
        goal = file_goal(tree, setting, path, None if value is None else words(value), form=form, hint=hint)
        if goal is None:
            raise NotHereError(absent)
        return (goal,)

    return look
