"""Files in a folder that this node sees itself: on its disk, or on a file system that all nodes share."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ergates.drivers.objects.copying import copy_file
from ergates.drivers.objects.files import (
    Found,
    NoSuchFileError,
    Stop,
    executable,
    full_disk,
    is_private,
    private_name,
)


class LocalFiles:
    """Args: `folder` is absolute."""

    def __init__(self, folder: str) -> None:
        self.place = folder.rstrip("/") or "/"
        self._root = Path(self.place)

    def find(self, path: str, stop: Stop) -> list[Found]:
        """See files.Files."""
        where = self._root / path
        try:
            facts = where.stat()
            if not stat.S_ISDIR(facts.st_mode):
                return [_found(path, facts)]
            return sorted(self._below(where, stop), key=lambda each: each.path)
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchFileError(f"{where}: no such file or folder") from None
        except PermissionError as error:
            raise NoSuchFileError(f"{error.filename}: permission denied") from None
        except OSError as error:
            raise full_disk(error, str(where)) from error

    def fetch(self, found: Sequence[Found], folder: Path, stop: Stop) -> None:
        """See files.Files."""
        for each in found:
            target = folder / each.path
            source = self._root / each.path
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                facts = copy_file(source, target, stop)
                os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
            except (FileNotFoundError, NotADirectoryError):
                raise NoSuchFileError(f"{source}: no such file") from None
            except PermissionError as error:
                raise NoSuchFileError(f"{error.filename}: permission denied") from None
            except OSError as error:
                raise full_disk(error, str(source)) from error

    def put(self, folder: Path, paths: Sequence[str], stop: Stop) -> None:
        """See files.Files. All are written beside their places first, then renamed one after another."""
        growing: list[tuple[Path, Path]] = []
        try:
            for path in paths:
                final = self._root / path
                final.parent.mkdir(parents=True, exist_ok=True)
                part = final.with_name(private_name(final.name))
                growing.append((part, final))
                facts = copy_file(folder / path, part, stop)
                part.chmod(0o755 if executable(facts.st_mode) else 0o644)
            stop.check()
            while growing:
                part, final = growing[0]
                part.replace(final)
                growing.pop(0)
        except OSError as error:
            raise full_disk(error, self.place) from error
        finally:
            for part, _ in growing:
                with suppress(OSError):
                    part.unlink()

    def _below(self, where: Path, stop: Stop) -> Iterator[Found]:
        seen: set[tuple[int, int]] = set()
        for folder, folders, names in os.walk(where, followlinks=True, onerror=_raised):
            stop.check()
            facts = Path(folder).stat()
            if (facts.st_dev, facts.st_ino) in seen:  # a link that leads back
                folders.clear()
                continue
            seen.add((facts.st_dev, facts.st_ino))
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):  # a link to nothing, or a file that just went
                    facts = path.stat()
                    if stat.S_ISREG(facts.st_mode) and not is_private(name):
                        yield _found(str(path.relative_to(self._root)), facts)


def _found(path: str, facts: os.stat_result) -> Found:
    return Found(path, facts.st_size, f"{facts.st_mtime_ns}.{facts.st_ino}", executable(facts.st_mode))


def _raised(error: OSError) -> None:
    raise error
