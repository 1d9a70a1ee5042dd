"""Every command about jobs works on a cluster's store as on the embedded one; a real worker runs what is there."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from erg_rig import Erg, ended, eventually

pytestmark = [pytest.mark.system, pytest.mark.needs("redis")]


class Cluster:
    """An `erg` whose commands work on a private store, and workers for it."""

    def __init__(self, erg: Erg) -> None:
        self.erg = erg
        up = erg("store", "up", "--json")
        assert up.code == 0, up
        self.env = {
            "ERGATES_STORE": json.loads(up.out)["store_file"],
            "ERGATES_WORKER_STATE": str(erg.folder / "worker"),
        }

    def __call__(self, *words: str, code: int = 0, **more: str) -> str:
        """Standard output."""
        shown = self.erg(*words, env={**self.env, **more})
        assert shown.code == code, shown
        return shown.out.decode()

    def worker(self, *words: str) -> subprocess.Popen[bytes]:
        return self.erg.start("worker", "start", "--cpus", "2", *words, env=self.env)

    def work(self) -> None:
        """A worker does all there is."""
        done = ended(self.worker("--until-empty"))
        assert done.code == 0, done


@pytest.fixture
def cluster(erg: Erg) -> Iterator[Cluster]:
    made = Cluster(erg)
    yield made
    made.erg("store", "down", "--force")


def facts(text: str) -> Any:
    return json.loads(text)


def test_from_submit_to_results(cluster: Cluster) -> None:
    submitted = facts(cluster("submit", "printf 'out {n}\\n'; echo err {n} >&2; exit {n}", "-p", "n=0..3", "--json"))
    assert (submitted["id"], submitted["total"]) == ("j1", 4)
    assert "nobody runs it now; go on with: erg worker start" in cluster("status", "j1")
    assert facts(cluster("status", "--json"))[0]["shown_phase"] == "stopped"
    assert cluster("explain", "j1/1").startswith("j1/1  ")
    cluster.work()
    status = facts(cluster("status", "j1", "--json"))
    assert (status["counts"]["done"], status["counts"]["failed"], status["shown_phase"]) == (1, 3, "failed")
    assert cluster("logs", "j1/1", "--stdout") == "out 0\n"
    shown = cluster("logs", "--failed")
    assert [line for line in shown.splitlines() if line.startswith("out")] == ["out 1", "out 2", "out 3"]
    rows = list(csv.DictReader(io.StringIO(cluster("export", "--with-output"))))
    assert [(row["exit_code"], row["stdout"], row["stderr"]) for row in rows] == [
        (str(n), f"out {n}\n", f"err {n}\n") for n in range(4)
    ]
    cluster("export", "--outputs", "results", "--to", "x.csv")
    assert (cluster.erg.folder / "results/3.out").read_text() == "out 2\n"
    assert "exit code 2" in cluster("explain", "j1/3")
    sums = {row["group"]: row["attempts"] for row in facts(cluster("report", "--by", "outcome", "--json"))}
    assert sums == {"failed": 3, "succeeded": 1}
    assert cluster("wait", "j1", code=1).startswith("j1: 1 done, 3 failed")


def test_large_output_keeps_its_end_and_says_where_the_rest_is(cluster: Cluster) -> None:
    cluster("submit", "seq 100000")
    cluster.work()
    shown = cluster.erg("logs", "1", env=cluster.env)
    assert shown.code == 0, shown
    assert shown.out.endswith(b"\n99999\n100000\n")
    assert len(shown.out) == 64 * 1024
    assert "the store keeps the last 64 KiB of 575 KiB of its standard output; all of it is on " in shown.err


def test_what_people_change_is_changed(cluster: Cluster) -> None:
    cluster("submit", "true {n}", "-p", "n=1..10")
    cluster("pause")
    assert facts(cluster("status", "j1", "--json"))["shown_phase"] == "paused"
    assert "run it: erg worker start" in cluster("resume")
    assert facts(cluster("cancel", "j1/1-3", "--json"))["cancelled"] == 3
    assert "3 tasks back in the queue; run it: erg worker start" in cluster("retry")
    cluster("cancel", "j1/10")
    cluster.work()
    assert facts(cluster("status", "j1", "--json"))["counts"]["done"] == 9


def test_run_follows_the_job_to_its_end(cluster: Cluster) -> None:
    worker = cluster.worker()
    shown = cluster.erg("run", "echo {n}", "-p", "n=1..20", "-k", "--joblog", "log", env=cluster.env)
    assert shown.code == 0, shown
    assert shown.out.decode().split() == [str(n) for n in range(1, 21)]
    assert "20 done" in shown.err
    assert len((cluster.erg.folder / "log").read_text().splitlines()) == 21
    failed = cluster.erg("run", "echo why >&2; exit 3", "-q", env=cluster.env)
    assert failed.code == 1
    assert "| why" in failed.err
    cached = cluster.erg("run", "echo {n}", "-p", "n=1..20", "-k", "--cached", env=cluster.env)
    assert cached.out == shown.out
    worker.send_signal(signal.SIGINT)
    assert ended(worker).code in (0, 130)


def test_interrupted_run_leaves_the_job_to_the_cluster(cluster: Cluster) -> None:
    run = cluster.erg.start("run", "true", env=cluster.env)
    eventually(lambda: facts(cluster("status", "--json")), "it was submitted", run)
    run.send_signal(signal.SIGINT)
    shown = ended(run)
    assert shown.code == 130
    assert "j1 goes on without you; follow it: erg wait j1" in shown.err
    cluster.work()
    assert cluster("wait", "j1") == "j1: 1 done\n"


def test_limits_of_one_machine_are_refused(cluster: Cluster) -> None:
    refused = cluster.erg("run", "-j", "4", "true", env=cluster.env)
    assert refused.code == 2
    assert "--jobs is about one machine" in refused.err
    assert "erg worker start" in refused.err
    assert facts(cluster("status", "--json")) == []


def test_what_was_drained_is_still_shown(cluster: Cluster) -> None:
    cluster("submit", "echo drained")
    cluster.work()
    cluster("controller", "--once", "--ledger", "ledger.db")
    assert cluster("logs", "1", "--ledger", "ledger.db") == "drained\n"
    ledger = str(Path(cluster.erg.folder) / "ledger.db")
    assert cluster("logs", "1", ERGATES_LEDGER=ledger) == "drained\n"
    (row,) = facts("[" + cluster("export", "--json", "--with-output", ERGATES_LEDGER=ledger) + "]")
    assert (row["stdout"], row["exit_code"]) == ("drained\n", 0)


def test_what_was_drained_into_a_ledger_nobody_names_is_said_to_be_there(cluster: Cluster) -> None:
    cluster("submit", "echo drained")
    cluster.work()
    moved = "they were moved into the ledger"
    assert moved not in cluster.erg("report", env=cluster.env).err
    cluster("controller", "--once", "--ledger", "ledger.db")
    for words in (("logs", "1"), ("logs", "j1"), ("export",), ("explain", "1"), ("report",)):
        said = cluster.erg(*words, env=cluster.env).err
        assert f"{moved} {cluster.erg.folder}/ledger.db on " in said and "name it in ERGATES_LEDGER" in said, words


def test_a_ledger_that_is_not_there_is_not_made_by_looking(cluster: Cluster) -> None:
    cluster("submit", "true")
    misspelt = cluster.erg("report", "--ledger", "legder.db", env=cluster.env)
    assert misspelt.code == 2
    assert "legder.db: there is no ledger" in misspelt.err
    later = cluster.erg("report", env={**cluster.env, "ERGATES_LEDGER": "later.db"})
    assert (later.code, later.out) == (0, b"no attempts yet\n")
    assert not list(cluster.erg.folder.glob("*.db"))
