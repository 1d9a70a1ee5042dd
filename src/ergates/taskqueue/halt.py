"""When to stop a whole job early: GNU parallel's `--halt`, as one pure question asked after every task.

`soon` starts nothing new and lets what runs end; `now` ends what runs, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Stop = Literal["soon", "now"]
Counted = Literal["fail", "success", "done"]

_FORM = re.compile(r"(soon|now),(fail|success|done)=([0-9]+(?:\.[0-9]+)?)(%?)")
_PERCENT_NEEDS = 3
"""GNU parallel judges a percentage only once this many jobs have run, so that one early failure is not 100 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltRule:
    """Stop `when` the number of tasks `counted` reaches `count`, or `fraction` of all of them (exactly one is set)."""

    when: Stop
    counted: Counted
    count: int | None = None
    fraction: float | None = None


def parse_halt(text: str) -> HaltRule | None:
    """Read `never`, `soon,fail=1`, `now,success=3`, `now,fail=10%` or the old `0`, `1`, `2`; None is `never`.

    Raises:
        ValueError: none of these; the message says what was expected.
    """
    old = {"0": "never", "1": "soon,fail=1", "2": "now,fail=1"}
    text = old.get(text.strip(), text.strip())
    if text == "never":
        return None
    match = _FORM.fullmatch(text)
    if match is None or float(match[3]) == 0 or ("." in match[3] and not match[4]):
        raise ValueError(
            f"expected never, soon,fail=1, now,fail=1, now,success=1, now,done=10 or a share such as soon,fail=5%; got {text!r}"
        )
    when: Stop = "soon" if match[1] == "soon" else "now"
    counted: Counted = "fail" if match[2] == "fail" else "success" if match[2] == "success" else "done"
    if match[4]:
        return HaltRule(when=when, counted=counted, fraction=float(match[3]) / 100)
    return HaltRule(when=when, counted=counted, count=int(match[3]))


def halt_reached(rule: HaltRule | None, succeeded: int, failed: int) -> Stop | None:
    """Whether the rule asks to stop, given how many tasks ended so far (retries of a task count once, at its end).

    A percentage is of the tasks that ended, as in GNU parallel, and is judged from the third one on.
    """
    if rule is None:
        return None
    ended = succeeded + failed
    reached = {"fail": failed, "success": succeeded, "done": ended}[rule.counted]
    if rule.count is not None:
        return rule.when if reached >= rule.count else None
    assert rule.fraction is not None
    return rule.when if ended >= _PERCENT_NEEDS and reached >= rule.fraction * ended else None
