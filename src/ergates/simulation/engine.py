"""Virtual time from one seed: a heap of what happens next, and targets that it happens to.

One loop drives every policy of the system: take the earliest event, hand it to its target together with the time, perform
what the target orders, check the laws. Nothing waits, so an hour of a cluster takes seconds; nothing but the seed is
random, so the same seed gives the same world again. Events at the same time come in the order they were scheduled.

A target that crashes forgets its timers: they belonged to the life that ended. Messages go by name and find whoever has
that name when they arrive; see `network.py`. The full contract is docs/determinism.md.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any, NamedTuple

from ergates.units import Nanoseconds

Handle = Callable[[Any, Nanoseconds], "Iterable[Any] | None"]
"""A target: `handle(event, now_ns) -> actions`. None is the same as no action."""
Perform = Callable[[Any, Nanoseconds], None]
"""What carries out one action of a target: schedules events, sends messages, changes the simulated world."""


class Deliver(NamedTuple):
    """The one action that every target may order without a `perform` of its own: this event, then, there."""

    at_ns: int
    target: str
    event: Any


class Place:
    """One life of a target. After a crash it stays behind as a hole into which its timers fall."""

    __slots__ = ("handle", "name", "perform", "up")

    def __init__(self, name: str, handle: Handle, perform: Perform) -> None:
        self.name, self.handle, self.perform = name, handle, perform
        self.up = True


class UnknownTargetError(LookupError):
    """An event for a name that was never attached: a bug of the scenario."""


class Engine:
    """Simulated time, targets and streams of randomness.

    Args:
        seed: everything random in this world comes from it.
        check: called after every event and the actions it led to; raises when a law is broken.
        record: keep a running hash of every action, so that two runs can be compared (costs about as much as they do).
    """

    def __init__(self, seed: int, *, check: Callable[[Nanoseconds], None] | None = None, record: bool = False) -> None:
        self.seed = seed
        self.now_ns = Nanoseconds(0)
        self.events = 0
        self.dropped = 0
        """Events whose target had crashed."""
        self.check = check
        self.last_target = ""
        """Whom the latest event was handed to; kept up to date only while `check` or `record` is on."""
        self._record = record
        self._hash = hashlib.sha256()
        self._heap: list[tuple[int, int, Place, Any]] = []
        self._sequence = 0
        self._places: dict[str, Place] = {}
        self._known: set[str] = set()
        self._streams: dict[str, random.Random] = {}
        self._stopped = False

    # --- randomness -------------------------------------------------------------------------------

    def stream(self, name: str) -> random.Random:
        """The stream of this name: its own sequence, whatever the others draw. Made at the first call, then kept."""
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = random.Random(f"{self.seed}/{name}")
        return stream

    # --- targets ----------------------------------------------------------------------------------

    def attach(self, name: str, handle: Handle, perform: Perform | None = None) -> None:
        """Bring a target to life under a name that is free. Without `perform`, its actions must be `Deliver`."""
        assert name not in self._places, f"{name} is alive already"
        self._known.add(name)
        self._places[name] = Place(name, handle, perform or self._deliver)

    def crash(self, name: str) -> bool:
        """End a target's life: its timers are lost. False when it was not alive."""
        place = self._places.pop(name, None)
        if place is None:
            return False
        place.up = False
        place.handle = self._drop
        place.perform = _ignore  # it may have crashed between two actions: what it ordered beyond is not done
        return True

    def alive(self, name: str) -> bool:
        return name in self._places

    def at(self, at_ns: int, name: str, event: Any) -> None:
        """A timer of the target's present life. Dropped when it is not alive, now or then; never in the past."""
        place = self._places.get(name)
        if place is None:
            if name not in self._known:
                raise UnknownTargetError(f"no target {name!r}; attached so far: {', '.join(sorted(self._known))}")
            self.dropped += 1
            return
        self._sequence = sequence = self._sequence + 1
        heappush(self._heap, (max(at_ns, self.now_ns), sequence, place, event))

    def tell(self, name: str, event: Any) -> None:
        """Hand over an event now, within the present one, and perform what it leads to: a message that has arrived."""
        place = self._places.get(name)
        if place is None:
            self.dropped += 1
            return
        self._hand(place, event, self.now_ns)

    # --- running ----------------------------------------------------------------------------------

    def run(self, until_ns: int | None = None) -> Nanoseconds:
        """Go on until nothing is left to happen, `until_ns` has come, or `stop` is called. Returns the time."""
        heap, check = self._heap, self.check
        limit = (1 << 62) if until_ns is None else until_ns
        self._stopped = False
        events = 0
        if check is None and not self._record:  # the lean loop: nothing in it that a big simulation does not need
            while heap and heap[0][0] <= limit and not self._stopped:
                at_ns, _, place, event = heappop(heap)
                self.now_ns = now_ns = Nanoseconds(at_ns)
                events += 1
                actions = place.handle(event, now_ns)
                if actions:
                    for action in actions:
                        place.perform(action, now_ns)
        else:
            while heap and heap[0][0] <= limit and not self._stopped:
                at_ns, _, place, event = heappop(heap)
                self.now_ns = Nanoseconds(at_ns)
                events += 1
                self._hand(place, event, self.now_ns)
                if check is not None:
                    check(self.now_ns)
        self.events += events
        if until_ns is not None and not self._stopped:
            self.now_ns = Nanoseconds(max(self.now_ns, until_ns))
        return self.now_ns

    def stop(self) -> None:
        """End `run` after the present event."""
        self._stopped = True

    def digest(self) -> str:
        """Hash over the time, target and text of every action so far; needs `record`."""
        assert self._record, "Engine(record=True) keeps the hash"
        return self._hash.hexdigest()

    def note(self, what: str) -> None:
        """Put something that is not a target's action into the hash, too."""
        if self._record:
            self._hash.update(f"{self.now_ns} {what}\n".encode())

    def _hand(self, place: Place, event: Any, now_ns: Nanoseconds) -> None:
        self.last_target = place.name
        for action in place.handle(event, now_ns) or ():
            if self._record and place.up:
                self._hash.update(f"{now_ns} {place.name} {action!r}\n".encode())
            place.perform(action, now_ns)

    def _drop(self, event: Any, now_ns: Nanoseconds) -> None:  # noqa: ARG002 - the shape of a handle
        self.dropped += 1

    def _deliver(self, action: Any, now_ns: Nanoseconds) -> None:  # noqa: ARG002 - the shape of a perform
        at_ns, name, event = action
        self.at(at_ns, name, event)


def _ignore(action: Any, now_ns: Nanoseconds) -> None:
    """What becomes of the orders of a target that has crashed."""
