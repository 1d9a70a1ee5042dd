"""Forgetting in the embedded store: no row stays, and what a killed call left behind goes with the next one."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_retention_contract import tangled_job
from store_rig import finish, recount, register, submit, take

from ergates.drivers.stores import sqlite_forget
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.taskqueue.retention import Forgetting

TABLES = ("jobs", "sums", "lanes", "tasks", "setbacks", "prerequisites", "waits", "leases", "attempts", "profiles")


def rows(store: SqliteStore) -> dict[str, int]:
    count = store.connection().raw.execute
    return {table: count(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "e.db")


def test_no_row_of_a_forgotten_job_stays(store: SqliteStore) -> None:
    job = tangled_job(store)
    assert min(count for table, count in rows(store).items() if table != "leases") > 0
    assert store.forget_job(job, history=True) is Forgetting.FORGOTTEN
    assert rows(store) == dict.fromkeys(TABLES, 0)


def test_what_a_killed_call_left_goes_with_the_next_one(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    register(store)
    large, small = submit(store, 25, key="large").id, submit(store, 1, key="small", now=1).id
    finish(store, take(store, 26))
    monkeypatch.setattr(sqlite_forget, "TASKS_AT_ONCE", 10)
    pieces = iter([True])
    original = sqlite_forget._remove_piece

    def killed_after_one(*args: object) -> bool:
        if next(pieces, None) is None:
            raise KeyboardInterrupt
        return original(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_forget, "_remove_piece", killed_after_one)
        with pytest.raises(KeyboardInterrupt):
            store.forget_job(large, history=True)
    assert [job.id for job in store.jobs()] == [small]
    assert rows(store)["tasks"] == 16
    assert store.forget_job(large) is Forgetting.UNKNOWN
    assert rows(store)["tasks"] == rows(store)["attempts"] == rows(store)["lanes"] == 1
    recount(store)
