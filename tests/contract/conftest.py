"""Lets the tests of one kind of driver import the suite they share, which lies beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
