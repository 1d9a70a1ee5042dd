"""Gangs on real workers and a real Redis: members that talk to each other, and one whose worker is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from erg_rig import Erg, ended, eventually
from redis_server import free_port
from test_cluster_worker import J1, Cluster

from ergates.cluster.attempt import Outcome
from ergates.cluster.task import JobId

pytestmark = [pytest.mark.needs("redis"), pytest.mark.system]

SERVER = """
import os, socket
clients = int(os.environ["ERG_GANG_SIZE"]) - 1
with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))) as door:
    print("serving", os.environ["ERG_GANG_ROLE"], os.environ["ERG_GANG_RANK"], flush=True)
    met = []
    for _ in range(clients):
        link, _ = door.accept()
        with link:
            met.append(link.makefile().readline().strip())
            link.sendall(b"welcome\\n")
print("met", *sorted(met))
"""
CLIENT = """
import os, socket, time
hosts = os.environ["ERG_GANG_HOSTS"].split(",")
assert len(hosts) == int(os.environ["ERG_GANG_SIZE"])
while True:
    try:
        link = socket.create_connection(("127.0.0.1", int(os.environ["PORT"])))
        break
    except ConnectionRefusedError:  # the server's program starts at the same time as ours
        time.sleep(0.02)
with link:
    link.sendall(f"{os.environ['ERG_GANG_ROLE']}{os.environ['ERG_GANG_RANK']}\\n".encode())
    print("heard", link.makefile().readline().strip())
"""


@pytest.fixture
def cluster(erg: Erg, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(erg, tmp_path_factory.mktemp("server"), stack)
        erg.clean_up()


def submit_gang(cluster: Cluster, command: str, *options: str) -> None:
    submitted = cluster("submit", *options, cluster.erg.commands(command))
    assert submitted.code == 0, submitted


def test_roles_of_a_gang_meet_and_become_one_attempt(cluster: Cluster) -> None:
    (cluster.erg.folder / "server.py").write_text(SERVER)
    (cluster.erg.folder / "client.py").write_text(CLIENT)
    cluster.env = {**cluster.env, "PORT": str(free_port())}
    submit_gang(
        cluster, "python3 client.py", "--nodes", "3", "--role", "server=1:python3 server.py", "--role", "client=2"
    )
    workers = [cluster.worker("-j", "1", "--until-empty") for _ in range(3)]
    for worker in workers:
        end = worker.ended()
        assert end.code == 0, end
    ((_, _, attempt),) = cluster.store().attempts(J1)
    assert attempt.outcome is Outcome.SUCCEEDED
    shown = cluster("logs", "j1/1").out.decode()
    assert "serving server 0" in shown and "met client1 client2" in shown and shown.count("heard welcome") == 2
    assert "--- rank 0 (server) on " in shown
    cluster.erg.wait_until_gone()


def test_a_member_that_fails_ends_all_of_them(cluster: Cluster) -> None:
    submit_gang(cluster, 'test "$ERG_GANG_RANK" = 1 && exit 3; sleep 300', "--nodes", "3")
    workers = [cluster.worker("-j", "1", "--until-empty") for _ in range(3)]
    for worker in workers:
        assert worker.ended().code == 0
    ((_, _, attempt),) = cluster.store().attempts(J1)
    assert (attempt.outcome, attempt.exit_code) == (Outcome.FAILED, 3)
    assert attempt.reason.startswith("rank 1 on ") and attempt.reason.endswith("exit code 3")
    (view,) = cluster.store().tasks(J1)
    assert view.state.value == "failed" and view.reason.startswith("rank 1 on ")
    cluster.erg.wait_until_gone()


@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_members_worker_is_killed_all_end_and_the_task_runs_again(cluster: Cluster, victim: int) -> None:
    os.mkfifo(cluster.erg.folder / "begun")
    submit_gang(
        cluster,
        'test -e second && exit 0; echo "$ERG_WORKER $ERG_GANG_RANK" >> begun; exec sleep 300',
        "--nodes",
        "3",
    )
    workers = [cluster.quick_worker() for _ in range(3)]
    for worker in workers:
        worker.until("registered")
    begun: dict[int, str] = {}
    with (cluster.erg.folder / "begun").open() as pipe:
        while len(begun) < 3:
            words = pipe.readline().split()
            if words:
                begun[int(words[1])] = words[0]
    assert set(begun) == {0, 1, 2} and set(begun.values()) == {worker.id for worker in workers}
    (cluster.erg.folder / "second").touch()
    dead = next(worker for worker in workers if worker.id == begun[victim])
    dead.process.kill()
    ended(dead.process)
    replacement = cluster.quick_worker()
    cluster.wait()
    outcomes = [attempt.outcome for _, _, attempt in cluster.store().attempts(J1)]
    assert outcomes == [Outcome.LOST, Outcome.SUCCEEDED]
    for worker in [*(worker for worker in workers if worker is not dead), replacement]:
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ended().code == 0
    cluster.erg.wait_until_gone()


def test_a_draining_worker_hands_its_seat_back(cluster: Cluster) -> None:
    os.mkfifo(cluster.erg.folder / "go")
    cluster.submit("cat go")
    store = cluster.store()
    busy = cluster.worker("-j", "1")
    eventually(lambda: store.status(J1).counts["leased"] == 1, "the first task is leased")
    submit_gang(cluster, "true", "--nodes", "2")
    seated = cluster.worker("-j", "1")
    eventually(lambda: (seat := store.assembling()) is not None and seat.taken == 1, "one seat is taken")
    assert b"1 of 2" in cluster("explain", "j2").out
    for words in (("status", "j2"), ("status",), ("top", "--once")):
        assert b"assembling 1 of 2" in cluster(*words).out, words
    seated.process.send_signal(signal.SIGTERM)
    assert seated.ended().code == 0
    left = store.assembling()
    assert left is None or left.taken == 0
    other = cluster.worker("-j", "1")
    (cluster.erg.folder / "go").write_text("")
    assert cluster("wait", "j2").code == 0
    for worker in (busy, other):
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ended().code == 0
    ((_, _, attempt),) = store.attempts(JobId("j2"))
    assert attempt.outcome is Outcome.SUCCEEDED
