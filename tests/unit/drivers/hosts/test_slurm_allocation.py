"""What sbatch and srun are asked for, and what squeue says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ergates.drivers.hosts.slurm_allocation import (
    allocation_arguments,
    comment_in,
    mark_of,
    parse_allocations,
    partition_in,
    worker_command,
    worker_environment,
)
from ergates.errors import UsageError
from ergates.experiment.spec import HostGroup
from ergates.units import GIB, SECOND_NS, Bytes, MilliCpus, Nanoseconds

GROUP = HostGroup(name="n", kind="slurm", count=8, time_ns=Nanoseconds(3600 * SECOND_NS))


def test_whole_nodes_unless_the_group_says_how_much_of_each() -> None:
    whole = allocation_arguments(GROUP, "erg:x", "mark")
    assert {"--nodes=8", "--ntasks-per-node=1", "--exclusive", "--mem=0", "--time=01:00:00"} <= set(whole)
    part = HostGroup(name="n", kind="slurm", cpus_milli=MilliCpus(1500), memory_bytes=Bytes(GIB))
    words = allocation_arguments(part, "erg:x", "mark")
    assert {"--cpus-per-task=2", "--mem=1024M"} <= set(words)
    assert "--exclusive" not in words
    assert not [word for word in words if word.startswith("--time")]


def test_an_allocation_is_known_by_all_that_was_asked_for() -> None:
    comment = comment_in(allocation_arguments(GROUP, "erg:x", "mark"))
    assert comment.startswith("mark ")
    assert comment == comment_in(allocation_arguments(GROUP, "erg:x", "mark"))
    other = HostGroup(name="n", kind="slurm", count=7, time_ns=GROUP.time_ns)
    assert comment != comment_in(allocation_arguments(other, "erg:x", "mark"))
    assert mark_of(Path("/a/x.experiment"), "n") != mark_of(Path("/b/x.experiment"), "n")


def test_options_that_would_undo_ours_are_refused_by_the_name_of_the_group() -> None:
    for option in ("--nodes=3", "-N3", "--comment=hello", "word"):
        with pytest.raises(UsageError, match=r"hosts\.n: options: ") as refused:
            allocation_arguments(HostGroup(name="n", kind="slurm", options=(option,)), "erg:x", "mark")
        assert "after --" not in str(refused.value)


def test_partitions_in_options() -> None:
    assert partition_in(("--exclude=n1", "--partition=long")) == "long"
    assert partition_in(("-pshort",)) == "short"
    assert partition_in(("--gres=gpu:1",)) == ""


def test_a_worker_has_its_labels_and_none_of_our_secrets_or_settings_of_srun() -> None:
    words = worker_command(GROUP, "x", "12", "n3", "step", Path("/s/store.toml"))
    ours = words[words.index("--") + 1 :]
    assert words[0] == "srun"
    assert {"--jobid=12", "--nodelist=n3", "--overlap"} <= set(words[: words.index("--")])
    assert {"--label=experiment=x", "--label=group=n", "--label=host=n3", "--resource=host=1"} <= set(ours)
    seen = {"PATH": "/bin", "SLURM_CONF": "/c", "SLURM_NNODES": "9", "SRUN_DEBUG": "3", "ERGATES_STORE_PASSWORD": "p"}
    assert worker_environment(seen, "n3", "10.0.0.3") == {
        "PATH": "/bin", "SLURM_CONF": "/c", "SLURM_CPU_BIND": "none",
        "ERG_EXPERIMENT_HOST": "n3", "ERG_EXPERIMENT_ADDRESS": "10.0.0.3",
    }  # fmt: skip


def test_rows_of_squeue() -> None:
    running, waiting = parse_allocations(
        "12|RUNNING|None|8|n[1-8]|9:30|mark a|b\n13|PENDING|Resources|2||UNLIMITED|\n14_1|x\n"
    )
    assert (running.job, running.running, running.nodes, running.comment) == ("12", True, "n[1-8]", "mark a|b")
    assert running.left_ns == 570 * SECOND_NS
    assert (waiting.waiting, waiting.reason, waiting.count, waiting.left_ns) == (True, "Resources", 2, None)
