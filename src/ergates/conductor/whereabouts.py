"""Which host is asked first for a member's folder: each host that is asked in vain costs a round trip. Pure.

The store knows the leader's host. Who had a rank the last time mostly has it again, and a host has one member of an attempt only.
"""

from __future__ import annotations

from collections.abc import Iterable

from ergates.experiment.host import ExperimentHost


class Whereabouts:
    """Args: `hosts`, all of the experiment."""

    def __init__(self, hosts: Iterable[ExperimentHost] = ()) -> None:
        self._hosts = tuple(hosts)
        self._last: dict[tuple[str, str], str] = {}
        self._attempt, self._taken = "", set[str]()

    def order(self, group: str, attempt: str, member: str, known: str = "") -> list[ExperimentHost]:
        """The hosts of a group, the likeliest first; all of them, for what is likely may be wrong.

        Args:
            group: of the member.
            attempt: the folder of its attempt.
            member: the name of its own.
            known: the host that the store names, if it names one.
        """
        last = self._last.get((group, member), "")
        taken = self._taken if attempt == self._attempt else ()
        return sorted(
            (host for host in self._hosts if host.group == group),
            key=lambda host: (host.name != known, host.name in taken, host.name != last),
        )

    def found(self, host: ExperimentHost, attempt: str, member: str) -> None:
        """That host had it."""
        if attempt != self._attempt:
            self._attempt, self._taken = attempt, set()
        self._taken.add(host.name)
        self._last[host.group, member] = host.name
