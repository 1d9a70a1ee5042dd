"""The embedded store among other processes, on a full disk, under SIGKILL, and on files that are not its own."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.drivers.stores.sqlite_connection import Journal
from ergates.drivers.stores.sqlite_schema import SCHEMA_VERSION
from ergates.errors import StoreError, StoreFullError
from ergates.taskqueue.store import Commit, Done, Lease, Returned, Want
from ergates.units import Bytes, MilliCpus, Nanoseconds

NOW = Nanoseconds(1_700_000_000 * 10**9)
BIG_REASON = "x" * 20_000

HAMMER = """
import sys
from ergates.clock import SystemClock
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.taskqueue.store import Commit, Done, Returned, Want

path, journal, worker, batch = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
store, clock = SqliteStore(path, journal=journal), SystemClock()
store.register(WorkerInfo(id=worker, host="h", capacity=NodeCapacity(cpus_milli=1000, memory_bytes=1)), clock.now_ns())
commits, offers = [], store.exchange(worker, [], [], clock.now_ns()).offers
print("ready", flush=True)
while True:
    wants = [Want(job=o.job, class_id=o.class_id, priority=o.priority, count=batch) for o in offers[:1]]
    answer = store.exchange(worker, commits, wants, clock.now_ns())
    assert not answer.refused and not answer.stale
    for commit in commits:
        print(commit.task, flush=True)
    offers, commits = answer.offers, []
    for lease in answer.leases:
        made = Attempt(number=lease.attempt, outcome=Outcome.SUCCEEDED, worker=worker, host="h")
        verdict = Done()
        if lease.attempt == 1 and lease.task % 3 == 0:
            made = Attempt(number=1, outcome=Outcome.EVICTED, worker=worker, host="h")
            verdict = Returned(past=lease.past)
        commits.append(Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=made, verdict=verdict))
    if not answer.leases and not answer.open_tasks:
        break
