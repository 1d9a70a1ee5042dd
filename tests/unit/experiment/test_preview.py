"""Command lines and durations shown before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ergates.experiment.duration_estimate import OVERHEAD_S, estimated_duration
from ergates.experiment.plan import plan_runs
from ergates.experiment.preview import CommandLine, command_lines
from ergates.experiment.reading.read_experiment import parse_experiment
from ergates.experiment.spec import Experiment


def read(text: str) -> Experiment:
    return parse_experiment(text, "e.toml", Path("/exp"))


LAB = """
[experiment]
order = "listed"
[hosts]
lab = { kind = "namespaces", count = 6 }
far = ["node[1-2]"]
[roles]
server = "lab"
client = { hosts = "lab", count = "{clients}" }
probe = "far"
[programs.load]
role = "client"
order = 1
command = "./load {server.address}:80 --me {index}/{client.count} --all {client.addresses} --seed {seed}"
[programs.serve]
role = "server"
background = true
command = "{here}/serve '{address}' > {folder}/log"
[programs.watch]
role = "client"
background = true
command = "vmstat {clients}"
[programs.probe]
role = "probe"
command = "{here}/probe {folder} {run}"
[sweep]
clients = [1, 2, 5]
"""


def test_command_lines_are_whole_but_for_what_hosts_know() -> None:
    experiment = read(LAB)
    run = plan_runs(experiment)[1]
    assert command_lines(experiment, run, Path("/f/0002")) == (
        CommandLine(
            program="serve", role="server", hosts=1, order=0, background=True,
            line="/bin/sh -c '/exp/serve '\"'\"'<address>'\"'\"' > /f/0002/attempt-1/0-server/log'",
        ),
        CommandLine(program="watch", role="client", hosts=2, order=0, background=True, line="vmstat 2"),
        CommandLine(
            program="probe", role="probe", hosts=1, order=0, background=False, line="<here>/probe <folder> 2"
        ),
        *(
            CommandLine(
                program="load", role="client", hosts=1, order=1, background=False,
                line=f"/exp/load <server.address>:80 --me {index}/2 --all <client.addresses> --seed {run.seed}",
            )
            for index in (0, 1)
        ),
    )  # fmt: skip


def test_nothing_finished_is_no_estimate() -> None:
    experiment = read(LAB)
    assert estimated_duration(experiment, plan_runs(experiment), []) is None


def test_points_known_take_what_they_took_and_others_the_mean() -> None:
    experiment = read(LAB)
    runs = plan_runs(experiment)
    estimate = estimated_duration(experiment, runs[1:], [(runs[0], 10.0), (runs[0], 20.0), (runs[1], 60.0)])
    assert estimate is not None
    # One at a time: the probe has two hosts, two runs of 3 hosts would do, but one of 6 is alone
    assert estimate.seconds == pytest.approx((60 + OVERHEAD_S) / 2 + (30 + OVERHEAD_S) / 1)
    assert (estimate.runs, estimate.finished) == (2, 3)
