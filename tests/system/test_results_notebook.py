"""An experiment is run, and the notebook that reads finished ones is executed on it, cell by cell."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from erg_rig import Erg
from nbclient import NotebookClient

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parents[2] / "examples" / "experiments"
CELL_S = 120


def shown(notebook: Any) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    texts = (output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)
    return "".join(f"{text}\n" for text in texts)


@pytest.mark.filterwarnings("default")  # of the kernel's own libraries
def test_the_notebook_loads_a_finished_experiment_and_redraws_its_figures(erg: Erg) -> None:
    for name in ("two-versions.toml", "count_words.py", "read_results.ipynb"):
        shutil.copy(EXAMPLES / name, erg.folder)
    done = erg("experiment", "run", "two-versions.toml", "--repetitions", "4", "--set", "words=2000,20000")
    assert done.code == 0, done.err
    notebook: Any = nbformat.read(erg.folder / "read_results.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert not any(cell.get("outputs") for cell in notebook.cells), "what is kept has no output of somebody's machine"
    client = NotebookClient(
        notebook, timeout=CELL_S, kernel_name="python3", resources={"metadata": {"path": erg.folder}}
    )
    client.execute()
    text = shown(notebook)
    assert "16 runs, 0 of them failed" in text
    assert "<experiment two-versions: 16 finished runs" in text
    assert "counting: counter over all 2 points is " in text
    assert "command: python3 " in text
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if len(output.get("data", {}).get("image/png", "")) > 5_000
    ]
    assert len(pictures) == 3, "the figure of the file, one that is not in it, one of the reader's own"
