"""Defaults for options from a file: `ergates.toml` here, over `config.toml` in the user's configuration folder.

```toml
[run]
jobs = 4
memory = "8GiB"
```
An option on the command line wins over an environment variable (`ERGATES_RUN_JOBS`), that over the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ergates.errors import InputError


def config_paths() -> tuple[str, ...]:
    """Where settings are looked for; later ones win."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    own = os.environ.get("ERGATES_CONFIG")
    return (own,) if own else (os.path.join(base, "ergates", "config.toml"), "ergates.toml")


def load_defaults() -> dict[str, Any]:
    """Tables of the files by command, as click's `default_map` wants them; empty when there is no file.

    Raises:
        InputError: not TOML, or a command or option that does not exist.
    """
    merged: dict[str, Any] = {}
    for path in config_paths():
        if os.path.exists(path):
            for command, options in _read(path).items():
                merged.setdefault(command, {}).update(options)
    return merged


def _read(path: str) -> dict[str, dict[str, Any]]:
    import tomllib  # most machines have no such file

    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise InputError(str(error), source=path, expected="TOML, for example [run] and jobs = 4") from None
    return {command: _checked(path, command, options) for command, options in tables.items()}


def _checked(path: str, command: str, options: object) -> dict[str, Any]:
    from importlib import import_module

    from ergates.cli.main import COMMANDS

    if command not in COMMANDS:
        raise InputError(f"no command [{command}]", source=path, hint=nearest(command, COMMANDS))
    if not isinstance(options, Mapping):
        raise InputError(f"{command} is not a table", source=path, expected=f"[{command}] and its options below it")
    params = {parameter.name or "": parameter for parameter in import_module(f"ergates.cli.{command}").command.params}
    result: dict[str, Any] = {}
    for name, value in options.items():
        key = _parameter(name, params)
        if key is None:
            spellings = [
                option for parameter in params.values() for option in parameter.opts if option.startswith("--")
            ]
            raise InputError(
                f"[{command}] has no option {name!r}",
                source=path,
                hint=nearest(name, [spelling.removeprefix("--") for spelling in spellings]),
            )
        result[key] = value
    return result


def nearest(word: str, known: Any) -> str:
    """A hint naming the closest known word, or all of them."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"


def _parameter(name: str, params: Mapping[str, Any]) -> str | None:
    for key, parameter in params.items():
        if name.replace("-", "_") == key or f"--{name.replace('_', '-')}" in parameter.opts:
            return key
    return None
