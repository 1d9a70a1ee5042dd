"""A small cluster whose every part can be killed, stopped, and set back by a second: server, workers, controller.

The tasks note their beginnings and ends in files, so that what really ran can be compared with what the store and the
ledger believe.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import redis
from erg_rig import PATIENCE_S, Erg, eventually
from redis_server import Server, serving

from ergates.clock import SystemClock
from ergates.cluster.job import JobSpec, RetryLimits
from ergates.cluster.task import JobId, TaskSpec
from ergates.drivers.stores.redis.store import RedisStore

CHILD = str(Path(__file__).parent / "hurried_worker_child.py")
LEASE_S = 2.0
PATIENT = RetryLimits(losses=1000, memory=1000)
NOTE = '$ERG_ATTEMPT $ERG_WORKER" >> notes/$ERG_TASK_ID'
NOTING = f'echo "begin {NOTE}; {{work}} || exit; echo "end {NOTE}'


class BrokenServer:
    """A private redis-server on a socket, its log synchronised every second as in production."""

    def __init__(self, folder: Path, stack: ExitStack, *lines: str) -> None:
        self.folder, self.socket = folder, folder / "redis.sock"
        self.lines = list(lines)
        self._running = ExitStack()
        stack.callback(lambda: self._running.close())
        self._server: Server | None = None
        self.start()

    def start(self) -> None:
        """Returns when it answers, its log read back."""
        self.socket.unlink(missing_ok=True)
        self._server = self._running.enter_context(
            serving(
                self.folder / "data", "port 0", f"unixsocket {self.socket}", "unixsocketperm 700", "appendonly yes",
                "appendfsync everysec", "aof-load-truncated yes", *self.lines, port=0,
            )
        )  # fmt: skip

    def kill(self) -> None:
        """As a crash would: what it had written stays."""
        self._running.close()

    def stop(self) -> None:
        assert self._server is not None
        self._server.stop()

    def go_on(self) -> None:
        assert self._server is not None
        self._server.go_on()

    def log_sizes(self) -> dict[Path, int]:
        """How long its log is now: what a power cut soon after may leave of it."""
        return {path: path.stat().st_size for path in (self.folder / "data" / "appendonlydir").glob("*.incr.aof")}

    def cut_log(self, sizes: dict[Path, int]) -> int:
        """Set the log of a server that does not run back to what it was; returns how many bytes are lost."""
        lost = 0
        for path, size in sizes.items():
            lost += path.stat().st_size - size
            os.truncate(path, size)
        return lost

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), protocol=2, socket_timeout=5)


class Node:
    """One worker and all it started, known by a mark of its own in their environment."""

    def __init__(
        self, cluster: BrokenCluster, number: int, state: Path | None, jobs: int, env: Mapping[str, str]
    ) -> None:
        self._cluster, self.number, self._jobs = cluster, number, jobs
        self._env = dict(env)
        self._state = state or cluster.erg.folder / f"node{number}"
        self.mark = uuid.uuid4().hex
        self.log = cluster.erg.folder / f"worker{number}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self.process is None or self.process.poll() is not None
        cluster = self._cluster
        with self.log.open("ab") as log:
            self.process = cluster.erg.start(
                str(self._state), str(cluster.lease_s), str(self._jobs), program=(sys.executable, CHILD),
                stdout=subprocess.DEVNULL, stderr=log.fileno(), env={**cluster.env, **self._env, "NODE_MARK": self.mark},
            )  # fmt: skip

    def processes(self) -> list[int]:
        """All living processes of this node."""
        needle, found = f"NODE_MARK={self.mark}".encode(), []
        for pid in self._cluster.erg.processes():
            try:
                if needle in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found.append(pid)
            except OSError:
                continue  # ended while we looked
        return found

    def signal(self, number: int, *, whole: bool) -> None:
        """To the worker's own process, or to everything on the node."""
        assert self.process is not None
        if not whole:
            self.process.send_signal(number)
            return
        for pid in (self.process.pid, *self.processes()):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def leave(self) -> None:
        """It ends well."""
        self.signal(signal.SIGTERM, whole=False)
        assert self.process is not None
        assert self.process.wait(timeout=PATIENCE_S) == 0, self._cluster.logs()
        self._cluster.nodes.remove(self)

    def keep(self) -> bool:
        """Start it again if it ended by itself because there was no server, as whoever placed it would; whether it did."""
        assert self.process is not None
        if self.process.poll() is None:
            return False
        last = self.log.read_text().rstrip().rpartition("\n")[2]
        assert "hint: " in last or "cannot be reached" in last, self._cluster.logs()
        self.start()
        return True

    def kill(self, *, whole: bool) -> None:
        assert self.process is not None
        self.signal(signal.SIGKILL, whole=whole)
        self.process.wait()


