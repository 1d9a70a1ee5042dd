"""Tests of `make test-vm` need a virtual machine; nothing else runs them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import guest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("vm") and Path(__file__).parent in item.path.parents and guest.missing():
        pytest.skip(guest.missing())
