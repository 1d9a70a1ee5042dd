"""What a member of a run does: one state, one event, the exact actions."""

from __future__ import annotations

from typing import Any

from conduct_world import Fate, World, order_for, seat

from ergates.experiment.conduct import CLOSE_WITHIN_NS, JOIN_WITHIN_NS, Conduct
from ergates.experiment.conduct_state import (
    Action,
    Began,
    Event,
    Exited,
    Finish,
    Heard,
    Hindered,
    KillProgram,
    NotStarted,
    Say,
    SendSignal,
    ShowedReady,
    Started,
    StartProgram,
    StopProgram,
    ToldToEnd,
    WakeAt,
    Woke,
    WriteDown,
    WroteDown,
)
from ergates.experiment.messages import Joined, MemberClosed, MemberFailed, Message, ProgramEnded, ProgramReady
from ergates.experiment.spec import Program, Ready, TimedSignal
from ergates.units import SECOND_NS, Nanoseconds

SERVE = Program(name="serve", role="server", command="s", background=True, ready=Ready(port="7000"))
ASK = Program(name="ask", role="client", command="c", order=1)
PAIR = order_for({"server": 1, "client": 1}, SERVE, ASK)


class One:
    """One member, spoken to step by step; time stands still unless it is moved."""

    def __init__(self, rank: int, order: Any = PAIR, time_limit_ns: int | None = None) -> None:
        limit = None if time_limit_ns is None else Nanoseconds(time_limit_ns)
        self.conduct, self.order, self.now_ns = Conduct(order, seat(order, rank), limit), order, 0

    def __call__(self, *events: Event) -> list[Action]:
        """What it does, but for its alarms."""
        return [
            action
            for event in events
            for action in self.conduct.handle(event, Nanoseconds(self.now_ns))
            if not isinstance(action, WakeAt)
        ]

    def at(self, now_ns: int, event: Event) -> list[Action]:
        self.now_ns = now_ns
        return self(event)

    def alarm(self) -> int | None:
        found = [
            each.at_ns for each in self.conduct.handle(Woke(), Nanoseconds(self.now_ns)) if isinstance(each, WakeAt)
        ]
        return found[-1] if found else None

    def hears(self, rank: int, message: Message) -> list[Action]:
        return self(Heard(rank=rank, message=message))

    def all_join(self) -> list[Action]:
        self(Began())
        size = sum(each.count for each in self.order.roles)
        return [action for rank in range(size) for action in self.hears(rank, Joined(seat(self.order, rank)))]


def seconds(count: int) -> Nanoseconds:
    return Nanoseconds(count * SECOND_NS)


def says(*messages: Message) -> list[Action]:
    return [Say(message=message) for message in messages]


def test_it_says_who_it_is_and_starts_nothing_before_all_are_there() -> None:
    server = One(0)
    assert server(Began()) == says(Joined(seat(PAIR, 0)))
    assert server.hears(0, Joined(seat(PAIR, 0))) == []
    assert server.hears(1, Joined(seat(PAIR, 1))) == [StartProgram(program="serve")]


def test_a_later_order_waits_until_the_others_are_ready() -> None:
    client = One(1)
    assert client.all_join() == []
    assert client.hears(0, ProgramReady("serve")) == [StartProgram(program="ask")]


def test_being_ready_is_said_once() -> None:
    server = One(0)
    server.all_join()
    assert server(Started(program="serve")) == []
    assert server(ShowedReady(program="serve")) == says(ProgramReady("serve"))
    assert server(ShowedReady(program="serve")) == []


def test_a_background_program_with_nothing_to_show_is_ready_when_it_runs() -> None:
    server = One(
        0, order_for({"server": 1, "client": 1}, Program(name="m", role="server", command="m", background=True), ASK)
    )
    server.all_join()
    assert server(Started(program="m")) == says(ProgramReady("m"))


def test_a_foreground_program_with_nothing_to_show_is_ready_when_it_has_ended_well() -> None:
    order = order_for({"server": 1, "client": 1}, Program(name="load", role="server", command="l"), ASK)
    client = One(1, order)
    client.all_join()
    assert client.hears(0, ProgramReady("load")) == [StartProgram(program="ask")], "should it ever say so"
    client = One(1, order)
    client.all_join()
    assert client.hears(0, ProgramEnded("load", True)) == [StartProgram(program="ask")]


def test_when_all_in_the_foreground_are_done_the_others_are_stopped_and_it_is_over() -> None:
    server = One(0)
    server.all_join()
    server(Started(program="serve"), ShowedReady(program="serve"))
    assert server.hears(1, ProgramEnded("ask", True)) == [StopProgram(program="serve")]
    assert server(Exited(program="serve", signal="TERM")) == [*says(ProgramEnded("serve", True)), WriteDown(problem="")]
    assert server(WroteDown()) == [*says(MemberClosed()), Finish(well=True)]
    assert server.conduct.verdict("serve") == (True, "")


