"""A command of several verbs (`erg worker start`): a table of names and one-line helps; a verb's file is loaded when called.

`erg worker list` is the module `ergates.cli.worker_list` with its `command`. To add a verb, add its file and its row.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class VerbGroup(click.Group):
    """Imports `ergates.cli.<group>_<verb>` when a verb is called, or when its own help is asked for.

    Args:
        verbs: verb to one-line help, in the order of `--help`.
    """

    def __init__(self, *args: Any, verbs: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.verbs:
            return None
        command: click.Command = import_module(f"ergates.cli.{self.name}_{cmd_name.replace('-', '_')}").command
        command.name = cmd_name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in self.verbs or name.startswith("-"):
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches  # only a typing error needs it

        close = get_close_matches(name, self.verbs, n=1, cutoff=0.5)
        hint = f"did you mean `{ctx.command_path} {close[0]}`?" if close else f"known are {', '.join(self.verbs)}"
        raise click.UsageError(f"no `{ctx.command_path} {name}`\n  hint: {hint}", ctx=ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(self.verbs.items()))
