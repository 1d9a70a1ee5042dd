"""What the system's ssh said, in words for the user: what is wrong, what to do, and whether waiting could help. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ergates.errors import ErgatesError

NO_PYTHON = 93
"""Exit code of the remote command when it finds no Python that is new enough."""
_BOOTING = re.compile(
    r"Connection refused|timed out|No route to host|Network is unreachable|Could not resolve hostname|Host is down"
    r"|kex_exchange_identification|Connection (?:closed|reset) by|banner exchange|System is booting up|pam_nologin",
    re.IGNORECASE,
)
_CROWDED = re.compile(r"kex_exchange_identification|Connection (?:closed|reset) by|banner exchange", re.IGNORECASE)
_CHANGED = re.compile(r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed", re.IGNORECASE)
_OFFENDING = re.compile(r"Offending \S+ key in (?P<file>.+):(?P<line>[0-9]+)")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a host was not reached.

    Args:
        what: what went wrong, one line.
        hint: what to do about it, one line, or empty.
        may_pass: whether a host that still boots looks like this: worth another try.
        crowded: whether an sshd with too many log-ins at once looks like this.
    """

    what: str
    hint: str = ""
    may_pass: bool = False
    crowded: bool = False


class HostError(ErgatesError):
    """One host could not be brought to where it should be; the others go on."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(f"{reason.what}\n  hint: {reason.hint}" if reason.hint else reason.what)


def reason_of(code: int | None, stderr: str, noise: str = "") -> Reason:
    """Judge how an ssh ended before the far side had greeted us.

    Args:
        code: its exit code: 255 is ssh's own failure, others the remote command's; None when it was ended by us in
            time's name.
        stderr: what it printed, ours and the remote's together.
        noise: what a login script printed on standard output.
    """
    said = _last_line(stderr) or _last_line(noise)
    if _CHANGED.search(stderr):
        match = _OFFENDING.search(stderr)
        place = f"{match['file']}:{match['line']}" if match else "the file of known hosts"
        return Reason(
            "its host key is another than before: refused",
            f"if the host was installed anew, remove its old key ({place}); if not, somebody may be in between",
        )
    if "Host key verification failed" in stderr or "host key is known" in stderr:
        return Reason("its host key is not known", "log in once by hand with ssh, or --host-keys accept-new")
    if "Permission denied" in stderr and code == 255:
        return Reason(
            f"it does not let us in: {said}",
            "ssh must log in without questions: a key there in authorized_keys, here in ssh-agent (ssh-add)",
        )
    if code == NO_PYTHON:
        return Reason(said.removeprefix("ergates: "), "install Python >= 3.11 there, or name one with --python PATH")
    if code is None:
        return Reason("it did not answer in time", "log in by hand with ssh and see what it waits for", may_pass=True)
    if code == 255 and _BOOTING.search(stderr):
        hint = "is it up, and is sshd running? a host that still boots: --wait 5m"
        return Reason(said, hint, may_pass=True, crowded=_CROWDED.search(stderr) is not None)
    if code == 255:
        return Reason(said or "ssh failed without a word", "log in by hand with ssh and see what it says")
    return Reason(
        f"Python could not be started there: {said or f'exit code {code}'}",
        "log in by hand with ssh and try `python3 -V`",
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
