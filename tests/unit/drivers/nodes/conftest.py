"""Lets the tests here import the node that is a folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3] / "contract"))
