"""What Slurm's programs print and are given: recorded output of 22.05, arguments, the script, refusals in words."""

from __future__ import annotations

import subprocess

import pytest

from ergates.drivers.placers.slurm_array import (
    Pool,
    Shape,
    checked_extra,
    sbatch_arguments,
    script,
    submission_environment,
)
from ergates.drivers.placers.slurm_join import worker_arguments
from ergates.drivers.placers.slurm_records import format_time, parse_sinfo, parse_squeue, parse_time
from ergates.drivers.placers.slurm_words import SlurmError
from ergates.errors import UsageError
from ergates.units import GIB, SECOND_NS, Bytes, Nanoseconds

SQUEUE = """\
1|4|1|PENDING|Resources|main||3:00|1795248079|1795247899|erg:q1|erg:q1@abc/main 0123
1|0|2|RUNNING|None|main|n1|2:57|1795247899|1795247899|erg:q1|erg:q1@abc/main 0123
1|10|4|NODE_FAIL|NodeDown|main|n3|0:00|1795247899|1795247899|erg:q1|erg:q1@abc/gpu 4567 a|b
6|N/A|6|COMPLETED|None|main|n1|365-00:00:00|1795247990|1795247899|wrap|(null)
9|0|9|PENDING|PartitionTimeLimit|short||UNLIMITED|N/A|1795247899|erg:q1|(null)
garbage
"""
SINFO = """\
main*|up|infinite|2|2000|4
short|up|1:00|16|64000|2
short|up|1:00|8+|32000|3
old|down|1-00:00:00|2|2000|1
"""
POOL = Pool(queue="q1", store="abc")
SHAPE = Shape(walltime_ns=Nanoseconds(3600 * SECOND_NS))


def test_rows_of_squeue() -> None:
    rows = parse_squeue(SQUEUE)
    assert [(row.id, row.pending, row.running, row.over) for row in rows] == [
        ("1_0", False, True, False),
        ("1_4", True, False, False),
        ("1_10", False, False, True),
        ("9_0", True, False, False),
    ]
    running, pending, failed, stuck = rows
    assert (running.node, running.left_ns, running.started_s) == ("n1", 177 * SECOND_NS, 1795247899)
    assert (pending.started_s, pending.reason, pending.never_starts) == (None, "Resources", "")
    assert failed.words == "1_10 NODE_FAIL on n3 (NodeDown)"
    assert failed.comment == "erg:q1@abc/gpu 4567 a|b"
    assert stuck.never_starts == "it asks for more time than its partition allows"
    assert stuck.left_ns is None


def test_a_pool_knows_its_own() -> None:
    rows = parse_squeue(SQUEUE)
    assert [row.id for row in rows if POOL.owns(row.comment)] == ["1_0", "1_4"]
    assert [row.id for row in rows if POOL.of_store(row.comment)] == ["1_0", "1_4", "1_10"]
    other = Pool(queue="q1", store="ab")
    assert not [row for row in rows if other.of_store(row.comment)]


def test_partitions_have_the_least_of_their_nodes() -> None:
    main, short, old = parse_sinfo(SINFO)
    assert (main.name, main.default, main.limit_ns) == ("main", True, None)
    assert (short.cpus, short.memory_mib, short.nodes, short.limit_ns) == (8, 32000, 5, 60 * SECOND_NS)
    assert (old.up, old.default) == (False, False)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1-02:03:04", 93784),
        ("2:03:04", 7384),
        ("3:04", 184),
        ("UNLIMITED", None),
        ("NOT_SET", None),
        ("", None),
        ("x", None),
    ],
)
def test_times(text: str, seconds: int | None) -> None:
    assert parse_time(text) == (None if seconds is None else seconds * SECOND_NS)


def test_a_time_is_never_cut_short() -> None:
    assert format_time(90 * SECOND_NS + 1) == "00:01:31"
    assert parse_time(format_time(100 * 3600 * SECOND_NS)) == 100 * 3600 * SECOND_NS


def test_a_whole_node_is_asked_for_unless_a_part_is() -> None:
    whole = sbatch_arguments(POOL, SHAPE, 8, "0123", "/logs")
    assert {"--array=0-7", "--nodes=1", "--exclusive", "--mem=0", "--time=01:00:00", "--no-requeue"} <= set(whole)
    assert {"--job-name=erg:q1", "--comment=erg:q1@abc/main 0123", "--output=/logs/%A_%a.log"} <= set(whole)
    part = Shape(
        walltime_ns=SHAPE.walltime_ns, cpus=4, memory_bytes=Bytes(GIB + 1), partition="p", extra=("--gres=gpu:1",)
    )
    words = sbatch_arguments(POOL, part, 1, "0123", "/logs")
    assert {"--cpus-per-task=4", "--mem=1025M", "--partition=p"} <= set(words)
    assert "--exclusive" not in words
    assert words[-1] == "--gres=gpu:1", "what the user says comes last, and so wins"


@pytest.mark.parametrize(
    "option", ["--array=1-9", "--arr=1", "-a1", "--job-name=x", "-J", "--comment=x", "--wrap=x", "-t5", "-N2"]
)
def test_options_that_are_ours_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match="sets this option of sbatch itself"):
        checked_extra([option])


