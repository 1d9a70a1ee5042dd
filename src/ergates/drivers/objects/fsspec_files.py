"""Files wherever fsspec gets: S3, SFTP, HTTP and more. The extra `ergates[data]`, loaded when first needed.

Who we are there is fsspec's business: environment, profiles and keys of this node, never the job.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ergates.drivers.objects.files import (
    FULL,
    Found,
    FullDiskError,
    NoSuchFileError,
    Stop,
    StoppedError,
    TransferError,
    UnusableError,
    is_private,
    private_name,
)

WHOLE_AT_ONCE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "memory"})
"""Stores of objects: one appears when all of it is there. Elsewhere files are written under another name first."""
PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "sftp": "paramiko",
}
_TAGS = ("ETag", "etag", "Content-MD5", "md5Hash", "generation", "checksum")
_TIMES = ("mtime", "LastModified", "Last-Modified", "last_modified", "updated", "modified", "created")
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")


class FsspecFiles:
    """A folder at a URL.

    Args:
        url: of the folder.

    Raises:
        UnusableError: a library is missing here, or fsspec knows no such form.
        TransferError: the server does not answer.
    """

    def __init__(self, url: str) -> None:
        self.place = url.rstrip("/")
        self._scheme = url.partition("://")[0]
        try:
            import fsspec  # type: ignore[import-untyped]
        except ImportError:
            raise UnusableError(
                f"{url}: fsspec is not installed on this node\n  hint: pip install 'ergates[data]'"
            ) from None
        try:
            with _translated(self.place):
                self._fs, self._root = fsspec.core.url_to_fs(
                    self.place, skip_instance_cache=True, **_options(self._scheme)
                )
        except (ImportError, ValueError, TypeError) as error:
            package = PACKAGES.get(self._scheme)
            hint = f"\n  hint: pip install 'ergates[data]' {package}" if package else ""
            raise UnusableError(f"{url}: {error}{hint}") from None

    def find(self, path: str, stop: Stop) -> list[Found]:
        """See files.Files."""
        where = self._at(path)
        with _translated(self._shown(path)):
            stop.check()
            self._fs.invalidate_cache()  # of listings
            if path != ".":
                with suppress(FileNotFoundError):
                    facts = self._fs.info(where)
                    if facts["type"] == "file":
                        return [_found(path, facts)]
            listed: dict[str, Any] = self._fs.find(where, detail=True)
            if not listed and not self._fs.exists(where):
                raise NoSuchFileError(f"{self._shown(path)}: no such file or folder")
        prefix = self._root.rstrip("/") + "/"
        return [
            _found(name.removeprefix(prefix), facts)
            for name, facts in sorted(listed.items())
            if facts["type"] == "file" and name.startswith(prefix) and not is_private(name)
        ]

    def fetch(self, found: Sequence[Found], folder: Path, stop: Stop) -> None:
        """See files.Files."""
        for each in found:
            target = folder / each.path
            with _translated(self._shown(each.path)):
                target.parent.mkdir(parents=True, exist_ok=True)
                self._fs.get_file(self._at(each.path), str(target), callback=_callback(stop))
                stop.check()

    def put(self, folder: Path, paths: Sequence[str], stop: Stop) -> None:
        """See files.Files."""
        growing: list[tuple[str, str]] = []
        try:
            for path in paths:
                final = self._at(path)
                with _translated(self._shown(path)):
                    stop.check()
                    if self._scheme in WHOLE_AT_ONCE:
                        self._fs.put_file(str(folder / path), final, callback=_callback(stop))
                        continue
                    parent, _, name = final.rpartition("/")
                    self._fs.makedirs(parent, exist_ok=True)
                    part = f"{parent}/{private_name(name)}"
                    growing.append((part, final))
                    self._fs.put_file(str(folder / path), part, callback=_callback(stop))
            while growing:
                stop.check()
                part, final = growing[0]
                with _translated(final):
                    self._fs.mv(part, final)
                growing.pop(0)
        finally:
            for part, _ in growing:
                with suppress(Exception):  # the server is gone: nothing with this name is ever read
                    self._fs.rm_file(part)

    def _at(self, path: str) -> str:
        return str(self._root) if path == "." else f"{self._root.rstrip('/')}/{path}"

    def _shown(self, path: str) -> str:
        return self.place if path == "." else f"{self.place}/{path}"


def _found(path: str, facts: dict[str, Any]) -> Found:
    version = next((f"{name}={facts[name]}" for name in (*_TAGS, *_TIMES) if facts.get(name)), "")
    mode = facts.get("mode")
    return Found(path, facts.get("size"), version, isinstance(mode, int) and bool(mode & 0o100))


def _options(scheme: str) -> dict[str, Any]:
    """What is not left as the library has it. Its SFTP would trust any host that answers."""
    return {"host_key_policy": _known_hosts_only()} if scheme == "sftp" else {}


def _known_hosts_only() -> Any:
    import paramiko  # type: ignore[import-untyped]

    class KnownHostsOnly(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko has no types
        """Takes the keys that ssh on this node knows, and asks nobody about others."""

        def missing_host_key(self, _client: object, hostname: str, key: Any) -> None:
            known = paramiko.HostKeys()
            for name in _KNOWN_HOSTS:
                with suppress(OSError):
                    known.load(os.path.expanduser(name))
            if not known.check(hostname, key):
                raise UnusableError(
                    f"{hostname}: this node does not know its host key\n  hint: ssh to it once from here"
                )

    return KnownHostsOnly()


def _callback(stop: Stop) -> Any:
    from fsspec.callbacks import Callback  # type: ignore[import-untyped]

    class Stopping(Callback):  # type: ignore[misc]  # fsspec has no types
        """Called for every block."""

        def call(self, *_args: object, **_kwargs: object) -> None:
            stop.check()

    return Stopping()


@contextmanager
def _translated(place: str) -> Iterator[None]:
    """What went wrong, as one of ours. Libraries raise whatever they like, OSErrors mostly."""
    try:
        yield
    except (TransferError, StoppedError, ImportError, ValueError):
        raise
    except FileNotFoundError:
        raise NoSuchFileError(f"{place}: no such file, folder or bucket") from None
    except PermissionError as error:
        raise UnusableError(f"{place}: permission denied: {error}") from None
    except OSError as error:
        kind = FullDiskError if error.errno in FULL else TransferError
        raise kind(f"{place}: {error.strerror or error}") from error
    except Exception as error:
        kind = (
            UnusableError
            if type(error).__name__ in ("NoCredentialsError", "AuthenticationException")
            else TransferError
        )
        raise kind(f"{place}: {type(error).__name__}: {error}") from error
