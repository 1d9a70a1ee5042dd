"""Which file system a path lies on, read from the kernel's list of mounts, and whether other hosts share it."""

from __future__ import annotations

import os
import re
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")

NETWORK = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "9p", "afs", "ceph", "beegfs", "gpfs", "panfs", "glusterfs",
        "orangefs", "pvfs2", "ocfs2", "gfs2", "coda", "virtiofs", "wekafs", "davfs",
    }
)  # fmt: skip
NETWORK_FUSE = re.compile(
    r"fuse\.(sshfs|glusterfs|ceph|s3fs|rclone|gcsfuse|juicefs|goofys|davfs2?|curlftpfs|mount-s3|nfs.*)"
)


def is_network(kind: str) -> bool:
    """Whether a file system type is one that several hosts can share. An unknown FUSE type counts as local."""
    return kind in NETWORK or NETWORK_FUSE.fullmatch(kind) is not None


def file_system_of(path: Path, mountinfo: Path = MOUNTINFO) -> str:
    """Type of the file system that holds `path` (or its nearest existing parent): `ext4`, `nfs4`, ...

    Empty where there is no such list. Source: proc(5), /proc/PID/mountinfo.
    """
    try:
        lines = mountinfo.read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return ""
    target = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        fields = line.split(" ")
        mount_point = _unescape(fields[4])
        # Of mounts at one point the last one hides the others, hence >=.
        if len(mount_point) >= len(best) and _is_under(target, mount_point):
            best, kind = mount_point, fields[fields.index("-") + 1]
    return kind


def _is_under(path: str, mount_point: str) -> bool:
    return mount_point == "/" or path == mount_point or path.startswith(mount_point + "/")


def _unescape(text: str) -> str:
    """`\\040` and the like: blanks, tabs, line ends and backslashes in mount points are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
