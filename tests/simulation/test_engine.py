"""Virtual time: order, streams, lives of targets, and that the fast loop and the checking loop are the same world."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from ergates.simulation.engine import Deliver, Engine, UnknownTargetError


class Recorder:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Any]] = []

    def handle(self, event: Any, now_ns: int) -> None:
        self.seen.append((now_ns, event))


def test_events_come_by_time_and_then_in_the_order_they_were_scheduled() -> None:
    engine, target = Engine(1), Recorder()
    engine.attach("a", target.handle)
    for at_ns, name in [(30, "late"), (10, "first"), (20, "second"), (10, "first too"), (20, "third")]:
        engine.at(at_ns, "a", name)
    assert engine.run() == 30
    assert [event for _, event in target.seen] == ["first", "first too", "second", "third", "late"]


def test_nothing_happens_in_the_past() -> None:
    engine, target = Engine(1), Recorder()
    engine.attach("a", target.handle)
    engine.at(50, "a", "one")
    engine.run()
    engine.at(10, "a", "too late")
    engine.run()
    assert target.seen == [(50, "one"), (50, "too late")]


def test_run_until_stops_before_later_events_and_goes_on() -> None:
    engine, target = Engine(1), Recorder()
    engine.attach("a", target.handle)
    engine.at(10, "a", "in time")
    engine.at(20, "a", "later")
    assert engine.run(15) == 15
    assert target.seen == [(10, "in time")]
    assert engine.run(20) == 20
    assert target.seen[-1] == (20, "later")


def test_stop_ends_after_the_present_event() -> None:
    engine, target = Engine(1), Recorder()
    engine.attach("a", target.handle)
    engine.attach("stopper", lambda _event, _now: engine.stop())
    engine.at(10, "stopper", None)
    engine.at(10, "a", "next")
    engine.run()
    assert target.seen == []
    engine.run()
    assert target.seen == [(10, "next")]


def test_streams_are_their_own_whatever_others_draw() -> None:
    engine, other = Engine(7), Engine(7)
    for _ in range(5):
        engine.stream("network").random()
    expected = random.Random("7/faults")
    assert engine.stream("faults").random() == expected.random() == other.stream("faults").random()
    assert Engine(8).stream("faults").random() != random.Random("7/faults").random()


def test_a_crash_loses_the_timers_of_that_life_only() -> None:
    engine, first, second = Engine(1), Recorder(), Recorder()
    engine.attach("a", first.handle)
    engine.at(10, "a", "of the first life")
    engine.at(30, "a", "of the first life, after the restart")
    engine.run(15)
    assert engine.crash("a") and not engine.alive("a")
    assert not engine.crash("a")
    engine.at(20, "a", "nobody there")
    engine.run(25)
    engine.attach("a", second.handle)
    engine.at(40, "a", "of the second life")
    engine.run()
    assert first.seen == [(10, "of the first life")]
    assert second.seen == [(40, "of the second life")]
    assert engine.dropped == 2


def test_an_unknown_name_is_a_bug() -> None:
    engine = Engine(1)
    engine.attach("known", Recorder().handle)
    with pytest.raises(UnknownTargetError, match="no target 'unknown'; attached so far: known"):
        engine.at(10, "unknown", None)


@pytest.mark.parametrize("checked", [False, True])
def test_a_crash_between_two_actions_leaves_the_rest_undone(checked: bool) -> None:
    engine = Engine(1, check=(lambda _now: None) if checked else None)
    done: list[str] = []

    def perform(action: str, _now: int) -> None:
        done.append(action)
        if action == "second":
            engine.crash("a")

    engine.attach("a", lambda _event, _now: ["first", "second", "third"], perform)
    engine.at(10, "a", None)
    engine.run()
    assert done == ["first", "second"]


def test_the_check_comes_after_every_event_and_its_actions() -> None:
    checked: list[tuple[int, int]] = []
    target = Recorder()
    engine = Engine(1, check=lambda now: checked.append((now, len(target.seen))))
    engine.attach("a", target.handle)
    engine.at(10, "a", 1)
    engine.at(20, "a", 2)
    engine.run()
    assert checked == [(10, 1), (20, 2)]


def gossip(seed: int, *, checked: bool) -> tuple[list[tuple[int, str, Any]], Engine]:
    """Ten targets that pass rumours on at random moments, two of which crash."""
    engine = Engine(seed, check=(lambda _now: None) if checked else None, record=checked)
    seen: list[tuple[int, str, Any]] = []

    def make(name: str) -> Any:
        rng = engine.stream(name)

        def handle(event: Any, now_ns: int) -> Iterator[Deliver]:
            seen.append((now_ns, name, event))
            for _ in range(rng.randrange(3)):
                yield Deliver(now_ns + rng.randrange(1, 100), f"t{rng.randrange(10)}", event)
            if rng.random() < 0.1 and name in ("t3", "t4"):
                engine.crash(name)

        return handle

    for number in range(10):
        engine.attach(f"t{number}", make(f"t{number}"))
    for number in range(10):
        engine.at(0, f"t{number}", number)
    engine.run(2000)
    return seen, engine


@pytest.mark.parametrize("seed", range(5))
def test_the_fast_loop_and_the_checking_loop_make_the_same_world(seed: int) -> None:
    fast, engine = gossip(seed, checked=False)
    slow, checked = gossip(seed, checked=True)
    assert fast == slow
    assert (engine.events, engine.dropped) == (checked.events, checked.dropped)
    assert len(fast) > 10


def test_the_digest_tells_worlds_apart() -> None:
    digests = [gossip(seed, checked=True)[1].digest() for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]
