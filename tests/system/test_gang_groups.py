"""Gangs whose roles ask for labels, on real workers in two groups; what tasks are told of their node's labels and their store."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from erg_rig import Erg, eventually
from test_cluster_worker import J1, Cluster, Worker

from ergates.cluster.attempt import Outcome
from ergates.cluster.task import JobId

pytestmark = [pytest.mark.needs("redis"), pytest.mark.system]

TELL = 'echo "I am $ERG_GANG_ROLE at $ERG_LABELS"'


@pytest.fixture
def cluster(erg: Erg, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(erg, tmp_path_factory.mktemp("server"), stack)
        erg.clean_up()


def of_group(cluster: Cluster, group: str) -> Worker:
    worker = cluster.worker("-j", "1", "--label", f"group={group}", "--label", "arch=x86")
    worker.until("registered")
    return worker


def submit_gang(cluster: Cluster, *roles: str) -> None:
    options = [word for role in roles for word in ("--role", role)]
    submitted = cluster("submit", *options, cluster.erg.commands(TELL))
    assert submitted.code == 0, submitted


def stop(*workers: Worker) -> None:
    for worker in workers:
        worker.process.send_signal(signal.SIGTERM)
    for worker in workers:
        assert worker.ended().code == 0


def test_every_role_runs_on_a_node_of_its_group(cluster: Cluster) -> None:
    workers = [of_group(cluster, group) for group in ("small", "small", "big", "small")]
    submit_gang(cluster, f"server=1@group=big:{TELL} first", "client=2@group=small,arch=x86")
    cluster.wait()
    ((_, _, attempt),) = cluster.store().attempts(J1)
    assert attempt.outcome is Outcome.SUCCEEDED
    shown = cluster("logs", "j1/1").out.decode()
    assert shown.count("I am server at arch=x86,group=big first") == 1
    assert shown.count("I am client at arch=x86,group=small\n") == 2
    assert shown.index("rank 0 (server)") < shown.index("rank 1 (client)") < shown.index("rank 2 (client)")
    stop(*workers)
    cluster.erg.wait_until_gone()


def test_a_gang_waits_for_the_role_nobody_can_take_until_a_worker_is_relabelled(cluster: Cluster) -> None:
    workers = [of_group(cluster, "small") for _ in range(3)]
    submit_gang(cluster, "server=1@group=big", "client=2@group=small")
    lacking = b"1 node at once for the role server (group=big): of the 3 live workers none could take it"
    assert lacking in cluster("explain", "j1").out
    assert b"It is ready. It needs " + lacking in cluster("explain", "j1/1").out
    eventually(lambda: cluster.store().assembling() is None, "nobody keeps room for it")
    changed = cluster("worker", "set", workers[1].id, "--label", "group=big")
    assert changed.code == 0, changed
    cluster.wait()
    ((_, _, attempt),) = cluster.store().attempts(J1)
    assert (attempt.outcome, attempt.worker) == (Outcome.SUCCEEDED, workers[1].id), "the server leads"
    shown = cluster("logs", "j1/1").out.decode()
    assert shown.count("I am server at arch=x86,group=big") == 1
    assert shown.count("I am client at arch=x86,group=small") == 2
    stop(*workers)
    cluster.erg.wait_until_gone()


def test_a_task_submits_more_to_the_store_its_worker_was_given_as_a_file(cluster: Cluster) -> None:
    store_file = cluster.erg.folder / "store.toml"
    os.close(os.open(store_file, os.O_WRONLY | os.O_CREAT, 0o600))
    store_file.write_text(f'url = "unix://{cluster.socket}"\n')
    state = {"ERGATES_WORKER_STATE": cluster.env["ERGATES_WORKER_STATE"]}
    commands = cluster.erg.commands(f'cd / && {sys.executable} -m ergates submit "echo told $ERGATES_STORE"')
    submitted = cluster.erg("submit", "--store", "store.toml", commands)
    assert submitted.code == 0, submitted
    worker = Worker(cluster, cluster.erg.start("worker", "start", "--store", "store.toml", "-j", "1", env=state))
    worker.until("registered")
    cluster.wait()
    assert [attempt.outcome for _, _, attempt in cluster.store().attempts(J1)] == [Outcome.SUCCEEDED]
    assert cluster("wait", "j2").code == 0
    assert cluster("logs", "j2/1").out.decode() == f"told {store_file}\n"
    assert cluster.store().status(JobId("j2")).counts["done"] == 1
    stop(worker)
    cluster.erg.wait_until_gone()