store.leave(worker, clock.now_ns())
"""


def lines(count: int) -> list[TaskSpec]:
    return [TaskSpec(command=f"c{number}") for number in range(count)]


def register(store: SqliteStore, worker: str = "w") -> None:
    capacity = NodeCapacity(cpus_milli=MilliCpus(1000), memory_bytes=Bytes(1))
    store.register(WorkerInfo(id=worker, host="h", capacity=capacity), NOW)


def take(store: SqliteStore, count: int, worker: str = "w") -> tuple[Lease, ...]:
    offer = store.exchange(worker, [], [], NOW).offers[0]
    want = Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=count)
    return store.exchange(worker, [], [want], NOW).leases


def done(lease: Lease, reason: str = "") -> Commit:
    made = Attempt(number=lease.attempt, outcome=Outcome.SUCCEEDED, reason=reason)
    return Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=made, verdict=Done())


def start_hammer(path: Path, journal: str, worker: str, batch: int = 3) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HAMMER, str(path), journal, worker, str(batch)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        process.communicate()
        pytest.fail(f"the worker did not start: {process.returncode}")
    return process


def check_laws(path: Path, journal: Journal) -> None:
    """The file is whole, no task succeeded twice, and every counter equals a recount."""
    store = SqliteStore(path, journal=journal)
    assert store.connection().raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    status = store.status(store.jobs()[0].id)
    views = list(store.tasks(status.id))
    assert len(views) == status.total
    for state, count in status.counts.items():
        assert count == sum(view.state == state for view in views), state
    ledger = [(task, made.outcome) for _, task, made in store.attempts(status.id)]
    assert {task for task, outcome in ledger if outcome == Outcome.SUCCEEDED} == {
        view.task for view in views if view.state == TaskState.DONE
    }
    assert len({row for row in ledger if row[1] == Outcome.SUCCEEDED}) == status.counts["done"]
    assert len(ledger) == sum(status.outcomes.values())
    waiting = store.connection().raw.execute("SELECT sum(waiting) FROM lanes").fetchone()[0]
    assert waiting == status.counts["ready"]
    held = store.connection().raw.execute("SELECT count(*) FROM leases").fetchone()[0]
    assert held == status.counts["leased"]
    store.close()


# --- several processes ------------------------------------------------------------------------------


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_two_processes_share_a_store(tmp_path: Path, journal: Journal) -> None:
    path = tmp_path / "e.db"
    store = SqliteStore(path, journal=journal)
    job = store.submit(JobSpec(key="k"), lines(120), NOW).id
    workers = [start_hammer(path, journal, name) for name in ("a", "b")]
    for worker in workers:
        worker.communicate(timeout=60)
        assert worker.returncode == 0
    status = store.status(job)
    assert status.phase == "finished"
    assert status.outcomes == {"succeeded": 120, "evicted": 40}
    assert {made.worker for _, _, made in store.attempts(job)} <= {"a", "b"}
    store.close()
    check_laws(path, journal)


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_many_open_a_new_store_at_once(tmp_path: Path, journal: Journal) -> None:
    """Threads have a connection each, so to the file they are like processes."""
    path = tmp_path / "e.db"
    barrier = threading.Barrier(8)
    stores: list[SqliteStore] = []
    errors: list[BaseException] = []

    def open_one() -> None:
        barrier.wait()
        try:
            stores.append(SqliteStore(path, journal=journal))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert stores[0].submit(JobSpec(key="k"), lines(1), NOW).id == "j1"
    assert stores[7].jobs()[0].id == "j1"
    for store in stores:
        store.close()


def test_threads_use_one_store_object(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "e.db")
    job = store.submit(JobSpec(key="k"), lines(200), NOW).id
    errors: list[BaseException] = []

    def work(worker: str) -> None:
        try:
            register(store, worker)
            while store.exchange(worker, [], [], NOW).offers:
                store.exchange(worker, [done(lease) for lease in take(store, 5, worker)], [], NOW)
        except IndexError:
            return  # the other thread took the last offer between two calls
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.status(job).counts["done"] == 200
    store.close()
    check_laws(tmp_path / "e.db", "wal")


# --- killed -----------------------------------------------------------------------------------------


def kill_at_random_moments(path: Path, journal: Journal, kills: int, tasks: int, seed: int) -> None:
    rng = random.Random(f"{seed}/kills")
    store = SqliteStore(path, journal=journal)
    job = store.submit(JobSpec(key="k"), lines(tasks), NOW).id
    store.close()
    for kill in range(kills):
        worker = start_hammer(path, journal, f"w{kill}", batch=rng.choice([1, 10, 100]))
        assert worker.stdout is not None
        confirmed = [int(line) for line in islice(worker.stdout, rng.randrange(1, 200))]
        worker.kill()
        worker.communicate()
        check_laws(path, journal)
        store = SqliteStore(path, journal=journal)
        kept = {int(task) for _, task, _ in store.attempts(job, ids=[(task, task) for task in confirmed])}
        store.close()
        assert set(confirmed) <= kept, f"seed {seed}, kill {kill}: a commit that was confirmed is gone"
    finish_everything(path, journal)


def finish_everything(path: Path, journal: Journal) -> None:
    """What the dead held comes back, and every task is done in the end."""
    store = SqliteStore(path, journal=journal)
    later = Nanoseconds(store.connection().raw.execute("SELECT now_ns FROM store").fetchone()[0] + 3600 * 10**9)
    register(store)
    store.exchange("w", [], [], later)
    lost = [
        Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=None, verdict=Returned(past=lease.past))
        for lease in store.expired(later)
    ]
    answer = store.exchange("w", lost, [], later)
    assert answer.refused == ()
    while answer.offers:
        answer = store.exchange("w", [done(lease) for lease in take(store, 500)], [], later)
    status = store.jobs()[0]
    assert status.counts["done"] == status.total
    store.close()
    check_laws(path, journal)


@pytest.mark.system
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_sigkill_at_random_moments(tmp_path: Path, journal: Journal) -> None:
    kill_at_random_moments(tmp_path / "e.db", journal, kills=10, tasks=20_000, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_sigkill_at_very_many_random_moments(tmp_path: Path) -> None:
    kill_at_random_moments(tmp_path / "e.db", "wal", kills=500, tasks=200_000, seed=2)


def test_a_killed_submission_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    program = """
import sys
from ergates.cluster.job import JobSpec
from ergates.cluster.task import TaskSpec
from ergates.drivers.stores.sqlite import SqliteStore

def tasks():
    for number in range(10**9):
        if number == 50_000:
            print("half way", flush=True)
            sys.stdin.read()
        yield TaskSpec(command="c" * 100)

