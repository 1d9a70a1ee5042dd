"""How functions, arguments, results and exceptions cross to a worker process and back.

Plain pickle where it does, cloudpickle where it must: for lambdas, closures, and everything defined in the script
itself (`__main__`), which the other side cannot import. A function is written once to a file named after its digest, and
every worker process loads it once; a call then carries only its arguments. Those files, like the sockets, are the
user's alone: whoever can write a pickle can run code.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ergates.functions.errors import (
    CallNotSentError,
    FunctionNotLoadedError,
    RemoteError,
    RemoteTraceback,
    ResultNotSentError,
)

TYPE_CHECKING = False  # a worker process does without typing until a function wants it
if TYPE_CHECKING:
    from typing import Any

_RETURNED = b"R"
_RAISED = b"E"


def dumps(value: object) -> bytes:
    """Pickle by reference when every name in it can be imported elsewhere, else by value.

    Raises:
        Exception: whatever pickling raised; the caller says what it was about.
    """
    try:
        data = pickle.dumps(value, 5)
    except Exception:  # lambdas, local classes and the like: cloudpickle has the last word
        data = b"__main__"
    if b"__main__" in data:  # perhaps only as text in the data: then this is slower, not wrong
        import cloudpickle  # type: ignore[import-untyped]

        by_value: bytes = cloudpickle.dumps(value, 5)
        return by_value
    return data


# --- functions -----------------------------------------------------------------------------------


def dump_function(function: Callable[..., Any]) -> bytes:
    """A function with what the other side needs to load it: our import path.

    Raises:
        CallNotSentError: it refers to something that cannot be pickled (an open file, a lock, a socket, ...).
    """
    try:
        return pickle.dumps((list(sys.path), dumps(function)), 5)
    except Exception as error:
        raise CallNotSentError(
            f"{name_of(function)} cannot be sent to a worker process: {type(error).__name__}: {error}\n"
            "  hint: open files, locks and connections inside the function, not outside of it"
        ) from error


def save_function(function: Callable[..., Any], folder: Path, name: str | None = None) -> str:
    """Write a function where worker processes find it, once, and return the path of the file.

    Args:
        function: see `dump_function`.
        folder: made, readable by this user only, when it is missing.
        name: file name; None derives one from the contents, so that the same function is written and loaded once.

    Raises:
        CallNotSentError: see `dump_function`.
    """
    data = dump_function(function)
    path = folder / (name or f"function-{hashlib.sha256(data).hexdigest()[:32]}.pickle")
    if name is not None or not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = folder / f"{path.name}.{os.getpid()}"
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        part.replace(path)
    return str(path)


def load_function(source: str | bytes) -> Callable[..., Any]:
    """In a worker process: the function of a file, or of `dump_function`; the sender's import path goes behind our own.

    Raises:
        FunctionNotLoadedError: the file is gone, or a module cannot be imported here.
    """
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise FunctionNotLoadedError(
            f"{source!s}: the function of this call cannot be read: {error.strerror}"
        ) from error
    search, pickled = pickle.loads(data)  # written by this user's own process, for this user alone
    sys.path += [entry for entry in search if entry not in sys.path]
    try:
        function: Callable[..., Any] = pickle.loads(pickled)
    except Exception as error:
        raise FunctionNotLoadedError(
            f"a worker process could not load the function: {type(error).__name__}: {error}\n"
            "  hint: the module it is defined in must be importable by name there, too"
        ) from error
    return function


def name_of(function: object) -> str:
    """What to call a function in a message."""
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    return str(name) if name else repr(function)


# --- arguments -----------------------------------------------------------------------------------


def dump_arguments(function: object, args: Sequence[object], kwargs: Mapping[str, object]) -> bytes:
    """Raises CallNotSentError: an argument cannot be pickled; the message says which."""
    try:
        return dumps((tuple(args), dict(kwargs)))
    except Exception as error:
        named = [(f"argument {number}", value) for number, value in enumerate(args, 1)] + list(kwargs.items())
        culprit = next(
            (f"{label} ({type(value).__name__})" for label, value in named if not _can_dump(value)), "an argument"
        )
        raise CallNotSentError(
            f"{culprit} of {name_of(function)} cannot be sent to a worker process: {type(error).__name__}: {error}"
        ) from error


def load_arguments(data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Raises FunctionNotLoadedError: a module that an argument needs cannot be imported here."""
    try:
        args, kwargs = pickle.loads(data)  # came over our own private socket or out of our own store
    except Exception as error:
        raise FunctionNotLoadedError(
            f"a worker process could not load the arguments: {type(error).__name__}: {error}"
        ) from error
    return args, kwargs


# --- results -------------------------------------------------------------------------------------


def dump_result(function: object, value: object) -> bytes:
    """What a call returned, or a ResultNotSentError in its place."""
    try:
        return _RETURNED + dumps(value)
    except Exception as error:
        return dump_exception(
            ResultNotSentError(
                f"{name_of(function)} returned a {type(value).__name__} that cannot be sent back: "
                f"{type(error).__name__}: {error}\n  hint: return plain data; open files and connections stay where they are"
            )
        )


def dump_exception(error: BaseException, text: str = "") -> bytes:
    """An exception and its traceback; as text alone when it cannot be pickled."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    try:
        message = str(error)
    except Exception as broken:
        message = f"(its own message fails with {type(broken).__name__})"
    try:
        pickled: bytes | None = dumps(error)
    except Exception:  # it holds a lock, a socket, ...: type, message and traceback still go
        pickled = None
    return _RAISED + pickle.dumps((pickled, kind, message, text), 5)


def raised(result: bytes) -> bool:
    """Whether a result of `dump_result` or `dump_exception` is an exception."""
    return result[:1] == _RAISED


def load_result(result: bytes) -> Any:
    """The value a call returned, or the exception it raised, as an object (see `raised`).

    Raises:
        Exception: the value cannot be unpickled on this side.
    """
    body = memoryview(result)[1:]
    if not raised(result):
        return pickle.loads(body)  # from our own worker process
    pickled, kind, message, text = pickle.loads(body)
    error: BaseException | None = None
    if pickled is not None:
        try:
            error = pickle.loads(pickled)
        except Exception as unloadable:  # its __init__ wants other arguments, its module is missing here, ...
            text += f"\n(the exception itself could not be loaded here: {type(unloadable).__name__}: {unloadable})"
    if not isinstance(error, BaseException):
        error = RemoteError(f"{kind}: {message}")
    if text:
        error.__cause__ = RemoteTraceback(text)
    return error


def _can_dump(value: object) -> bool:
    try:
        dumps(value)
    except Exception:
        return False
    return True
