"""The exact command that goes on with an interrupted run: the same one, or `--job` where its input is gone (a pipe)."""

from __future__ import annotations

import shlex

import click

_OF_THIS_RUN = frozenset(
    {
        *(
            "jobs",
            "cpus",
            "memory",
            "memory_policy",
            "resource",
            "pin",
            "price",
            "halt",
            "node_label",
            "grace",
            "cgroups",
        ),
        *("container_engine", "output", "group", "keep_order", "line_buffer", "tag", "joblog", "quiet"),
        *("no_progress", "state_dir", "store_url", "as_json"),
    }
)
"""Everything else is about the input and is kept with the job."""


def resume_command(ctx: click.Context, job: str, *, reads_once: bool) -> str:
    """What to type.

    Args:
        ctx: of the command that runs; its words are in `meta`.
        job: id of the job.
        reads_once: whether the input came from a pipe, so that the same command would read something else.
    """
    given: tuple[str, ...] = ctx.meta["ergates.args"]
    if not reads_once:
        return shlex.join(["erg", "run", *given, *ctx.meta["ergates.lists"]])
    options, _, _ = ctx.command.make_parser(ctx).parse_args(list(given))
    words = ["erg", "run", "--job", job]
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name not in _OF_THIS_RUN or name not in options:
            continue
        values = options[name] if parameter.multiple else [options[name]]
        for value in values:
            words += [parameter.opts[-1]] if isinstance(value, bool) else [parameter.opts[-1], str(value)]
    return shlex.join(words)
