"""Lets the tests here import the rigs that lie beside them and beside the contracts, and gives each its own `erg`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "contract"))

from erg_rig import Erg


@pytest.fixture
def erg(tmp_path: Path) -> Iterator[Erg]:
    """The command, in an empty directory; nothing it started outlives the test."""
    rig = Erg(tmp_path)
    yield rig
    rig.clean_up()
