"""What the command line says, from facts alone: words, tables, task names, summary, job log."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.cli.joblog import HEADER, JobLog, joblog_line
from ergates.cli.summary import Ending, ShownFailure, last_lines, summary_lines
from ergates.cli.tables import Column, clean, table_lines
from ergates.cli.task_names import Selection, merged, parse_selection, show_ranges
from ergates.cli.wording import coarse_duration, core_hours, percent, rate, shortened, usd
from ergates.cluster.attempt import Attempt, Outcome, Output
from ergates.cluster.job import JobStatus
from ergates.cluster.task import JobId, Stdin, TaskId, TaskSpec
from ergates.errors import UsageError
from ergates.taskqueue.store import Done, Lease, PastFailures, Returned
from ergates.units import GIB, Nanoseconds


def job_status(**changes: object) -> JobStatus:
    facts: dict[str, object] = {
        "id": JobId("j3"),
        "key": "k",
        "name": "commands.txt",
        "phase": "finished",
        "submitted_ns": Nanoseconds(0),
        "finished_ns": None,
        "total": 10,
        "counts": {"done": 8, "failed": 2},
        "outcomes": {"succeeded": 8, "failed": 6},
        "wall_ns": 0,
        "cpu_ns": 7200 * 10**9,
        "wasted_cpu_ns": 720 * 10**9,
        "wasted_wall_ns": 0,
        "peak_bytes": GIB,
        "cost_usd_micros": None,
    }
    return JobStatus(**{**facts, **changes})  # type: ignore[arg-type]


def lease(task: int = 7, spec: TaskSpec | None = None) -> Lease:
    spec = spec or TaskSpec(command="echo 'a b'")
    return Lease(job=JobId("j3"), task=TaskId(task), fence=1, attempt=1, spec=spec, past=PastFailures())


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(2500, "2,500/s"), (82.4, "82.4/s"), (4.13, "4.1/s"), (0.2, "12.0/min"), (0.001, "3.6/h")],
)
def test_rates_are_in_the_unit_that_reads_best(per_second: float, text: str) -> None:
    assert rate(per_second) == text


def test_a_share_is_never_rounded_to_nothing_or_everything() -> None:
    assert percent(1, 5000) == "<1 %"
    assert percent(4999, 5000) == "99 %"
    assert percent(0, 5000) == "0 %"
    assert percent(5000, 5000) == "100 %"
    assert percent(1, 0) == "0 %"


def test_small_sums_of_money_keep_their_digits() -> None:
    assert [usd(n) for n in (12_340_000, 0, 4_200, 12)] == ["$12.34", "$0.00", "$0.0042", "$0.000012"]


def test_an_estimate_has_an_estimates_digits() -> None:
    seconds = [0.2, 7.6, 43, 58, 250, 7900, 40_000, 400_000]
    texts = ["1 s", "8 s", "45 s", "1 min", "4 min", "2 h 10 min", "11 h", "5 d"]
    assert [coarse_duration(round(s * 1e9)) for s in seconds] == texts


def test_core_hours_name_what_they_count() -> None:
    assert [core_hours(s * 10**9) for s in (7200, 90, 5)] == ["2 core hours", "1.5 core minutes", "5 core seconds"]


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_shortened_text_fits(text: str, width: int) -> None:
    assert len(shortened(text, width)) <= width


@pytest.mark.parametrize(
    ("words", "selection"),
    [
        ([], Selection(None)),
        (["7"], Selection(None, ((7, 7),))),
        (["1-100", "205", "50..120"], Selection(None, ((1, 120), (205, 205)))),
        (["j3"], Selection("j3")),
        (["j3/7", "j3/9-12,20"], Selection("j3", ((7, 7), (9, 12), (20, 20)))),
        (["7", "j3"], Selection("j3")),
        (["my/key/7"], Selection("my/key", ((7, 7),))),
    ],
)
def test_tasks_are_named_by_number_range_and_job(words: list[str], selection: Selection) -> None:
    assert parse_selection(words) == selection


@pytest.mark.parametrize("words", [["7x"], ["0"], ["9-3"], ["j3/x"], ["j3/1", "j4/1"], ["1-2-3"]])
def test_what_names_no_task_is_refused_with_what_was_expected(words: list[str]) -> None:
    with pytest.raises(UsageError, match=r"expected|once per job"):
        parse_selection(words)


@given(st.sets(st.integers(min_value=1, max_value=60)))
def test_ranges_hold_exactly_their_tasks(ids: set[int]) -> None:
    ranges = merged([(i, i) for i in ids])
    assert [i for a, b in ranges for i in range(a, b + 1)] == sorted(ids)
    assert all(b + 1 < a for (_, b), (a, _) in pairwise(ranges))
    if ids:
        assert parse_selection([show_ranges(sorted(ids))]) == Selection(None, ranges)


def test_a_table_fits_by_shortening_its_elastic_column() -> None:
    columns = [Column("job"), Column("name", elastic=True), Column("done", align="right")]
    rows = [["j1", "a-rather-long-name-of-a-job", "1,234"], ["j22", "short", "5"]]
    assert table_lines(columns, rows, width=30) == [
        "job  name                 done",
        "j1   a-rather-long-nam…  1,234",
        "j22  short                   5",
    ]
    assert table_lines(columns, rows)[1] == "j1   a-rather-long-name-of-a-job  1,234"


def test_empty_columns_are_left_out() -> None:
    assert table_lines([Column("a"), Column("b"), Column("c")], [["1", "", "2"]]) == ["a  c", "1  2"]


def test_text_from_outside_cannot_move_the_cursor() -> None:
    assert clean("a\x1b[2Jb\tc\udcff") == "a\\x1b[2Jb c\\udcff"
    assert "\x1b" not in "\n".join(table_lines([Column("a")], [["\x1b[31mred"]]))


def test_the_summary_says_what_was_done_lost_and_where_to_look() -> None:
    status = job_status(outcomes={"succeeded": 8, "failed": 6, "evicted": 3, "oom_killed": 1}, cost_usd_micros=420_000)
    failure = ShownFailure(task=4, reason="exit code 3", command="./sim 4", last_lines=("bad seed",))
    ending = Ending(
        elapsed_ns=724 * 10**9, together_bytes=3 * GIB, capacity_bytes=4 * GIB, confined=True, failures=(failure,)
    )
    assert summary_lines(status, ending) == [
        "j3 commands.txt: 8 done, 2 failed in 12 min 04 s",
        "  4 retried, 3 evicted for memory, 1 killed by the kernel for memory",
        "  2 core hours used, 10 % of it wasted on attempts that did not succeed",
        "  memory: largest task 1 GiB, all together at most 3 GiB of 4 GiB",
        "  cost $0.42",
        "  task 4 failed: exit code 3",
        "    ./sim 4",
        "    | bad seed",
        "  all of them: erg logs --failed j3   run them again: erg retry j3",
        "  results: erg export j3   output: erg logs j3",
    ]


def test_an_interrupted_run_says_exactly_how_to_go_on() -> None:
    status = job_status(phase="active", counts={"done": 4, "ready": 5, "leased": 1})
    ending = Ending(elapsed_ns=10**9, stopped="interrupted: what ran was let end", resume_command="erg run c.txt -j2")
    lines = summary_lines(status, ending)
    assert lines[0] == "j3 commands.txt: 4 done, 6 left in 1 s"
    assert lines[1] == "  interrupted: what ran was let end"
    assert "  6 tasks left; go on with: erg run c.txt -j2" in lines


def test_the_last_lines_of_standard_error_survive_binary() -> None:
    assert last_lines(b"one\n\ntwo\n\xff\xfe three\nfour\n") == ("two", "\ufffd\ufffd three", "four")
    assert last_lines(b"") == ()


def test_a_job_log_line_has_gnu_parallels_columns() -> None:
    attempt = Attempt(
        number=2,
        outcome=Outcome.FAILED,
        host="n1",
        started_ns=Nanoseconds(1_700_000_000_123_456_789),
        ended_ns=Nanoseconds(1_700_000_001_623_456_789),
        exit_code=3,
        output=Output(pack="p", stdout_bytes=10, stderr_bytes=2),
    )
    spec = TaskSpec(command="first\nsecond", stdin=Stdin(data=b"abcde"))
    fields = joblog_line(lease(spec=spec), attempt).rstrip("\n").split("\t")
    assert len(fields) == len(HEADER.split("\t")) == 9
    assert fields == ["7", "n1", "1700000000.123", "     1.500", "5", "12", "3", "0", "first\0second"]


def test_a_signal_and_a_start_that_failed_show_in_the_job_log() -> None:
    killed = Attempt(number=1, outcome=Outcome.SIGNALLED, signal=9)
    missing = Attempt(number=1, outcome=Outcome.NOT_STARTED)
    assert joblog_line(lease(), killed).split("\t")[6:8] == ["0", "9"]
    assert joblog_line(lease(), missing).split("\t")[6:8] == ["-1", "0"]


def test_a_resumed_job_log_is_continued_and_returned_attempts_are_not_in_it(tmp_path: object) -> None:
    path = f"{tmp_path}/log"
    attempt = Attempt(number=1, outcome=Outcome.SUCCEEDED, exit_code=0)
    for task, resumed in ((1, False), (2, True)):
        log = JobLog(path, resumed=resumed)
        log.attempt_ended(lease(task), attempt, Returned(past=PastFailures()), None)
        log.attempt_ended(lease(task), attempt, Done(), None)
        log.close()
    with open(path) as file:
        assert [line.split("\t")[0] for line in file] == ["Seq", "1", "2"]
