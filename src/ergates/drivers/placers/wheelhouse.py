"""The wheels a host needs, gathered here with pip for the platform of that host, and packed into one tar.

The far side may have no way to a registry, and no pip. What was gathered for a platform is kept in the user's cache under a
name made of the pins and the platform, so pip is asked once; the tar is named by its content, so a host is sent it once.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ergates.drivers.placers.far_tags import FarTags
from ergates.drivers.placers.own_wheel import build_own_wheel
from ergates.errors import ErgatesError, UsageError

REQUIRED = ("click", "cloudpickle", "msgspec", "redis")
"""What a worker imports, less what is of the standard library; in the versions that run here."""
HELPFUL = ("hiredis",)
"""Goes along where there is a wheel of it for the platform: redis works without, more slowly."""
_EARLY_PYTHON = ((3, 11, 3), "async-timeout==5.0.1")
"""redis needs it before this version of Python (Debian 12 has 3.11.2)."""


class WheelhouseError(ErgatesError):
    """The wheels for a platform cannot be gathered here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What is sent to a host. `tar` holds `wheels`, by name; `sha256` is of `tar`."""

    sha256: str
    tar: bytes
    wheels: tuple[str, ...]


class Wheelhouse:
    """Bundles by platform, each made once however many hosts ask at the same time.

    Args:
        cache: directory that is kept; None is `~/.cache/ergates/wheels`.
        extra: further requirements for all hosts (`numpy==2.1.0`), with what they need.

    Raises:
        UsageError: something a worker needs is not installed here, so that its version is not known.
    """

    def __init__(self, cache: Path | None = None, extra: Sequence[str] = ()) -> None:
        self._cache = default_cache() if cache is None else cache
        self._extra = tuple(extra)
        self._pins = [_pin(name) for name in REQUIRED]
        self._locks: dict[FarTags, asyncio.Lock] = {}
        self._bundles: dict[FarTags, Bundle] = {}
        self.gathered = 0
        """How often pip had to be asked: for tests and the curious."""

    async def bundle(self, tags: FarTags) -> Bundle:
        """The wheels for one platform.

        Raises:
            WheelhouseError: pip is missing or found no wheel for the platform; the error names it.
        """
        async with self._locks.setdefault(tags, asyncio.Lock()):
            if tags not in self._bundles:
                folder = await self._gather(tags)
                self._bundles[tags] = await asyncio.to_thread(_packed, folder)
            return self._bundles[tags]

    async def _gather(self, tags: FarTags) -> Path:
        """The directory with all wheels of others for a platform; from the cache if it was made before."""
        pins = [*self._pins, *([_EARLY_PYTHON[1]] if tags.version < _EARLY_PYTHON[0] else [])]
        helpful = [_pin(name) for name in HELPFUL if _installed(name)]
        named = json.dumps([pins, helpful, self._extra, tags.python, tags.abi, tags.platforms])
        key = hashlib.sha256(named.encode())
        folder = self._cache / key.hexdigest()[:24]
        if folder.is_dir():
            return folder
        self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        growing = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=self._cache))
        try:
            self.gathered += 1
            await _download([*pins, "--no-deps"], tags, growing)
            for pin in helpful:
                try:
                    await _download([pin, "--no-deps"], tags, growing)
                except _NoWheelError:
                    continue
            if self._extra:
                await _download([*self._extra], tags, growing)
            growing.rename(folder)
        except OSError as error:
            if not folder.is_dir():  # else another `erg` was first
                raise WheelhouseError(f"{error.filename or self._cache}: {error.strerror}") from error
        finally:
            shutil.rmtree(growing, ignore_errors=True)
        return folder


def default_cache(env: Mapping[str, str] = os.environ) -> Path:
    """Of this user, on this machine."""
    return Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ergates" / "wheels"


def _pin(name: str) -> str:
    if not _installed(name):
        raise UsageError(
            f"{name} is not installed here\n  hint: workers on other hosts need it: pip install 'ergates[cluster]'"
        )
    return f"{name}=={importlib.metadata.version(name)}"


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


class _NoWheelError(WheelhouseError):
    """There is none for this platform."""


async def _download(words: Sequence[str], tags: FarTags, folder: Path) -> None:
    platforms = [word for platform in tags.platforms for word in ("--platform", platform)]
    command = [
        *_pip(), "download", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--dest", str(folder),
        *platforms, "--python-version", tags.python, "--implementation", "cp", "--abi", tags.abi, *words,
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        said = (await process.communicate())[1].decode(errors="replace")
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise _why_not(said, tags)


def _why_not(said: str, tags: FarTags) -> WheelhouseError:
    """What pip complained of, with the platform it is about."""
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    platform = f"Python {tags.python} on {tags.platforms[0]}"
    text = (
        f"pip could not gather the wheels for {platform}: {errors[-1] if errors else said.strip()[-300:] or 'no reason given'}\n"
        "  hint: pip's own settings hold: PIP_INDEX_URL, or PIP_NO_INDEX=1 with PIP_FIND_LINKS=DIR where there is no registry"
    )
    return _NoWheelError(text) if "No matching distribution" in said else WheelhouseError(text)


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    for name in ("pip3", "pip"):
        if found := shutil.which(name):
            return [found]
    raise WheelhouseError(
        "there is no pip here, to gather what the hosts need\n  hint: python3 -m ensurepip, or install it as your system does"
    )


def _packed(folder: Path) -> Bundle:
    """One tar, the same bytes for the same wheels."""
    wheels = {path.name: path.read_bytes() for path in folder.glob("*.whl")}
    name, content = build_own_wheel()
    wheels[name] = content
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(wheels.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    tar_bytes = buffer.getvalue()
    return Bundle(sha256=hashlib.sha256(tar_bytes).hexdigest(), tar=tar_bytes, wheels=tuple(sorted(wheels)))
