"""Store files of older versions are brought up to date when they are opened, with everything in them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ergates.cluster.job import JobSpec
from ergates.cluster.task import TaskSpec
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.units import Nanoseconds

NOW = Nanoseconds(1_700_000_000 * 10**9)


def test_jobs_of_version_1_are_not_open(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    store = SqliteStore(path)
    job = store.submit(JobSpec(key="k"), [TaskSpec(command="true")], NOW).id
    store.close()
    raw = sqlite3.connect(path)
    raw.execute("ALTER TABLE jobs DROP COLUMN open")
    raw.execute("ALTER TABLE leases DROP COLUMN since_ns")
    raw.execute("PRAGMA user_version = 1")
    raw.close()

    store = SqliteStore(path)
    assert not store.status(job).takes_more
    assert [view.spec.command for view in store.tasks(job)] == ["true"]
    grown = store.submit(JobSpec(key="o", open=True), [], NOW).id
    assert store.extend(grown, [TaskSpec(command="true")], NOW) == 1
    store.close()
