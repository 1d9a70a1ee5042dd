"""`erg distcomp`: the verbs people have scripts for, each old mistake of theirs once, and the take-over of a live queue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from erg_rig import Erg
from redis_server import PrivateRedis

TASKS = """\
# type:priority:min_dram_gb:min_cpu:command
shell:4:0:1:echo a:b é
shell:5:0:1:echo twice
shell:5:0:1:echo twice
shell:1:0:1:echo no >&2; false
python:2:0:1:print(6 * 7)
"""


def load(erg: Erg, text: str = TASKS) -> bytes:
    (erg.folder / "task").write_text(text)
    ended = erg("distcomp", "--task", "initRedis&loadTask", "--taskfile", "task")
    assert ended.code == 0, ended.err
    return ended.out


def test_what_was_wrong_with_distcomp_is_right_here(erg: Erg) -> None:
    """Colons, identical lines, Python, output beyond ASCII, failures that end: one by one as the reference lists them."""
    assert b"load 5 tasks, add 5 task" in load(erg)
    assert erg("run", "--job", "j1").code == 1
    listed = erg("distcomp", "--task", "checkTask").out.decode()
    assert "0 todo tasks, 0 in_progress tasks, 4 finished tasks, 1 failed tasks" in listed
    assert "shell:4:0:1:echo a:b é:         " in listed and '"a:b \\u00e9"' in listed
    assert listed.count("shell:5:0:1:echo twice") == 2
    assert '"42"' in listed
    assert "shell:1:0:1:echo no >&2; false:         4 attempts" in listed


def test_loading_again_adds_only_what_is_new(erg: Erg) -> None:
    load(erg)
    (erg.folder / "task").write_text(TASKS + "shell:5:0:1:echo twice\nshell:0:0:1:echo new\n")
    assert b"load 7 tasks, add 2 task" in erg("distcomp", "--task", "loadTask").out
    assert b"7 todo tasks" in erg("distcomp", "--task", "checkTask").out


def test_filters(erg: Erg) -> None:
    load(erg)
    only = erg("distcomp", "--task", "checkTask", "--include", "twice").out.decode()
    assert "twice" in only and "a:b" not in only
    others = erg("distcomp", "--task", "checkTask", "--exclude", "twice").out.decode()
    assert "twice" not in others and "a:b" in others
    hidden = erg("distcomp", "--task", "checkTask", "--todo", "false").out.decode()
    assert "todo task  #" not in hidden and "5 todo tasks" in hidden


def test_failed_tasks_go_back(erg: Erg) -> None:
    load(erg, "shell:1:0:1:test -e there\n")
    erg("run", "--job", "j1")
    (erg.folder / "there").touch()
    assert b"1 task moved to todo" in erg("distcomp", "--task", "moveFailedTaskToTodo").out
    assert erg("run", "--job", "j1").code == 0


def test_nothing_but_what_it_loaded_is_touched(erg: Erg) -> None:
    (erg.folder / "other").write_text("echo other\n")
    assert erg("submit", "other").code == 0
    load(erg)
    assert b"5 tasks of earlier loads cancelled" in erg("distcomp", "--task", "initRedis").out
    phases = {job["id"]: job["phase"] for job in json.loads(erg("status", "--json").out)}
    assert phases == {"j1": "active", "j2": "cancelled"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "flushAll"], "expected: one of initRedis"),
        ([], "expected: --task VERB"),
        (["--task", "checkTask", "--redis_host", "x", "--redis_pass", "secret"], "ERGATES_STORE_PASSWORD"),
        (["--task", "checkTask", "--todo", "perhaps"], "true or false"),
        (["--task", "loadTask", "--taskfile", "none"], "none"),
        (["import", "redis://:secret@x"], "password in an argument"),
    ],
)
def test_bad_arguments(erg: Erg, arguments: list[str], said: str) -> None:
    ended = erg("distcomp", *arguments)
    assert ended.code == 2
    assert said in ended.err and "secret" not in ended.err.replace("--redis_pass secret", "")


def test_a_bad_line_loads_nothing(erg: Erg) -> None:
    (erg.folder / "task").write_text("shell:1:1:1:echo fine\nshell:x:1:1:echo bad\n")
    ended = erg("distcomp", "--task", "loadTask")
    assert ended.code == 2 and "task:2" in ended.err
    assert json.loads(erg("status", "--json").out or b"[]") == []


# --- taking over a live queue ---------------------------------------------------------------------


@pytest.fixture
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Redis such as distComp's."""
    with PrivateRedis(tmp_path_factory.mktemp("manager")) as server:
        client = server.client()
        yield client
        client.close()