def test_one_that_does_not_heed_its_signal_is_killed_after_its_grace() -> None:
    server = One(0)
    server.all_join()
    server(Started(program="serve"), ShowedReady(program="serve"))
    server.hears(1, ProgramEnded("ask", True))
    assert server.alarm() == 5 * SECOND_NS
    assert server.at(5 * SECOND_NS, Woke()) == [KillProgram(program="serve")]
    assert server.at(6 * SECOND_NS, Woke()) == [], "once"
    server(Exited(program="serve", signal="KILL"))
    assert server.conduct.verdict("serve") == (True, ""), "we ended it"


def test_one_that_is_not_ready_in_time_fails_the_run_with_the_reason() -> None:
    server = One(0)
    server.all_join()
    server(Started(program="serve"))
    assert server.alarm() == 30 * SECOND_NS
    why = "not ready within 30 s: nothing of its host listens on port 7000"
    found = server.at(30 * SECOND_NS, Woke())
    assert found == [*says(ProgramEnded("serve", False, why)), StopProgram(program="serve")]
    server(Exited(program="serve", signal="TERM"))
    assert server.conduct.verdict("serve") == (False, why), "how it ended then does not matter"


def test_what_a_program_says_it_waits_for_is_in_the_reason() -> None:
    for ready, words in (
        (
            Ready(line="up$", within_ns=Nanoseconds(SECOND_NS)),
            "not ready within 1 s: no line of its output matches 'up$'",
        ),
        (Ready(file="x.pid", within_ns=Nanoseconds(SECOND_NS)), "not ready within 1 s: x.pid does not exist"),
    ):
        order = order_for({"server": 1}, Program(name="p", role="server", command="p", ready=ready))
        lone = One(0, order)
        lone.all_join()
        lone(Started(program="p"))
        assert lone.at(SECOND_NS, Woke())[0] == Say(message=ProgramEnded("p", False, words))


def test_a_program_that_fails_names_itself_its_host_and_its_last_words() -> None:
    client, server = One(1), One(0)
    client.all_join()
    server.all_join()
    server(Started(program="serve"))
    client.hears(0, ProgramReady("serve"))
    client(Started(program="ask"))
    bad = ProgramEnded("ask", False, "exit code 3: no such table")
    assert client(Exited(program="ask", exit_code=3, last_words="no such table")) == [*says(bad), WriteDown(problem="")]
    assert client.conduct.verdict("ask") == (False, "exit code 3: no such table")
    assert server.hears(1, bad) == [StopProgram(program="serve")]
    server(Exited(program="serve", exit_code=0))
    assert server(WroteDown()) == says(MemberClosed()), "it waits for the others"
    server.hears(0, MemberClosed())
    why = "ask of client 0 on h1: exit code 3: no such table"
    assert server.hears(1, MemberClosed()) == [Finish(well=True, problem=why)]
    client.hears(1, bad)
    client(WroteDown())
    client.hears(0, MemberClosed())
    assert client.hears(1, MemberClosed()) == [Finish(well=False, problem=why)], "the one to blame ends badly"


def test_exit_codes_that_count_as_well() -> None:
    order = order_for({"s": 1}, Program(name="p", role="s", command="p", success=(0, 2)))
    for code, ok in ((0, True), (2, True), (1, False)):
        lone = One(0, order)
        lone.all_join()
        lone(Started(program="p"))
        assert lone(Exited(program="p", exit_code=code))[0] == Say(
            message=ProgramEnded("p", ok, "" if ok else "exit code 1")
        )


def test_a_background_program_that_ends_by_itself_has_failed_unless_its_exit_code_is_good() -> None:
    for code, ok in ((0, True), (7, False)):
        server = One(0)
        server.all_join()
        server(Started(program="serve"), ShowedReady(program="serve"))
        said = server(Exited(program="serve", exit_code=code))[0]
        assert said == Say(message=ProgramEnded("serve", ok, "" if ok else "exit code 7"))


def test_a_daemon_may_show_that_it_is_ready_after_its_starter_ended() -> None:
    order = order_for(
        {"s": 1},
        Program(name="d", role="s", command="d", ready=Ready(port="1")),
        Program(name="p", role="s", command="p", order=1),
    )
    lone = One(0, order)
    lone.all_join()
    lone(Started(program="d"), Exited(program="d", exit_code=0))
    assert lone.hears(0, ProgramEnded("d", True)) == []
    assert lone(ShowedReady(program="d")) == says(ProgramReady("d"))
    assert lone.hears(0, ProgramReady("d")) == [StartProgram(program="p")]


