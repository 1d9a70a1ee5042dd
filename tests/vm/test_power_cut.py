"""The power goes while a store writes. What it finds afterwards is a whole beginning of what had been said to be done."""

from __future__ import annotations

import itertools
from pathlib import Path

import guest
import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]


def script(program: str, verb: str) -> str:
    python = guest.ROOT / ".venv" / "bin" / "python"
    return f"cd {guest.ROOT / 'tests' / 'vm'} && {python} {program} {verb} /run/disk"


@pytest.mark.parametrize("turns", [3, 40])
def test_the_embedded_store_after_a_power_cut(tmp_path: Path, turns: int) -> None:
    disk = tmp_path / "disk"
    guest.make_disk(disk)
    with guest.started(script("sqlite_writer.py", "write"), disk=disk) as running:
        said = (int(line.split()[1]) for line in running.lines() if line.startswith("COMMITTED"))
        told = list(itertools.islice(said, turns))
        running.cut_power()
    assert len(told) == turns
    answer = guest.run(script("sqlite_writer.py", "check"), disk=disk)
    assert answer.exit_code == 0, answer.output
    kept = [int(line.split()[1]) for line in answer.output.splitlines() if line.startswith("KEPT")]
    # The submission is there; of commits the last may be gone (synchronous NORMAL), never their order or the file.
    assert len(kept) == 1 and kept[0] <= told[-1] + 10
