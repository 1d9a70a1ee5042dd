"""When to stop a whole job early: `--halt soon,fail=1`, `now,fail=10%`, in GNU parallel's words.

`soon` starts nothing new and lets the rest end; `now` ends the rest at once. Shares count only after three tasks have
ended, as GNU parallel does, so that the first failure is not yet 100 %.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ergates.errors import UsageError

Stop = Literal["soon", "now"]
Watched = Literal["fail", "success", "done"]
ENDED_BEFORE_SHARES = 3

_RULE = re.compile(r"(soon|now),(fail|success|done)=([0-9]+(?:\.[0-9]+)?)(%?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltRule:
    """Stop like `stop` when `count` tasks (or a `fraction` of the ended ones, 0-1) are `watched`. One of the two is set."""

    stop: Stop
    watched: Watched
    count: int | None = None
    fraction: float | None = None


def parse_halt(text: str) -> HaltRule | None:
    """Read `never`, `soon,fail=3`, `now,fail=10%`, `now,success=1`, `soon,done=50`.

    Raises:
        UsageError: anything else; the message says what was expected.
    """
    if text == "never":
        return None
    match = _RULE.fullmatch(text.strip())
    if match is not None:
        stop: Stop = "now" if match[1] == "now" else "soon"
        watched: Watched = "fail" if match[2] == "fail" else "success" if match[2] == "success" else "done"
        number = float(match[3])
        if match[4] and 0 < number <= 100:
            return HaltRule(stop=stop, watched=watched, fraction=number / 100)
        if not match[4] and number >= 1 and number == int(number):
            return HaltRule(stop=stop, watched=watched, count=int(number))
    raise UsageError(
        f"--halt {text!r} is not understood\n"
        "  expected: never, or WHEN,WHY=HOW_MANY such as soon,fail=1, now,fail=10% or now,success=1\n"
        "  hint: `soon` lets running tasks end, `now` ends them; WHY is fail, success or done"
    )


def halt_reached(rule: HaltRule | None, succeeded: int, failed: int) -> Stop | None:
    """Whether to stop, given how many tasks ended so far (for good, retries not counted)."""
    if rule is None:
        return None
    ended = succeeded + failed
    watched = {"fail": failed, "success": succeeded, "done": ended}[rule.watched]
    if rule.count is not None:
        return rule.stop if watched >= rule.count else None
    assert rule.fraction is not None
    reached = ended >= ENDED_BEFORE_SHARES and watched >= rule.fraction * ended
    return rule.stop if reached else None
