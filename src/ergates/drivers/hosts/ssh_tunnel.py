"""A way back: on a host a socket in a private directory leads, by an ssh that we opened, to the store on this machine's loopback.

Nothing listens for the network on either side. The ssh is made anew when it ends; each has a socket of its own, and a link of
a fixed name is moved to the newest, so that workers just connect again. When this process ends, however, so does the tunnel.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ergates.drivers.hosts.ssh_folder import FarFolder, FarLink, open_link
from ergates.drivers.placers.hosts import Host
from ergates.drivers.placers.ssh_command import Ssh
from ergates.drivers.placers.ssh_words import HostError, Reason

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
FORBIDDEN = Reason(
    "its sshd does not let us forward a socket, by which its worker would reach the store here",
    'AllowStreamLocalForwarding yes there; or `listen = "ADDRESS"` in [experiment], one of this machine that the hosts reach',
)


class Tunnel:
    """Of one host.

    Args:
        ssh, host: how it is reached.
        folder: on that host.
        key: of the experiment, as FarFolder has it.
        target: what the socket leads to: `127.0.0.1:PORT`, or the path of a socket.
        say: told when it breaks and when it is back.
    """

    def __init__(
        self, ssh: Ssh, host: Host, folder: FarFolder, key: str, target: str, say: Callable[[str], None]
    ) -> None:
        self._ssh, self._host, self._folder, self._key, self.target = ssh, host, folder, key, target
        self._say = say
        self._closing = threading.Event()
        self._first = threading.Event()
        self._link: FarLink | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name=f"tunnel {host.name}", daemon=True)
        self.socket = ""
        """What a worker there connects to."""
        self.trouble: Reason | None = None
        """Why it is not there now."""

    def start(self) -> None:
        self._thread.start()

    def wait(self) -> None:
        """Until it leads through. Raises HostError: the first try failed."""
        self._first.wait()
        if self.trouble is not None:
            self.close()
            raise HostError(self.trouble)

    def close(self) -> None:
        """End it."""
        self._closing.set()
        with self._lock:
            if self._link is not None:
                self._link.end()
        self._thread.join()

    def _keep(self) -> None:
        pause_s, told = FIRST_PAUSE_S, False
        while not self._closing.is_set():
            try:
                self._once()
                pause_s = FIRST_PAUSE_S
                what = "the tunnel broke"
            except HostError as error:
                self.trouble = error.reason
                what = error.reason.what
                if not self._first.is_set():
                    self._first.set()
                    return
            told = told or self._closing.is_set()
            if not told:
                self._say(f"{self._host.name}: {what}; it is made anew")
            told = self.trouble is not None
            self._closing.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _once(self) -> None:
        """From making it to its end."""
        socket, name = self._folder.nest()
        command = self._ssh.command(self._host, self._ssh.tunnel_words(socket, self.target))
        try:
            opened = open_link(command)
            link = opened.__enter__()
        except HostError as error:
            raise HostError(FORBIDDEN) if "forwarding failed" in str(error) else error from None
        try:
            link.ask("point", socket=socket, name="", directory="", key=self._key)
            with self._lock:
                self._link = None if self._closing.is_set() else link
            if self._link is None:
                return
            self.socket, self.trouble = name, None
            self._first.set()
            link.wait()
        finally:
            with self._lock:
                self._link = None
            opened.__exit__(None, None, None)
