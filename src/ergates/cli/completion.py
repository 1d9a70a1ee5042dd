"""`erg completion`: the script a shell needs to complete commands, options and files."""

from __future__ import annotations

import click

from ergates.cli.options import examples, local_options


@click.command(
    epilog=examples(
        "erg completion bash > ~/.local/share/bash-completion/completions/erg",
        "erg completion zsh  > ~/.zfunc/_erg          (with ~/.zfunc in fpath)",
        "erg completion fish > ~/.config/fish/completions/erg.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@local_options
def command(shell: str, state_dir: str | None, as_json: bool) -> None:
    """Print the script that completes `erg` in bash, zsh or fish."""
    del state_dir  # every command has it; this one needs no store
    from click.shell_completion import get_completion_class

    from ergates.cli.main import cli

    found = get_completion_class(shell)
    assert found is not None
    complete = found(cli, {}, "erg", "_ERG_COMPLETE")
    # Not complete.source(): that starts a bash to ask for its version.
    script = complete.source_template % complete.source_vars()
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"shell": shell, "script": script})
    else:
        click.echo(script)
