"""The controller with a real Redis and a real PostgreSQL: two at once, kills, servers that go away, full disks; and reports."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from postgres_rig import PASSWORD, PostgresCluster
from redis_server import PrivateRedis

from ergates.clock import SystemClock
from ergates.cluster.attempt import Attempt, Kept, Outcome, Output
from ergates.cluster.job import JobSpec
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import JobId, TaskId, TaskSpec
from ergates.cluster.usage import Usage
from ergates.drivers import machine
from ergates.drivers.ledgers.joined import JoinedReader
from ergates.drivers.ledgers.open_ledger import OpenLedger, open_ledger
from ergates.drivers.stores.redis.store import RedisStore
from ergates.taskqueue.draining import move
from ergates.taskqueue.ledger_sums import merged_sums, sums_of
from ergates.taskqueue.retry import judge
from ergates.taskqueue.store import Commit, Failed, Want
from ergates.units import Bytes, MilliCpus, Nanoseconds, UsdMicros

pytestmark = [pytest.mark.system, pytest.mark.needs("redis", "postgresql")]
CLOCK = SystemClock()
ERG = str(Path(sys.executable).parent / "erg")
OUTCOMES = (Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.FAILED, Outcome.EVICTED, Outcome.SUCCEEDED)

HELD_BETWEEN = """
import sys, threading
from ergates.clock import SystemClock
from ergates.controller.build_controller import built_controller
from ergates.drivers.ledgers.address import ledger_address
from ergates.drivers.ledgers.open_ledger import open_ledger
from ergates.drivers.stores.store_file import store_address
from ergates.drivers.stores.open_cluster import open_cluster_store

store = open_cluster_store(store_address(sys.argv[1]))
place = sys.argv[3]

def hold(*_):
    print("held", flush=True)
    threading.Event().wait()

ledger = open_ledger(ledger_address(sys.argv[2]))
if place == "written":
    store.forget = hold
else:
    ledger.write = hold
with built_controller(store, ledger, say=print) as controller:
    controller.once()
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresCluster]:
    cluster = PostgresCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[PrivateRedis]:
    with PrivateRedis(tmp_path) as server:
        yield server