def test_other_options_go_through_and_loose_words_do_not() -> None:
    fine = ["--gres=gpu:1", "--exclude=n3", "--nodelist=n1", "--time-min=10", "-Lmatlab", "--mail-type=END"]
    assert checked_extra(fine) == tuple(fine)
    with pytest.raises(UsageError, match="not an option of sbatch"):
        checked_extra(["gpu:1"])


def test_the_script_hands_every_argument_on_unharmed(tmp_path: object) -> None:
    nasty = ["printf", "%s\\n", "a b", "$(touch /nowhere/x)", "'; exit 3; '", "back`tick`", "new\nline", "é*?"]
    ran = subprocess.run(["/bin/sh"], input=script(nasty, "X=1\n"), capture_output=True, text=True, check=True)
    assert ran.stdout == "".join(f"{word}\n" for word in nasty[2:])


def test_setup_may_bring_its_own_shell() -> None:
    lines = script(["erg"], "#!/bin/bash -l\nmodule load python\n").splitlines()
    assert lines[0] == "#!/bin/bash -l"
    assert lines[-2:] == ["module load python", "exec erg"]


def test_nothing_about_store_and_ledger_goes_to_slurm() -> None:
    environment = {
        "PATH": "/bin", "ERGATES_STORE": "redis://u:secret@h", "ERGATES_STORE_PASSWORD": "secret", "ERGATES_DEBUG": "1",
        "ERGATES_LEDGER": "postgresql://u:secret@h/d", "ERGATES_LEDGER_PASSWORD": "secret", "PGPASSWORD": "secret",
        "SQUEUE_FORMAT": "%i", "SBATCH_ACCOUNT": "mine", "SBATCH_ARRAY_INX": "1-9",
    }  # fmt: skip
    assert set(submission_environment(environment)) == {"PATH", "ERGATES_DEBUG", "SBATCH_ACCOUNT"}


@pytest.mark.parametrize(
    ("said", "for_good", "unknown", "words"),
    [
        ("sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid partition name"
         " specified", True, False, "no such partition"),
        ("sbatch: error: Batch job submission failed: Invalid feature specification", True, False, "no node has that feature"),
        ("sbatch: error: Memory specification can not be satisfied\nsbatch: error: Batch job submission failed: Requested node"
         " configuration is not available", True, False, "so much memory"),
        ("sbatch: error: Batch job submission failed: Invalid job array specification", True, False, "so large an array"),
        ("sbatch: unrecognized option '--foo'\nTry \"sbatch --help\"", True, False, "does not know an option"),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", False, False, "cannot be reached"),
        ("squeue: fatal: Could not establish a configuration source", True, False, "configuration is not found"),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", False, True, "in time"),
        ("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or"
         " time limits)", False, False, "limit of your account"),
        ("sbatch: error: something nobody has ever seen", False, False, "something nobody has ever seen"),
        ("", False, False, "it said nothing"),
    ],
)  # fmt: skip
def test_refusals_in_words(said: str, for_good: bool, unknown: bool, words: str) -> None:
    error = SlurmError("sbatch", said)
    assert (error.for_good, error.outcome_unknown) == (for_good, unknown)
    assert words in str(error)
    assert "\n" not in error.reason


ALLOCATION = {
    "SLURM_JOB_ID": "17", "SLURM_ARRAY_JOB_ID": "15", "SLURM_ARRAY_TASK_ID": "1", "SLURM_CPUS_ON_NODE": "4",
    "SLURM_MEM_PER_NODE": "2000", "SLURM_JOB_PARTITION": "main", "SLURMD_NODENAME": "n2",
}  # fmt: skip


def joined(environment: dict[str, str], left: str = "9:00", cores: int = 64) -> list[str]:
    return worker_arguments(
        environment, walltime_s=600, now_s=1000, time_left=lambda job: left, cores=cores, options=("--idle-timeout=5s",)
    )


def test_an_allocation_becomes_arguments_of_its_worker() -> None:
    assert joined(ALLOCATION) == [
        "--placed-by=slurm:15_1", "--time-limit=535s", "--cpus=4", f"--memory={2000 * 1024**2}", "--label=partition=main",
        "--label=node=n2", "--idle-timeout=5s",
    ]  # fmt: skip


def test_the_end_comes_from_slurm_where_it_tells_it() -> None:
    assert "--time-limit=295s" in joined({**ALLOCATION, "SLURM_JOB_END_TIME": "1300"})
    assert "--time-limit=595s" in joined(ALLOCATION, left=""), "nobody answers: what was asked for"
    assert "--time-limit=595s" in joined(ALLOCATION, left="UNLIMITED")
    assert "--time-limit=1s" in joined({**ALLOCATION, "SLURM_JOB_END_TIME": "900"}), "it is over already"


def test_cores_memory_and_gpus_of_an_allocation() -> None:
    assert "--cpus=2" in joined(ALLOCATION, cores=2)
    environment = {**ALLOCATION, "SLURM_MEM_PER_CPU": "100", "SLURM_JOB_GPUS": "4,5", "CUDA_VISIBLE_DEVICES": "0,1"}
    del environment["SLURM_MEM_PER_NODE"]
    assert f"--memory={400 * 1024**2}" in joined(environment)
    assert "--resource=gpus=0,1," in joined(environment)


def test_outside_an_allocation_it_says_so() -> None:
    with pytest.raises(UsageError, match="inside an allocation only"):
        joined({})
