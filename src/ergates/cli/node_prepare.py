"""`erg node prepare`: shows every change, remembers what was there, makes it, and looks whether it took."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ergates.cli.node_options import PROFILE_NAMES, arrow, journal_options
from ergates.cli.options import examples
from ergates.cli.wording import plural
from ergates.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ergates.drivers.nodes.prepare import Outcome, Planned
    from ergates.drivers.nodes.tree import NodeTree
    from ergates.experiment.node_plan import Wish


@click.command(
    epilog=examples(
        "erg node prepare --profile latency --dry-run         what would be changed",
        "sudo erg node prepare --profile latency              asks first",
        "sudo erg node prepare --set governor=performance --set hugepages@node0=512 --yes",
        "sudo erg node prepare --set isolate=2-3 --set irq-affinity=0-1 --set sysctl@kernel.timer_migration=0",
        "sudo erg node prepare --set modules=vfio-pci --set card@0000:01:00.0=vfio-pci",
        "erg node prepare --list                              all settings and their values",
    )
)
@click.option("--profile", type=click.Choice(PROFILE_NAMES), help="A set of settings; what --set names goes before it.")
@click.option("--set", "settings", multiple=True, metavar="NAME[@WHERE]=VALUE", help="One setting; may be repeated.")
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help='Settings from a TOML file: NAME = VALUE, and perhaps profile = "latency".',
)
@click.option("--dry-run", is_flag=True, help="Only show what would be changed.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--skip-missing", is_flag=True, help="Leave out what this machine does not have, instead of refusing.")
@click.option("--list", "listed", is_flag=True, help="All settings, their values, and why they matter.")
@journal_options
def command(
    profile: str | None,
    settings: tuple[str, ...],
    file: Path | None,
    dry_run: bool,
    yes: bool,
    skip_missing: bool,
    listed: bool,
    state: Path | None,
    root: Path,
    as_json: bool,
) -> int:
    """Change settings of this machine; `erg node restore` puts all of them back.

    Every change is shown before it is made, its old value is on disk before that, and it is read back after. Prepared
    twice, a machine is restored to what it was before the first time. Exit code 1 when something did not take.
    """
    from ergates.drivers.nodes.journal import journal_of
    from ergates.drivers.nodes.prepare import carry_out, plan_node, refuse_forbidden
    from ergates.drivers.nodes.tree import NodeTree
    from ergates.experiment.node_plan import parse_wish

    if listed:
        return _list(as_json)
    of_file, wishes = _of_file(file) if file else ("", ())
    wishes = (*wishes, *map(parse_wish, settings))
    profile = profile or of_file
    if not wishes and not profile:
        raise UsageError(
            "nothing to prepare\n  hint: --profile latency, --set NAME=VALUE or --file; --list shows all settings"
        )
    tree = NodeTree(root)
    planned = plan_node(tree, wishes, profile)
    if not skip_missing:
        planned.refuse_missing()
    _show(tree, planned, to_stderr=as_json)
    if not dry_run:
        refuse_forbidden(tree, planned.changes)
    if dry_run or not planned.changes:
        return _end(as_json, planned, (), None, _forbidden(tree, planned))
    _ask(yes, planned)
    journal = journal_of(tree, state)
    try:
        outcomes = carry_out(tree, journal, planned.changes, lambda line: click.echo(line, err=True))
    except BaseException:
        if journal.path.exists():
            click.echo("erg: broken off; `erg node restore` undoes what was done", err=True)
        raise
    return _end(as_json, planned, outcomes, journal.path)


def _of_file(path: Path) -> tuple[str, tuple[Wish, ...]]:
    import tomllib

    from ergates.drivers.nodes.catalogue import canonical
    from ergates.experiment.node_plan import wish_of

    try:
        table: dict[str, Any] = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise InputError(str(error), source=str(path), expected='lines such as governor = "performance"') from None
    except UnicodeDecodeError:
        raise InputError("not a text file", source=str(path), expected="TOML") from None
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", source=str(path)) from None
    profile = table.pop("profile", "")
    if profile and profile not in PROFILE_NAMES:
        raise InputError(f"no profile {profile!r}", source=str(path), expected=" or ".join(PROFILE_NAMES))
    try:
        return str(profile), tuple(canonical(wish_of(name, _text(value, name, path))) for name, value in table.items())
    except InputError:
        raise
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _text(value: object, name: str, path: Path) -> str:
    """As --set takes it: `true` is on, a list is joined."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, list) and all(isinstance(each, str | int) for each in value):
        return ",".join(map(str, value))
    raise InputError(f"{name}: not a value of a setting", source=str(path), expected="a text, a number, true or false")


