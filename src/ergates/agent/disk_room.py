"""After a disk was full nothing starts until there is room again."""

from __future__ import annotations

from pathlib import Path

from ergates.drivers import machine
from ergates.units import MIB, Bytes, format_bytes

ENOUGH_BYTES = 64 * MIB
ENOUGH_DIVISOR = 10
"""So much must be free again, or, on a small disk, this part of it."""


class DiskRoom:
    """The disk that outputs are kept on.

    Args:
        folder: on that disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.waiting_for = ""
        """In words, while there is no room: what is awaited."""

    def ran_out(self, reason: str) -> None:
        """Something could not be written."""
        self.waiting_for = reason

    def is_back(self) -> bool:
        """Look again."""
        free, size = machine.disk_room(self._folder)
        enough = Bytes(min(ENOUGH_BYTES, size // ENOUGH_DIVISOR))
        if free >= enough:
            self.waiting_for = ""
            return True
        place = self._folder
        self.waiting_for = f"disk full: {format_bytes(free)} free in {place}, waiting for {format_bytes(enough)}"
        return False
