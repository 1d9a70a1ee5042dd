"""Start-up stays light, every command has its help, and nothing is loaded that is not called."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from ergates.cli.command_table import COMMANDS
from ergates.cli.main import cli, exit_code_of

HEAVY = ("rich", "docker", "matplotlib", "numpy", "sqlite3", "msgspec", "cloudpickle", "psutil", "asyncio")


def modules_after(code: str) -> set[str]:
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(shown.stderr.split())


def test_help_loads_no_command_and_nothing_heavy() -> None:
    code = "from ergates.cli.main import exit_code_of\nassert exit_code_of(['--help']) == 0"
    loaded = modules_after(code)
    assert loaded.isdisjoint(HEAVY)
    assert {name for name in loaded if name.startswith("ergates.")} == {
        "ergates.cli",
        "ergates.cli.command_table",
        "ergates.cli.main",
        "ergates.errors",
    }


def test_status_loads_no_display_library_and_no_worker() -> None:
    loaded = modules_after("import ergates.cli.status")
    assert loaded.isdisjoint({"rich", "docker", "matplotlib", "numpy", "psutil", "cloudpickle", "asyncio"})
    assert not any(name.startswith(("ergates.agent", "ergates.drivers.launchers")) for name in loaded)


def leaves(words: list[str], command: click.Command) -> Iterator[tuple[list[str], click.Command]]:
    """The command, or all verbs of a group, of groups within it, too: what is typed, and what it calls."""
    if not isinstance(command, click.Group):
        yield words, command
        return
    context = click.Context(command)
    for verb in command.list_commands(context):
        found = command.get_command(context, verb)
        assert found is not None
        yield from leaves([*words, verb], found)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples_json_and_a_place(name: str) -> None:
    for words, leaf in leaves([name], import_module(f"ergates.cli.{name}").command):
        options = {option for parameter in leaf.params for option in parameter.opts}
        assert "--json" in options
        assert options & {"--state", "--store", "--folder"}, (
            "neither here nor in a cluster nor in an experiment's folder"
        )
        assert "Examples:" in (leaf.epilog or "")
        shown = CliRunner().invoke(cli, [*words, "--help"])
        assert shown.exit_code == 0
        assert "Examples:" in shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_line_fits_and_says_something(name: str) -> None:
    assert COMMANDS[name].endswith(".")
    assert len(COMMANDS[name]) <= 80


def test_a_file_in_place_of_a_command_gets_the_right_hint(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    with open("commands.txt", "w") as file:
        file.write("true\n")
    shown = CliRunner().invoke(cli, ["commands.txt"])
    assert shown.exit_code == 2
    assert "erg run commands.txt" in shown.output


def test_an_unknown_option_is_completed_before_it_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(["submit", "--cpus", "8", "true"]) == 2
    assert "--cpus-per-task" in capsys.readouterr().err
    assert exit_code_of(["submit", "--dryrun", "true"]) == 2
    assert "--dry-run" in capsys.readouterr().err
