"""What Slurm's programs say when they refuse, in words for the user: what is wrong, what to do, whether waiting could help.

Pure. The texts are those of slurm_strerror() in 22.05; a text that is not known here is shown as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ergates.errors import ErgatesError, UsageError

FOR_GOOD, MAY_PASS, UNKNOWN = "for good", "may pass", "unknown"


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A text of Slurm, what it means, what to do, and of what kind it is."""

    pattern: str
    meaning: str
    hint: str = ""
    kind: str = FOR_GOOD


_REFUSALS = (
    _Refusal("invalid partition|invalid partition name", "there is no such partition", "`sinfo` lists them"),
    _Refusal(
        "Invalid account or account/partition",
        "this account may not be used here, or one must be named",
        "--account NAME; `sacctmgr show associations user=$USER` lists yours",
    ),
    _Refusal("Invalid qos", "there is no such QOS, or it is not for you", "--qos NAME; `sacctmgr show qos` lists them"),
    _Refusal("Invalid feature specification", "no node has that feature", "`sinfo --format='%P %f'` lists them"),
    _Refusal(
        "Requested time limit is invalid",
        "the time is more than the partition allows",
        "a shorter --time, or another --partition",
    ),
    _Refusal("Memory specification can not be satisfied", "no node has so much memory", "a smaller --memory"),
    _Refusal(
        "Requested node configuration is not available",
        "no node has what is asked for",
        "fewer --cpus, less --memory, another --partition or --constraint",
    ),
    _Refusal(
        "Node count specification invalid|More processors requested than permitted",
        "the partition does not give so much",
        "ask for less",
    ),
    _Refusal(
        "Invalid job array specification", "this Slurm does not take so large an array", "a smaller --array-at-most"
    ),
    _Refusal(
        "not permitted to use this partition|Access/permission denied|Access denied",
        "you may not submit here",
        "ask who runs this cluster",
    ),
    _Refusal(
        "Invalid generic resource|Invalid gres",
        "there is no such generic resource",
        "`sinfo --format='%P %G'` lists them",
    ),
    _Refusal(
        "unrecognized option|invalid option|requires an argument|is ambiguous|Invalid --|Invalid numeric value",
        "sbatch does not know an option",
        "what stands after -- goes to sbatch as it is; `sbatch --help` lists its options",
    ),
    _Refusal(
        "violates accounting/QOS policy",
        "a limit of your account or QOS is reached",
        "`sacctmgr show associations` and `show qos` show the limits",
        kind=MAY_PASS,
    ),
    _Refusal(
        "Unable to contact slurm controller|Connection refused|No route to host",
        "slurmctld cannot be reached",
        kind=MAY_PASS,
    ),
    _Refusal(
        "temporarily unable|Resource temporarily unavailable|queue is full|job count exceeds",
        "Slurm takes no more jobs now",
        kind=MAY_PASS,
    ),
    _Refusal(
        "timed out|Zero Bytes were transmitted|Unexpected message|Communication .* failure",
        "slurmctld did not answer in time",
        kind=UNKNOWN,
    ),
    _Refusal(
        "configuration source|process configuration file|cannot stat file",
        "Slurm's configuration is not found here",
        "run this where `sinfo` works, or set SLURM_CONF",
    ),
    _Refusal(
        "Protocol authentication error|munge",
        "Slurm does not accept who we are (munge)",
        "try `sinfo`; ask who runs this cluster",
    ),
)


class SlurmError(ErgatesError):
    """Slurm could not do, or did not want to do, what was asked.

    Args:
        program: `sbatch`, `squeue`, ...
        said: on its standard error.
    """

    def __init__(self, program: str, said: str) -> None:
        self.lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
        self.said = self.lines[-1]
        self.kind, meaning, hint = _judged(said)
        text = f"{program}: {meaning}\n  Slurm says: {self.said}" if meaning else f"{program}: {self.said}"
        self.reason = f"{program}: {meaning or self.said}" + (f" ({hint})" if hint else "")
        """All on one line."""
        super().__init__(text + (f"\n  hint: {hint}" if hint else ""))

    @property
    def for_good(self) -> bool:
        """No use to try the same again."""
        return self.kind == FOR_GOOD

    @property
    def outcome_unknown(self) -> bool:
        """It may have been done all the same."""
        return self.kind == UNKNOWN


class NoSlurmError(UsageError):
    """Slurm's programs are not on this machine."""

    def __init__(self, program: str) -> None:
        super().__init__(
            f"{program}: not found here: this machine has no Slurm, or its programs are not in PATH\n"
            "  hint: run this on a login node of the cluster (perhaps after `module load slurm`)"
        )


def _judged(said: str) -> tuple[str, str, str]:
    for one in _REFUSALS:
        if re.search(one.pattern, said, re.IGNORECASE):
            return one.kind, one.meaning, one.hint
    return MAY_PASS, "", ""
