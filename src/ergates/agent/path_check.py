"""Whether files exist on this node, without ever waiting long: a dead network file system may not answer for minutes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from ergates.drivers import machine

PATIENCE_S = 0.2


class PathCheck:
    """Asks from a thread; what is not answered in time counts as missing until it is asked again.

    Args:
        missing: those of some paths that do not exist; may take long.
        patience_s: how long to wait for it.
    """

    def __init__(
        self,
        missing: Callable[[Iterable[str]], tuple[str, ...]] = machine.missing_paths,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._missing, self._patience_s = missing, patience_s
        self._hanging: threading.Thread | None = None

    def missing(self, paths: tuple[str, ...]) -> tuple[str, ...]:
        """Those that are not here, as far as that can be told now."""
        if self._hanging is not None and self._hanging.is_alive():  # one that hangs is enough
            return paths
        answer: list[tuple[str, ...]] = []
        asker = threading.Thread(target=lambda: answer.append(self._missing(paths)), name="ergates-paths", daemon=True)
        asker.start()
        asker.join(self._patience_s)
        self._hanging = asker if asker.is_alive() else None
        return answer[0] if answer else paths
