"""The simulated store keeps the same contract as the real ones, so what a simulation proves holds for them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from store_contract import StoreContract
from store_copies_contract import CopiesContract
from store_gangs_contract import GangsContract
from store_machine import StoreMachine
from store_rig import LEASE_NS, Rig
from store_roles_contract import RolesContract

from ergates.simulation.memory_store import MemoryStore


class HandleStore(MemoryStore):
    """The machine closes a handle and opens another on the same store."""

    def close(self) -> None:
        self.check_invariants()


def process_runs(proc: Path, pid: int, start_ticks: int) -> bool:
    """Whether the rig's stand-in for /proc shows this process as running."""
    stat = proc / str(pid) / "stat"
    if not stat.exists():
        return False
    fields = stat.read_text().rpartition(")")[2].split()
    return fields[0] not in "ZX" and start_ticks in (0, int(fields[19]))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    proc = tmp_path / "proc"
    store = MemoryStore(LEASE_NS, host="this-host", runs=lambda pid, ticks: process_runs(proc, pid, ticks))
    return Rig(store=store, open=store.open_again, proc=proc, host="this-host")


class TestMemoryStore(StoreContract, GangsContract, RolesContract, CopiesContract):
    """Runs the contract."""


class MemoryMachine(StoreMachine):
    """The same random histories as for the real stores; what is "on disk" is kept by folder."""

    kept: ClassVar[dict[Path, MemoryStore]] = {}

    @staticmethod
    def open_store(folder: Path) -> MemoryStore:
        store = MemoryMachine.kept.setdefault(
            folder,
            HandleStore(LEASE_NS, host="this-host", runs=lambda pid, ticks: process_runs(folder, pid, ticks)),
        )
        return store.open_again()

    def teardown(self) -> None:
        super().teardown()
        MemoryMachine.kept.clear()


def test_the_simulated_store_agrees_with_the_model() -> None:
    run_state_machine_as_test(MemoryMachine, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_simulated_store_agrees_with_the_model_for_long() -> None:
    run_state_machine_as_test(
        MemoryMachine, settings=settings(max_examples=3000, stateful_step_count=60, deadline=None)
    )
