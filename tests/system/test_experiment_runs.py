"""Runs of an experiment as tasks on real workers: a gang of three on one Redis, whatever dies."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from erg_rig import Erg, ended, eventually
from redis_server import free_port
from test_cluster_worker import J1, Cluster, Worker

from ergates.clock import SystemClock
from ergates.cluster.attempt import Outcome
from ergates.cluster.job import JobSpec
from ergates.conductor.run_task import task_of
from ergates.experiment.layout import MEMBER
from ergates.experiment.run import Run
from ergates.experiment.spec import Experiment, HostGroup, Program, Ready, Role
from ergates.units import Nanoseconds

pytestmark = [pytest.mark.needs("redis"), pytest.mark.system]

SERVER = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as door:
    while True:
        link, _ = door.accept()
        with link:
            link.sendall(b"welcome " + link.makefile("rb").readline())
"""
CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as link:  # once: the server is ready before we start
    link.sendall(sys.argv[3].encode() + b"\\n")
    print(link.makefile().read().strip())
"""
HOST = HostGroup(name="g", kind="local", count=3)
ROLES = (Role(name="server", group="g"), Role(name="client", group="g", count=2))


def program(name: str, role: str, command: str, **fields: Any) -> Program:
    return Program(name=name, role=role, command=command, **fields)


class Runs:
    """Experiments on the workers of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.folder = cluster, cluster.erg.folder
        (self.folder / "server.py").write_text(SERVER)
        (self.folder / "client.py").write_text(CLIENT)

    def submit(self, *programs: Program, runs: int = 1, roles: Sequence[Role] = ROLES, **fields: Any) -> None:
        experiment = Experiment(
            name="e", here=str(self.folder), hosts=(HOST,), roles=tuple(roles), programs=programs,
            **{"retries": 0, "fixed": (("port", free_port()),), **fields},
        )  # fmt: skip
        tasks = [
            task_of(experiment, Run(number=n, point=(), repetition=n, seed=n), self.folder / f"run-{n}")
            for n in range(1, runs + 1)
        ]
        self.cluster.store().submit(JobSpec(key="e", cwd="/"), tasks, SystemClock().now_ns())

    def workers(self, *arguments: str) -> list[Worker]:
        """Three hosts."""
        found = []
        for host in "abc":
            env = {**self.cluster.env, "ERG_EXPERIMENT_HOST": host, "ERG_EXPERIMENT_ADDRESS": "127.0.0.1"}
            labels = ("--label", "experiment=e", "--label", "group=g", "--resource", "host=1")
            found.append(
                Worker(self.cluster, self.cluster.erg.start("worker", "start", "-j", "1", *labels, *arguments, env=env))
            )
        return found

    def to_the_end(self) -> None:
        for worker in self.workers("--until-empty"):
            end = worker.ended()
            assert end.code == 0, end
        self.cluster.erg.wait_until_gone()

    def outcomes(self) -> list[tuple[Outcome, str]]:
        return [(attempt.outcome, attempt.reason) for _, _, attempt in self.cluster.store().attempts(J1)]

    def member(self, name: str, *, run: int = 1, attempt: int = 1) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.folder_of(name, run=run, attempt=attempt).joinpath(MEMBER).read_text())
        return found

    def folder_of(self, name: str, *, run: int = 1, attempt: int = 1) -> Path:
        return self.folder / f"run-{run}" / f"attempt-{attempt}" / name

    def logs(self) -> str:
        return self.cluster("logs", "j1").err


