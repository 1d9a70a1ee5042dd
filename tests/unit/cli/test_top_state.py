"""What `erg top` makes of looks at the counters: rates, estimates, order, filter, the plain frame and the record."""

from __future__ import annotations

from ergates.cli.top_lines import bar, facts, job_cells, plain_lines, sparkline, worker_cells
from ergates.cli.top_state import Frame, HeldLook, Look, Order, TopState, of_interest
from ergates.cluster.job import JobStatus
from ergates.cluster.node import NodeCapacity, WorkerInfo, WorkerLoad, WorkerOrders, WorkerStatus
from ergates.cluster.task import JobId
from ergates.units import GIB, SECOND_NS, Bytes, MilliCpus, Nanoseconds

BEGIN = 1_700_000_000 * SECOND_NS


def job(number: int, name: str = "n", total: int = 100, **counts: int) -> JobStatus:
    done = counts.get("done", 0)
    settled = done + counts.get("failed", 0) + counts.get("cancelled", 0)
    return JobStatus(
        id=JobId(f"j{number}"), key="k", name=name, phase="active", submitted_ns=Nanoseconds(BEGIN),
        finished_ns=Nanoseconds(BEGIN) if settled == total else None, total=total, counts=counts,
        outcomes={"succeeded": done}, wall_ns=done * 4 * SECOND_NS, cpu_ns=0, wasted_cpu_ns=0, wasted_wall_ns=0,
        peak_bytes=0, cost_usd_micros=None,
    )  # fmt: skip


def worker(number: int, **fields: object) -> WorkerStatus:
    capacity = NodeCapacity(cpus_milli=MilliCpus(4000), memory_bytes=Bytes(8 * GIB))
    values: dict[str, object] = {
        "info": WorkerInfo(id=f"w{number}", host=f"node{number}", capacity=capacity), "standing": "live",
        "beat_age_ns": Nanoseconds(SECOND_NS), "leases": 2, "orders": WorkerOrders(),
        "load": WorkerLoad(running=2, cpus_milli_held=MilliCpus(2000), used_bytes=Bytes(4 * GIB), ended=9, failed=1),
    }  # fmt: skip
    return WorkerStatus(**(values | fields))  # type: ignore[arg-type]


def look(after_s: float, *jobs: tuple[JobStatus, str], held: tuple[HeldLook, ...] = ()) -> Look:
    at_ns = BEGIN + round(after_s * SECOND_NS)
    return Look(at_ns=at_ns, store="here", jobs=jobs, workers=(worker(1),), held=held)


def frame(state: TopState, **asked: object) -> Frame:
    found = state.frame(**asked)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_nothing_is_shown_before_the_first_look() -> None:
    assert TopState().frame() is None


def test_the_rate_is_first_that_since_submission_then_that_of_late() -> None:
    state = TopState()
    state.observe(look(100, (job(1, done=50, leased=10), "running")))
    assert frame(state).jobs[0].rate_per_s == 0.5
    assert frame(state).rate_per_s is None
    for second in range(1, 11):
        state.observe(look(100 + second, (job(1, done=50 + 2 * second, leased=10), "running")))
    shown = frame(state)
    assert shown.jobs[0].rate_per_s == 2.0
    assert shown.rate_per_s == 2.0
    assert shown.bars == (2.0, 2.0)
    eta = shown.jobs[0].eta
    assert eta is not None and eta.low_ns < eta.likely_ns < eta.high_ns
    assert "10 s" in eta.basis


def test_a_retry_is_no_negative_work_and_a_new_job_no_burst() -> None:
    state = TopState()
    state.observe(look(0, (job(1, total=9, failed=9), "failed")))
    state.observe(look(5, (job(2, done=70), "running"), (job(1, total=9, ready=9), "running")))
    state.observe(look(10, (job(2, done=75), "running"), (job(1, total=9, ready=4, done=5), "running")))
    assert frame(state).bars == (0.0, 2.0)


def test_an_estimate_is_given_only_of_what_runs() -> None:
    state = TopState()
    phases = ("running", "paused", "stopped", "open", "done")
    state.observe(look(100, *((job(n, done=50, leased=5), phase) for n, phase in enumerate(phases, 1))))
    assert [row.phase for row in frame(state).jobs if row.eta is not None] == ["running"]


