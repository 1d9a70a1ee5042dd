"""A wheel of Ergates as it is installed here, an editable installation too: its files, packed by the rules of PEP 427.

No build tool is needed, and the same files give the same bytes, so a host that has them is sent nothing.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import ergates
from ergates import __version__

_SAME_TIME = (1980, 1, 1, 0, 0, 0)
"""The first a zip file can say."""


def build_own_wheel(root: Path | None = None, version: str = __version__) -> tuple[str, bytes]:
    """File name and content of the wheel.

    Args:
        root: directory of the package; None is the one that runs.
        version: what the wheel is named by.
    """
    root = Path(ergates.__file__).parent if root is None else root
    info = f"ergates-{version}.dist-info"
    files = {f"ergates/{name}": content for name, content in _package_files(root)}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: ergates\nVersion: {version}\n".encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: ergates\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\nerg = ergates.cli.main:main\n"
    record = f"{info}/RECORD"
    files[record] = ("".join(_record_line(*item) for item in files.items()) + f"{record},,\n").encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _SAME_TIME)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            wheel.writestr(entry, content)
    return f"ergates-{version}-py3-none-any.whl", buffer.getvalue()


def _package_files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Everything that belongs to the package, in the order of names; not what running it leaves there."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and "__pycache__" not in name.parts and path.suffix != ".pyc":
            yield name.as_posix(), path.read_bytes()


def _record_line(name: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"