SqliteStore(sys.argv[1]).submit(JobSpec(key="k"), tasks(), 1)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        begun = process.stdout.readline()
        process.kill()
    assert begun == "half way\n"
    store = SqliteStore(path)
    assert store.jobs() == ()
    assert store.connection().raw.execute("SELECT count(*) FROM tasks").fetchone() == (0,)
    assert not store.submit(JobSpec(key="k"), lines(1), NOW).resumed
    store.close()


# --- no room ----------------------------------------------------------------------------------------


def test_a_full_store_changes_nothing_and_takes_the_same_commits_later(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    store = SqliteStore(path)
    job = store.submit(JobSpec(key="k"), lines(50), NOW).id
    register(store)
    leases = take(store, 20)
    raw = store.connection().raw
    pages = raw.execute("PRAGMA page_count").fetchone()[0]
    raw.execute(f"PRAGMA max_page_count = {pages}")
    commits = [done(lease, BIG_REASON) for lease in leases]
    before = store.status(job)
    with pytest.raises(StoreFullError, match="free some space"):
        store.exchange("w", commits, [], NOW)
    assert store.status(job) == before
    assert list(store.attempts(job)) == []
    with pytest.raises(StoreFullError):
        store.submit(JobSpec(key="other"), lines(5000), NOW)
    assert len(store.jobs()) == 1
    raw.execute("PRAGMA max_page_count = 1000000000")
    assert store.exchange("w", commits, [], NOW).refused == ()
    assert store.status(job).counts["done"] == 20
    store.close()
    check_laws(path, "wal")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no right to mount a small file system: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_full_disk(small_disk: Path, journal: Journal) -> None:
    path = small_disk / "e.db"
    store = SqliteStore(path, journal=journal)
    job = store.submit(JobSpec(key="k"), lines(100), NOW).id
    register(store)
    leases = take(store, 100)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"x" * 4096)
    commits = [done(lease, BIG_REASON[:4000]) for lease in leases]
    before = store.status(job)
    for _ in range(3):
        with pytest.raises(StoreFullError, match=str(path)):
            store.exchange("w", commits, [], NOW)
    assert store.status(job) == before
    ballast.unlink()
    assert store.exchange("w", commits, [], NOW).refused == ()
    assert store.status(job).phase == "finished"
    store.close()
    check_laws(path, journal)


# --- files that are not ours ------------------------------------------------------------------------


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreError, match=r"no Ergates store.*--state"):
        SqliteStore(path)
    assert path.read_bytes() == b"something else entirely" * 100


def test_a_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE t(x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"another program(.|\n)*--state"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_store_of_a_newer_version(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    store = SqliteStore(path)
    store.connection().raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    store.close()
    with pytest.raises(StoreError, match=r"newer Ergates(.|\n)*update ergates"):
        SqliteStore(path)


def test_an_older_store_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "e.db"
    SqliteStore(path).close()
    steps: list[int] = []

    def step(connection: sqlite3.Connection) -> None:
        steps.append(connection.execute("PRAGMA user_version").fetchone()[0])
        connection.execute("ALTER TABLE jobs ADD COLUMN later TEXT")

    monkeypatch.setattr("ergates.drivers.stores.sqlite_schema.SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setitem(
        __import__("ergates.drivers.stores.sqlite_schema", fromlist=["MIGRATIONS"]).MIGRATIONS, SCHEMA_VERSION, step
    )
    store = SqliteStore(path)
    assert steps == [SCHEMA_VERSION]
    assert store.connection().raw.execute("SELECT count(later) FROM jobs").fetchone() == (0,)
    store.close()
    SqliteStore(path).close()
    assert steps == [SCHEMA_VERSION]


def test_a_damaged_store(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    store = SqliteStore(path)
    store.submit(JobSpec(key="k"), lines(2000), NOW)
    store.close()
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(os.path.getsize(path) - 8192))
    with pytest.raises(StoreError, match="damaged"):
        damaged = SqliteStore(path)
        list(damaged.tasks(damaged.jobs()[0].id))


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        SqliteStore(tmp_path / "missing" / "e.db")


def test_rights_are_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = SqliteStore(tmp_path / "e.db")
        store.submit(JobSpec(key="k"), lines(1), NOW)
        rights = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(old)
    assert rights == {"e.db": 0o600, "e.db-wal": 0o600, "e.db-shm": 0o600}
    store.close()
