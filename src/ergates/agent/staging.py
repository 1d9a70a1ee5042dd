"""The threads that carry files, so that the worker's loop never waits for a network: inputs in, outputs out.

The world fails now and then: a transfer is tried again, with longer and longer pauses, before it counts as failed. Then the
attempt goes back to the queue and nothing is held against its task. What the task itself got wrong is said at once.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import PriorityQueue, SimpleQueue

from ergates.agent.scratch import NoRoomError
from ergates.agent.transfer import Carried, NotWrittenError, Places, fetch_inputs, put_outputs
from ergates.cluster.attempt import Outcome
from ergates.drivers.alarm import Alarm
from ergates.drivers.objects.cache import FileCache
from ergates.drivers.objects.files import (
    FULL,
    FullDiskError,
    NoSuchFileError,
    Stop,
    StoppedError,
    TransferError,
    UnusableError,
)
from ergates.errors import LaunchError
from ergates.taskqueue.launching import AttemptKey

THREADS = 4
"""Transfers at once on one node: more only share its network."""
FETCH_PAUSES_S = (1.0, 3.0, 10.0)
PUT_PAUSES_S = (1.0, 3.0, 10.0, 20.0, 40.0, 60.0)
"""Longer than for inputs: the work is done, and would be lost."""
CLOSE_S = 5.0
"""How long transfers that do not hear may hold up the end of the worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferEnded:
    """One transfer is over, and nobody touches the attempt's directory any more.

    Args:
        key: whose.
        outcome: None: all is where it belongs. Else what its attempt comes to: NOT_STARTED (it cannot be fetched here), FAILED
            (an output is missing), DISK_FULL, RETURNED (the world's doing), CANCELLED (it was stopped).
        reason: in words.
    """

    key: AttemptKey
    outcome: Outcome | None = None
    reason: str = ""


@dataclass(slots=True)
class _Order:
    key: AttemptKey
    stop: Stop
    run: Callable[[Places, Stop], None]
    pauses_s: Sequence[float]
    incoming: bool


class Staging:
    """Carries files for the attempts of one worker.

    Args:
        cache: of this node.
        rng: spreads the pauses of many workers.
        fetch_pauses_s, put_pauses_s: between the tries; for tests that cannot wait as long as people can.
    """

    def __init__(
        self,
        cache: FileCache,
        rng: random.Random,
        *,
        fetch_pauses_s: Sequence[float] = FETCH_PAUSES_S,
        put_pauses_s: Sequence[float] = PUT_PAUSES_S,
    ) -> None:
        self._cache, self._random = cache, rng
        self._fetch_pauses_s, self._put_pauses_s = fetch_pauses_s, put_pauses_s
        self._alarm = Alarm()
        self._waiting: PriorityQueue[tuple[int, int, _Order | None]] = PriorityQueue()
        self._numbers = itertools.count()
        self._done: SimpleQueue[TransferEnded | BaseException] = SimpleQueue()
        self._stops: dict[AttemptKey, Stop] = {}
        self._threads: list[threading.Thread] = []
        self.trouble = ""
        """In words, what the world refused last; empty once a transfer has worked again."""

    def fileno(self) -> int:
        """Readable when `poll` has something to tell."""
        return self._alarm.fileno()

    def fetch(self, key: AttemptKey, carried: Carried) -> None:
        """Bring the inputs."""
        self._order(key, lambda places, stop: fetch_inputs(carried, places, self._cache, stop), incoming=True)

    def refuse(self, key: AttemptKey, error: LaunchError) -> None:
        """There is no place for its inputs: `poll` tells so."""
        self._stops[key] = Stop()
        self._done.put(TransferEnded(key=key, outcome=_outcome_of(error), reason=str(error)))
        self._alarm.ring()

    def put(self, key: AttemptKey, carried: Carried) -> None:
        """Bring the outputs back."""
        self._order(key, lambda places, stop: put_outputs(carried, places, stop), incoming=False)

    def busy(self, key: AttemptKey) -> bool:
        """Whether `poll` will still tell of this one."""
        return key in self._stops

    def stop(self, key: AttemptKey) -> None:
        """End its transfer soon; `poll` tells when."""
        stop = self._stops.get(key)
        if stop is not None:
            stop.set()

    def poll(self) -> list[TransferEnded]:
        """What ended since the last call; waits for nothing."""
        self._alarm.clear()
        ended: list[TransferEnded] = []
        while not self._done.empty():
            event = self._done.get()
            if isinstance(event, BaseException):
                raise event
            ended.append(event)
            del self._stops[event.key]
        return ended

    def close(self) -> None:
        """End everything."""
        for stop in self._stops.values():
            stop.set()
        for _ in self._threads:
            self._waiting.put((-1, next(self._numbers), None))
        until = time.monotonic() + CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._alarm.close()

    # --- in the threads -----------------------------------------------------------------------

    def _order(self, key: AttemptKey, run: Callable[[Places, Stop], None], *, incoming: bool) -> None:
        stop = self._stops[key] = Stop()
        pauses_s = self._fetch_pauses_s if incoming else self._put_pauses_s
        self._waiting.put((int(incoming), next(self._numbers), _Order(key, stop, run, pauses_s, incoming)))
        if len(self._threads) < min(THREADS, len(self._stops)):
            thread = threading.Thread(target=self._work, name=f"ergates-staging-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        places = Places()
        while (order := self._waiting.get()[2]) is not None:
            try:
                self._done.put(self._carry(order, places))
            except BaseException as bug:  # the worker's loop is to hear of it
                self._done.put(bug)
            self._alarm.ring()

    def _carry(self, order: _Order, places: Places) -> TransferEnded:
        for pause_s in (*order.pauses_s, None):
            try:
                order.stop.check()
                order.run(places, order.stop)
            except StoppedError:
                return TransferEnded(key=order.key, outcome=Outcome.CANCELLED, reason="stopped")
            except (NotWrittenError, LaunchError, TransferError, OSError) as error:
                places.forget()
                outcome = _outcome_of(error)
                if outcome is not Outcome.RETURNED:
                    return TransferEnded(key=order.key, outcome=outcome, reason=str(error))
                what = "inputs could not be fetched" if order.incoming else "outputs could not be brought back"
                self.trouble = f"{what}: {error}"
                if pause_s is None:
                    return TransferEnded(key=order.key, outcome=outcome, reason=self.trouble)
            else:
                self.trouble = ""
                return TransferEnded(key=order.key)
            order.stop.asked.wait((pause_s or 0.0) * self._random.uniform(0.8, 1.2))
        raise AssertionError("the last try returns")


def _outcome_of(error: Exception) -> Outcome:
    """Whose fault it is."""
    if isinstance(error, FullDiskError | NoRoomError) or (isinstance(error, OSError) and error.errno in FULL):
        return Outcome.DISK_FULL
    if isinstance(error, NotWrittenError):
        return Outcome.FAILED
    if isinstance(error, NoSuchFileError | UnusableError | LaunchError):
        return Outcome.NOT_STARTED
    return Outcome.RETURNED