class Rig:
    """A store, a ledger, and what is needed to run `erg` on both."""

    def __init__(self, redis: PrivateRedis, ledger_url: str, postgres: PostgresCluster, database: str) -> None:
        self.redis, self.postgres, self.database = redis, postgres, database
        self.store = RedisStore(redis.client)
        self.store_url = f"unix://{redis.socket}"
        self.ledger_url = ledger_url
        self.env = os.environ | {
            "ERGATES_STORE": self.store_url, "ERGATES_LEDGER": ledger_url, "ERGATES_LEDGER_PASSWORD": PASSWORD,
        }  # fmt: skip
        self.running: list[subprocess.Popen[str]] = []

    def ledger(self) -> OpenLedger:
        return open_ledger(self.postgres.address(self.database))

    def erg(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ERG, *args], env=self.env, cwd=self.redis.folder, capture_output=True, text=True, timeout=60, check=False
        )

    def start(self, *args: str) -> subprocess.Popen[str]:
        """A controller that goes on until it is stopped."""
        argv = [ERG, "controller", *args]
        process = subprocess.Popen(argv, env=self.env, cwd=self.redis.folder, stderr=subprocess.PIPE, text=True)
        self.running.append(process)
        return process

    def once(self) -> dict[str, int]:
        done = self.erg("controller", "--once", "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, int] = json.loads(done.stdout)
        return found

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self.store.close()


@pytest.fixture
def rig(redis: PrivateRedis, postgres: PostgresCluster) -> Iterator[Rig]:
    database = postgres.database()
    rig = Rig(redis, postgres.url(database), postgres, database)
    yield rig
    rig.close()


def said(process: subprocess.Popen[str], words: str) -> str:
    """Reads until it says that; a controller that ends instead fails the test."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if words in line:
            return line
    raise AssertionError(f"it ended with {process.wait()} without saying {words!r}:\n{seen}")


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    process.communicate(timeout=30)
    return process.returncode


# --- work that was done ---------------------------------------------------------------------------


def register(store: RedisStore, worker: str, **fields: Any) -> None:
    capacity = NodeCapacity(cpus_milli=MilliCpus(64_000), memory_bytes=Bytes(2**30))
    store.register(WorkerInfo(id=worker, host="node", capacity=capacity, **fields), CLOCK.now_ns())


def submitted(store: RedisStore, many: int, key: str = "k") -> JobId:
    tasks = [TaskSpec(command=f"c {number}", retries=9, labels={"size": str(number % 3)}) for number in range(many)]
    return store.submit(JobSpec(key=key, name=key), tasks, CLOCK.now_ns()).id


def work(store: RedisStore, worker: str, batch: int = 50, output: int = 20, rounds: int | None = None) -> None:
    """Take what waits and end it in all kinds of ways, until nothing waits."""
    commits: list[Commit] = []
    while rounds is None or rounds > 0:
        offers = store.exchange(worker, commits, [], CLOCK.now_ns()).offers
        commits = []
        if not offers:
            return
        wants = [Want(job=o.job, class_id=o.class_id, priority=o.priority, count=batch) for o in offers[:1]]
        leases = store.exchange(worker, [], wants, CLOCK.now_ns()).leases
        for lease in leases:
            outcome = OUTCOMES[(lease.task + lease.attempt) % len(OUTCOMES)]
            usage = Usage(
                wall_ns=Nanoseconds(10**6 * lease.task), cpu_ns=Nanoseconds(10**6), cost_usd_micros=UsdMicros(2)
            )
            now = CLOCK.now_ns()
            made = Attempt(
                number=lease.attempt, outcome=outcome, worker=worker, host=f"n{lease.task % 4}", usage=usage,
                ended_ns=now, started_ns=now, reason=outcome.value, output=Output(stdout_bytes=output),
            )  # fmt: skip
            verdict = judge(lease, outcome, outcome.value, 0, JobSpec(key="").retry_limits, Nanoseconds(0))
            if outcome is not Outcome.SUCCEEDED and lease.attempt > 2:
                verdict = Failed(reason="enough")
            commits.append(
                Commit(
                    job=lease.job,
                    task=lease.task,
                    fence=lease.fence,
                    attempt=made,
                    verdict=verdict,
                    kept=Kept(stdout=bytes(output)),
                )
            )
        rounds = None if rounds is None else rounds - 1
    store.exchange(worker, commits, [], CLOCK.now_ns())


def check_all_there_once(rig: Rig, ledger: OpenLedger) -> int:
    """The ledger agrees with the store's own counters, which count every commit; the store has nothing left to drain."""
    assert rig.store.undrained(1).rows == ()
    uids = {job.id: job.uid for job in ledger.jobs()}
    total = 0
    for status in rig.store.jobs():
        rows = list(ledger.attempts(uids[status.id], kept=False)) if status.id in uids else []
        counted: dict[str, int] = {}
        for row in rows:
            counted[row.attempt.outcome.value] = counted.get(row.attempt.outcome.value, 0) + 1
        assert counted == {outcome: number for outcome, number in status.outcomes.items() if number}
        keys = [(row.task, row.attempt.number) for row in rows]
        assert len(keys) == len(set(keys)) == sum(status.outcomes.values())
        assert [row.row for row in rows] == sorted(row.row for row in rows)
        won = [row.task for row in rows if row.attempt.outcome is Outcome.SUCCEEDED]
        assert len(won) == len(set(won)) == status.counts["done"]
        total += len(rows)
    return total


# --- tests ----------------------------------------------------------------------------------------


def test_the_store_knows_its_ledger_and_no_password(rig: Rig) -> None:
    """Named in the whole URL, in the environment, where a password may stand."""
    assert rig.store.ledger_noted() is None
    rig.env.pop("ERGATES_LEDGER_PASSWORD")
    quoted = quote(PASSWORD, safe="")
    rig.env["ERGATES_LEDGER"] = rig.ledger_url.replace("erg@", f"erg:{quoted}@")
    assert quoted in rig.env["ERGATES_LEDGER"]
    rig.once()
    place = rig.store.ledger_noted()
    assert place is not None and place.where.startswith("postgresql://erg@") and rig.database in place.where
    assert PASSWORD not in place.where and quoted not in place.where
    client = rig.redis.client()
    everything = b"".join(client.dump(key) or b"" for key in client.keys("*"))
    client.close()
    assert b"postgresql" in everything
    assert PASSWORD.encode() not in everything and quoted.encode() not in everything


def test_two_controllers_while_work_goes_on(rig: Rig) -> None:
    pair = [rig.start(), rig.start()]
    for process in pair:
        said(process, "ledger postgresql://erg@")
    job = submitted(rig.store, 3000)
    register(rig.store, "w")
    work(rig.store, "w")
    assert [stop(process) for process in pair] == [0, 0]
    rig.once()
    with closing(rig.ledger()) as ledger:
        assert check_all_there_once(rig, ledger) > 3000
        (known,) = ledger.jobs()
        row = next(ledger.attempts(known.uid, ids=((7, 7),)))
    assert (known.id, known.queue, known.spec.name, known.total) == (job, "default", "k", 3000)
    assert (row.labels, row.kept) == ({"size": "0"}, Kept(stdout=bytes(20)))


@pytest.mark.parametrize("place", ["written", "not written"])
def test_kill_between_write_and_forget(rig: Rig, place: str) -> None:
    submitted(rig.store, 300)
    register(rig.store, "w")
    work(rig.store, "w")
    argv = [sys.executable, "-c", HELD_BETWEEN, rig.store_url, rig.ledger_url, place]
    process = subprocess.Popen(argv, env=rig.env, stdout=subprocess.PIPE, text=True)
    rig.running.append(process)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    waiting = rig.store.undrained(10_000).rows
    with closing(rig.ledger()) as ledger:
        uids = [job.uid for job in ledger.jobs()]
        written = len(list(ledger.attempts(uids[0]))) if uids else 0
        assert (written > 0) == (place == "written") and len(waiting) > 300
        rig.once()
        assert check_all_there_once(rig, ledger) == len(waiting)


def test_kills_at_any_moment(rig: Rig) -> None:
    chance = random.Random("kills")
    register(rig.store, "w")
    for turn in range(6):
        submitted(rig.store, 1500, key=f"k{turn}")
        process = rig.start()
        said(process, "ledger postgresql://")
        work(rig.store, "w", rounds=chance.randrange(5, 30))
        time.sleep(chance.random() / 10)  # not to wait for anything: to be killed somewhere else each time
        process.kill()
        process.communicate()
        register(rig.store, "w")  # what it held goes back
    rig.once()
    with closing(rig.ledger()) as ledger:
        assert check_all_there_once(rig, ledger) > 1000


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_goes_away_and_comes_back(rig: Rig, mode: str) -> None:
    submitted(rig.store, 1000)
    register(rig.store, "w")
    process = rig.start()
    said(process, "ledger postgresql://")
    work(rig.store, "w", rounds=5)
    rig.postgres.stop(mode)
    try:
        register(rig.store, "w")
        work(rig.store, "w")
        said(process, "drain: waiting, nothing is lost")
    finally:
        rig.postgres.start()
    said(process, "drain: goes on")
    assert stop(process) == 0
    rig.once()
    with closing(rig.ledger()) as ledger:
        assert check_all_there_once(rig, ledger) > 1000


def test_redis_goes_away_and_comes_back(rig: Rig) -> None:
    submitted(rig.store, 500)
    register(rig.store, "w")
    work(rig.store, "w")
    rig.redis.kill()
    process = rig.start()
    said(process, "waiting: unix://")
    rig.redis.start()
    said(process, "ledger postgresql://")
    rig.redis.kill()
    said(process, "waiting, nothing is lost")
    rig.redis.start()
    said(process, "drain: goes on")
    assert stop(process) == 0
    rig.once()
    rig.store.close()
    rig.store = RedisStore(rig.redis.client)
    with closing(rig.ledger()) as ledger:
        assert check_all_there_once(rig, ledger) > 500


@pytest.mark.needs("root")
def test_a_full_disk_under_an_sqlite_ledger(rig: Rig, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no right to mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        rig.env["ERGATES_LEDGER"] = f"sqlite://{small}/ledger.db"
        submitted(rig.store, 100)
        register(rig.store, "w")
        work(rig.store, "w", output=2000)
        ballast = small / "ballast"
        ballast.write_bytes(bytes(3_600_000))
        refused = rig.erg("controller", "--once")
        assert refused.returncode == 1 and "no room to write" in refused.stderr
        process = rig.start()
        said(process, f"drain: waiting, nothing is lost: {small}/ledger.db: no room to write")
        ballast.unlink()
        said(process, "drain: goes on")
        assert stop(process) == 0
        rig.once()
        from ergates.drivers.ledgers.sqlite_ledger import SqliteLedger

        with closing(SqliteLedger(small / "ledger.db")) as ledger:
            assert check_all_there_once(rig, ledger) > 100
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_tasks_of_a_dead_worker_are_taken_back(rig: Rig) -> None:
    job = submitted(rig.store, 10)
    register(rig.store, "w")
    gone = subprocess.Popen(["true"])
    gone.wait()
    capacity = NodeCapacity(cpus_milli=MilliCpus(1000), memory_bytes=Bytes(2**30))
    dead = WorkerInfo(
        id="dead", host=machine.host_name(), pid=gone.pid, pid_start_ticks=1, boot_id=machine.boot_id(),
        capacity=capacity,
    )  # fmt: skip
    rig.store.register(dead, CLOCK.now_ns())
    (offer,) = rig.store.exchange("dead", [], [], CLOCK.now_ns()).offers
    want = Want(job=job, class_id=offer.class_id, priority=offer.priority, count=4)
    assert len(rig.store.exchange("dead", [], [want], CLOCK.now_ns()).leases) == 4
    assert rig.once() == {"drained": 4, "reaped": 4, "forgotten": 0}
    assert rig.store.status(job).outcomes == {"lost": 4}
    assert rig.once() == {"drained": 0, "reaped": 0, "forgotten": 0}
    assert {worker.info.id for worker in rig.store.workers() if worker.standing == "live"} == {"w"}


def test_metrics_of_a_real_cluster(rig: Rig) -> None:
    submitted(rig.store, 200)
    register(rig.store, "w")
    work(rig.store, "w", rounds=3)
    process = rig.start("--metrics-listen", "127.0.0.1:0")
    url = said(process, "metrics at ").split()[-1]
    said(process, "ledger postgresql://")
    seen: dict[str, str] = {}
    while (
        'erg_look_age_seconds{queue="default"}' not in seen
    ):  # it answers from the first moment on, looking takes one more
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        seen = {name: value for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}
    assert stop(process, signal.SIGINT) == 130
    assert seen['erg_workers{queue="default",standing="live"}'] == "1.0"
    assert float(seen['erg_store_memory_bytes{queue="default"}']) > 100_000
    assert float(seen['erg_tasks{queue="default",state="ready"}']) > 0
    assert float(seen['erg_drained_attempts_total{queue="default"}']) == 150


def test_any_worker_may_drain(rig: Rig) -> None:
    submitted(rig.store, 700)
    register(rig.store, "w")
    work(rig.store, "w")
    with closing(rig.ledger()) as ledger:
        while move(rig.store.undrained(100), rig.store, ledger):
            pass
        assert check_all_there_once(rig, ledger) > 700


def test_reports_and_listings_over_both(rig: Rig) -> None:
    """Half of it drained: nothing is missing, nothing counted twice."""
    job = submitted(rig.store, 600)
    register(rig.store, "w")
    work(rig.store, "w")
    every = list(rig.store.attempts(job))
    kept = {(task, number): kept for task, number, kept in rig.store.kept(job)}
    with closing(rig.ledger()) as ledger:
        move(rig.store.undrained(400), rig.store, ledger)
        ledger.write(rig.store.undrained(100))  # written, not forgotten
        reader = JoinedReader(rig.store, ledger)
        assert list(reader.attempts(job)) == every
        assert {(task, number): kept for task, number, kept in reader.kept(job)} == kept
        assert list(reader.attempts(job, ids=((3, 9),))) == [entry for entry in every if 3 <= entry[1] <= 9]
    for by in ("host", "outcome", "reason", "label:size"):
        shown = rig.erg("report", "--by", by, "--json")
        assert shown.returncode == 0, shown.stderr
        by_hand = merged_sums(sums_of(made, _group(by, task, made)) for _, task, made in every)
        assert json.loads(shown.stdout) == [
            {name: getattr(entry, name) for name in entry.__struct_fields__} for entry in by_hand
        ]
    for args in (("report", "j1", "--by", "node"), ("report",), ("report", "k")):
        assert f"{len(every):,}" in rig.erg(*args).stdout
    without = rig.erg("report", "--json", "--ledger", "")
    assert without.returncode == 2 and "no ledger is named" in without.stderr


def _group(by: str, task: TaskId, made: Attempt) -> str:
    return str((task - 1) % 3) if by == "label:size" else str(getattr(made, by))


def test_what_a_user_meets(rig: Rig) -> None:
    wrong = rig.erg("controller", "--once", "--ledger", "postgresql://erg:pw@localhost/x")
    assert wrong.returncode == 2 and "a password in an argument" in wrong.stderr and "pw" not in wrong.stderr
    rig.env["ERGATES_LEDGER_PASSWORD"] = "not this"
    refused = rig.erg("controller", "--once")
    assert refused.returncode == 1 and "does not accept user or password" in refused.stderr
    assert "not this" not in refused.stderr
    away = rig.erg("controller", "--once", "--ledger", "postgresql://erg@127.0.0.1:1/x")
    assert away.returncode == 1 and "cannot be reached now" in away.stderr
    nowhere = rig.erg("controller", "--once", "--store", "embedded")
    assert nowhere.returncode == 2 and "works on a cluster's store" in nowhere.stderr
    both = rig.erg("controller", "--once", "--metrics-listen", "127.0.0.1:0")
    assert both.returncode == 2 and "--once" in both.stderr
