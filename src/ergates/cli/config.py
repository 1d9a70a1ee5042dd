"""`erg config`: the settings a command would run with, and where each comes from."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import click
from click.core import ParameterSource

from ergates.cli.config_file import config_paths, load_defaults
from ergates.cli.options import examples, local_options
from ergates.cli.tables import Column, table_lines

_SOURCES = {
    ParameterSource.ENVIRONMENT: "environment",
    ParameterSource.DEFAULT_MAP: "file",
    ParameterSource.DEFAULT: "default",
}


@click.command(
    epilog=examples(
        "erg config                   what `erg run` would use",
        "erg config submit",
        "ERGATES_RUN_JOBS=4 erg config",
    )
)
@click.argument("name", metavar="[COMMAND]", default="run")
@click.option("--set-only", is_flag=True, help="Only what is not the default.")
@local_options
@click.pass_context
def command(ctx: click.Context, /, name: str, set_only: bool, state_dir: str | None, as_json: bool) -> None:
    """Settings of COMMAND (default: run) in effect, and where each comes from.

    An option on the command line goes before the environment, that before ./ergates.toml, that before config.toml in
    the user's configuration folder.
    """
    rows = [row for row in settings_of(ctx, name) if not set_only or row["source"] != "default"]
    files = [path for path in config_paths() if os.path.exists(path)]
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"command": name, "files": files, "state_dir": state_dir, "settings": rows})
        return
    columns = (Column("option"), Column("value"), Column("from"), Column("variable"))
    shown = [(row["option"], _shown(row["value"]), row["source"], row["variable"]) for row in rows]
    click.echo("\n".join(table_lines(columns, shown)))
    click.echo(f"files read: {', '.join(files) or 'none'}  (looked for {', '.join(config_paths())})")


def settings_of(ctx: click.Context, name: str) -> list[dict[str, Any]]:
    """Every option of a command: its value with nothing on the command line, and where that comes from.

    Raises:
        click.UsageError: no such command.
    """
    from ergates.cli.command_table import COMMANDS

    if name not in COMMANDS:
        raise click.UsageError(f"no command {name!r}", ctx=ctx)
    other: click.Command = import_module(f"ergates.cli.{name}").command
    defaults = load_defaults(name)
    inner = click.Context(other, info_name=name, parent=ctx.parent, resilient_parsing=True, default_map=defaults)
    rows = []
    with inner.scope(cleanup=False):
        for parameter in other.params:
            if not isinstance(parameter, click.Option):
                continue
            value, source = parameter.consume_value(inner, {})
            variable = parameter.envvar or f"ERGATES_{name.upper()}_{(parameter.name or '').upper()}"
            option = next((each for each in parameter.opts if each.startswith("--")), parameter.opts[0])
            rows.append(
                {
                    "option": option,
                    "value": value if isinstance(value, str | int | float | bool | list | tuple) else None,
                    "source": _SOURCES.get(source, str(source)),
                    "variable": str(variable),
                }
            )
    return rows


def _shown(value: object) -> str:
    if value in (None, (), []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
