"""Places with files for tests: a folder, the same folder behind a real sshd (rsync, SFTP), a bucket of moto's S3 server.

Everything listens on the loopback alone, with keys and configuration of its own.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import pytest

PATIENCE_S = 30.0
_SSHD = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/id.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PrintMotd no
Subsystem sftp internal-sftp
"""


class Place(Protocol):
    """One place, seen from outside."""

    address: str

    def write(self, path: str, content: bytes) -> None: ...

    def read(self, path: str) -> bytes: ...

    def names(self) -> list[str]:
        """Of all files, hidden ones too."""
        ...


class Folder:
    """A place that is a folder of this machine, however it is reached."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self.folder = address, folder

    def write(self, path: str, content: bytes) -> None:
        where = self.folder / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(content)

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def names(self) -> list[str]:
        found = [each for each in self.folder.rglob("*") if each.is_file()]
        return sorted(str(each.relative_to(self.folder)) for each in found)


class LoopbackSshd:
    """An sshd on a free port, and an `ssh` for PATH that knows its key and nobody else's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.programs = folder / "programs"
        self.home = folder / "home"

    @property
    def known_hosts(self) -> Path:
        return self.home / ".ssh" / "known_hosts"

    @property
    def env(self) -> dict[str, str]:
        """What whoever uses it has in its environment."""
        return {"PATH": f"{self.programs}:{os.environ['PATH']}", "HOME": str(self.home)}

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From this process."""
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)

    def hang(self) -> None:
        """From now on the network is dead: an ssh that is started does nothing any more."""
        (self.folder / "hang").touch()

    def until_it_hangs(self) -> None:
        """Returns when one does."""
        (self.folder / "begun").read_text()

    def mend(self) -> None:
        """The network works again for what is started now."""
        (self.folder / "hang").unlink()

    def address(self, kind: str, folder: Path) -> str:
        """Of a folder: `ssh` or `sftp`."""
        path = str(folder).replace(" ", "%20") if kind == "ssh" else folder
        return f"{kind}://{getpass.getuser()}@127.0.0.1:{self.port}{path}"

    def __enter__(self) -> Self:
        for each in (self.programs, self.home / ".ssh"):
            each.mkdir(parents=True)
        for name in ("host_key", "id"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name))
        config = self.folder / "sshd_config"
        config.write_text(_SSHD.format(port=self.port, folder=self.folder))
        words = (self.folder / "host_key.pub").read_text().split()[:2]
        shutil.copy(self.folder / "id", self.home / ".ssh" / "id_ed25519")  # paramiko looks there
        known = self.known_hosts
        known.write_text(f"[127.0.0.1]:{self.port} {' '.join(words)}\n")
        options = f"-F none -i {self.folder}/id -o IdentitiesOnly=yes -o UserKnownHostsFile={known}"
        ssh = self.programs / "ssh"
        hang = f"if test -e {self.folder}/hang; then echo > {self.folder}/begun; exec sleep 600; fi"
        ssh.write_text(f'#!/bin/sh\n{hang}\nexec {shutil.which("ssh")} {options} "$@"\n')
        os.mkfifo(self.folder / "begun")
        ssh.chmod(0o755)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        self._log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [str(sshd), "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=self._log
        )
        until = time.monotonic() + PATIENCE_S
        while not _listens(self.port):
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.02)  # sshd tells nobody that it listens
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()


class S3Server:
    """moto's server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.port, self._log = free_port(), folder / "moto.log"
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._stream = self._log.open("wb")
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._stream, stderr=self._stream, start_new_session=True
        )
        until = time.monotonic() + PATIENCE_S
        while not _listens(self.port):
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._stream.close()

    @property
    def env(self) -> dict[str, str]:
        """What whoever uses it has in its environment, as on any node."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


class Bucket:
    """A folder of a bucket, seen with another library than ours."""

    def __init__(self, server: S3Server, bucket: str) -> None:
        import boto3  # type: ignore[import-untyped]

        self.address, self._bucket = f"s3://{bucket}/runs", bucket
        self._client = boto3.client(
            "s3", endpoint_url=server.url, aws_access_key_id="testing", aws_secret_access_key="testing",
            region_name="us-east-1",
        )  # fmt: skip
        self._client.create_bucket(Bucket=bucket)

    def write(self, path: str, content: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=f"runs/{path}", Body=content)

    def read(self, path: str) -> bytes:
        body: bytes = self._client.get_object(Bucket=self._bucket, Key=f"runs/{path}")["Body"].read()
        return body

    def names(self) -> list[str]:
        listed = self._client.list_objects_v2(Bucket=self._bucket).get("Contents", [])
        return sorted(each["Key"].removeprefix("runs/") for each in listed)

    def close(self) -> None:
        self._client.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
