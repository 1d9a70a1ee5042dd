"""A node whose clock is an hour off, the tasks on it too: leases, delays and reports go by the server's clock.

The clock is set off for one node's processes alone, by a library that answers for the system when they ask what time it is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from broken_cluster import BrokenCluster
from erg_rig import Erg, eventually

from ergates.clock import SystemClock
from ergates.cluster.attempt import Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.task import TaskSpec
from ergates.units import SECOND_NS

pytestmark = [
    pytest.mark.needs("redis"),
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("cc") is None, reason="not installed: cc"),
]
HOUR_S = 3600
WRONG_CLOCK = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long off(void) { const char *text = getenv("OFF_S"); return text ? atol(text) : 0; }

int clock_gettime(clockid_t clock, struct timespec *at) {
  int failed = syscall(SYS_clock_gettime, clock, at);
  if (!failed && clock == CLOCK_REALTIME) at->tv_sec += off();
  return failed;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    (folder / "clock.c").write_text(WRONG_CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "clock.so", folder / "clock.c"], check=True)
    return folder / "clock.so"


@pytest.mark.parametrize("off_s", [HOUR_S, -HOUR_S])
def test_a_node_whose_clock_is_an_hour_off(
    off_s: int, library: Path, erg: Erg, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with ExitStack() as stack:
        cluster = BrokenCluster(erg, stack, tmp_path_factory.mktemp("server"), lease_s=1.5)
        stack.callback(erg.clean_up)
        wrong = {"LD_PRELOAD": str(library), "OFF_S": str(off_s)}
        odd = cluster.add_node(env=wrong, jobs=2)
        store = stack.enter_context(closing(cluster.store()))
        begun_ns = SystemClock().now_ns()
        works = [
            "date +%s > seen; touch begun; until test -e go; do sleep 0.05; done",
            'test "$ERG_ATTEMPT" -gt 1',  # comes back once, after a delay of a second or so
        ]
        tasks = [TaskSpec(command=work, retries=3) for work in works]
        job = store.submit(JobSpec(key="skew", cwd=str(erg.folder)), tasks, begun_ns).id
        eventually(lambda: (erg.folder / "begun").exists(), "it takes the task", odd.process)
        assert abs(int((erg.folder / "seen").read_text()) - time.time() - off_s) < 600, "its clock is off indeed"
        eventually(
            lambda: store.status(job).outcomes.get("failed"), "it says when the other may come again", odd.process
        )
        even = cluster.add_node(jobs=1)
        eventually(lambda: store.status(job).counts["done"] == 1, "the retry is not held up for an hour", even.process)
        time.sleep(3)  # for two leases: nobody is called dead for what its clock says
        (erg.folder / "go").touch()
        eventually(lambda: store.status(job).counts["done"] == 2, "the end of the first is accepted", odd.process)
        assert {worker.standing for worker in store.workers()} == {"live"}
        ages_ns = [worker.beat_age_ns for worker in store.workers()]
        assert all(0 <= age_ns < 60 * SECOND_NS for age_ns in ages_ns), "shown by the server's clock"
        attempts = [(int(task), attempt) for _, task, attempt in store.attempts(job)]
        assert sorted((task, attempt.outcome) for task, attempt in attempts) == sorted(
            [(1, Outcome.SUCCEEDED), (2, Outcome.FAILED), (2, Outcome.SUCCEEDED)]
        )
        for _, attempt in attempts:
            assert 0 <= attempt.usage.wall_ns < 120 * SECOND_NS
            assert 0 <= attempt.ended_ns - attempt.started_ns < 120 * SECOND_NS
        status = json.loads(erg("status", job, "--json", env=cluster.env).out)
        assert status["counts"]["done"] == 2
        assert erg("report", env=cluster.env).code == 0
        cluster.shut_down()