def url_of(manager: Any) -> str:
    return f"unix://{manager.connection_pool.connection_kwargs['path']}"


def fill(manager: Any) -> None:
    manager.hset("todo_tasks", mapping={"shell:4:0:1:echo waits": "", "shell:9:0:2:echo a:b": "", "stop": ""})
    manager.hset("in_progress_tasks", mapping={"shell:1:0:1:echo runs": "alive", "shell:1:0:1:echo lost": "dead"})
    seconds = int(manager.time()[0])
    manager.hset("worker_status", mapping={"alive": f"{seconds}:1:2:3:4", "dead": f"{seconds - 100}:1:2:3:4"})
    manager.hset("finished_tasks", "shell:1:0:1:echo old", 'alive: "old"')


@pytest.mark.needs("redis")
def test_a_live_queue_is_taken_over(erg: Erg, manager: Any) -> None:
    fill(manager)
    counted = json.loads(erg("distcomp", "import", url_of(manager), "--dry-run", "--json").out)
    assert counted == {"todo": 3, "in_progress": 2, "claimed": 0, "moved": 0, "finished": 1, "failed": 0}
    taken = json.loads(erg("distcomp", "import", url_of(manager), "--json").out)
    assert taken == {"job": "j1", "taken": 3, "strange": 1, "given_back": 1}
    assert manager.hgetall("todo_tasks") == {b"stop": b""}
    assert manager.hget("in_progress_tasks", "shell:1:0:1:echo runs") == b"alive"
    assert manager.hget("in_progress_tasks", "shell:1:0:1:echo lost") == b"ergates:j1"
    assert erg("run", "--job", "j1").code == 0
    printed = erg("logs", "j1", "--stdout").out
    assert all(word in printed for word in (b"a:b\n", b"lost\n", b"waits\n"))
    again = erg("distcomp", "import", url_of(manager))
    assert again.code == 0 and b"nothing waits there" in again.out


@pytest.mark.needs("redis")
def test_a_take_over_that_died_is_finished_by_the_next(erg: Erg, manager: Any) -> None:
    """Claimed, but in no job: what a crash between the two leaves."""
    manager.hset("in_progress_tasks", "shell:1:0:1:echo claimed", "ergates")
    taken = json.loads(erg("distcomp", "import", url_of(manager), "--json").out)
    assert (taken["job"], taken["taken"]) == ("j1", 1)
    assert manager.hget("in_progress_tasks", "shell:1:0:1:echo claimed") == b"ergates:j1"


@pytest.mark.needs("redis")
def test_a_line_that_cannot_run_is_named_before_anything_is_claimed(erg: Erg, manager: Any) -> None:
    manager.hset("todo_tasks", mapping={"shell:1:0:1:echo 'open": "", "shell:1:0:1:echo fine": ""})
    ended = erg("distcomp", "import", url_of(manager))
    assert ended.code == 2 and "quote" in ended.err
    assert manager.hlen("todo_tasks") == 2 and manager.hlen("in_progress_tasks") == 0


@pytest.mark.needs("redis")
def test_a_worker_that_is_faster_keeps_its_task(manager: Any) -> None:
    from ergates.drivers.stores.distcomp_queue import DistcompQueue

    manager.hset("todo_tasks", mapping={"shell:1:0:1:a": "", "shell:1:0:1:b": ""})
    queue = DistcompQueue(manager)
    lines = sorted(queue.waiting())
    manager.hdel("todo_tasks", "shell:1:0:1:a")
    assert queue.claim(lines) == [b"shell:1:0:1:b"]
    assert queue.claimed() == [b"shell:1:0:1:b"]


def test_no_server_there(erg: Erg, tmp_path: Path) -> None:
    ended = erg("distcomp", "import", f"unix://{tmp_path}/none.sock")
    assert ended.code == 1
    assert "expected: distComp's Redis" in ended.err
