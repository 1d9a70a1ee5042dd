"""Workers of a cluster as real processes on a real Redis: killed, stopped, drained, and with the server taken away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import redis
from erg_rig import PATIENCE_S, Ended, Erg, ended, eventually
from redis_server import Server, serving

from ergates.cluster.attempt import Outcome
from ergates.cluster.task import JobId
from ergates.drivers.ledgers.sqlite_ledger import SqliteLedger
from ergates.drivers.stores.redis.store import RedisStore

pytestmark = [pytest.mark.needs("redis"), pytest.mark.system]
CHILD = str(Path(__file__).parent / "cluster_worker_child.py")
J1 = JobId("j1")


class Cluster:
    """A server on a socket, and `erg` with workers around it."""

    def __init__(self, erg: Erg, folder: Path, stack: ExitStack) -> None:
        self.erg, self._folder, self._stack = erg, folder, stack
        self.socket = folder / "redis.sock"
        self.env = {"ERGATES_STORE": f"unix://{self.socket}", "ERGATES_WORKER_STATE": str(erg.folder / "node")}
        self._server_stack = ExitStack()
        stack.callback(lambda: self._server_stack.close())
        self.server = self.start_server()

    def start_server(self) -> Server:
        self.socket.unlink(missing_ok=True)
        self.server = self._server_stack.enter_context(
            serving(
                self._folder / "server", "port 0", f"unixsocket {self.socket}", "appendonly yes",
                "appendfsync always", port=0,
            )
        )  # fmt: skip
        return self.server

    def kill_server(self) -> None:
        self._server_stack.close()

    def __call__(self, *arguments: str) -> Ended:
        return self.erg(*arguments, env=self.env)

    def submit(self, *lines: str) -> None:
        submitted = self("submit", self.erg.commands(*lines))
        assert submitted.code == 0, submitted

    def worker(self, *arguments: str) -> Worker:
        """The real command."""
        return Worker(self, self.erg.start("worker", "start", *arguments, env=self.env))

    def quick_worker(
        self, *more: str, lease_s: float = 1.5, jobs: int = 2, env: Mapping[str, str] | None = None
    ) -> Worker:
        """One whose lease is short. `more`: its labels and resources."""
        program = (sys.executable, CHILD)
        place = (str(self.socket), str(self.erg.folder / "node"), str(lease_s), str(jobs))
        return Worker(self, self.erg.start(*place, *more, program=program, env=env or self.env))

    def store(self) -> RedisStore:
        store = RedisStore(lambda: redis.Redis(unix_socket_path=str(self.socket), protocol=2, socket_timeout=5))
        self._stack.enter_context(closing(store))
        return store

    def workers(self) -> list[dict[str, Any]]:
        shown = self("worker", "list", "--json", "--gone")
        assert shown.code == 0, shown
        found: list[dict[str, Any]] = json.loads(shown.out)
        return found

    def counts(self) -> dict[str, int]:
        return self.store().status(J1).counts

    def wait(self) -> None:
        waited = self("wait", "j1")
        assert waited.code in (0, 1), waited

    def check_ledger(self, total: int) -> Counter[str]:
        """All are done, each was committed as succeeded once; returns the outcomes of all attempts."""
        store = self.store()
        ledger = [(task, attempt.outcome) for _, task, attempt in store.attempts(J1)]
        succeeded = Counter(int(task) for task, outcome in ledger if outcome is Outcome.SUCCEEDED)
        assert succeeded == Counter(range(1, total + 1))
        assert store.status(J1).counts["done"] == total
        return Counter(outcome.value for _, outcome in ledger)


class Worker:
    """A worker's process, whose log is read as it comes."""

    def __init__(self, cluster: Cluster, process: subprocess.Popen[bytes]) -> None:
        self._cluster, self.process = cluster, process
        self.said = ""

    def until(self, event: str) -> str:
        """Read its log up to a line with this event; returns the line."""
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            line = raw.decode()
            self.said += line
            if len(words := line.split()) > 1 and words[1] == event:
                return line
        raise AssertionError(f"never said {event!r}:\n{self.said}")

    @property
    def id(self) -> str:
        line = next(line for line in self.said.splitlines() if " registered " in line)
        return line.partition("worker=")[2].split()[0]

    def ended(self) -> Ended:
        """Wait for its end; everything it said."""
        assert self.process.stderr is not None
        self.said += self.process.stderr.read().decode()
        code = self.process.wait(timeout=PATIENCE_S)
        assert "Traceback" not in self.said, self.said
        return Ended(code, b"", self.said)


