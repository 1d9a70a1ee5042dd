"""Defaults for options from a file: `ergates.toml` here, over `config.toml` in the user's configuration folder.

```toml
store = "cluster.toml"      # of every command that takes --store; beside this file

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


def load_defaults(command: str) -> dict[str, Any]:
    """What the files say of one command, as click's `default_map` wants it; empty when there is no file.

    Only that command's table is checked option by option, so that no command has to load the others.

    Raises:
        InputError: not TOML, or a command or option that does not exist.
    """
    merged: dict[str, Any] = {}
    for path in config_paths():
        if os.path.exists(path):
            merged.update(_read(path, command))
    return merged


def default_store() -> tuple[str, str] | None:
    """The store that the files name for all commands, and the file that does; None when none does."""
    found = None
    for path in config_paths():
        text = _tables(path).get("store") if os.path.exists(path) else None
        if isinstance(text, str):
            beside = os.path.join(os.path.dirname(path), os.path.expanduser(text))
            found = (text if "://" in text or text == "embedded" else beside, path)
    return found


def _tables(path: str) -> dict[str, Any]:
    import tomllib  # most machines have no such file

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise InputError(str(error), source=path, expected="TOML, for example [run] and jobs = 4") from None


def _read(path: str, command: str) -> dict[str, Any]:
    from ergates.cli.command_table import COMMANDS

    tables = _tables(path)
    if isinstance(tables.get("store"), str):  # no table of `erg store`, see default_store
        del tables["store"]

    for name in tables:
        if name not in COMMANDS:
            raise InputError(f"no command [{name}]", source=path, hint=nearest(name, COMMANDS))
    if command not in tables:
        return {}
    from importlib import import_module

    return _checked(path, command, import_module(f"ergates.cli.{command}").command, tables[command])


def _checked(path: str, command: str, loaded: Any, options: object) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise InputError(f"{command} is not a table", source=path, expected=f"[{command}] and its options below it")
    params = {parameter.name or "": parameter for parameter in loaded.params}
    result: dict[str, Any] = {}
    for name, value in options.items():
        if name in getattr(loaded, "verbs", ()):  # [worker.start]
            result[name] = _checked(path, f"{command}.{name}", loaded.get_command(None, name), value)
            continue
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