@pytest.fixture
def runs(erg: Erg, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with ExitStack() as stack:
        yield Runs(Cluster(erg, tmp_path_factory.mktemp("server"), stack))
        erg.clean_up()


def serve(**fields: Any) -> Program:
    command = "exec python3 {here}/server.py {port}"
    return program("serve", "server", command, background=True, ready=Ready(port="{port}"), **fields)


def ask(command: str = "python3 {here}/client.py {server.address} {port} {host}:{index}", **fields: Any) -> Program:
    return program("ask", "client", command, order=1, **fields)


def test_a_server_and_two_clients_several_times(runs: Runs) -> None:
    runs.submit(serve(), ask(), runs=3)
    runs.to_the_end()
    assert runs.outcomes() == [(Outcome.SUCCEEDED, "")] * 3
    for run in (1, 2, 3):
        server = runs.member("0-server", run=run)
        (record,) = server["programs"]
        assert record["stopped"] and record["ok"] and record["ready_ns"] >= record["started_ns"]
        clients = [runs.member(f"{rank}-client", run=run) for rank in (1, 2)]
        hosts = {each["seat"]["host"] for each in [server, *clients]}
        assert hosts == {"a", "b", "c"}
        for index, client in enumerate(clients):
            assert client["programs"][0]["started_ns"] >= record["ready_ns"], "the same clock here"
            out = runs.folder_of(f"{index + 1}-client", run=run) / "ask" / "stdout"
            assert out.read_text() == f"welcome {client['seat']['host']}:{index}\n"


def test_a_client_that_fails_ends_all_and_is_named(runs: Runs) -> None:
    command = "test {index} = 0 && exec sleep 300; echo went wrong >&2; exit 3"
    runs.submit(serve(), ask(command))
    runs.to_the_end()
    ((outcome, reason),) = runs.outcomes()
    assert (outcome, reason.split(" on ")[0]) == (Outcome.FAILED, "rank 2 (client)"), (
        "the one to blame, not one that was ended"
    )
    client = runs.member("2-client")
    assert f"ask of client 1 on {client['seat']['host']}: exit code 3: went wrong" in runs.cluster("logs", "j1").err
    assert (client["programs"][0]["ok"], client["programs"][0]["problem"]) == (False, "exit code 3: went wrong")
    other, server = runs.member("1-client")["programs"][0], runs.member("0-server")["programs"][0]
    assert other["stopped"] and server["stopped"], "their records are there too"


def test_a_server_that_is_killed_fails_the_run_and_the_next_try_counts(runs: Runs) -> None:
    """The server kills itself in the first attempt."""
    command = "test -e {here}/second || { touch {here}/second; kill -9 $$; }; exec python3 {here}/server.py {port}"
    server = program("serve", "server", command, background=True, ready=Ready(port="{port}"))
    runs.submit(server, ask(), retries=1)
    runs.to_the_end()
    (first, reason), second = runs.outcomes()
    assert (first, reason.split(" on ")[0], second) == (Outcome.FAILED, "rank 0 (server)", (Outcome.SUCCEEDED, ""))
    (record,) = runs.member("0-server")["programs"]
    assert (record["signal"], record["problem"]) == (signal.SIGKILL, "ended by signal KILL")
    (waited,) = runs.member("1-client")["programs"]
    assert (waited["ok"], waited["argv"]) == (False, []), "its turn never came"
    assert runs.member("1-client", attempt=2)["programs"][0]["ok"]


def test_daemons_go_with_the_run(runs: Runs) -> None:
    command = "(setsid sh -c 'sleep 300 & echo $! > {folder}/daemon; sleep 300' >/dev/null 2>&1 &); sleep 0.1"
    runs.submit(program("leaves", "client", command), program("also", "server", command, background=True))
    runs.to_the_end()
    assert runs.outcomes() == [(Outcome.SUCCEEDED, "")]
    assert (runs.folder_of("1-client") / "daemon").exists()


def test_the_time_limit_is_the_runs_and_everybody_writes_down_what_there_was(runs: Runs) -> None:
    command = "test {index} = 0 && exit; echo begun; exec sleep 300"
    runs.submit(serve(), ask(command), time_limit_ns=Nanoseconds(1_500_000_000))
    runs.to_the_end()
    ((outcome, _),) = runs.outcomes()
    assert outcome is Outcome.FAILED
    host = runs.member("2-client")["seat"]["host"]
    assert (
        f"the run's time limit of 1.5 s is over; not done: ask of client 1 on {host}" in runs.cluster("logs", "j1").err
    )
    (record,) = runs.member("2-client")["programs"]
    assert record["stopped"] and (runs.folder_of("2-client") / "ask" / "stdout").read_text() == "begun\n"
    assert runs.member("0-server")["programs"][0]["stopped"]


@pytest.mark.parametrize("cgroups", ["auto", "none"])
def test_when_a_worker_is_killed_all_end_and_the_run_is_repeated(runs: Runs, cgroups: str) -> None:
    os.mkfifo(runs.folder / "begun")
    command = "test -e {here}/second && exit 0; echo {host} >> {here}/begun; setsid sleep 300 & exec sleep 300"
    runs.submit(serve(), ask(command))
    cluster = runs.cluster
    labels = ("experiment=e,group=g", "host=1", cgroups)
    workers = {}
    for host in "abcd":
        env = {**cluster.env, "ERG_EXPERIMENT_HOST": host, "ERG_EXPERIMENT_ADDRESS": "127.0.0.1"}
        workers[host] = cluster.quick_worker(*labels, env=env)
        workers[host].until("registered")
    heard = ""
    while heard.count("\n") < 2:  # both may write while it is open for one of them
        heard += (runs.folder / "begun").read_text()
    (runs.folder / "second").touch()
    victim = workers.pop(heard.split()[0])
    victim.process.kill()
    ended(victim.process)
    cluster.wait()
    assert [outcome for outcome, _ in runs.outcomes()] == [Outcome.LOST, Outcome.SUCCEEDED]
    assert not cluster.erg.running("sleep 300"), "also what the living members of the first attempt had started"
    assert runs.member("1-client", attempt=2)["programs"][0]["ok"]
    for worker in workers.values():
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ended().code == 0
    cluster.erg.wait_until_gone()


def test_a_cancelled_run_stops_its_programs_and_says_so(runs: Runs) -> None:
    os.mkfifo(runs.folder / "begun")
    command = "trap 'echo told; exit' TERM; echo > {here}/begun; while true; do sleep 0.05; done"
    runs.submit(program("wait", "client", command), program("serve", "server", "sleep 300", background=True))
    workers = runs.workers()
    lines = ""
    while lines.count("\n") < 2:
        lines += (runs.folder / "begun").read_text()
    assert runs.cluster("cancel", "j1").code == 0
    eventually(lambda: not runs.cluster.erg.running("sleep 300"), "the programs are ended")
    eventually(lambda: all((runs.folder_of(f"{n}-client") / MEMBER).exists() for n in (1, 2)), "members wrote down")
    for name in ("1-client", "2-client"):
        assert (runs.folder_of(name) / "wait" / "stdout").read_text().startswith("told")
    problems = [runs.member(name)["problem"] for name in ("1-client", "2-client")]
    assert any("from outside" in problem for problem in problems), (
        "the others may hear of it before they are told themselves"
    )
    for worker in workers:
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ended().code == 0
    ((outcome, _),) = runs.outcomes()
    assert outcome is Outcome.CANCELLED
    runs.cluster.erg.wait_until_gone()


def test_when_the_server_was_restarted_the_run_is_repeated(runs: Runs) -> None:
    """What members said may be lost with its last second, so they do not wait for it."""
    os.mkfifo(runs.folder / "begun")
    command = "test -e {here}/second && exit 0; echo > {here}/begun; exec sleep 300"
    runs.submit(serve(), ask(command), retries=1)
    workers = runs.workers("--until-empty")
    lines = ""
    while lines.count("\n") < 2:
        lines += (runs.folder / "begun").read_text()
    (runs.folder / "second").touch()
    runs.cluster.kill_server()
    runs.cluster.start_server()
    for worker in workers:
        end = worker.ended()
        assert end.code == 0, end
    assert [outcome for outcome, _ in runs.outcomes()] == [Outcome.FAILED, Outcome.SUCCEEDED]
    assert "restarted" in runs.member("1-client")["problem"]
    assert runs.member("1-client")["programs"][0]["stopped"]
    runs.cluster.erg.wait_until_gone()


@pytest.mark.parametrize("cgroups", ["auto", "none"])
def test_when_a_members_interpreter_is_killed_its_programs_go_and_the_run_is_repeated(runs: Runs, cgroups: str) -> None:
    os.mkfifo(runs.folder / "begun")
    command = "test -e {here}/second && exit 0; echo $PPID >> {here}/begun; setsid sleep 300 & exec sleep 300"
    runs.submit(serve(), ask(command), retries=1)
    workers = runs.workers("--until-empty", "--cgroups", cgroups)
    lines = ""
    while lines.count("\n") < 2:
        lines += (runs.folder / "begun").read_text()
    (runs.folder / "second").touch()
    os.kill(int(lines.split()[0]), signal.SIGKILL)
    for worker in workers:
        end = worker.ended()
        assert end.code == 0, end
    assert [outcome for outcome, _ in runs.outcomes()][1:] == [Outcome.SUCCEEDED]
    runs.cluster.erg.wait_until_gone()
