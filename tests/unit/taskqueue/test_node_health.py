"""Sick nodes are told apart from poison tasks."""

from __future__ import annotations

from ergates.cluster.attempt import Outcome
from ergates.taskqueue.node_health import HealthSettings, NodeHealth
from ergates.units import SECOND_NS, Nanoseconds

QUICK = SECOND_NS // 10


class Node:
    """A node on which attempts end, a second after each other."""

    def __init__(self, others: tuple[int, int] = (100, 2)) -> None:
        self.health = NodeHealth(HealthSettings())
        self.now_ns = 10**18
        self._others = others

    def ended(self, outcome: Outcome, shape: str, wall_ns: int = QUICK) -> str:
        self.now_ns += SECOND_NS
        ended, failed = self._others
        return self.health.ended(
            outcome, shape, wall_ns, Nanoseconds(self.now_ns), others_ended=ended, others_failed=failed
        )

    def breaks(self) -> None:
        for number in range(5):
            self.ended(Outcome.NOT_STARTED, f"command{number}")
        assert self.health.condition == "resting"

    def rests(self) -> int:
        """Until the rest is over; returns how long it was, in seconds."""
        at_ns = self.health.next_look_ns()
        assert at_ns is not None
        rested_ns, self.now_ns = at_ns - self.now_ns, at_ns
        assert self.health.look(Nanoseconds(at_ns - 1)) == "resting"
        assert self.health.look(Nanoseconds(at_ns)) == "trying"
        return rested_ns // SECOND_NS


def test_several_commands_that_cannot_run_here_make_a_node_sick() -> None:
    node = Node(others=(0, 0))
    for number in range(4):
        assert node.ended(Outcome.NOT_STARTED, f"command{number}") == "well"
    assert node.ended(Outcome.LOST, "command9") == "resting"
    assert "5 attempts in a row, of 5 different commands, could not run here" in node.health.reason


def test_one_command_that_cannot_run_is_its_own_fault() -> None:
    node = Node()
    assert {node.ended(Outcome.NOT_STARTED, "tpyo") for _ in range(50)} == {"well"}


def test_a_success_in_between_says_the_node_can_run_things() -> None:
    node = Node()
    for number in range(50):
        outcome = Outcome.SUCCEEDED if number % 4 == 3 else Outcome.NOT_STARTED
        assert node.ended(outcome, f"command{number}") == "well"


def test_what_fails_quickly_here_and_seldom_elsewhere() -> None:
    node = Node(others=(1000, 20))
    said = [node.ended(Outcome.FAILED, f"command{number % 4}") for number in range(20)]
    assert said == ["well"] * 19 + ["resting"]
    assert "20 of 20 attempts failed at once here, 2% on other nodes" in node.health.reason


def test_what_fails_everywhere_is_no_fault_of_the_node() -> None:
    for others in ((1000, 900), (3, 0)):
        node = Node(others)
        assert {node.ended(Outcome.FAILED, f"command{number % 4}") for number in range(50)} == {"well"}


def test_failures_after_a_long_run_and_ends_that_we_caused_say_nothing() -> None:
    node = Node()
    for number in range(50):
        assert node.ended(Outcome.FAILED, f"command{number}", wall_ns=60 * SECOND_NS) == "well"
    for outcome in (Outcome.RETURNED, Outcome.CANCELLED, Outcome.DISK_FULL, Outcome.EVICTED, Outcome.OOM_KILLED):
        for number in range(30):
            assert node.ended(outcome, f"command{number}") == "well"


def test_a_trial_that_succeeds_ends_the_rest() -> None:
    node = Node()
    node.breaks()
    assert node.rests() == 60
    assert node.ended(Outcome.SUCCEEDED, "command1") == "well"
    assert (node.health.reason, node.health.next_look_ns()) == ("", None)


def test_a_trial_that_fails_doubles_the_rest_up_to_half_an_hour() -> None:
    node = Node()
    node.breaks()
    rests = []
    for _ in range(8):
        rests.append(node.rests())
        assert node.ended(Outcome.NOT_STARTED, "command1") == "resting"
    assert rests == [60, 120, 240, 480, 960, 1800, 1800, 1800]


def test_what_still_ran_when_the_rest_began_says_nothing_of_the_trial() -> None:
    node = Node()
    node.breaks()
    assert node.ended(Outcome.NOT_STARTED, "command7") == "resting"
    assert node.rests() < 60