def test_start_and_stop_and_signals_come_at_their_time() -> None:
    usr1, hup = (TimedSignal(after_ns=seconds(n), signal=name) for n, name in ((3, "USR1"), (2, "HUP")))
    program = Program(name="p", role="s", command="p", start_ns=seconds(1), stop_ns=seconds(10), signals=(usr1, hup))
    lone = One(0, order_for({"s": 1}, program, settle_ns=Nanoseconds(SECOND_NS)))
    assert lone.all_join() == []
    assert lone.alarm() == 2 * SECOND_NS, "settled, and waited"
    assert lone.at(2 * SECOND_NS, Woke()) == [StartProgram(program="p")]
    lone(Started(program="p"))
    assert lone.alarm() == 4 * SECOND_NS
    assert lone.at(4 * SECOND_NS, Woke()) == [SendSignal(program="p", signal="HUP")]
    assert lone.at(5 * SECOND_NS, Woke()) == [SendSignal(program="p", signal="USR1")]
    assert lone.at(12 * SECOND_NS, Woke()) == [StopProgram(program="p")]
    assert lone(Exited(program="p", signal="TERM"))[0] == Say(message=ProgramEnded("p", True))


def test_the_time_limit_counts_from_the_moment_all_are_there_and_names_what_is_not_done() -> None:
    client = One(1, time_limit_ns=60 * SECOND_NS)
    client.now_ns = 5 * SECOND_NS
    client.all_join()
    assert client.alarm() == 65 * SECOND_NS
    why = "the run's time limit of 1 min 00 s is over; not done: ask of client 0 on h1"
    assert client.at(65 * SECOND_NS, Woke()) == [*says(MemberFailed(why, True)), WriteDown(problem=why)]
    client.hears(1, MemberFailed(why, True))
    client(WroteDown())
    client.hears(0, MemberClosed())
    assert client.hears(1, MemberClosed()) == [Finish(well=False, problem=why)]


def test_a_member_that_does_not_come_is_named() -> None:
    server = One(0)
    server(Began())
    server.hears(0, Joined(seat(PAIR, 0)))
    found = server.at(JOIN_WITHIN_NS, Woke())
    assert found[0] == Say(message=MemberFailed("not there within 2 min 00 s: client (rank 1)", True))


def test_one_that_is_told_to_end_stops_says_so_and_waits_for_nobody() -> None:
    server = One(0)
    server.all_join()
    server(Started(program="serve"), ShowedReady(program="serve"))
    assert server(ToldToEnd(problem="cancelled")) == [*says(MemberFailed("cancelled")), StopProgram(program="serve")]
    assert server(Exited(program="serve", signal="TERM"))[-1] == WriteDown(problem="cancelled")
    assert server(WroteDown())[-1] == Finish(well=False, problem="cancelled")


def test_a_member_that_cannot_do_its_part_is_named() -> None:
    client, server = One(1), One(0)
    assert client(Began(), Hindered(problem="cannot make its folder"))[1:] == [
        *says(MemberFailed("cannot make its folder")),
        WriteDown(problem="cannot make its folder"),
    ]
    server.all_join()
    server(Started(program="serve"))
    server.hears(1, MemberFailed("cannot make its folder"))
    server(Exited(program="serve", signal="TERM"), WroteDown())
    server.hears(0, MemberClosed())
    assert server.hears(1, MemberClosed()) == [Finish(well=True, problem="client 0 on h1: cannot make its folder")]


def test_a_program_that_cannot_be_started_fails_the_run() -> None:
    server = One(0)
    server.all_join()
    said = server(NotStarted(program="serve", problem="command not found: s"))
    assert said == [*says(ProgramEnded("serve", False, "command not found: s")), WriteDown(problem="")]


def test_files_that_cannot_be_kept_fail_a_run_that_went_well() -> None:
    server = One(0)
    server.all_join()
    server(Started(program="serve"), ShowedReady(program="serve"))
    server.hears(1, ProgramEnded("ask", True))
    server(Exited(program="serve", signal="TERM"))
    assert server(WroteDown(problem="the disk is full"))[-1] == Finish(
        well=False, problem="server 0 on h0: the disk is full"
    )


def test_who_waits_for_the_others_to_close_does_not_wait_for_ever() -> None:
    server = One(0)
    server.all_join()
    server(Started(program="serve"))
    server.hears(1, ProgramEnded("ask", False, "exit code 1"))
    server(Exited(program="serve", signal="TERM"), WroteDown())
    assert server.alarm() == CLOSE_WITHIN_NS
    assert server.at(CLOSE_WITHIN_NS, Woke()) == [Finish(well=False, problem="ask of client 0 on h1: exit code 1")]


def test_a_run_of_background_programs_alone_is_over_when_all_have_ended() -> None:
    program = Program(name="m", role="s", command="m", background=True, stop_ns=Nanoseconds(SECOND_NS))
    world = World(order_for({"s": 2}, program), {(rank, "m"): Fate(ends_ns=None) for rank in (0, 1)})
    world.run()
    assert [end.well for end in world.finished.values()] == [True, True]
