"""What the documentation shows as an experiment file is one, and so are the examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ergates.experiment.plan import plan_runs
from ergates.experiment.reading.read_experiment import parse_experiment, read_experiment

ROOT = Path(__file__).resolve().parents[3]
SHOWN = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / "experiments.md").read_text(), re.MULTILINE | re.DOTALL)
WHOLE = [text for text in SHOWN if "program" in text]
FILES = sorted([*ROOT.glob("examples/experiments/*.toml"), *ROOT.glob("experiments/**/*.toml")])


def test_the_documentation_shows_files() -> None:
    assert len(WHOLE) >= 2
    assert {len(plan_runs(parse_experiment(text, "shown.toml", Path("/")))) for text in WHOLE[:2]} == {1, 50}


@pytest.mark.parametrize("text", WHOLE)
def test_a_shown_file_is_well(text: str) -> None:
    assert plan_runs(parse_experiment(text, "shown.toml", Path("/")))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_of_ours_is_well(path: Path) -> None:
    assert plan_runs(read_experiment(path))