def test_orders_and_filter_and_finished_jobs_last() -> None:
    state = TopState()
    state.observe(
        look(
            10,
            (job(4, "done one", done=100), "done"),
            (job(3, "beta", done=10), "running"),
            (job(2, "alpha", done=90), "running"),
            (job(1, "gamma", done=50), "paused"),
        )
    )

    def ids(order: Order = "newest", **asked: object) -> list[str]:
        return [row.id for row in frame(state, order=order, **asked).jobs]

    assert ids() == ["j3", "j2", "j1", "j4"]
    assert ids("name") == ["j2", "j3", "j1", "j4"]
    assert ids("left") == ["j3", "j1", "j2", "j4"]
    assert ids("rate") == ["j2", "j1", "j3", "j4"]
    assert ids(finished=False) == ["j3", "j2", "j1"]
    assert ids(text="ALPH") == ["j2"]
    assert frame(state, text="paus").hidden == 3
    assert frame(state, text="node2").workers == ()


def test_for_how_long_a_task_is_out() -> None:
    known = HeldLook(job="j1", task=1, fence=1, worker="w1", host="node1", command="a", since_ns=BEGIN)
    unknown = HeldLook(job="j1", task=2, fence=2, worker="w1", host="node1", command="b", since_ns=None)
    state = TopState()
    state.observe(look(60, (job(1, leased=2), "running"), held=(known, unknown)))
    first, second = frame(state).tasks
    assert (first.for_ns, first.at_least) == (60 * SECOND_NS, False)
    assert second.for_ns is None
    state.observe(look(90, (job(1, leased=2), "running"), held=(known, unknown)))
    second = frame(state).tasks[1]
    assert (second.for_ns, second.at_least) == (30 * SECOND_NS, True)


def test_workers_that_left_long_ago_are_of_no_interest() -> None:
    minute = Nanoseconds(60 * SECOND_NS)
    gone = worker(2, standing="left", leases=0, beat_age_ns=Nanoseconds(61 * SECOND_NS))
    dead = worker(3, standing="condemned", beat_age_ns=Nanoseconds(10**15))
    lately = worker(4, standing="left", leases=0)
    assert of_interest([worker(1), gone, dead, lately], minute) == (worker(1), dead, lately)


def test_bars_and_sparklines() -> None:
    assert bar(1, 2, 4) == "██  "
    assert bar(1, 16, 4) == "▎   "
    assert bar(5, 2, 2) == "██" and bar(0, 0, 2) == "  "
    assert sparkline((0, 1, 4, 8), 3) == "▂▅█"
    assert sparkline((0, 0), 9) == "▁▁"
    assert sparkline((), 9) == ""


def test_a_worker_says_why_it_starts_nothing() -> None:
    assert worker_cells(worker(1))[3:] == ("2", "███    2/4", "███    4 GiB (50 %)", "9 (1 failed)", "")
    silent = worker(1, standing="silent", beat_age_ns=Nanoseconds(40 * SECOND_NS), load=WorkerLoad(note="disk full"))
    assert worker_cells(silent)[7] == "no beat for 40 s; disk full"
    assert worker_cells(worker(1, orders=WorkerOrders(drain=True)))[7] == "draining"
    assert worker_cells(worker(1, load=WorkerLoad()))[3:6] == ("2", "4", "8 GiB")  # unknown is not zero


def test_the_plain_frame_fits_and_the_record_has_units() -> None:
    state = TopState()
    held = HeldLook(job="j1", task=1, fence=1, worker="w1", host="node1", command="x" * 300, since_ns=BEGIN)
    state.observe(look(100, (job(1, "n" * 80, done=50, failed=1, leased=2), "running"), held=(held,)))
    lines = plain_lines(frame(state), 110)
    assert all(len(line) <= 110 for line in lines)
    assert "51 of 100 tasks settled" in lines[0]
    assert any("1 min 40 s" in line for line in lines)
    record = facts(frame(state))
    assert record["jobs"][0]["left"]["likely_s"] > 0  # type: ignore[index]
    assert record["tasks"][0]["for_s"] == 100.0  # type: ignore[index]
    assert record["rate_per_s"] is None
    assert "(" in job_cells(frame(state).jobs[0])[-1]
    empty = TopState()
    empty.observe(Look(at_ns=1, store="s", jobs=(), workers=(), held=()))
    assert plain_lines(frame(empty), 80)[2:] == ["no jobs", "", "no workers", "", "nothing runs"]
