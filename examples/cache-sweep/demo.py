"""The whole sweep, as one would type it: write the table of runs, `erg run` it, `erg export` the results, collect them.

Interrupt it and start it again: it goes on where it stopped.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import grid

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
ERG = Path(sys.executable).parent / "erg"
TEMPLATE = (
    f"{shlex.quote(sys.executable)} simulate.py --policy {{policy}} --size {{size}} --requests {{requests}}"
    " --objects {objects} --alpha {alpha} --seed {seed}"
)


def shown(path: Path) -> str:
    """A path as the reader can type it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def step(*argv: str | Path) -> None:
    """Print a command as it would be typed, then run it; its failure is ours."""
    words = [shown(word) if isinstance(word, Path) else word for word in argv]
    print("\n$", shlex.join(words), flush=True)
    code = subprocess.run(words, check=False).returncode
    if code:
        sys.exit(code)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    table, results, figure, state = OUT / "grid.csv", OUT / "results.jsonl", OUT / "miss-ratios.png", OUT / "state"
    print(f"{grid.write(table)} runs in {shown(table)}")
    step(ERG, "run", "--state", state, "--name", "cache-sweep", "--cwd", HERE, "--params", table, TEMPLATE)
    step(ERG, "export", "--state", state, "--format", "jsonl", "--with-output", "--to", results)
    step(Path(sys.executable), HERE / "collect.py", results, figure)


if __name__ == "__main__":
    main()
