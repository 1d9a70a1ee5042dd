"""The screen of `erg top`, driven by keys as a person would, over a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("textual")

from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static

from ergates.cli.top_screen import Confirm, TopScreen
from ergates.cli.top_source import TopSource
from ergates.clock import SystemClock
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.node import NodeCapacity, WorkerInfo, WorkerOrders
from ergates.cluster.task import JobId, TaskSpec
from ergates.cluster.usage import Usage
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.errors import StoreUnavailableError
from ergates.taskqueue.store import Commit, Done, Want
from ergates.units import GIB, SECOND_NS, Bytes, MilliCpus, Nanoseconds

Script = Callable[[TopScreen, Pilot[None]], Coroutine[Any, Any, None]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """Two jobs: j1 with 3 of 10 done and 2 out, j2 waiting."""
    opened = SqliteStore(tmp_path / "e.db")
    now = Nanoseconds(SystemClock().now_ns() - 60 * SECOND_NS)
    capacity = NodeCapacity(cpus_milli=MilliCpus(4000), memory_bytes=Bytes(8 * GIB))
    opened.submit(JobSpec(key="a", name="cachesim"), [TaskSpec(command=f"./cachesim {n}") for n in range(10)], now)
    opened.submit(JobSpec(key="b", name="train"), [TaskSpec(command="train")] * 4, now)
    opened.register(WorkerInfo(id="worker-1", host="alpha", capacity=capacity), now)
    (offer, _) = opened.exchange("worker-1", [], [], now).offers
    want = Want(job=JobId("j1"), class_id=offer.class_id, priority=0, count=5)
    leases = opened.exchange("worker-1", [], [want], now).leases
    usage = Usage(wall_ns=Nanoseconds(10 * SECOND_NS))
    commits = [
        Commit(
            job=lease.job,
            task=lease.task,
            fence=lease.fence,
            attempt=Attempt(number=1, outcome=Outcome.SUCCEEDED, usage=usage),
            verdict=Done(),
        )
        for lease in leases[:3]
    ]
    opened.exchange("worker-1", commits, [], SystemClock().now_ns())
    yield opened
    opened.close()


def drive(source: TopSource, script: Script, size: tuple[int, int] = (120, 40)) -> None:
    """Run the screen without a terminal; it looks only when the script says so, never by time."""

    async def play() -> None:
        app = TopScreen(source, interval_s=3600)
        async with app.run_test(size=size) as pilot:
            await app.look()
            await pilot.pause()
            await script(app, pilot)

    asyncio.run(play())


def cells(app: TopScreen, name: str) -> list[list[str]]:
    table = app.query_one(f"#{name}", DataTable)
    return [[cell.plain.strip() for cell in table.get_row(row.key)] for row in table.ordered_rows]


def text_of(app: TopScreen, name: str) -> str:
    return str(app.query_one(f"#{name}", Static).content)


async def until(app: TopScreen, pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Wait for what was begun: every turn lets the screen's own tasks go on."""
    while not true():
        await app.workers.wait_for_complete([worker for worker in app.workers if "perform" in worker.name])
        await pilot.pause()


def test_jobs_workers_and_the_longest_tasks_are_shown(store: SqliteStore, tmp_path: Path) -> None:
    async def script(app: TopScreen, pilot: Pilot[None]) -> None:
        jobs = cells(app, "jobs")
        assert [row[:3] for row in jobs] == [["j2", "train", "stopped"], ["j1", "cachesim", "stopped"]]
        assert jobs[1][4:8] == ["3", "10", "", "2"]
        assert cells(app, "workers")[0][1:3] == ["alpha", "live"]
        tasks = cells(app, "tasks")
        assert [row[0] for row in tasks] == ["j1/4", "j1/5"]
        assert tasks[0][2].startswith("1 min 0") and tasks[0][3] == "./cachesim 3"
        assert "3 of 14 tasks settled" in text_of(app, "head")

    drive(TopSource(store, tmp_path, "here"), script)


