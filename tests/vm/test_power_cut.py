"""The power goes while a store writes. What it finds afterwards is a whole beginning of what had been said to be done."""

from __future__ import annotations

from pathlib import Path

import guest
import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

AOF_LOSES_S = 2.5
"""Redis syncs every second, and lets a sync that is under way take a second longer; the rest is for the guest's slowness."""


def script(verb: str, kind: str) -> str:
    python = guest.ROOT / ".venv" / "bin" / "python"
    return f"cd {guest.ROOT / 'tests' / 'vm'} && {python} store_writer.py {verb} {kind} /run/disk"


def write_until(disk: Path, kind: str, turns: int, seconds: float) -> list[tuple[int, float]]:
    """(tasks done, when) as the writer said, until the power goes after so many turns and seconds."""
    said: list[tuple[int, float]] = []
    with guest.started(script("write", kind), disk=disk) as running:
        for line in running.lines():
            if line.startswith("COMMITTED"):
                _, done, at_s = line.split()
                said.append((int(done), float(at_s)))
                if len(said) >= turns and said[-1][1] - said[0][1] >= seconds:
                    running.cut_power()
                    break
    return said


def kept(disk: Path, kind: str) -> int:
    answer = guest.run(script("check", kind), disk=disk)
    assert answer.exit_code == 0, answer.output
    (line,) = [line for line in answer.output.splitlines() if line.startswith("KEPT")]
    return int(line.split()[1])


@pytest.mark.parametrize("turns", [3, 40])
def test_the_embedded_store_after_a_power_cut(tmp_path: Path, turns: int) -> None:
    """The submission is there; of commits the last may be gone (synchronous NORMAL), never their order or the file."""
    disk = tmp_path / "disk"
    guest.make_disk(disk)
    said = write_until(disk, "sqlite", turns, 0)
    assert len(said) == turns
    assert kept(disk, "sqlite") <= said[-1][0] + 10


def test_a_cluster_s_store_after_a_power_cut(tmp_path: Path) -> None:
    """Of what Redis said, at most the last seconds are gone; what workers then offer again is tested elsewhere."""
    disk = tmp_path / "disk"
    guest.make_disk(disk)
    said = write_until(disk, "redis", 20, 6)
    last_s = said[-1][1]
    certain = max(done for done, at_s in said if at_s <= last_s - AOF_LOSES_S)
    assert certain > 0
    assert certain <= kept(disk, "redis") <= said[-1][0] + 10
