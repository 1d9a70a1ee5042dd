"""Which driver serves an address: a folder of this machine, a host that ssh reaches, or what fsspec knows."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from ergates.drivers.objects.files import Files, UnusableError
from ergates.drivers.objects.local_files import LocalFiles

_HOST_FOLDER = re.compile(r"((?:[^\s/:@\[\]]+@)?(?:[^\s/:\[\]]+|\[[^\]\s]+\])):(/.*)", re.DOTALL)


def open_files(address: str) -> Files:
    """The place at that address: `/folder`, `file:///folder`, `host:/folder`, `ssh://user@host/folder`, `s3://bucket/folder`, ...

    Raises:
        UnusableError: this node cannot get there, whatever the network does.
        TransferError: it could not be reached now.
    """
    if address.startswith("/"):
        return LocalFiles(address)
    scheme, separator, _ = address.partition("://")
    if not separator:
        match = _HOST_FOLDER.fullmatch(address)
        if match is None:
            raise UnusableError(f"expected s3://bucket/folder, host:/folder or /folder, got {address!r}")
        return _rsync(match[1], match[2], None)
    if scheme == "file":
        parts = urlsplit(address)
        if parts.netloc not in ("", "localhost"):
            raise UnusableError(f"expected file:///folder, got {address!r}; for another host host:/folder")
        return LocalFiles(unquote(parts.path) or "/")
    if scheme in ("ssh", "rsync+ssh"):
        parts = urlsplit(address)
        try:
            port = parts.port
        except ValueError:
            raise UnusableError(f"expected a port number in {address!r}") from None
        return _rsync(parts.netloc.removesuffix(f":{port}"), unquote(parts.path) or "/", port)
    from ergates.drivers.objects.fsspec_files import FsspecFiles

    return FsspecFiles(address)


def _rsync(host: str, folder: str, port: int | None) -> Files:
    from ergates.drivers.objects.rsync import RsyncFiles

    return RsyncFiles(host, folder, port)
