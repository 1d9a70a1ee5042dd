"""Open jobs, edits, conditions and `erg top` on a cluster's store, with real workers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from erg_rig import Erg, ended

pytestmark = [pytest.mark.system, pytest.mark.needs("redis")]


class Store:
    """An `erg` whose commands work on a private store."""

    def __init__(self, erg: Erg) -> None:
        self.erg = erg
        up = erg("store", "up", "--json")
        assert up.code == 0, up
        self.env = {
            "ERGATES_STORE": json.loads(up.out)["store_file"],
            "ERGATES_WORKER_STATE": str(erg.folder / "worker"),
        }

    def __call__(self, *words: str, code: int = 0) -> str:
        shown = self.erg(*words, env=self.env)
        assert shown.code == code, shown
        return shown.out.decode()

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))


@pytest.fixture
def store(erg: Erg) -> Iterator[Store]:
    made = Store(erg)
    yield made
    made.erg("store", "down", "--force")


def test_a_job_grows_is_edited_is_watched_and_closed(store: Store) -> None:
    folder = store.erg.folder
    os.mkfifo(folder / "begun")
    os.mkfifo(folder / "go")
    store("submit", "--open", "--key", "nightly")
    store("submit", "--to", "nightly", "echo > begun; cat go; echo {n}", "-p", "n=1")
    store("submit", "--to", "nightly", "--after", "all", "exit {code}; true", "-p", "code=3,4")
    worker = store.erg.start("worker", "start", "--cpus", "2", "--until-empty", env=store.env)
    (folder / "begun").read_text()

    record = store.json("top")
    assert record["jobs"][0]["state"] == "running" and record["jobs"][0]["running"] == 1
    assert record["workers"][0]["standing"] == "live"
    assert [task["task"] for task in record["tasks"]] == ["j1/1"]
    assert "j1/1" in store("top", "--once")

    changed = store.json(
        "edit", "j1", "--where", "state == blocked and command ~ exit", "--replace", "exit 3=exit 0", "--yes"
    )
    assert (changed["matched"], changed["changed"], changed["already_so"]) == (2, 1, 1)
    assert store.json("edit", "j1", "--set", "priority=5", "--yes")["running"] == 1
    (folder / "go").write_text("")
    assert ended(worker).code == 0

    found = store.json("status", "j1", "--where", "exit_code == 4")
    assert [task["task"] for task in found["tasks"]] == [3]
    again = store.json(
        "edit", "j1", "--where", "outcome == failed", "--set", "command=true", "--rerun", "failed", "--yes"
    )
    assert (again["changed"], again["to_run_again"]) == (1, 1)
    assert ended(store.erg.start("worker", "start", "--until-empty", env=store.env)).code == 0
    store("close", "nightly")
    assert store("wait", "nightly") == "j1: 3 done\n"
    assert "takes no more tasks" in store.erg("submit", "--to", "j1", "true", env=store.env).err


def test_several_jobs_and_conditions(store: Store) -> None:
    for number in range(3):
        store("submit", f"true {{n}}; exit {number}", "-p", "n=1..5")
    assert [row["phase"] for row in store.json("pause", "--all")] == ["paused"] * 3
    assert [row["job"] for row in store.json("resume", "j1", "j3")] == ["j1", "j3"]
    assert store.json("cancel", "j1", "--where", "label.n > 3")["cancelled"] == 2
    assert store.json("retry", "j1", "--where", "label.n == 4")["retried"] == 1
    assert store("cancel", "--all", "--yes").count("cancelled") == 3
    assert store("wait", "--all") == "nothing to wait for: every job is settled\n"
