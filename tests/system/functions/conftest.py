"""Lets the tests here start the private server that the contract tests use."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "contract"))
