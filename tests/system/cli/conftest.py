"""The real `erg` for tests, in fresh directories."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from erg_process import Erg


@pytest.fixture
def erg(tmp_path: Path) -> Erg:
    return Erg(tmp_path)