def _show(tree: NodeTree, planned: Planned, *, to_stderr: bool) -> None:
    from ergates.drivers.nodes.prepare import change_line

    for wish, reason in planned.missing:
        click.echo(f"left out: {wish}: {reason}", err=to_stderr)
    for change in planned.changes:
        if change.new is not None:
            click.echo(change_line(tree, change, arrow()), err=to_stderr)


def _forbidden(tree: NodeTree, planned: Planned) -> str:
    """What would be refused if it were done; empty: nothing."""
    from ergates.drivers.nodes.prepare import refuse_forbidden

    try:
        refuse_forbidden(tree, planned.changes)
    except UsageError as error:
        return str(error)
    return ""


def _ask(yes: bool, planned: Planned) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "nothing was changed: nobody is there to be asked\n  hint: add --yes, or --dry-run to only look"
        )
    count = sum(change.new is not None for change in planned.changes)
    click.confirm(f"make {plural(count, 'change')}?", abort=True, err=True)


def _end(
    as_json: bool, planned: Planned, outcomes: Sequence[Outcome], journal: Path | None, forbidden: str = ""
) -> int:
    failed = [outcome for outcome in outcomes if not outcome.ok]
    if as_json:
        from ergates.cli.json_output import print_json

        missing = [{"setting": str(wish), "reason": reason} for wish, reason in planned.missing]
        body = {"planned": [change for change in planned.changes if change.new is not None], "missing": missing}
        print_json(
            {
                **body,
                "forbidden": forbidden,
                "outcomes": outcomes,
                "journal": journal and str(journal),
                "ok": not failed,
            }
        )
        return 1 if failed else 0
    if not planned.changes:
        click.echo("nothing to change: all is as wished")
    if journal is not None:
        stayed = sum(bool(outcome.problem) for outcome in outcomes) - len(failed)
        made = sum(outcome.state == "made" for outcome in outcomes)
        click.echo(f"{plural(made, 'change')} made; erg node restore undoes them (remembered in {journal})")
        if stayed:
            click.echo(
                f"{plural(stayed, 'other')} could not be: the kernel keeps some interrupts, threads and watchdogs"
            )
    for outcome in failed:
        click.echo(f"did not take: {outcome.change.target}: {outcome.problem}", err=True)
    return 1 if failed else 0


def _list(as_json: bool) -> int:
    from ergates.drivers.nodes.catalogue import PROFILES, SETTINGS

    if as_json:
        from ergates.cli.json_output import print_json

        rows = [{"name": s.name, "values": s.values, "where": s.place, "why": s.why} for s in SETTINGS.values()]
        print_json({"settings": rows, "profiles": {name: dict(wishes) for name, wishes in PROFILES.items()}})
        return 0
    for setting in SETTINGS.values():
        click.echo(f"{setting.name}{'[@WHERE]' if setting.place else ''}={setting.values}")
        click.echo(f"    {setting.why}{f'; WHERE: {setting.place}' if setting.place else ''}")
    for name, wishes in PROFILES.items():
        click.echo(f"profile {name}: {' '.join(f'{key}={value}' for key, value in wishes)}")
    return 0