class BrokenCluster:
    """See the module. Args: `lines` go into the server's configuration."""

    def __init__(self, erg: Erg, stack: ExitStack, server_folder: Path, *lines: str, lease_s: float = LEASE_S) -> None:
        self.erg, self._stack, self.lease_s = erg, stack, lease_s
        self.server = BrokenServer(server_folder, stack, *lines)
        self.ledger_path = erg.folder / "ledger.db"
        self.env = {"ERGATES_STORE": f"unix://{self.server.socket}", "ERGATES_LEDGER": str(self.ledger_path)}
        self.notes = erg.folder / "notes"
        self.notes.mkdir()
        self.nodes: list[Node] = []
        self.controller: subprocess.Popen[bytes] | None = None
        self._controller_log = erg.folder / "controller.log"

    def add_node(self, *, state: Path | None = None, jobs: int = 3, env: Mapping[str, str] | None = None) -> Node:
        """With a state directory of its own, or this one; so many attempts at once; more in its environment."""
        self.nodes.append(Node(self, len(self.nodes) + 1, state, jobs, env or {}))
        self.nodes[-1].start()
        return self.nodes[-1]

    def start_controller(self) -> None:
        with self._controller_log.open("ab") as log:
            self.controller = self.erg.start("controller", stdout=subprocess.DEVNULL, stderr=log.fileno(), env=self.env)

    def store(self) -> RedisStore:
        store = RedisStore(self.server.client)
        self._stack.enter_context(closing(store))
        return store

    def submit(self, works: list[str]) -> JobId:
        """A job of one noting task for each of these shell commands."""
        tasks = [TaskSpec(command=NOTING.format(work=work)) for work in works]
        job = JobSpec(key=uuid.uuid4().hex, cwd=str(self.erg.folder), retry_limits=PATIENT)
        return self.store().submit(job, tasks, SystemClock().now_ns()).id

    # --- the end ------------------------------------------------------------------------------

    def wait(self, job: JobId, patience_s: float = 3 * PATIENCE_S) -> None:
        waiting = self.erg.start("wait", job, env=self.env)
        until = time.monotonic() + patience_s
        while waiting.poll() is None:
            assert time.monotonic() < until, f"no end: {self.store().status(job)}\n{self.logs()}"
            for node in self.nodes:
                node.keep()
            time.sleep(0.1)  # what keeps the nodes' workers running is this loop

    def shut_down(self) -> None:
        """Everybody ends well; no process is left."""
        for node in list(self.nodes):
            node.leave()
        if self.controller is not None:
            self.controller.send_signal(signal.SIGTERM)
            assert self.controller.wait(timeout=PATIENCE_S) == 0, self.logs()
        done = self.erg("controller", "--once", "--json", env=self.env)
        assert done.code == 0, done
        json.loads(done.out)
        eventually(lambda: not [line for line in self.erg.processes().values() if "controller" not in line], "all end")

    def check(self, job: JobId, total: int, *, rolled_back: bool = False) -> Counter[str]:
        """What the store, its ledger and the files say agrees; returns the outcomes of all attempts in the ledger.

        With `rolled_back` the server was set back: the ledger may know attempts that the store has forgotten.
        """
        store = self.store()
        status = store.status(job)
        assert status.counts["done"] == status.total == total, f"{status}\n{self.logs()}"
        assert Counter(view.state.value for view in store.tasks(job)) == {"done": total}
        assert store.held(10) == () and store.waiting(job) == () and store.undrained(1).rows == ()
        with closing(sqlite3.connect(self.ledger_path)) as ledger:
            rows = ledger.execute(
                "SELECT task, attempt, outcome, worker, useful FROM attempts WHERE job = ?", (job,)
            ).fetchall()
        outcomes = Counter(row[2] for row in rows)
        won = {row[0]: row for row in rows if row[4]}
        times = Counter(row[0] for row in rows if row[4])
        odd = {task: times[task] for task in range(1, total + 1) if times[task] != 1}
        assert not odd, f"not once in the ledger: {odd}: {[row for row in rows if row[0] in odd][:20]}\n{self.logs()}"
        again = [row for row in rows if row[2] == "succeeded" and not row[4]]
        assert rolled_back or not again, f"these succeeded although they had succeeded before: {again}"
        if not rolled_back:
            assert outcomes == {name: number for name, number in status.outcomes.items() if number}
        for task, number, _, worker, _ in won.values():
            noted = (self.notes / str(task)).read_text().splitlines()
            words = f"{number} {worker}"
            assert f"begin {words}" in noted and f"end {words}" in noted, f"task {task} succeeded as {words}: {noted}"
        return outcomes

    def logs(self) -> str:
        """What workers and controller said, for messages."""
        texts = [f"{path.name}:\n{path.read_text()[-3000:]}" for path in sorted(self.erg.folder.glob("*.log"))]
        return "\n".join(texts)