def test_keys_pause_resume_and_cancel_after_asking(store: SqliteStore, tmp_path: Path) -> None:
    async def script(app: TopScreen, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await until(app, pilot, lambda: store.status(JobId("j2")).phase == "paused")
        await until(app, pilot, lambda: cells(app, "jobs")[0][2] == "paused")
        assert "j2: paused" in text_of(app, "note")
        await pilot.press("r")
        await until(app, pilot, lambda: store.status(JobId("j2")).phase == "active")
        await pilot.press("c")
        assert isinstance(app.screen, Confirm)
        await pilot.press("n")
        assert store.status(JobId("j2")).phase == "active"
        await pilot.press("c", "y")
        await until(app, pilot, lambda: store.status(JobId("j2")).phase == "cancelled")
        await until(app, pilot, lambda: ["j2", "train", "cancelled"] in [row[:3] for row in cells(app, "jobs")])
        assert [row[0] for row in cells(app, "jobs")] == ["j1", "j2"]  # what is finished comes last
        app.query_one("#tasks", DataTable).focus()
        await pilot.press("down", "c")
        assert "j1/5" in str(app.screen.query_one("#question", Static).content)
        await pilot.press("y")
        await until(app, pilot, lambda: "j1/5: cancelled" in text_of(app, "note"))

    drive(TopSource(store, tmp_path, "here"), script)


def test_filter_sort_and_hiding_finished_jobs(store: SqliteStore, tmp_path: Path) -> None:
    store.set_phase(JobId("j2"), "cancelled", SystemClock().now_ns())

    async def script(app: TopScreen, pilot: Pilot[None]) -> None:
        await pilot.press("f")
        assert [row[0] for row in cells(app, "jobs")] == ["j1"]
        assert "1 jobs not shown" in text_of(app, "head")
        await pilot.press("f", "slash", *"train")
        assert [row[0] for row in cells(app, "jobs")] == ["j2"]
        assert cells(app, "tasks") == []
        await pilot.press("enter")
        assert not app.query_one("#filter", Input).has_class("shown")
        await pilot.press("escape", "s")
        assert "sorted by name" in text_of(app, "head")
        assert len(cells(app, "jobs")) == 2

    drive(TopSource(store, tmp_path, "here"), script)


def test_the_cursor_stays_on_its_job(store: SqliteStore, tmp_path: Path) -> None:
    async def script(app: TopScreen, pilot: Pilot[None]) -> None:
        await pilot.press("down")
        store.submit(JobSpec(key="c", name="new"), [TaskSpec(command="x")], SystemClock().now_ns())
        await app.look()
        assert [row[0] for row in cells(app, "jobs")] == ["j3", "j2", "j1"]
        await pilot.press("p")
        await until(app, pilot, lambda: store.status(JobId("j1")).phase == "paused")

    drive(TopSource(store, tmp_path, "here"), script)


class Cluster(SqliteStore):
    """As a cluster's store: it takes orders, and sometimes it is away."""

    away = False
    orders: list[tuple[str, WorkerOrders]]

    def order(self, worker: str, orders: WorkerOrders) -> WorkerOrders:
        self.orders = [(worker, orders)]
        return orders

    def jobs(self) -> tuple[Any, ...]:
        if self.away:
            raise StoreUnavailableError("redis://far: cannot be reached\n  hint: is it up?")
        return super().jobs()


def test_a_worker_is_drained_and_a_server_that_is_away_is_said(store: SqliteStore, tmp_path: Path) -> None:
    cluster = Cluster(store.path)

    async def script(app: TopScreen, pilot: Pilot[None]) -> None:
        app.query_one("#workers", DataTable).focus()
        await pilot.press("d", "y")
        await until(app, pilot, lambda: "drains" in text_of(app, "note"))
        assert cluster.orders == [("worker-1", WorkerOrders(drain=True))]
        cluster.away = True
        await app.look()
        assert "cannot be reached; trying again" in text_of(app, "note")
        assert len(cells(app, "jobs")) == 2
        cluster.away = False
        await app.look()
        assert text_of(app, "note") == ""

    drive(TopSource(cluster, tmp_path, "far"), script)
    cluster.close()


def test_a_worker_of_this_machine_is_not_drained_from_here(store: SqliteStore, tmp_path: Path) -> None:
    async def script(app: TopScreen, pilot: Pilot[None]) -> None:
        await pilot.press("d")
        assert "Ctrl-C" in text_of(app, "note")

    drive(TopSource(store, tmp_path, "here"), script)


@pytest.mark.parametrize("before", [(), ("c",), ("slash", "x")])
def test_ctrl_c_ends_it_whatever_is_open(store: SqliteStore, tmp_path: Path, before: tuple[str, ...]) -> None:
    async def script(app: TopScreen, pilot: Pilot[None]) -> None:
        await pilot.press(*before, "ctrl+c")
        assert app.return_code == 0

    drive(TopSource(store, tmp_path, "here"), script)
