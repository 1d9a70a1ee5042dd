"""Slurm's programs: submit an array, look at our allocations and at the partitions, cancel. Argument vectors only, no shell.

Every program runs in a session of its own, so that Ctrl-C at the terminal does not cut a submission in two.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence

from ergates.drivers.placers.slurm_array import Pool, Shape, sbatch_arguments, submission_environment
from ergates.drivers.placers.slurm_records import (
    SINFO_FORMAT,
    SQUEUE_FORMAT,
    Partition,
    SlurmAllocation,
    parse_sinfo,
    parse_squeue,
)
from ergates.drivers.placers.slurm_words import NoSlurmError, SlurmError
from ergates.errors import UsageError

PATIENCE_S = 120.0
"""Slurm's programs give up by themselves after a few times MessageTimeout (10 s, on large clusters up to 100 s)."""
IDS_AT_ONCE = 500
"""Ids in one call of scancel: argument vectors are not endless."""

_GONE = re.compile(r"Invalid job id|already completing or completed")
"""What scancel says of jobs that are over."""


class Slurm:
    """The cluster that this machine talks to.

    Args:
        environment: for the programs: SLURM_CONF, PATH, HOME, ...; None is this process's.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = submission_environment(os.environ if environment is None else environment)

    def submit(self, pool: Pool, shape: Shape, count: int, token: str, text: str, logs: str, *, hold: int = -1) -> str:
        """Submit one array and return its job id.

        The arguments are those of slurm_array.sbatch_arguments, and `text`, the batch script. `hold` is a file descriptor that
        sbatch keeps open: a lock on it lasts as long as the submission does.

        Raises:
            SlurmError: it was refused, or (`outcome_unknown`) nobody knows.
            NoSlurmError: no sbatch here.
        """
        argv = sbatch_arguments(pool, shape, count, token, logs)
        printed = self.run(argv, stdin=text, pass_fds=() if hold < 0 else (hold,))
        job = printed.strip().splitlines()[-1].partition(";")[0] if printed.strip() else ""
        if not job.isdigit():
            raise SlurmError("sbatch", f"timed out: it printed no job id but {printed.strip()[:200]!r}")
        return job

    def allocations(self, pool: Pool) -> list[SlurmAllocation]:
        """All of this user with the queue's name, also those that ended lately (MinJobAge, 5 minutes by default).

        Whether they are of this store and pool tells the comment.
        """
        printed = self.run(
            ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", f"--name={pool.job_name}",
             f"--format={SQUEUE_FORMAT}"]
        )  # fmt: skip
        return [row for row in parse_squeue(printed) if row.name == pool.job_name]

    def partitions(self) -> list[Partition]:
        """All that this user may see."""
        return parse_sinfo(self.run(["sinfo", "--noheader", "--exact", f"--format={SINFO_FORMAT}"]))

    def cancel(self, ids: Sequence[str], *, pending_only: bool = False) -> None:
        """End allocations: TERM to the worker, KILL some seconds later (KillWait). Those that ended already are no error.

        `pending_only` lets alone what started meanwhile.
        """
        state = ["--state=PENDING"] if pending_only else []
        for begin in range(0, len(ids), IDS_AT_ONCE):
            try:
                self.run(["scancel", f"--user={os.getuid()}", *state, *ids[begin : begin + IDS_AT_ONCE]])
            except SlurmError as error:
                if not all(_GONE.search(line) for line in error.lines):
                    raise

    def check(self, shape: Shape) -> Partition | None:
        """The partition that a shape names, or the default one; None when Slurm shows no default.

        Raises:
            UsageError: there is none of that name, it is down, or it allows less time.
        """
        partitions = self.partitions()
        if not shape.partition:
            return next((one for one in partitions if one.default), None)
        named = [one for one in partitions if one.name in shape.partition.split(",")]
        if not named:
            known = ", ".join(sorted(one.name for one in partitions)) or "none"
            raise UsageError(f"--partition {shape.partition}: Slurm has no such partition\n  expected: one of {known}")
        found = named[0]
        if all(one.limit_ns is not None and one.limit_ns < shape.walltime_ns for one in named):
            from ergates.units import format_duration

            longest, asked = format_duration(found.limit_ns or 0), format_duration(shape.walltime_ns)
            raise UsageError(f"--time {asked}: partition {found.name} allows {longest}\n  hint: a shorter --time")
        if not any(one.up for one in named):
            raise UsageError(f"--partition {found.name}: it is down\n  hint: `sinfo` shows which are up")
        return found

    def run(self, argv: Sequence[str], *, stdin: str = "", pass_fds: Sequence[int] = ()) -> str:
        """What one of Slurm's programs prints. Raises NoSlurmError, SlurmError."""
        environment = {**self._environment, "SLURM_TIME_FORMAT": "%s"} if argv[0] == "squeue" else self._environment
        try:
            ended = subprocess.run(
                argv, env=environment, input=stdin, capture_output=True, text=True, errors="replace", timeout=PATIENCE_S,
                pass_fds=tuple(pass_fds), start_new_session=True, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise NoSlurmError(argv[0]) from None
        except subprocess.TimeoutExpired:
            raise SlurmError(argv[0], f"timed out after {PATIENCE_S:.0f} s") from None
        if ended.returncode < 0:
            raise SlurmError(argv[0], f"timed out: it was ended by signal {-ended.returncode}")
        if ended.returncode != 0:
            raise SlurmError(argv[0], ended.stderr or ended.stdout)
        return ended.stdout
