"""`erg distcomp`: distComp's manager, for those who have scripts: its verbs, filters and flags on our store."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from ergates.cli.options import AnyType, F, common_options, examples
from ergates.errors import UsageError

_TRUE, _FALSE = ("y", "yes", "on", "1", "true", "t"), ("n", "no", "off", "0", "false", "f")


class _Switch(AnyType):
    name = "true|false"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        word = str(value).lower()
        if word not in _TRUE + _FALSE:
            self.fail(f"expected true or false, got {value!r}", param, ctx)
        return word in _TRUE


def _switch(name: str, text: str) -> Callable[[F], F]:
    return click.option(f"--{name}", name, type=_Switch(), default="true", show_default=True, help=text)


class _WithImport(click.Group):
    """`import` is the one verb that is a word."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["import"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "import":
            return None
        from ergates.cli.distcomp_import import command as import_command

        return import_command


@click.group(
    name="distcomp",
    cls=_WithImport,
    invoke_without_command=True,
    epilog=examples(
        "erg distcomp --task 'initRedis&loadTask' --taskfile task",
        "erg distcomp --task checkTask --finished false --include cachesim",
        "erg distcomp --task moveFailedTaskToTodo",
        "erg distcomp import redis://manager:6379/0   take over a live queue",
    ),
)
@click.option("--task", "verbs", metavar="VERB[&VERB]...", help="initRedis, loadTask, checkTask, checkWorker, cleanup,"
    " removeFinishedTask, moveInProgressTaskToTodo, moveFailedTaskToTodo; several joined by &.")  # fmt: skip
@click.option("--taskfile", default="task", show_default=True, metavar="FILE", help="Read by loadTask.")
@click.option("--include", default="", metavar="TEXT", help="Only tasks (or workers) that hold this.")
@click.option("--exclude", default="", metavar="TEXT", help="Only tasks (or workers) that do not.")
@_switch("todo", "checkTask lists what waits.")
@_switch("in_progress", "It lists what runs, and where.")
@_switch("finished", "It lists what is finished.")
@_switch("failed", "It lists what has failed or was cancelled.")
@_switch("failed_reason", "It lists why.")
@_switch("print_result", "With what finished tasks printed.")
@click.option("--redis_host", metavar="HOST", help="The store's server.  [default: what --store says]")
@click.option("--redis_port", type=click.IntRange(1, 65535), default=6379, show_default=True, help="Its port.")
@click.option("--redis_db", type=click.IntRange(0), default=0, show_default=True, help="Its database.")
@click.option("--redis_pass", metavar="PASSWORD", help="Refused: put it into ERGATES_STORE_PASSWORD.")
@common_options
@click.pass_context
def command(ctx: click.Context, /, verbs: str | None, taskfile: str, **options: Any) -> None:
    """Manage tasks as distComp does: the same verbs, joined by &, with the same filters.

    They act on tasks that were loaded with it and on nothing else; no server is ever flushed.
    """
    if ctx.invoked_subcommand is not None:
        return
    if not verbs:
        raise UsageError("no --task\n  expected: --task VERB[&VERB]..., or `erg distcomp import URL`")
    from ergates.cli.distcomp_verbs import VERBS, Context, Shown

    if options["as_json"]:
        raise UsageError(
            "--json: these verbs print what distComp prints\n  hint: for programs there are `erg status --json`,"
            " `erg export --format jsonl` and `erg worker list --json`"
        )
    chosen = verbs.split("&")
    for verb in chosen:
        if verb not in VERBS:
            raise UsageError(f"no verb {verb!r}\n  expected: one of {', '.join(VERBS)}")
    _choose_store(ctx, options)
    from ergates.cli.opened import opened_store

    names = ("include", "exclude", "todo", "in_progress", "finished", "failed", "failed_reason", "print_result")
    shown = Shown(**{name: options[name] for name in names})
    with opened_store(options["state_dir"], create=True) as (store, folder):
        for verb in chosen:
            VERBS[verb](Context(store, folder, taskfile, shown))


def _choose_store(ctx: click.Context, options: dict[str, Any]) -> None:
    """`--redis_host` and its kin name a store as `--store` would."""
    if options["redis_pass"] is not None:
        raise UsageError(
            "--redis_pass: a password in an argument is seen by everybody on this machine\n"
            "  hint: put it into ERGATES_STORE_PASSWORD, or name a store file with --store"
        )
    if options["redis_host"]:
        url = f"redis://{options['redis_host']}:{options['redis_port']}/{options['redis_db']}"
        ctx.meta["ergates.store"] = (url, "--redis_host")
    elif "ergates.store" not in ctx.meta and os.environ.get("ERGATES_STORE"):
        ctx.meta["ergates.store"] = (os.environ["ERGATES_STORE"], "ERGATES_STORE")
