"""What can go wrong with a function that runs in another process, besides its own exceptions."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from ergates.errors import ErgatesError


class CallNotSentError(ErgatesError, TypeError):
    """A function or its arguments cannot be pickled, so they cannot be sent to a worker process."""


class ResultNotSentError(ErgatesError, TypeError):
    """A call returned something that cannot be pickled, so it cannot be sent back."""


class FunctionNotLoadedError(ErgatesError, ImportError):
    """A worker process could not load a function or its arguments; usually a module that it cannot import."""


class RemoteError(ErgatesError):
    """Stands for an exception of a call that could not be sent back itself: its type, message and traceback, as text."""


class WorkerDiedError(ErgatesError, BrokenExecutor):
    """A call ended its worker process again and again. Only this call is given up; the executor goes on."""


class CallTimedOutError(ErgatesError, TimeoutError):
    """A call ran longer than its time limit and was ended."""


class RemoteTraceback(Exception):  # shown as the cause of the exception, as concurrent.futures does
    """The traceback in the worker process, as text: the `__cause__` of an exception that a call raised."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'
