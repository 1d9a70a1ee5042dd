"""Hosts to reach over ssh: network namespaces with an sshd each, its own address, host key, host name and home directory.

The hosts have no way out but to this machine, and no way to a registry of packages. All share one kernel and one file
system: what a host has of its own is its network, its name and its home.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PATIENCE_S = 30.0
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_PRIVSEP = Path("/run/sshd")
_SSHD = """\
Port {port}
ListenAddress {listen}
HostKey {folder}/host_key
AuthorizedKeysFile {authorized}
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PrintMotd no
MaxStartups {max_startups}
SetEnv {environment}
"""


class SshHost:
    """One host. `address` is where it is reached; it may have no sshd yet."""

    def __init__(self, lan: SshLan, name: str, number: int) -> None:
        self.lan, self.name, self.number = lan, name, number
        self.folder = lan.folder / name
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        self.namespace = f"{lan.prefix}{number}"
        network = f"198.18.{lan.network}"
        self.gateway, self.address = f"{network}.{4 * number + 1}", f"{network}.{4 * number + 2}"
        self._daemons: list[subprocess.Popen[bytes]] = []
        run("ip", "netns", "add", self.namespace)
        inside, outside = f"{self.namespace}i", f"{self.namespace}o"
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", self.namespace)
        run("ip", "addr", "add", f"{self.gateway}/30", "dev", outside)
        run("ip", "link", "set", outside, "up")
        run(*self.enter, "ip", "addr", "add", f"{self.address}/30", "dev", inside)
        run(*self.enter, "ip", "link", "set", inside, "up")
        run(*self.enter, "ip", "link", "set", "lo", "up")
        run(*self.enter, "ip", "route", "add", f"{network}.0/24", "via", self.gateway)
        self.new_host_key()

    @property
    def enter(self) -> tuple[str, ...]:
        return ("nsenter", f"--net=/run/netns/{self.namespace}", "--")

    def new_host_key(self) -> None:
        """As after an installation from scratch."""
        for name in ("host_key", "host_key.pub"):
            (self.folder / name).unlink(missing_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "host_key"))

    def boot(
        self,
        *,
        listen: str = "",
        port: int = 22,
        path: str = "/usr/bin:/bin",
        authorized: bool = True,
        max_startups: str = "10:30:100",
        more: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start its sshd, with `more` lines of configuration, and more `environment`; returns when it accepts connections."""
        _PRIVSEP.mkdir(mode=0o755, exist_ok=True)
        variables = {
            "HOME": str(self.home), "PATH": path, "ERG_TEST_MARK": self.lan.prefix,
            "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null", **(environment or {}),
        }  # fmt: skip
        text = _SSHD.format(
            port=port,
            listen=listen or self.address,
            folder=self.folder,
            authorized=self.lan.folder / "id.pub" if authorized else "none",
            max_startups=max_startups,
            environment=" ".join(f'"{name}={value}"' for name, value in variables.items()),
        )
        config = self.folder / f"sshd_config.{len(self._daemons)}"
        config.write_text(f"{text}{more}\n")
        sshd = shutil.which("sshd", path=_PATH)
        script = f"hostname {self.name} && exec {sshd} -D -e -f {config}"
        command = [*self.enter, "unshare", "--uts", "sh", "-c", script]
        with (self.folder / "sshd.log").open("ab") as log:
            self._daemons.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        until = time.monotonic() + PATIENCE_S
        while f"{listen or self.address}:{port} " not in run(*self.enter, "ss", "-ltnH"):
            assert self._daemons[-1].poll() is None, (self.folder / "sshd.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.02)  # sshd tells nobody that it listens

    def shut_down(self) -> None:
        """No sshd any more, nor what its sessions run; workers stay."""
        for daemon in self._daemons:
            daemon.terminate()
            daemon.wait()
        self._daemons.clear()

    def remove(self) -> None:
        self.shut_down()
        for pid in run("ip", "netns", "pids", self.namespace).split():
            os.kill(int(pid), signal.SIGKILL)
        run("ip", "link", "delete", f"{self.namespace}o")  # else it goes some time after its namespace
        run("ip", "netns", "delete", self.namespace)


class SshLan:
    """The hosts of one test, and the user's ssh configuration that knows them by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = f"erg{os.getpid() % 100000}n"
        self.network = os.getpid() % 250
        self.hosts: dict[str, SshHost] = {}
        self.config = folder / "ssh_config"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "id"))
        self._extra: list[str] = []
        self._write_config()

    def host(self, name: str, *, booted: bool = True) -> SshHost:
        """A new host that is reached as `name`."""
        host = self.hosts[name] = SshHost(self, name, len(self.hosts))
        self._write_config()
        if booted:
            host.boot()
        return host

    def configure(self, *lines: str) -> None:
        """More lines of the user's ssh configuration."""
        self._extra += lines
        self._write_config()

    def _write_config(self) -> None:
        lines = [*self._extra]
        for host in self.hosts.values():
            lines += [f"Host {host.name}", f"  HostName {host.address}"]
        lines += ["Host *", f"  IdentityFile {self.folder}/id", "  IdentitiesOnly yes", "  User root"]
        self.config.write_text("\n".join([*lines, ""]))

    def leftovers(self) -> list[str]:
        """Command lines of living processes that were started on any of the hosts, other than their sshd."""
        needle, found = f"ERG_TEST_MARK={self.prefix}".encode(), []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if needle in (entry / "environ").read_bytes().split(b"\0"):
                        found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
                except OSError:
                    continue  # ended while we looked
        return found

    def remove(self) -> None:
        for host in self.hosts.values():
            host.remove()
        for line in run("ip", "netns", "list").splitlines():
            if line.startswith(self.prefix):  # of a host that could not be made
                run("ip", "netns", "delete", line.split()[0])


def run(*command: str, env: Mapping[str, str] | None = None) -> str:
    """Its output; a failure is the test's."""
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        env={**os.environ, "PATH": _PATH, **(env or {})},
    )
    assert ended.returncode == 0, f"{command}: {ended.stderr}"
    return ended.stdout


def ssh_processes(words: Sequence[str]) -> list[str]:
    """Command lines of this machine's ssh clients that hold all these words."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            text = b" ".join(line).decode(errors="replace")
            if Path(os.fsdecode(line[0])).name == "ssh" and all(word in text for word in words):
                found.append(text)
    return found
