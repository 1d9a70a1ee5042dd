"""What a private server is told of odd folders and of sockets."""

from __future__ import annotations

from pathlib import Path

from ergates.drivers.stores.private_files import ServerSettings, configuration


def test_folders_of_any_name_are_written_so_that_the_server_reads_their_very_bytes() -> None:
    text = configuration(Path('/tmp/a "b" ü\n'), ServerSettings(port=1))
    assert 'dir "/tmp/a \\x22b\\x22 \\xc3\\xbc\\x0a/data"\n' in text
    assert text.isascii()


def test_with_a_socket_alone_nothing_listens_on_any_address() -> None:
    text = configuration(Path("/tmp/x"), ServerSettings(socket="/tmp/x/socket"))
    assert "\nport 0\n" in text and '\nunixsocket "/tmp/x/socket"\n' in text and "\nunixsocketperm 700\n" in text
    assert "unixsocket" not in configuration(Path("/tmp/x"), ServerSettings(port=1))
