"""Which wheels fit the far side: its platform tags, from what it says of itself. Pure (PEP 425, 600, 656)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ergates.drivers.placers.ssh_words import HostError, Reason

_LEGACY = ((17, "manylinux2014"), (12, "manylinux2010"), (5, "manylinux1"))
"""Minor version of glibc 2 and the older name of its tag."""
_OLDEST_GLIBC = {"x86_64": 5, "i686": 5}
"""Where the older tags exist; elsewhere manylinux begins at glibc 2.17."""
OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class FarTags:
    """What pip is told about the far side.

    Args:
        python: full version, `3.11.2`: some requirements hold for early ones only.
        abi: `cp311`, or `cp313t` where it runs without the global lock.
        platforms: best first.
    """

    python: str
    abi: str
    platforms: tuple[str, ...]

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.python.split("."))

    @property
    def minor(self) -> str:
        """`3.11`."""
        return ".".join(self.python.split(".")[:2])


def tags_of(facts: Mapping[str, Any]) -> FarTags:
    """Read the far side's greeting.

    Raises:
        HostError: an Ergates worker cannot run on such a Python or platform; the error says what would do.
    """
    implementation, python = str(facts["implementation"]), str(facts["python"])
    if implementation != "cpython":
        raise HostError(Reason(f"its Python is {implementation}", "name a CPython >= 3.11 with --python PATH"))
    if facts["missing"]:
        raise HostError(
            Reason(
                f"its Python lacks parts of the standard library: {', '.join(facts['missing'])}",
                "install the whole of it (Debian: the package python3, not python3-minimal)",
            )
        )
    version = tuple(int(part) for part in python.split(".")[:2])
    if version < OLDEST_PYTHON:
        raise HostError(Reason(f"its Python is {python}", "install Python >= 3.11 there, or --python PATH"))
    abi = f"cp{version[0]}{version[1]}{'t' if facts['free_threaded'] else ''}"
    return FarTags(python=python, abi=abi, platforms=_platforms(facts))


def _platforms(facts: Mapping[str, Any]) -> tuple[str, ...]:
    machine, libc, version = str(facts["machine"]), str(facts["libc"]), str(facts["libc_version"])
    if machine == "x86_64" and facts["bits"] == 32:
        machine = "i686"
    numbers = version.split(".")
    if libc not in ("glibc", "musl") or len(numbers) < 2 or not all(part.isdigit() for part in numbers[:2]):
        raise HostError(
            Reason(f"its C library is not known to us: {libc or 'unknown'} {version}", "glibc or musl is needed")
        )
    major, minor = int(numbers[0]), int(numbers[1])
    if libc == "musl":
        return tuple(f"musllinux_{major}_{n}_{machine}" for n in range(minor, -1, -1))
    found: list[str] = []
    legacy = dict(_LEGACY)
    for n in range(minor, _OLDEST_GLIBC.get(machine, 17) - 1, -1):
        found.append(f"manylinux_{major}_{n}_{machine}")
        if n in legacy:
            found.append(f"{legacy[n]}_{machine}")
    return (*found, f"linux_{machine}")
