"""`erg forget` and `erg controller --forget-after` with real stores, workers and a ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from erg_rig import Ended, Erg, ended

pytestmark = pytest.mark.system


def facts(shown: Ended) -> Any:
    assert shown.code == 0, shown
    return json.loads(shown.out)


# --- one machine ----------------------------------------------------------------------------------


def test_one_machine_s_history_goes_only_when_told(erg: Erg) -> None:
    assert erg("run", "echo one {n}", "-p", "n=1..3").code == 0
    assert erg("run", "echo two").code == 0
    refused = erg("forget", "j1")
    assert refused.code == 2 and "only records" in refused.err and "--with-history" in refused.err
    assert erg("forget", "--all-finished").code == 2
    assert "would be forgotten, 3 tasks" in erg("forget", "j1", "--with-history", "--dry-run").out.decode()
    assert len(facts(erg("status", "--json"))) == 2
    shown = erg("forget", "j1", "j1", "--with-history")
    assert shown.out.decode() == "j1 (echo): forgotten, 3 tasks\n", shown
    assert [job["id"] for job in facts(erg("status", "--json"))] == ["j2"]
    assert [path.name for path in (erg.folder / ".ergates/jobs").iterdir()] == ["j2"]
    assert erg("logs", "j2", "--stdout").out.decode().endswith("two\n")
    assert sum(row["attempts"] for row in facts(erg("report", "--json"))) == 1
    again = erg("run", "echo one {n}", "-p", "n=1..3", "--json")
    assert again.code == 0 and b'"j3"' in again.out + again.err.encode(), again


def test_what_cannot_be_meant_is_refused_before_anything_is_done(erg: Erg) -> None:
    assert erg("submit", "true").code == 0
    assert erg("run", "echo done").code == 0
    for words, says in (
        ((), "which jobs"),
        (("j1", "--all-finished"), "not both"),
        (("j9",), "no job 'j9'"),
        (("j2", "j1", "--with-history"), "j1 is not finished"),
        (("--all-finished", "--with-history"), "nobody can be asked"),
        (("j2", "--older-than", "soon"), "--older-than"),
    ):
        shown = erg("forget", *words)
        assert shown.code == 2 and says in shown.err, shown
    assert len(facts(erg("status", "--json"))) == 2
    young = erg("forget", "--all-finished", "--older-than", "7d", "--with-history", "--yes")
    assert young.code == 0 and b"no job to forget that finished more than 7 d" in young.out, young
    assert facts(erg("forget", "--all-finished", "--with-history", "--yes", "--json")) == {
        "dry_run": False,
        "jobs": [{"job": "j2", "name": "echo", "total": 1, "verdict": "forgotten"}],
    }


# --- a cluster ------------------------------------------------------------------------------------


class Cluster:
    """A private store, a ledger in a file, and workers that do all there is."""

    def __init__(self, erg: Erg) -> None:
        self.erg = erg
        store_file = facts(erg("store", "up", "--json"))["store_file"]
        self.env = {"ERGATES_STORE": store_file, "ERGATES_WORKER_STATE": str(erg.folder / "worker")}
        self.ledger = str(erg.folder / "ledger.db")

    def __call__(self, *words: str) -> Ended:
        return self.erg(*words, env=self.env)

    def work(self) -> None:
        done = ended(self.erg.start("worker", "start", "--cpus", "2", "--until-empty", env=self.env))
        assert done.code == 0, done

    def jobs(self) -> list[str]:
        return [job["id"] for job in facts(self("status", "--json"))]


@pytest.fixture
def cluster(erg: Erg) -> Iterator[Cluster]:
    made = Cluster(erg)
    yield made
    made.erg("store", "down", "--force")


@pytest.mark.needs("redis")
def test_a_cluster_forgets_what_its_ledger_has(cluster: Cluster) -> None:
    assert cluster("submit", "echo {n}", "-p", "n=1..4", "--name", "study").code == 0
    cluster.work()
    refused = cluster("forget", "j1")
    assert refused.code == 2 and "in no ledger yet" in refused.err and "erg controller --once" in refused.err
    kept = cluster("forget", "--all-finished")
    assert kept.code == 0 and "j1 stays" in kept.err and b"no job to forget" in kept.out
    assert cluster.jobs() == ["j1"]
    before = facts(cluster("controller", "--once", "--ledger", cluster.ledger, "--json"))
    assert before == {"drained": 4, "reaped": 0, "forgotten": 0}
    assert cluster("submit", "echo later").code == 0
    shown = cluster("forget", "--all-finished")
    assert shown.out.decode() == "j1 (study): forgotten, 4 tasks\n" and not shown.err, shown
    assert cluster.jobs() == ["j2"]
    assert "j2 is not finished" in cluster("forget", "j2").err
    unknown = cluster("logs", "study").err
    assert f"the ledger has the attempts: {cluster.ledger} on " in unknown and "erg report study --ledger" in unknown
    (row,) = facts(cluster("report", "study", "--by", "outcome", "--ledger", cluster.ledger, "--json"))
    assert (row["group"], row["attempts"]) == ("succeeded", 4)
    cluster.work()
    assert f"erg controller --once --ledger {cluster.ledger}` on " in cluster("forget", "j2").err
    assert cluster("forget", "j2", "--with-history").out == b"j2 (echo): forgotten, 1 task\n"
    assert cluster.jobs() == []


@pytest.mark.needs("redis")
def test_a_controller_forgets_drained_jobs(cluster: Cluster) -> None:
    for command in ("echo one", "echo two"):
        assert cluster("submit", command).code == 0
    cluster.work()
    assert cluster("submit", "echo waits").code == 0
    words = ("controller", "--once", "--json", "--forget-after")
    assert facts(cluster(*words, "0s")) == {"drained": 0, "reaped": 0, "forgotten": 0}  # no ledger: they stay
    young = facts(cluster(*words, "7d", "--ledger", cluster.ledger))
    assert young == {"drained": 2, "reaped": 0, "forgotten": 0}
    assert cluster.jobs() == ["j3", "j2", "j1"]
    assert facts(cluster(*words, "0s", "--ledger", cluster.ledger))["forgotten"] == 2
    assert cluster.jobs() == ["j3"]
    assert sum(row["attempts"] for row in facts(cluster("report", "--ledger", cluster.ledger, "--json"))) == 2


@pytest.mark.needs("redis")
def test_a_controller_that_stays_forgets_as_it_drains(cluster: Cluster) -> None:
    assert cluster("submit", "echo {n}", "-p", "n=1..5").code == 0
    cluster.work()
    controller = cluster.erg.start("controller", "--forget-after", "0s", "--ledger", cluster.ledger, env=cluster.env)
    assert controller.stderr is not None
    for line in controller.stderr:
        if b"forget: j1: finished, and all attempts drained" in line:
            break
    else:
        pytest.fail("it ended without forgetting", pytrace=False)
    assert cluster.jobs() == []
    controller.terminate()
    assert ended(controller).code == 0
