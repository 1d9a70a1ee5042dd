"""`erg top`: jobs, workers and the longest tasks on one screen, with keys to pause, resume, cancel and drain."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ergates.cli.opened import AnyStore, named_store, opened_store
from ergates.cli.options import DURATION, common_options, examples
from ergates.cli.terminal import width_of
from ergates.errors import UsageError

if TYPE_CHECKING:
    from ergates.cli.top_source import TopSource


@click.command(
    epilog=examples(
        "erg top                                the store of this directory",
        "erg top --store store.toml             the cluster's",
        "erg top --once                         one frame as plain text",
        "erg top --json                         one record for programs",
        "watch -n 60 erg top --once             where there is no textual",
    )
)
@click.option("--once", is_flag=True, help="Print one frame and end; needs no textual.")
@click.option("--interval", type=DURATION, default="1s", show_default=True, metavar="TIME", help="Between two looks.")
@click.option("--unfinished", is_flag=True, help="Leave finished jobs out.")
@common_options
def command(once: bool, interval: int, unfinished: bool, state_dir: str | None, as_json: bool) -> None:
    """Jobs, workers and the tasks that run longest, on one screen that keeps up.

    It reads counters only: a million tasks cost no more than ten.
    """
    with opened_store(state_dir) as (store, folder):
        from ergates.cli.top_source import TopSource

        source = TopSource(store, folder, _name(store))
        if once or as_json:
            _print_once(source, unfinished=unfinished, as_json=as_json)
            return
        if not sys.stdout.isatty():
            raise UsageError("erg top draws on a terminal, and this is none\n  hint: erg top --once, or --json")
        try:
            from ergates.cli.top_screen import TopScreen
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("textual", "rich"):
                raise
            raise UsageError(
                "erg top needs the library textual for its screen\n"
                "  hint: pip install 'ergates[cluster]'; without it: watch erg top --once"
            ) from error
        TopScreen(source, interval_s=interval / 1e9, finished=not unfinished).run()


def _print_once(source: TopSource, *, unfinished: bool, as_json: bool) -> None:
    from ergates.cli.top_lines import facts, plain_lines
    from ergates.cli.top_state import TopState

    state = TopState()
    state.observe(source.look())
    frame = state.frame(finished=not unfinished)
    assert frame is not None
    if as_json:
        from ergates.cli.json_output import print_json

        print_json(facts(frame))
    else:
        click.echo("\n".join(plain_lines(frame, width_of(sys.stdout, 120))))


def _name(store: AnyStore) -> str:
    address = named_store()
    return str(address) if address is not None else str(getattr(store, "path", ""))
