"""The embedded store keeps the contract, with a write-ahead log and with a rollback journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from store_contract import StoreContract
from store_machine import StoreMachine, run_story
from store_retention_contract import RetentionContract
from store_rig import LEASE_NS, Rig

from ergates.drivers.stores.sqlite import SqliteStore


@pytest.fixture(params=["wal", "delete"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    opened: list[SqliteStore] = []

    def open_store() -> SqliteStore:
        proc = tmp_path / "proc"
        opened.append(
            SqliteStore(tmp_path / "e.db", journal=request.param, lease_ns=LEASE_NS, host="this-host", proc=proc)
        )
        return opened[-1]

    yield Rig(store=open_store(), open=open_store, proc=tmp_path / "proc", host="this-host")
    for store in opened:
        store.close()


class TestSqliteStore(StoreContract, RetentionContract):
    """Runs the contract once for each journal."""


def open_store(folder: Path) -> SqliteStore:
    return SqliteStore(folder / "e.db", lease_ns=LEASE_NS, host="this-host", proc=folder)


class SqliteMachine(StoreMachine):
    """Opens a store file in the machine's directory."""

    open_store = staticmethod(open_store)


def test_the_store_agrees_with_the_model() -> None:
    run_state_machine_as_test(SqliteMachine, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))


@pytest.mark.parametrize("seed", range(10))
def test_a_story_agrees_with_the_model(seed: int) -> None:
    run_story(open_store, seed, steps=150)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_stories_agree_with_the_model() -> None:
    for seed in range(1000, 3000):
        run_story(open_store, seed, steps=300)
