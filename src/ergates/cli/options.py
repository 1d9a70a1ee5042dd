"""Options that several commands share, and the types their values are read with.

A value that cannot be read says what was expected; click adds the option's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ergates.units import parse_bytes, parse_duration

F = TypeVar("F", bound=Callable[..., Any])
Parse = Callable[[str], Any]


if TYPE_CHECKING:
    AnyType = click.ParamType[Any]
else:  # before click 8.5 it takes no argument
    AnyType = click.ParamType


class Parsed(AnyType):
    """A value read by a plain function that raises ValueError saying what was expected."""

    def __init__(self, name: str, parse: Parse) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value is None or not isinstance(value, str | int | float) or isinstance(value, bool):
            return value
        try:
            return self._parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _cpus_milli(text: str) -> int:
    try:
        milli = round(float(text) * 1000)
    except ValueError:
        milli = 0
    if milli < 1:
        raise ValueError(f"expected a number of cores such as 2 or 0.5, got {text!r}")
    return milli


def _usd_micros(text: str) -> int:
    try:
        micros = round(float(text.removeprefix("$")) * 1e6)
    except ValueError:
        micros = -1
    if micros < 0:
        raise ValueError(f"expected US dollars such as 0.34, got {text!r}")
    return micros


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"expected NAME=VALUE, got {text!r}")
    return name, value


def _node_resource(text: str) -> tuple[str, int, tuple[int, ...]]:
    """`gpus=0,1` is indexed, `gpus=0-3` too, `licences=4` counted."""
    name, value = _pair(text)
    indexed = "," in value or "-" in value
    try:
        if not indexed:
            return name, int(value), ()
        indices: list[int] = []
        for piece in value.strip(",").split(","):
            first, _, last = piece.partition("-")
            indices += range(int(first), int(last or first) + 1)
    except ValueError:
        indices = []
    if not indices or len(set(indices)) != len(indices):
        raise ValueError(f"expected NAME=AMOUNT such as licences=4, or NAME=INDICES such as gpus=0,1; got {text!r}")
    return name, len(indices), tuple(indices)


def _task_resource(text: str) -> tuple[str, int]:
    name, value = _pair(text) if "=" in text else (text, "1")
    if not value.isdigit() or int(value) < 1:
        raise ValueError(f"expected NAME=AMOUNT such as gpus=1, got {text!r}")
    return name, int(value)


def _alternative(text: str) -> Any:
    from ergates.taskqueue.inputs.needs import parse_alternative

    return parse_alternative(text)


def _role(text: str) -> Any:
    from ergates.taskqueue.inputs.needs import parse_role

    return parse_role(text)


def _data(text: str) -> str:
    from ergates.taskqueue.inputs.needs import checked_data

    return checked_data(text)


def _halt(text: str) -> Any:
    from ergates.taskqueue.halt import parse_halt

    parse_halt(text)
    return text


BYTES = Parsed("size", parse_bytes)
DURATION = Parsed("duration", parse_duration)
CPUS = Parsed("cores", _cpus_milli)
USD = Parsed("usd", _usd_micros)
PAIR = Parsed("name=value", _pair)
NODE_RESOURCE = Parsed("name=amount", _node_resource)
TASK_RESOURCE = Parsed("name=amount", _task_resource)
ALTERNATIVE = Parsed("alternative", _alternative)
ROLE = Parsed("role", _role)
DATA = Parsed("place", _data)
HALT = Parsed("rule", _halt)


def applied(options: Iterable[Callable[[Any], Any]]) -> Callable[[F], F]:
    """One decorator out of several, shown in the help in the order given."""
    together = tuple(options)

    def decorate(function: F) -> F:
        for option in reversed(together):
            function = option(function)
        return function

    return decorate


def _remember_store(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Kept for `opened.py`, with where it was said: an argument must hold no password, the environment may."""
    from click.core import ParameterSource

    if value is not None:
        source = ctx.get_parameter_source(param.name or "")
        origins = {
            ParameterSource.ENVIRONMENT: "ERGATES_STORE",
            ParameterSource.DEFAULT_MAP: "store in the configuration",
        }
        ctx.meta["ergates.store"] = (value, "--store" if source is None else origins.get(source, "--store"))


_state = click.option(
    "--state",
    "state_dir",
    metavar="DIR",
    envvar="ERGATES_STATE",
    help="Where jobs, results and outputs are kept.  [default: .ergates]",
)
_store = click.option(
    "--store",
    "store_url",
    metavar="URL|FILE",
    envvar="ERGATES_STORE",
    expose_value=False,
    callback=_remember_store,
    help="The cluster's store: redis://[USER@]HOST[:PORT][?queue=NAME], rediss://, redis+sentinel://, unix://, or a store file;"
    " `embedded` is the one of this directory.  [default: embedded]",
)
_cluster = click.option(
    "--store",
    "store_url",
    metavar="URL|FILE",
    envvar="ERGATES_STORE",
    expose_value=False,
    callback=_remember_store,
    help="The cluster's store: redis://[USER@]HOST[:PORT][?queue=NAME], rediss://, redis+sentinel://, unix://, or a store"
    " file.  [default: what ERGATES_STORE names]",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people.")

common_options = applied((_state, _store, _json))
"""Of commands that work on a store: cli/opened.py opens the one that was meant."""
cluster_options = applied((_cluster, _json))
"""Of commands that are about a cluster only: no state directory belongs to them."""
local_options = applied((_state, _json))
"""Of commands that are about this machine only."""


def examples(*lines: str) -> str:
    """The epilog of a command: its examples, kept line by line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
