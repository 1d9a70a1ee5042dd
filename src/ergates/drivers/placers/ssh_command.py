"""How the system's ssh is called: the user's own configuration, with what must be so for many hosts at once put before it.

One connection carries all that is done on a host, so there is no master connection to share or to leave behind. What is
ours goes in a configuration file of its own rather than in arguments, because ssh hands its file, and not its arguments,
to the ssh of a ProxyJump: the jump host's key is pinned like every other, and it asks no questions either.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ergates.drivers.placers.hosts import Host
from ergates.drivers.placers.ssh_words import NO_PYTHON
from ergates.errors import UsageError

HostKeys = Literal["accept-new", "known"]
_USERS_CONFIG = ("~/.ssh/config", "/etc/ssh/ssh_config")
_PYTHONS = ("python3", "python3.13", "python3.12", "python3.11", "python3.14", "/usr/local/bin/python3")
_RECEIVE = "import sys; r = sys.stdin.buffer; exec(compile(r.read(int(r.readline())), 'far_side.py', 'exec'))"


@dataclass(frozen=True, slots=True, kw_only=True)
class SshOptions:
    """What the user may say about ssh.

    Args:
        config: a file to use instead of the user's own (ssh's `-F`).
        options: further `Key=value` settings; they go before all others.
        host_keys: `accept-new` pins a key when a host is first met; `known` wants it in the user's own known_hosts.
        connect_timeout_s: for one try.
        python: path of the far side's Python; empty finds one.
    """

    config: Path | None = None
    options: Sequence[str] = ()
    host_keys: HostKeys = "accept-new"
    connect_timeout_s: int = 10
    python: str = ""


class Ssh:
    """Builds the command lines for the hosts of one cluster.

    Args:
        directory: ours, private, kept: the pinned keys are in it.

    Raises:
        UsageError: there is no ssh here, or an option cannot be.
    """

    def __init__(self, directory: Path, options: SshOptions) -> None:
        self._program = shutil.which("ssh")
        if self._program is None:
            raise UsageError("there is no `ssh` here\n  hint: install OpenSSH's client (Debian: openssh-client)")
        for option in options.options:
            if "=" not in option or not option.isprintable():
                raise UsageError(f"--ssh-option: expected Key=value as in ssh_config, got {option!r}")
        if options.config is not None and not options.config.is_file():
            raise UsageError(f"--ssh-config: no file {options.config}")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.known_hosts = directory / "known_hosts"
        self._options = options
        text = config_text(self.known_hosts, options)
        # Named by what it says: several commands at once, with other options each, do not meet.
        self._config = directory / f"ssh_config-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        growing = directory / f"{self._config.name}.{os.getpid()}"
        with os.fdopen(os.open(growing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        growing.replace(self._config)

    def command(self, host: Host, words: Sequence[str] = ()) -> list[str]:
        """The argument vector that connects to `host` and starts the far side there.

        Args:
            host: which.
            words: options of ssh for this connection alone; they go before all others.
        """
        return [*self._words(host, words), "--", host.address, remote_command(self._options.python)]

    def tunnel_words(self, there: str, here: str) -> list[str]:
        """Options for a connection by which `there`, a socket to be made on the host, leads to `here`, or that fails."""
        return ["-o", "ClearAllForwardings=no", "-o", "ExitOnForwardFailure=yes", "-R", f"{there}:{here}"]

    def reached_as(self, host: Host) -> str:
        """The name or address by which ssh gets to `host`, once its configuration has been read."""
        asked = subprocess.run(
            [*self._words(host, ["-G"]), "--", host.address], capture_output=True, text=True, check=False
        )
        names = [line.partition(" ")[2] for line in asked.stdout.splitlines() if line.startswith("hostname ")]
        return names[0] if names else host.address

    def _words(self, host: Host, first: Sequence[str]) -> list[str]:
        words = [str(self._program), "-F", str(self._config), "-T", *first]
        for option in self._options.options:
            words += ["-o", option]
        if host.user:
            words += ["-l", host.user]
        if host.port:
            words += ["-p", str(host.port)]
        return words


def config_text(known_hosts: Path, options: SshOptions) -> str:
    """The configuration; in ssh's, the first value of a setting wins, so ours come before the user's."""
    if options.host_keys == "known":
        keys = ["StrictHostKeyChecking yes"]
    else:
        # The user's own pins hold, too; new keys go into the first file, which is ours.
        files = " ".join(f'"{name}"' for name in (_quoted(known_hosts), "~/.ssh/known_hosts", "~/.ssh/known_hosts2"))
        keys = ["StrictHostKeyChecking accept-new", f"UserKnownHostsFile {files}"]
    ours = [
        "BatchMode yes",
        f"ConnectTimeout {options.connect_timeout_s}",
        "ServerAliveInterval 15",
        "ServerAliveCountMax 4",
        *keys,
        "LogLevel ERROR",
        "ControlMaster no",
        "ClearAllForwardings yes",
        "ForwardAgent no",
        "ForwardX11 no",
        "RequestTTY no",
    ]
    users = (
        [f'Include "{_quoted(options.config.resolve())}"']
        if options.config
        else [f"Include {n}" for n in _USERS_CONFIG]
    )
    return "\n".join(["# Written by erg worker up.", "Host *", *(f"  {line}" for line in ours), *users, ""])


def remote_command(python: str = "") -> str:
    """What the remote shell is given: fixed text, but for a path that the user named, which is quoted.

    It is one line without `!`, so that csh and fish read it as sh does, and hands over to /bin/sh at once. The first
    Python >= 3.11 then reads its program from standard input.
    """
    names = " ".join([shlex.quote(python)] if python else [*_PYTHONS, '"$HOME"/.local/bin/python3'])
    enough = '"$p" -I -c "import sys; sys.exit(sys.version_info[:2] < (3, 11))" </dev/null >/dev/null 2>&1'
    named = shlex.quote(python or "python3")
    sorry = f'p={named}; echo "ergates: no Python >= 3.11 found; $p: $("$p" -V 2>/dev/null || echo none)" >&2'
    script = f'for p in {names}; do if {enough}; then exec "$p" -I -c "{_RECEIVE}"; fi; done; {sorry}; exit {NO_PYTHON}'
    return f"exec /bin/sh -c {shlex.quote(script)}"


def _quoted(path: Path) -> str:
    """A path for ssh_config: `%` begins a token there, and a double quote cannot be said."""
    text = str(path)
    if '"' in text or not text.isprintable():
        raise UsageError(f"ssh cannot be told of a path like {text!r}")
    return text.replace("%", "%%")
