"""Which wheels fit a host, and our own wheel from what is installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from ergates.drivers.placers.far_tags import tags_of
from ergates.drivers.placers.own_wheel import build_own_wheel
from ergates.drivers.placers.ssh_words import HostError

DEBIAN = {
    "implementation": "cpython", "python": "3.11.2", "free_threaded": False, "machine": "x86_64", "bits": 64,
    "libc": "glibc", "libc_version": "2.36", "missing": [],
}  # fmt: skip


def platforms(**facts: Any) -> tuple[str, ...]:
    return tags_of({**DEBIAN, **facts}).platforms


def test_debian() -> None:
    tags = tags_of(DEBIAN)
    assert (tags.abi, tags.minor, tags.version) == ("cp311", "3.11", (3, 11, 2))
    assert tags.platforms[0] == "manylinux_2_36_x86_64"
    assert tags.platforms[-1] == "linux_x86_64"
    assert {"manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux1_x86_64"} <= set(tags.platforms)
    assert "manylinux_2_37_x86_64" not in tags.platforms


def test_other_platforms() -> None:
    assert platforms(machine="aarch64", libc_version="2.28")[0] == "manylinux_2_28_aarch64"
    assert "manylinux_2_16_aarch64" not in platforms(machine="aarch64")
    assert platforms(libc="musl", libc_version="1.2.4") == tuple(f"musllinux_1_{n}_x86_64" for n in (2, 1, 0))
    assert platforms(bits=32)[0] == "manylinux_2_36_i686"
    assert tags_of({**DEBIAN, "python": "3.13.1", "free_threaded": True}).abi == "cp313t"


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"implementation": "pypy"}, "pypy"),
        ({"missing": ["sqlite3", "ssl"]}, "sqlite3, ssl"),
        ({"python": "3.9.1"}, "3.9.1"),
        ({"libc": "", "libc_version": ""}, "C library"),
    ],
)
def test_what_no_worker_can_run_on(facts: dict[str, Any], what: str) -> None:
    with pytest.raises(HostError, match=what):
        tags_of({**DEBIAN, **facts})


def test_our_own_wheel_is_complete_and_always_the_same(tmp_path: Path) -> None:
    name, content = build_own_wheel()
    assert build_own_wheel() == (name, content)
    wheel = zipfile.ZipFile(BytesIO(content))
    assert wheel.testzip() is None
    names = wheel.namelist()
    assert {"ergates/cli/main.py", "ergates/py.typed", "ergates/drivers/placers/far_side.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]
    record = {
        line.split(",")[0] for line in wheel.read(f"{name.split('-py3')[0]}.dist-info/RECORD").decode().splitlines()
    }
    assert record == set(names)

    (tmp_path / name).write_bytes(content)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(tmp_path / "site"),
    ]
    if subprocess.run([*pip[:3], "--version"], capture_output=True, check=False).returncode:
        pytest.skip("no pip here")
    subprocess.run([*pip, str(tmp_path / name)], check=True, capture_output=True)
    assert (tmp_path / "site" / "ergates" / "cli" / "main.py").exists()


def test_other_files_make_another_wheel(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("")
    first = build_own_wheel(tmp_path)[1]
    (tmp_path / "__init__.py").write_text("new = 1\n")
    assert hashlib.sha256(build_own_wheel(tmp_path)[1]).digest() != hashlib.sha256(first).digest()
