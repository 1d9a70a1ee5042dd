"""Errors a user can act on. Each says what, where, what was expected and what to do; the command line prints them as they are.

Exit codes: 0 all done, 1 work failed, 2 wrong usage or input, 130 interrupted.
"""

from __future__ import annotations


class ErgatesError(Exception):
    """Base of every error that is the user's to mend or the world's doing, never a bug of ours."""

    exit_code = 1


class UsageError(ErgatesError):
    """Wrong arguments or input. Nothing was done."""

    exit_code = 2


class InputError(UsageError):
    """A place in an input file that could not be read.

    Args:
        message: what is wrong there.
        source: file name as the user gave it, or `<stdin>`.
        line: 1-based line number, None when the whole file is meant.
        expected: what would have been right.
        hint: what to do about it.
    """

    def __init__(
        self, message: str, *, source: str, line: int | None = None, expected: str = "", hint: str = ""
    ) -> None:
        self.message, self.source, self.line, self.expected, self.hint = message, source, line, expected, hint
        place = source if line is None else f"{source}:{line}"
        text = f"{place}: {message}"
        if expected:
            text += f"\n  expected: {expected}"
        if hint:
            text += f"\n  hint: {hint}"
        super().__init__(text)


class StoreError(ErgatesError):
    """The store cannot be reached, is full, or is not one of ours."""


class StoreFullError(StoreError):
    """The disk (or server) under the store has no room; what was offered to it must be offered again."""


class StoreUnavailableError(StoreError):
    """The server cannot be reached now. Nothing is known to have been changed: try the same call again."""


class UnknownJobError(UsageError):
    """No such job in this store."""


class JobGrewError(ErgatesError):
    """Somebody else added tasks to the job meanwhile, so the new ones would get other numbers. Nothing was done."""


class LaunchError(ErgatesError):
    """This machine cannot start tasks (no supervisor, no container engine, ...)."""


def closed_job(job: str) -> UsageError:
    """What every store says when tasks are to be added to a job that takes none."""
    return UsageError(
        f"job {job} takes no more tasks: it was closed, or was never open\n"
        "  hint: submit them as a job of their own; a job that is to take more begins with `erg submit --open`"
    )
