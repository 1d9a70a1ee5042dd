"""The one place where a worker waits: for its attempts, the store, signals and the next thing it has to do by itself."""

from __future__ import annotations

import select


class WaitPoint:
    """A set of descriptors to wait on together."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def add(self, fd: int) -> None:
        """Wake up whenever this one is readable."""
        self._epoll.register(fd, select.EPOLLIN)

    def wait(self, timeout_s: float) -> set[int]:
        """Those that are readable now; waits at most `timeout_s` for the first one.

        A signal whose handler rings no bell does not end the wait.
        """
        return {fd for fd, _ in self._epoll.poll(timeout_s)}

    def close(self) -> None:
        self._epoll.close()
