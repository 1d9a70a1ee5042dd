"""Messages between targets: late, lost, twice, out of order, or not at all across a partition.

Delays are log-normal: mostly near the median, now and then many times that, because a fault that hides behind a slow
message is never found in a network that is always fast. A message is looked at twice, when it is sent and when it arrives:
one that was under way when a partition began is lost, too. Whoever has the name at arrival gets it, so a restarted
target meets messages meant for its former life, as on a real network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ergates.simulation.engine import Engine
from ergates.units import Nanoseconds

MOST_DELAY_NS = 60_000_000_000
"""A message that would take longer is as good as lost; keeps the log-normal's far tail from stretching a simulation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConditions:
    """How bad it is.

    Args:
        delay_ns: median of the time a message takes.
        spread: sigma of the log-normal delay; 0: every message takes the median. With 1.0 one message in a hundred takes
            ten times the median.
        loss_fraction: of messages that never arrive.
        duplicate_fraction: of messages that arrive twice, each copy with a delay of its own.
    """

    delay_ns: Nanoseconds = Nanoseconds(200_000)
    spread: float = 0.5
    loss_fraction: float = 0.0
    duplicate_fraction: float = 0.0


class Message(NamedTuple):
    """Under way."""

    source: str
    target: str
    event: Any


class Network:
    """Links between all targets of an engine; itself a target, which is why it never crashes.

    Args:
        engine: whose clock and whose stream `NAME` is used.
        conditions: of every link; may be changed while it runs.
        name: of the network, when there are several.
    """

    def __init__(self, engine: Engine, conditions: NetworkConditions | None = None, name: str = "network") -> None:
        self.conditions = conditions or NetworkConditions()
        self.sent = self.lost = self.duplicated = self.delivered = 0
        self._engine, self._name = engine, name
        self._random = engine.stream(name)
        self._island: dict[str, int] = {}
        engine.attach(name, self._arrive)

    def send(self, source: str, target: str, event: Any) -> None:
        """Send; nobody is told what became of it."""
        self.sent += 1
        conditions, rng = self.conditions, self._random
        if conditions.loss_fraction and rng.random() < conditions.loss_fraction:
            self.lost += 1
            return
        if self.parted(source, target):
            self.lost += 1
            return
        message = Message(source, target, event)
        self._engine.at(self._engine.now_ns + self._delay_ns(), self._name, message)
        if conditions.duplicate_fraction and rng.random() < conditions.duplicate_fraction:
            self.duplicated += 1
            self._engine.at(self._engine.now_ns + self._delay_ns(), self._name, message)

    def partition(self, *islands: Iterable[str]) -> None:
        """Let messages through only within an island; targets that are named in none form one of their own."""
        self._island = {name: number for number, names in enumerate(islands, 1) for name in names}

    def heal(self) -> None:
        """Everybody reaches everybody again. Messages lost meanwhile stay lost."""
        self._island = {}

    def parted(self, source: str, target: str) -> bool:
        island = self._island
        return bool(island) and island.get(source, 0) != island.get(target, 0)

    def _delay_ns(self) -> int:
        conditions = self.conditions
        if not conditions.spread:
            return conditions.delay_ns
        return min(MOST_DELAY_NS, int(conditions.delay_ns * math.exp(self._random.gauss(0.0, conditions.spread))))

    def _arrive(self, message: Message, now_ns: Nanoseconds) -> None:  # noqa: ARG002 - the shape of a handle
        if self.parted(message.source, message.target):
            self.lost += 1
            return
        self.delivered += 1
        self._engine.tell(message.target, message.event)
