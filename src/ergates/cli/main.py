"""The `erg` command: a table of names and one-line helps; a command's own file is loaded only when it is called.

So `erg --help` costs little more than Python itself, and no command pays for another's imports.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from ergates import __version__
from ergates.cli.command_table import COMMANDS, SECTIONS
from ergates.errors import ErgatesError

INTERRUPTED = 130
PIPE_CLOSED = 141
"""What a shell shows for a program that SIGPIPE ended: `erg logs | head` is no failure worth a message."""

EPILOG = """\b
Examples:
  erg run commands.txt                       a file of commands, one a line
  erg run 'sim --seed {seed}' -p seed=1..100  a template and its parameters
  erg run gzip ::: *.log                     as with GNU parallel
  erg status                                 what is there
  erg logs --failed                          what the failed tasks printed
"""


class ReaderGoneError(Exception):
    """Whoever read our output does not want more of it. Click would make exit code 1 of the error itself."""


class LazyGroup(click.Group):
    """Knows its commands by name and one-line help; imports `ergates.cli.<name>` when one is called."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGoneError from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"ergates.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches  # only a typing error needs it

        close = get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean `erg {close[0]}`?" if close else "`erg --help` lists the commands"
        if os.path.exists(name):
            hint = f"to run a file of commands: erg run {name}"
        raise click.UsageError(f"no command {name!r}\n  hint: {hint}", ctx=ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, rows in SECTIONS:
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "ERGATES", "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", prog_name="erg", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run heaps of work on the machines you have, one or many, inside the limits you set, and see what each task cost."""
    from ergates.cli.config_file import load_defaults

    name = ctx.invoked_subcommand or ""
    ctx.default_map = {name: load_defaults(name)}


def main() -> NoReturn:
    """Entry point of `erg`: exit codes are 0 all done, 1 work failed, 2 wrong usage or input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        # File names and commands may hold bytes that are not UTF-8; they leave as they came.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")
    sys.exit(exit_code_of(sys.argv[1:]))


def exit_code_of(args: list[str]) -> int:
    """Run one command line and turn whatever it ends with into an exit code and, where one is due, a message."""
    try:
        result: Any = cli.main(args, prog_name="erg", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption) and (longer := _longer_names(error)):
            meant = " or ".join(repr(option) for option in longer)
            error = click.UsageError(f"No such option {error.option_name!r}. Did you mean {meant}?", ctx=error.ctx)
        error.show()
        return error.exit_code
    except ErgatesError as error:
        if os.environ.get("ERGATES_DEBUG") == "1":
            raise
        click.echo(f"erg: {error}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nerg: interrupted", err=True)
        return INTERRUPTED
    except (BrokenPipeError, ReaderGoneError):
        return _without_reader()
    except OSError as error:
        if os.environ.get("ERGATES_DEBUG") == "1" or error.errno is None:
            raise
        place = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        click.echo(f"erg: {place}{error.strerror}", err=True)
        return 1


def _longer_names(error: click.NoSuchOption) -> list[str]:
    """Options that begin as the unknown one does: who says `--cpus` to a command that has `--cpus-per-task` means that."""
    params = [] if error.ctx is None else error.ctx.command.params
    return sorted(option for param in params for option in param.opts if option.startswith(f"{error.option_name}-"))


def _without_reader() -> int:
    """What is left in the buffers cannot be written either; without this Python would complain at its end."""
    from ergates.cli.terminal import give_up

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            give_up(stream)
    return PIPE_CLOSED
