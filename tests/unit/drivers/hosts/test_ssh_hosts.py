"""What is decided about hosts by ssh without reaching them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ergates.drivers.hosts.ssh import clock_ahead_ns, digest_of


@pytest.mark.parametrize(
    ("begun", "trip", "there", "ahead"),
    [(100, 10, 105, 0), (100, 10, 110, 0), (100, 10, 100, 0), (100, 10, 150, 40), (100, 10, 70, -30)],
)
def test_a_clock_is_off_only_by_what_the_way_does_not_explain(begun: int, trip: int, there: int, ahead: int) -> None:
    assert clock_ahead_ns(begun, trip, there) == ahead


def test_what_is_sent_is_sent_again_when_it_changed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "a"
    path.write_text("1")
    os.utime(path, (1e9, 1e9))
    places = [("data", tmp_path / "data")]
    first = digest_of(places)
    assert digest_of(places) == first
    os.utime(path, (1e9 + 1, 1e9 + 1))
    assert digest_of(places) != first
    os.utime(path, (1e9, 1e9))
    path.chmod(0o755)
    assert digest_of(places) != first
