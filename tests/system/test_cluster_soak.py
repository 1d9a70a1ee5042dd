"""A whole small cluster under random blows, drawn from a seed: kills, stops beyond the lease, servers that forget their last
second. At the end every task was done, once, and nothing is left. `ERGATES_SOAK_CLUSTERS` sets the number of the long test.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from broken_cluster import BrokenCluster, Node
from erg_rig import Erg

pytestmark = [pytest.mark.needs("redis"), pytest.mark.system]
SOAK_CLUSTERS = int(os.environ.get("ERGATES_SOAK_CLUSTERS", "40"))


@dataclass
class Blows:
    """Strikes the cluster again and again; whatever is down or stopped comes back by and by."""

    cluster: BrokenCluster
    rng: random.Random
    struck: Counter[str] = field(default_factory=Counter)
    lost_bytes: int = 0
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _down: set[str] = field(default_factory=set)

    def rain(self, seconds: float) -> None:
        """Strike for so long, then mend all."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._mend(time.monotonic())
            for node in self.cluster.nodes:
                if str(node.number) not in self._down:
                    self.struck["worker found no server"] += node.keep()
            self._strike()
            time.sleep(self.rng.uniform(0.05, 0.8))  # the blows' own rhythm: nothing is waited for
        self._mend(float("inf"))

    def _strike(self) -> None:
        name = self.rng.choice(
            ["kill node", "kill node", "stop node", "stop node", "kill server", "forget", "stop server", "controller"]
        )
        if name.endswith("node"):
            node = self.rng.choice(self.cluster.nodes)
            if str(node.number) not in self._down:
                (self._kill_node if name.startswith("kill") else self._stop_node)(node)
        elif name == "controller":
            self._strike_controller()
        elif "server" not in self._down:
            {"kill server": self._kill_server, "forget": self._forget, "stop server": self._stop_server}[name]()

    def _kill_node(self, node: Node) -> None:
        whole = self.rng.random() < 0.4
        self.struck["node lost" if whole else "worker killed"] += 1
        node.kill(whole=whole)
        self._back_after(str(node.number), self.rng.uniform(0, 1.5), node.start)

    def _stop_node(self, node: Node) -> None:
        whole = self.rng.random() < 0.5
        self.struck["node stopped" if whole else "worker stopped"] += 1
        node.signal(signal.SIGSTOP, whole=whole)
        away_s = self.rng.choice((0.2, 1.2, 2.0)) * self.cluster.lease_s * self.rng.uniform(0.8, 1.2)
        self._back_after(str(node.number), away_s, lambda: node.signal(signal.SIGCONT, whole=whole))

    def _kill_server(self) -> None:
        self.struck["server killed"] += 1
        self.cluster.server.kill()
        self._back_after("server", self.rng.uniform(0, 1), self.cluster.server.start)

    def _forget(self) -> None:
        server = self.cluster.server
        sizes = server.log_sizes()
        time.sleep(self.rng.uniform(0.1, 1.0))  # what is written meanwhile is what will be lost
        server.kill()
        self.struck["server forgot"] += 1
        self.lost_bytes += server.cut_log(sizes)
        self._back_after("server", self.rng.uniform(0, 0.5), server.start)

    def _stop_server(self) -> None:
        self.struck["server stopped"] += 1
        self.cluster.server.stop()
        self._back_after("server", self.rng.uniform(0.1, 1.5) * self.cluster.lease_s, self.cluster.server.go_on)

    def _strike_controller(self) -> None:
        controller = self.cluster.controller
        assert controller is not None
        self.struck["controller killed"] += 1
        controller.kill()
        controller.wait()
        self.cluster.start_controller()

    def _back_after(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        def back() -> None:
            action()
            self._down.discard(name)

        self._down.add(name)
        self._later.append((time.monotonic() + seconds, back))

    def _mend(self, now: float) -> None:
        due = [entry for entry in self._later if entry[0] <= now]
        self._later = [entry for entry in self._later if entry[0] > now]
        for _, action in sorted(due, key=lambda entry: entry[0]):
            action()


def storm(seed: int, erg: Erg, server_folder: Path, *, tasks: int, seconds: float) -> Counter[str]:
    """One cluster through one storm; returns how often what struck."""
    rng = random.Random(f"{seed}/storm")
    with ExitStack() as stack:
        cluster = BrokenCluster(erg, stack, server_folder)
        stack.callback(erg.clean_up)
        job = cluster.submit([f"sleep {rng.choice((0, 0.02, 0.2, 0.5, 1))}" for _ in range(tasks)])
        for _ in range(3):
            cluster.add_node()
        cluster.start_controller()
        blows = Blows(cluster, rng)
        try:
            blows.rain(seconds)
            cluster.wait(job)
            cluster.shut_down()
            outcomes = cluster.check(job, tasks, rolled_back=blows.lost_bytes > 0)
        except AssertionError as error:
            error.add_note(f"seed {seed}; struck: {dict(blows.struck)}")
            raise
    return blows.struck + Counter({f"attempts {name}": number for name, number in outcomes.items()})


def test_a_short_storm(erg: Erg, tmp_path_factory: pytest.TempPathFactory) -> None:
    struck = storm(3, erg, tmp_path_factory.mktemp("server"), tasks=300, seconds=10)
    assert sum(number for name, number in struck.items() if not name.startswith("attempts")) > 5
    assert struck["attempts lost"] > 0, "no worker died with work in its hands: this was no test"


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_storms(tmp_path_factory: pytest.TempPathFactory, record_property: Callable[[str, object], None]) -> None:
    total: Counter[str] = Counter()
    for seed in range(100, 100 + SOAK_CLUSTERS):
        folder = tmp_path_factory.mktemp(f"storm{seed}")
        total += storm(seed, Erg(folder), tmp_path_factory.mktemp("server"), tasks=500, seconds=20)
    record_property("storms", SOAK_CLUSTERS)
    for name, number in sorted(total.items()):
        record_property(name, number)
