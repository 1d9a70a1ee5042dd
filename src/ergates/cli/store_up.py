"""`erg store up`: starts the private store of this directory, or says that it runs."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ergates.cli.options import BYTES, examples, local_options
from ergates.errors import UsageError

if TYPE_CHECKING:
    from ergates.drivers.stores.private_files import ServerSettings
    from ergates.drivers.stores.private_server import PrivateServer, ServerRecord


@click.command(
    epilog=examples(
        "erg store up",
        "erg store up --listen 10.0.0.5                others come in by this address, with TLS",
        "erg store up --listen 0.0.0.0 --name head1    by every address of this machine, called head1",
        "erg store up --state /data/store --memory 8GiB",
        "erg store up --from monday.rdb                begin with what a backup holds",
    )
)
@click.option("--listen", metavar="ADDRESS", help="Listen on this address, too.  [default: this machine only]")
@click.option("--name", metavar="HOST", help="What other machines call this one.  [default: the address]")
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="PORT", help="TCP port.  [default: a free one, then kept]"
)
@click.option("--tls/--no-tls", default=None, help="Speak TLS only.  [default: yes when others can come in]")
@click.option("--memory", type=BYTES, metavar="SIZE", help="Take no more tasks beyond this.  [default: no limit]")
@click.option("--from", "backup", metavar="FILE", help="Begin with what `erg store backup` wrote.")
@click.option("--server", metavar="PROGRAM", help="Server to start.  [default: valkey-server or redis-server]")
@local_options
def command(
    listen: str | None,
    name: str | None,
    port: int | None,
    tls: bool | None,
    memory: int | None,
    backup: str | None,
    server: str | None,
    state_dir: str | None,
    as_json: bool,
) -> None:
    """Start a private store: with passwords, kept on disk, for this machine only unless --listen says otherwise.

    It is a daemon that outlives this command; `erg store down` stops it. What was chosen (port, passwords, address) is kept
    for the next start. .ergates/store.toml says how to get in: copy it to other machines, and name it with --store or
    ERGATES_STORE. Without these, commands in this directory go on using the embedded store.
    """
    from ergates.drivers.stores.open_cluster import need_client_library
    from ergates.drivers.stores.private_server import PrivateServer, find_program
    from ergates.drivers.stores.state_dir import make_state_dir

    need_client_library("erg store up")
    place = make_state_dir(Path.cwd(), state=Path(state_dir) if state_dir else None)
    if place.note:
        click.echo(f"erg: {place.note}", err=True)
    private = PrivateServer(place.root)
    with private.alone():
        record = private.running()
        started = record is None
        if record is None:
            program, _ = find_program(server)
            settings = _settings(private, listen, name, port, tls, memory)
            if backup is not None:
                from ergates.drivers.stores.private_backup import restore

                restore(private, program, Path(backup))
            record = private.start(settings, program, lambda text: click.echo(f"erg: {text}", err=True))
        elif backup is not None or _settings(private, listen, name, port, tls, memory) != record.settings:
            raise UsageError(
                f"the store runs already (pid {record.pid}), with other settings\n  hint: erg store down, then up again"
            )
    _tell(private, record, started=started, as_json=as_json)


def _settings(
    private: PrivateServer, listen: str | None, name: str | None, port: int | None, tls: bool | None, memory: int | None
) -> ServerSettings:
    """What is asked for now, over what was kept."""
    from msgspec.structs import replace

    from ergates.drivers.stores.private_files import ServerSettings, is_any, is_loopback

    record = private.record()
    settings = record.settings if record is not None else ServerSettings()
    if listen is not None and listen != settings.listen:
        called = os.uname().nodename if is_any(listen) else listen
        settings = replace(settings, listen=listen, name=called, tls=not is_loopback(listen))
    if name is not None:
        settings = replace(settings, name=name)
    if tls is not None:
        settings = replace(settings, tls=tls)
    if memory is not None:
        settings = replace(settings, memory_bytes=memory)
    return settings if port is None else replace(settings, port=port)


def _tell(private: PrivateServer, record: ServerRecord, *, started: bool, as_json: bool) -> None:
    from ergates.drivers.stores.first_contact import check_server
    from ergates.drivers.stores.open_cluster import client_factory
    from ergates.drivers.stores.private_queues import version_of
    from ergates.drivers.stores.store_file import read_store_file

    address = read_store_file(private.store_file)
    with closing(client_factory(address)()) as client:  # as a worker comes in
        version = version_of(check_server(client, address))
    if as_json:
        from ergates.cli.json_output import print_json

        print_json(
            {
                "started": started,
                "url": address.url,
                "store_file": str(private.store_file),
                "pid": record.pid,
                "version": version,
                "settings": record.settings,
            }
        )
        return
    open_to = (
        "" if record.settings.listen == record.settings.name == "127.0.0.1" else f", open to {record.settings.listen}"
    )
    click.echo(f"store {'is up' if started else 'runs already'}: {address} ({version}, pid {record.pid}{open_to})")
    click.echo(f"  data in {private.folder}; stop it: erg store down")
    click.echo(
        f"  use it: export ERGATES_STORE={private.store_file}    (or --store {os.path.relpath(private.store_file)})"
    )
    if not record.settings.tls and open_to:
        click.echo("erg: without TLS the password and all tasks can be read on the network", err=True)
