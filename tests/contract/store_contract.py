"""What every store must do, whatever keeps it. A driver's test file subclasses `StoreContract` and gives it a `rig` fixture
(store_rig.py): a fresh store whose lease time is LEASE_NS.
"""

from __future__ import annotations

from store_dependencies_contract import DependenciesContract
from store_editor_contract import EditorContract
from store_exchange_contract import ExchangeContract
from store_holdings_contract import HoldingsContract
from store_submit_contract import SubmitContract
from store_workers_contract import WorkersContract


class StoreContract(
    SubmitContract, ExchangeContract, WorkersContract, DependenciesContract, EditorContract, HoldingsContract
):
    """All of it."""
