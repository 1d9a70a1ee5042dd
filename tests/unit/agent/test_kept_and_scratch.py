"""What travels with a commit, and what is removed after an attempt."""

from __future__ import annotations

from pathlib import Path

import pytest

from ergates.agent.kept import kept_of
from ergates.agent.launches import LaunchBuilders
from ergates.agent.scratch import Scratch, remove_scratch
from ergates.cluster.attempt import KEPT_BYTES_MAX, Kept, Output
from ergates.cluster.job import JobSpec
from ergates.cluster.task import JobId, TaskId, TaskSpec
from ergates.errors import LaunchError
from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.node_events import StartAttempt
from ergates.taskqueue.store import Lease, PastFailures
from ergates.units import Nanoseconds

KEY: AttemptKey = ("j1", 7, 42)


def pack(state: Path, content: bytes) -> None:
    folder = state / "jobs" / "j1" / "output"
    folder.mkdir(parents=True)
    (folder / "w-0.pack").write_bytes(content)


def test_a_short_output_travels_whole(tmp_path: Path) -> None:
    pack(tmp_path, b"beforeOUTERRafter")
    output = Output(pack="w-0.pack", offset=6, stdout_bytes=3, stderr_bytes=3)
    assert kept_of(tmp_path, "j1", output, None) == Kept(stdout=b"OUT", stderr=b"ERR")


def test_of_a_long_output_the_end_travels(tmp_path: Path) -> None:
    out, err = b"x" + b"o" * KEPT_BYTES_MAX, b"e" * 10
    pack(tmp_path, out + err)
    output = Output(pack="w-0.pack", offset=0, stdout_bytes=len(out), stderr_bytes=len(err))
    assert kept_of(tmp_path, "j1", output, b"r") == Kept(stdout=b"o" * KEPT_BYTES_MAX, stderr=err, result=b"r")


def test_without_output_there_is_nothing_to_keep(tmp_path: Path) -> None:
    assert kept_of(tmp_path, "j1", Output(), None) is None
    assert kept_of(tmp_path, "j1", Output(), b"r") == Kept(result=b"r")


def test_a_pack_that_was_deleted_is_no_reason_to_fail(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, "j1", Output(pack="gone.pack", stdout_bytes=3), None)
    assert kept is not None
    assert b"deleted" in kept.stderr


def test_every_attempt_has_a_directory_of_its_own_that_goes_with_it(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, "w1")
    other: AttemptKey = ("j1", 8, 43)
    one, two = Path(scratch.make(KEY)), Path(scratch.make(other))
    assert one != two
    assert (one.stat().st_mode & 0o777, two.is_dir()) == (0o700, True)
    (two / "deep").mkdir()
    (two / "deep" / "file").write_text("left")
    scratch.remove(KEY)
    scratch.remove(other)
    scratch.remove(other)
    later = [Path(scratch.make(("j1", task, task))) for task in range(10, 13)]
    assert one in later, "an empty one is used again"
    assert two not in later
    assert len(set(later)) == 3
    assert [list(each.iterdir()) for each in later] == [[], [], []]
    scratch.close()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_task_may_do_what_it_likes_with_its_directory(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, "w1")
    removed = Path(scratch.make(KEY))
    removed.rmdir()
    scratch.remove(KEY)
    replaced = Path(scratch.make(KEY))
    replaced.rmdir()
    replaced.write_text("a file")
    scratch.remove(KEY)
    assert list(Path(scratch.make(KEY)).iterdir()) == []
    scratch.close()


def test_where_none_can_be_made_the_error_says_where(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("in the way")
    with pytest.raises(LaunchError, match="no scratch directory"):
        Scratch(tmp_path, "w1").make(KEY)


def test_what_dead_workers_left_is_removed(tmp_path: Path) -> None:
    left = Path(Scratch(tmp_path, "dead").make(KEY))
    alive = Path(Scratch(tmp_path, "alive").make(KEY))
    remove_scratch(tmp_path, ["dead", "unknown"])
    assert not left.exists()
    assert alive.exists()


def test_the_environment_of_a_task() -> None:
    builders = LaunchBuilders("w1", Nanoseconds(0))
    spec = JobSpec(key="k", env={"OF_JOB": "1"})
    task = TaskSpec(command="echo", env={"OF_TASK": "2"})
    lease = Lease(job=JobId("j1"), task=TaskId(7), fence=42, attempt=3, spec=task, past=PastFailures())
    first = builders.of("j1", spec).build(lease, StartAttempt(key=KEY), "/scratch/here")
    second = builders.of("j1", spec).build(lease, StartAttempt(key=KEY))
    assert first.env is second.env, "it travels once"
    seen = {**first.env, **first.env_changes}
    expected = {
        "ERG_JOB": "j1", "ERG_JOB_ID": "j1", "ERG_TASK_ID": "7", "ERG_ATTEMPT": "3", "ERG_WORKER": "w1",
        "ERG_TASK_DIR": "/scratch/here", "OF_JOB": "1", "OF_TASK": "2",
    }  # fmt: skip
    assert {name: seen[name] for name in expected} == expected
    assert "ERG_TASK_DIR" not in second.env_changes


def test_a_container_sees_its_scratch_directory_at_the_same_place() -> None:
    task = TaskSpec(command="echo", kind="container", image="debian", mounts=("/a:/b:ro",))
    lease = Lease(job=JobId("j1"), task=TaskId(7), fence=42, attempt=1, spec=task, past=PastFailures())
    launch = LaunchBuilders("w1", Nanoseconds(0)).of("j1", JobSpec(key="k")).build(lease, StartAttempt(key=KEY), "/s/t")
    assert launch.mounts == ("/a:/b:ro", "/s/t:/s/t")
