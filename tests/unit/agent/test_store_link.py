"""Questions to a far store: asked from a thread, answered in the loop's own."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from typing import NoReturn

import pytest

from ergates.agent.store_link import FarStore, NearStore
from ergates.drivers.alarm import Alarm
from ergates.errors import StoreError, StoreUnavailableError


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    alarm = Alarm()
    yield alarm
    alarm.close()


@pytest.fixture
def far(alarm: Alarm) -> Iterator[FarStore]:
    far = FarStore(alarm)
    yield far
    assert far.close(30.0)


def no(error: StoreError) -> NoReturn:
    raise AssertionError(error)


def test_a_near_store_answers_at_once() -> None:
    heard: list[int] = []
    NearStore().ask(lambda: 7, heard.append, no)
    assert heard == [7]


def test_a_far_store_rings_and_the_loop_takes_the_answer(far: FarStore, alarm: Alarm) -> None:
    heard: list[str] = []
    far.ask(lambda: threading.current_thread().name, heard.append, no)
    assert select.select([alarm], [], [], 30.0)[0]
    assert heard == [], "not before the loop asks for it"
    far.deliver()
    far.deliver()
    assert heard == ["ergates-store"]
    assert not far.busy


def test_an_open_question_holds_nothing_up(far: FarStore, alarm: Alarm) -> None:
    let_go = threading.Event()
    heard: list[bool] = []
    far.ask(lambda: let_go.wait(30.0), heard.append, no)
    for _ in range(3):
        far.deliver()
        assert far.busy and not heard
    let_go.set()
    assert select.select([alarm], [], [], 30.0)[0]
    far.deliver()
    assert heard == [True]


def test_what_the_store_cannot_do_is_told_and_a_bug_is_raised(far: FarStore, alarm: Alarm) -> None:
    def away() -> NoReturn:
        raise StoreUnavailableError("away")

    def bug() -> NoReturn:
        raise ZeroDivisionError

    told: list[StoreError] = []
    far.ask(away, no, told.append)
    assert select.select([alarm], [], [], 30.0)[0]
    far.deliver()
    assert [str(error) for error in told] == ["away"]
    alarm.clear()
    far.ask(bug, no, told.append)
    assert select.select([alarm], [], [], 30.0)[0]
    with pytest.raises(ZeroDivisionError):
        far.deliver()
    assert not far.busy


def test_who_closes_does_not_wait_for_ever(alarm: Alarm) -> None:
    far = FarStore(alarm)
    let_go = threading.Event()
    far.ask(lambda: let_go.wait(30.0), lambda _: None, no)
    assert not far.close(0.01)
    let_go.set()
    assert far.close(30.0)
