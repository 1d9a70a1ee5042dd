"""Settings of hosts reached by ssh: made there by the `erg` that was placed there, and undone after (far_settings.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ergates.drivers.hosts.far_settings import (
    JOURNAL_FOLDER,
    STEP_S,
    changes_in,
    prepare_words,
    refusal,
    restore_words,
    told_once,
)
from ergates.drivers.placers.conversation import Conversation
from ergates.drivers.placers.many_hosts import HostRun
from ergates.drivers.placers.ssh_up import programs_there
from ergates.drivers.placers.ssh_words import HostError, Reason
from ergates.drivers.placers.wheelhouse import Wheelhouse
from ergates.experiment.spec import HostGroup


class SshSettings:
    """Those of one group.

    Args:
        group: of the file.
        cluster: whose workers run there.
        say: told what is changed.
    """

    def __init__(self, group: HostGroup, cluster: str, say: Callable[[str], None]) -> None:
        self._group, self._cluster, self._say = group, cluster, say
        self._wheelhouse: Wheelhouse | None = None
        self._planned: dict[str, tuple[str, ...]] = {}

    @property
    def wanted(self) -> bool:
        return bool(self._group.prepare)

    @property
    def text(self) -> str:
        """What is wanted, to be compared with what was made before."""
        return " ".join(f"{name}={value}" for name, value in self._group.prepare)

    async def look(self, run: HostRun, talk: Conversation) -> None:
        """Whether they can be made; programs are placed there for that, and nothing else is changed. Raises HostError."""
        answer = await self._ask(run, talk, prepare_words(self._group.prepare, ""))
        self._refuse(answer, "")
        self._planned[run.host.name] = changes_in(answer["err"])

    def tell(self, hosts: Sequence[str]) -> None:
        """Say what will be changed, once for all hosts on which it is the same; they are named in this order."""
        for line in told_once(self._group.name, {host: self._planned.get(host, ()) for host in hosts}):
            self._say(line)

    async def make(self, run: HostRun, talk: Conversation, base: str) -> None:
        """Make them. Those of an earlier process stay, with the first old values. Raises HostError."""
        answer = await self._ask(run, talk, prepare_words(self._group.prepare, f"{base}/{JOURNAL_FOLDER}"))
        self._refuse(answer, "settings did not take: ")

    async def undo(self, run: HostRun, talk: Conversation, base: str) -> None:
        """Put back what was there first. Raises HostError: something is not as it was, and stays remembered there."""
        state = f"{base}/{JOURNAL_FOLDER}"
        answer = await self._ask(run, talk, restore_words(state))
        self._refuse(
            answer, "not as it was: ", f"mend the cause, then there: {answer['erg']} node restore --state {state}"
        )

    async def _ask(self, run: HostRun, talk: Conversation, words: Sequence[str]) -> dict[str, Any]:
        self._wheelhouse = self._wheelhouse or Wheelhouse()
        key, _ = await programs_there(run, talk, self._wheelhouse, self._cluster)
        run.now("settings")
        return await talk.ask("erg", key=key, words=list(words), timeout_s=STEP_S)

    @staticmethod
    def _refuse(answer: dict[str, Any], before: str, hint: str = "") -> None:
        found = refusal(answer["code"], answer["out"], answer["err"])
        if found:
            what, _, hinted = found.partition("\n  hint: ")
            raise HostError(Reason(before + what, hint or hinted))