@pytest.fixture
def cluster(erg: Erg, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(erg, tmp_path_factory.mktemp("server"), stack)
        erg.clean_up()


def test_two_workers_share_the_work_and_every_task_is_done_once(cluster: Cluster) -> None:
    """The first two tasks wait for each other: one worker with one slot alone would never end them."""
    for name in ("a", "b"):
        os.mkfifo(cluster.erg.folder / name)
    meeting = ["echo 1 > a; cat b", "cat a; echo 2 > b"]
    cluster.submit(*meeting, *(f"echo {n} >> effects; echo out{n}; echo err{n} >&2" for n in range(3, 41)))
    workers = [cluster.worker("-j", "1", "--until-empty") for _ in range(2)]
    for worker in workers:
        worker.until("registered")
        end = worker.ended()
        assert end.code == 0, end
        assert "no task is left" in end.err
    assert cluster.check_ledger(40) == {"succeeded": 40}
    effects = Counter((cluster.erg.folder / "effects").read_text().split())
    assert effects == Counter(str(n) for n in range(3, 41))
    by = Counter(attempt.worker for _, _, attempt in cluster.store().attempts(J1))
    assert set(by) == {worker.id for worker in workers}
    shown = cluster("logs", "j1/7")
    assert (shown.out, shown.err) == (b"out7\n", "err7\n"), "the output came back with the commit"
    assert {each["standing"] for each in cluster.workers()} == {"left"}
    cluster.erg.wait_until_gone()


def test_what_a_task_sees_of_where_it_runs(cluster: Cluster) -> None:
    words = "$ERG_JOB $ERG_TASK_ID $ERG_ATTEMPT $ERG_WORKER"
    cluster.submit(f"echo {words}; cd $ERG_TASK_DIR && touch left && pwd", "ls $ERG_TASK_DIR")
    worker = cluster.worker("--until-empty", "-j", "1")
    worker.until("registered")
    assert worker.ended().code == 0
    line, folder = cluster("logs", "j1/1").out.decode().splitlines()
    assert line == f"j1 1 1 {worker.id}"
    assert folder.startswith(str(cluster.erg.folder / "node" / "workers" / worker.id))
    assert not Path(folder).exists(), "what is in a scratch directory goes with its attempt"
    assert cluster("logs", "j1/2").out == b""


def test_no_password_is_in_the_environment_of_tasks(cluster: Cluster) -> None:
    """What a task prints is kept, and others read it."""
    cluster.submit("env")
    cluster.env = {**cluster.env, "ERGATES_LEDGER_PASSWORD": "sesame", "MARK": "here"}
    assert cluster.worker("--until-empty").ended().code == 0
    shown = cluster("logs", "j1").out
    assert b"MARK=here" in shown and b"ERGATES_STORE=" in shown
    assert b"sesame" not in shown


def test_a_killed_worker_leaves_nothing_behind_and_its_tasks_go_on_elsewhere(cluster: Cluster) -> None:
    cluster.submit(*["test -e second && exit 0; echo > begun; sleep 300"] * 2)
    os.mkfifo(cluster.erg.folder / "begun")
    first = cluster.quick_worker()
    first.until("registered")
    heard = ""
    while heard.count("\n") < 2:  # both may write while it is open for one of them
        heard += (cluster.erg.folder / "begun").read_text()
    (cluster.erg.folder / "second").touch()
    first.process.kill()
    ended(first.process)
    cluster.erg.wait_until_gone()
    second = cluster.quick_worker()
    cluster.wait()
    assert cluster.check_ledger(2) == {"lost": 2, "succeeded": 2}
    second.process.send_signal(signal.SIGTERM)
    assert second.ended().code == 0
    assert {each["standing"] for each in cluster.workers()} == {"reaped", "left"}


def test_one_signal_drains_and_a_second_gives_back(cluster: Cluster) -> None:
    for name in ("begun", "go"):
        os.mkfifo(cluster.erg.folder / name)
    cluster.submit("echo > begun; cat go", "echo b", "echo > begun; sleep 300")
    first = cluster.worker("-j", "1")
    (cluster.erg.folder / "begun").read_text()
    first.process.send_signal(signal.SIGTERM)
    first.until("draining")
    (cluster.erg.folder / "go").write_text("")
    end = first.ended()
    assert end.code == 0, end
    assert cluster.counts() | {"done": 1, "ready": 2} == cluster.counts()
    second = cluster.worker("-j", "1")
    (cluster.erg.folder / "begun").read_text()
    second.process.send_signal(signal.SIGINT)
    second.until("draining")
    second.process.send_signal(signal.SIGINT)
    end = second.ended()
    assert end.code == 0, end
    assert "given back" in end.err
    cluster.erg.wait_until_gone()
    assert cluster.counts() | {"done": 2, "ready": 1} == cluster.counts()
    outcomes = Counter(attempt.outcome for _, _, attempt in cluster.store().attempts(J1))
    assert outcomes == {Outcome.SUCCEEDED: 2, Outcome.RETURNED: 1}


def test_a_worker_that_slept_is_refused_and_ends_its_tasks_before_it_comes_back(cluster: Cluster) -> None:
    """The zombie: stopped for longer than its lease, while its task goes on and another worker does it again."""
    os.mkfifo(cluster.erg.folder / "begun")
    cluster.submit("test -e second && exit 0; echo > begun; exec sleep 300.5")
    zombie = cluster.quick_worker(jobs=1)
    zombie.until("registered")
    (cluster.erg.folder / "begun").read_text()
    (cluster.erg.folder / "second").touch()
    zombie.process.send_signal(signal.SIGSTOP)
    other = cluster.quick_worker(jobs=1)
    cluster.wait()
    assert cluster.erg.running("sleep 300.5"), "a stopped worker cannot end its task: that is what the fence is for"
    zombie.process.send_signal(signal.SIGCONT)
    zombie.until("lease-lost")
    eventually(lambda: not cluster.erg.running("sleep 300.5"), "its task is ended", zombie.process)
    eventually(lambda: [each["standing"] for each in cluster.workers()] == ["live"] * 2, "it is back", zombie.process)
    assert cluster.check_ledger(1) == {"lost": 1, "succeeded": 1}
    other.process.send_signal(signal.SIGTERM)
    other.ended()
    more = cluster("submit", "--name", "more", "echo {n}", "-p", "n=1..3")
    assert more.code == 0, more
    assert cluster("wait", "j2").code == 0, "the old worker works under its new epoch"
    zombie.process.send_signal(signal.SIGTERM)
    assert zombie.ended().code == 0
    cluster.erg.wait_until_gone()


def test_the_server_dies_and_comes_back_under_load(cluster: Cluster) -> None:
    """What runs goes on; what ended meanwhile is kept; nothing is lost, nothing is done twice."""
    folder = cluster.erg.folder
    os.mkfifo(folder / "begun")
    os.mkfifo(folder / "go")
    lines = [f"echo {n} >> effects; sleep 0.02" for n in range(60)]
    cluster.submit("echo > begun; cat go; echo kept", *lines)
    workers = [cluster.quick_worker(lease_s=30, jobs=2) for _ in range(2)]
    for worker in workers:
        worker.until("registered")
    (folder / "begun").read_text()
    eventually(lambda: (folder / "effects").exists(), "some run")
    cluster.kill_server()
    (folder / "go").write_text("")
    for worker in workers:
        worker.until("store-away")
    cluster.start_server()
    for worker in workers:
        worker.until("store-back")
    cluster.wait()
    assert cluster.check_ledger(61) == {"succeeded": 61}
    assert Counter((folder / "effects").read_text().split()) == Counter(str(n) for n in range(60))
    assert cluster("logs", "j1/1").out == b"kept\n"
    for worker in workers:
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ended().code == 0


def test_orders_reach_a_worker_that_waits(cluster: Cluster) -> None:
    """It blocks for ten seconds at a time; orders, work and revocations wake it."""
    worker = cluster.worker("-j", "2", "--cpus", "2", "--label", "rack=a1")
    worker.until("registered")
    told = cluster("worker", "set", worker.id[:8], "--cpus", "1", "--label", "rack=", "--label", "disk=fast")
    assert told.code == 0, told
    limits = worker.until("limits")
    assert "cpus=1 " in limits
    assert "labels=" in limits and "disk=fast" in limits and "rack" not in limits
    os.mkfifo(cluster.erg.folder / "begun")
    cluster.submit("echo > begun; sleep 300.7", "echo b")
    (cluster.erg.folder / "begun").read_text()
    (row,) = eventually(lambda: [each for each in cluster.workers() if each["load"].get("running") == 1], "it says so")
    assert row["leases"] == 1, "the second waits in the store: there is one core now, and another node might come"
    assert cluster("cancel", "j1/1").code == 0
    eventually(lambda: not cluster.erg.running("sleep 300.7"), "the cancelled task is ended", worker.process)
    cluster.wait()
    drained = cluster("worker", "drain", "--all", "--wait")
    assert drained.code == 0, drained
    assert b": gone" in drained.out
    end = worker.ended()
    assert end.code == 0
    assert "drained by order" in end.err


def test_a_node_file_is_read_at_the_start(cluster: Cluster) -> None:
    (cluster.erg.folder / "node.toml").write_text('cpus = 1\n[labels]\nrack = "b2"\n')
    worker = cluster.worker("--config", "node.toml", "--idle-timeout", "1s")
    assert "cpus=1 " in worker.until("limits")
    assert "no work came" in worker.ended().err
    (cluster.erg.folder / "node.toml").write_text("cpu = 1\n")
    end = cluster("worker", "start", "--config", "node.toml")
    assert end.code == 2, end
    assert "did you mean cpus?" in end.err


def test_an_allocation_that_ends(cluster: Cluster) -> None:
    """Nothing new starts that could not end; what runs is handed back before the end, uncounted."""
    os.mkfifo(cluster.erg.folder / "begun")
    cluster.submit("echo > begun; sleep 300")
    worker = cluster.worker("--time-limit", "4s", "--drain-before", "2s", "--grace", "0.5s")
    (cluster.erg.folder / "begun").read_text()
    end = worker.ended()
    assert end.code == 0, end
    assert "its time is up" in end.err
    cluster.erg.wait_until_gone()
    outcomes = [attempt.outcome for _, _, attempt in cluster.store().attempts(J1)]
    assert outcomes == [Outcome.RETURNED]


def test_workers_drain_into_the_ledger_without_a_controller(cluster: Cluster) -> None:
    cluster.submit(*(f"echo {number}" for number in range(40)))
    ledger = cluster.erg.folder / "ledger.db"
    ledgers = ("--ledger", str(ledger), "--until-empty")
    ends = [cluster.worker(*ledgers, "-j", "1"), cluster.worker(*ledgers, "-j", "1")]
    for each in ends:
        each.process.wait(PATIENCE_S)
    store = cluster.store()
    assert store.status(J1).counts["done"] == 40
    left = len(store.undrained(1000).rows)
    with closing(SqliteLedger(ledger)) as opened:
        (job,) = opened.jobs()
        rows = list(opened.attempts(job.uid))
    assert len(rows) + left == 40 and len(rows) > 0
    assert sorted({row.task for row in rows} | {row.task for row in store.undrained(1000).rows}) == list(range(1, 41))


def test_no_server_and_no_way_in(erg: Erg, tmp_path: Path) -> None:
    gone = erg("worker", "start", "--store", f"unix://{tmp_path}/nowhere.sock")
    assert gone.code == 1, gone
    assert "hint" in gone.err
    none = erg("worker", "start")
    assert none.code == 2, none
    assert "--store" in none.err
    with serving(tmp_path / "server", "requirepass s3cret") as server:
        refused = erg("worker", "start", "--store", server.url)
        assert refused.code == 1, refused
        assert "ERGATES_STORE_PASSWORD" in refused.err
