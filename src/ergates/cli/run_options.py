"""The options of `erg run` and `erg submit`, by what they are about: input, tasks, job, this machine, what is shown."""

from __future__ import annotations

import click

from ergates.cli.options import (
    ALTERNATIVE,
    BYTES,
    CPUS,
    DATA,
    DURATION,
    HALT,
    NODE_RESOURCE,
    PAIR,
    ROLE,
    TASK_RESOURCE,
    USD,
    applied,
)

LIST_MARKS = (":::", ":::+", "::::", "::::+")


class ListsCommand(click.Command):
    """A command whose words after the first `:::` are values, whatever they look like."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        cut = next((i for i, word in enumerate(args) if word in LIST_MARKS), len(args))
        ctx.meta["ergates.lists"] = tuple(args[cut:])
        ctx.meta["ergates.args"] = tuple(args[:cut])
        return super().parse_args(ctx, args[:cut])


input_options = applied(
    (
        click.argument("words", nargs=-1, metavar="[FILE|-|TEMPLATE]... [::: VALUE...]"),
        click.option(
            "-p", "--param", multiple=True, metavar="NAME=VALUES",
            help="Values of {NAME}: 1..100, 1,2,4 or @FILE; several -p make every combination.",
        ),
        click.option("--params", metavar="FILE", help="A table (.csv, .tsv, .jsonl) whose columns become {NAME}s."),
        click.option("-C", "--colsep", metavar="REGEX", help="Cut the values of ::: and :::: into columns {1} {2} ..."),
        click.option("--pipe", is_flag=True, help="Cut standard input into blocks, one task each."),
        click.option("--block", type=BYTES, default="1MiB", show_default=True, help="Size of a block of --pipe."),
        click.option("-N", "--max-records", type=click.IntRange(1), help="Records a block of --pipe, instead of bytes."),
        click.option("--recstart", help="What a record of --pipe begins with."),
        click.option("--recend", help="What a record of --pipe ends with.  [default: a newline]"),
        click.option(
            "--format", default="auto", show_default=True,
            type=click.Choice(["auto", "commands", "distcomp", "jsonl", "toml"]), help="What the file holds.",
        ),
        click.option("--keep-going", is_flag=True, help="Skip lines that cannot be read instead of submitting nothing."),
    )
)  # fmt: skip

task_options = applied(
    (
        click.option("--cpus-per-task", type=CPUS, metavar="CORES", help="Cores one task holds; 0.5 lets two share one."),
        click.option("--memory-per-task", type=BYTES, metavar="SIZE", help="A floor for the memory of one task; never needed."),
        click.option("--time-limit", type=DURATION, metavar="TIME", help="Wall time of one attempt: 90s, 10m, 1h30m."),
        click.option("--retries", type=click.IntRange(0), metavar="N",
                     help="Tries more after a task failed by itself (not after --time-limit)."),
        click.option("--priority", type=int, metavar="N", help="Larger first."),
        click.option("--task-resource", type=TASK_RESOURCE, multiple=True, metavar="NAME=N",
                     help="What one task holds of a --resource: gpus=1."),
        click.option("--env", type=PAIR, multiple=True, metavar="NAME=VALUE", help="A variable for the tasks."),
        click.option("--label", type=PAIR, multiple=True, metavar="NAME=VALUE", help="A label, for reports."),
        click.option("--cwd", metavar="DIR", help="Where the tasks run.  [default: here]"),
        click.option("--or", "alternatives", type=ALTERNATIVE, multiple=True, metavar="cpus=N,NAME=N",
                     help="What one task would do with instead, where the cores and resources above are not free."),
        click.option("--require-label", type=PAIR, multiple=True, metavar="NAME=VALUE",
                     help="Only nodes with this label run the tasks: arch=x86."),
        click.option("--requires", multiple=True, metavar="PATH", help="Only nodes where PATH exists run the tasks."),
        click.option("--min-time", type=DURATION, metavar="TIME",
                     help="Only workers that have so long to live start a task."),
        click.option("--nodes", type=click.IntRange(1), metavar="N", help="One task starts on N nodes at once (a gang)."),
        click.option("--role", type=ROLE, multiple=True, metavar="NAME=COUNT[@LABEL=VALUE,...][:COMMAND]",
                     help="Members of a gang, labels of their nodes, what they run: server=1@disk=ssd:'./serve {port}'."),
        click.option("--input", "--input-file", "inputs", multiple=True, metavar="PATH",
                     help="A file or folder brought to the node before a task starts; {NAME} is filled in."),
        click.option("--output-file", "outputs", multiple=True, metavar="PATH",
                     help="A file, folder or pattern brought back after a task succeeded; {NAME} is filled in."),
        click.option("--image", metavar="IMAGE", help="Run the tasks in containers of this image."),
        click.option("--mount", multiple=True, metavar="HOST:CONTAINER[:ro]", help="A folder the containers see."),
    )
)  # fmt: skip

job_options = applied(
    (
        click.option("--data", type=DATA, metavar="URL",
                     help="Where --input comes from and --output-file goes to: s3://bucket/folder, host:/folder."),
        click.option("--copies", is_flag=True,
                     help="On a cluster: a task that runs much longer than its like may run on an idle node beside it."),
        click.option("--key", metavar="NAME", help="Names the job for resuming.  [default: derived from its input]"),
        click.option("--name", metavar="NAME", help="What people see.  [default: the file, or the template]"),
        click.option("--cached", is_flag=True, help="Do not run a finished job again; -o or -k print what it printed."),
        click.option(
            "--max-fails", type=click.IntRange(1), metavar="N", help="Start nothing more once N tasks failed."
        ),
        click.option(
            "--aging", type=DURATION, metavar="TIME", help="A waiting task gains one priority each such time."
        ),
        click.option(
            "--dry-run", is_flag=True, help="Print the commands as they would be run, and how many; run nothing."
        ),
    )
)  # fmt: skip

machine_options = applied(
    (
        click.option("-j", "--jobs", type=click.IntRange(1), metavar="N",
                     help="N tasks at once, also beyond the cores; fewer where memory runs out.  [default: one a core]"),
        click.option("--cpus", type=CPUS, metavar="CORES", help="Cores for all tasks together.  [default: all there are]"),
        click.option("--memory", type=BYTES, metavar="SIZE", help="Confine all tasks together to this much memory."),
        click.option("--memory-policy", default="ours", show_default=True, type=click.Choice(["ours", "distcomp", "fixed"]),
                     help="Learn and pack; distComp's thresholds; or fixed slots that never give back."),
        click.option("--resource", type=NODE_RESOURCE, multiple=True, metavar="NAME=...",
                     help="What this machine has: gpus=0,1 (indexed) or licences=4 (counted)."),
        click.option("--pin", is_flag=True, help="Give every task cores of its own."),
        click.option("--price", type=USD, metavar="USD", help="Price of this machine an hour, for the costs."),
        click.option("--grace", type=DURATION, default="5s", show_default=True, metavar="TIME",
                     help="Between asking a task to end (TERM) and ending it (KILL)."),
        click.option("--cgroups", default="auto", show_default=True, type=click.Choice(["auto", "v2", "v1", "none"]),
                     help="Which control groups to use."),
        click.option("--cache-size", type=BYTES, default="10GiB", show_default=True, metavar="SIZE",
                     help="How much of what --input brought is kept for later tasks."),
        click.option("--container-engine", default="auto", show_default=True, type=click.Choice(["auto", "docker", "podman"]),
                     help="For tasks with an image."),
    )
)  # fmt: skip
"""What a worker may use of this machine, and how."""

node_options = applied(
    (
        machine_options,
        click.option("--node-label", type=PAIR, multiple=True, metavar="NAME=VALUE",
                     help="A label of this machine, for tasks with --require-label."),
        click.option("--halt", type=HALT, metavar="RULE",
                     help="Stop early, as GNU parallel: soon,fail=1 | now,success=1 | soon,fail=5%."),
    )
)  # fmt: skip

shown_options = applied(
    (
        click.option("-o", "--output", is_flag=True,
                     help="Print what tasks print, each task in one piece, as they end."),
        click.option("--group", is_flag=True, help="The same as --output."),
        click.option("-k", "--keep-order", is_flag=True, help="Print outputs in the order of the input."),
        click.option("--line-buffer", is_flag=True, help="Print whole lines as they come, tasks mixed."),
        click.option("--tag", is_flag=True, help="Begin each printed line with the values of its task, or its number."),
        click.option("--joblog", metavar="FILE", help="Write one line for each task, in the columns of GNU parallel."),
        click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong."),
        click.option("--no-progress", is_flag=True, help="No progress display."),
    )
)  # fmt: skip
