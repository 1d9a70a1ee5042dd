"""The supervisor: a small process between a worker and its slots, so that nothing outlives the worker.

It forks slots on request (in about 2 ms, sharing its pages), adopts what dead slots leave behind, and holds a socket to
the worker. At the end of that socket, or of the worker's process, however it died, it kills every slot with all that
runs in it, removes the groups and ends. It is run as a script, by `python -I -S .../supervisor.py FD`, and loads next
to nothing.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time

if __name__ == "__main__":
    # Our own package, without its __init__ and what that may import, and without site-packages.
    _package = type(sys)("ergates")
    _package.__path__ = [os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))]
    sys.modules["ergates"] = _package

import _socket

from ergates.drivers.cgroups.rebuild import rebuild
from ergates.drivers.launchers import slot as slot_module
from ergates.drivers.launchers import wire
from ergates.drivers.launchers.prctl import adopt_orphans
from ergates.drivers.launchers.scratch import SlotScratch, remove_tree
from ergates.drivers.output.pack import Spool

TYPE_CHECKING = False  # importing typing would cost every slot a megabyte
if TYPE_CHECKING:
    from typing import Any

    from ergates.drivers.cgroups.group import GroupTree

KILL_TIMEOUT_S = 10.0
"""How long to wait for killed processes to go; one that waits for a broken disk or server can take for ever."""
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)
"""What a terminal, or a service manager stopping the worker's group, may send: ending is the worker's business."""


class Supervisor:
    """Slots by number and by pid, and the sockets to the worker."""

    def __init__(self, control: _socket.socket) -> None:
        self._control = control
        self._buffer = bytearray()
        self._passed: list[int] = []  # descriptors that came with OPEN frames
        self._slots: dict[int, tuple[int, int]] = {}  # pidfd -> (slot, pid)
        self._poll = select.poll()
        self._poll.register(control.fileno(), select.POLLIN)
        self._worker_fd = -1
        self._tree: GroupTree
        self._settings: dict[str, Any] = {}

    def run(self) -> None:
        """Serve until the worker is gone."""
        try:
            while True:
                ready = [fd for fd, _ in self._poll.poll()]
                for fd in ready:
                    if fd in self._slots:
                        self._slot_ended(fd)
                if self._worker_fd in ready:
                    return
                if self._control.fileno() in ready and not self._receive():
                    return
        except (BrokenPipeError, ConnectionResetError):  # the worker went while we told it something
            return

    def end_everything(self) -> None:
        """Kill what runs in all slots, and the slots; remove groups and files."""
        if not self._settings:
            return
        self._tree.kill_all(KILL_TIMEOUT_S)
        _kill_own_children(KILL_TIMEOUT_S)  # a slot that had not entered its group yet; strays
        removed = self._tree.remove()
        folder = self._settings["folder"]
        if removed:  # otherwise the record stays, and the next start tries again
            for name in sorted(os.listdir(folder), key=lambda name: not name.startswith("slot-")):
                remove_tree(f"{folder}/{name}")  # the record last: should we be killed, the next start goes on here
            remove_tree(folder)

    # --- the worker's wishes ------------------------------------------------------------------

    def _receive(self) -> bool:
        """Read and obey; False at the end of the socket."""
        data, ancillary, _, _ = self._control.recvmsg(65536, _socket.CMSG_SPACE(4 * 8))
        if not data:
            return False
        for level, kind, content in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                for at in range(0, len(content), 4):
                    self._passed.append(int.from_bytes(content[at : at + 4], sys.byteorder))
        self._buffer += data
        for kind, body in wire.decode(self._buffer):
            if kind == wire.CONFIGURE:
                self._configure(body)
            elif kind == wire.OPEN:
                self._open(body, self._passed.pop(0))
        return True

    def _configure(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._tree = rebuild(settings["tree"])
        # Sockets can be inherited by a process that the worker forks; its pid cannot.
        self._worker_fd = os.pidfd_open(settings["worker_pid"])
        self._poll.register(self._worker_fd, select.POLLIN)

    def _open(self, wish: dict[str, Any], fd: int) -> None:
        number = wish["slot"]
        self._tree.slot(number).create()
        supervisor_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                self._be_slot(wish, fd, supervisor_pid)
                code = 0
            except BaseException as problem:  # nothing may leave this child but by _exit
                os.write(2, f"slot {number}: {type(problem).__name__}: {problem}\n".encode(errors="replace"))
            finally:
                os._exit(code)
        os.close(fd)
        pidfd = os.pidfd_open(pid)
        self._slots[pidfd] = (number, pid)
        self._poll.register(pidfd, select.POLLIN)
        self._send(wire.OPENED, (number, pid))

    def _be_slot(self, wish: dict[str, Any], fd: int, supervisor_pid: int) -> None:
        number, warm = wish["slot"], wish["warm"]
        for other in (self._control.detach(), self._worker_fd, *self._slots, *self._passed):
            os.close(other)
        group = self._tree.slot(number, os.getpid(), warm=warm is not None)
        group.enter(os.getpid())
        folder = self._settings["folder"]
        out_path, err_path = f"{folder}/slot-{number}.out", f"{folder}/slot-{number}.err"
        pack = f"{self._settings['pack']}-{number}.pack"
        if warm is None:
            scratch = SlotScratch(f"{folder}/slot-{number}.dir")
            slot_module.serve(fd, group, Spool(out_path, err_path, pack), scratch, supervisor_pid)
            return
        _become_interpreter(warm, fd, [out_path, err_path, pack], supervisor_pid)

    # --- what happened to a slot --------------------------------------------------------------

    def _slot_ended(self, pidfd: int) -> None:
        """A slot ended, by itself or not: nothing of what it ran may stay. Then tell the worker."""
        number, pid = self._slots.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        group = self._tree.slot(number)
        oom_kills = group.oom_kills()
        group.kill_all(KILL_TIMEOUT_S)
        self._kill_strays()
        group.close()
        group.remove()
        self._send(wire.GONE, (number, pid, status, oom_kills))

    def _kill_strays(self) -> None:
        """Children of ours that are not slots were left by a dead slot, and their children become ours in turn."""
        slots = {pid for _, pid in self._slots.values()}
        until = time.monotonic() + KILL_TIMEOUT_S
        while time.monotonic() < until:
            strays = [pid for pid in _children() if pid not in slots]
            if not strays:
                return
            for pid in strays:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.001)

    def _send(self, kind: int, body: Any) -> None:
        self._control.sendall(wire.encode(kind, body))


def _become_interpreter(warm: dict[str, Any], fd: int, arguments: list[str], supervisor_pid: int) -> None:
    """Turn this fresh child into a warm interpreter; the kernel kills it when the supervisor dies."""
    from ergates.drivers.launchers.prctl import signal_when_parent_dies

    adopt_orphans()
    signal_when_parent_dies(signal.SIGKILL)
    if os.getppid() != supervisor_pid:
        return
    os.setsid()
    for number in _IGNORED[1:]:
        signal.signal(number, signal.SIG_DFL)
    os.set_inheritable(fd, True)
    os.chdir(warm["cwd"])
    os.execve(warm["argv"][0], [*warm["argv"], str(fd), *arguments], warm["environment"])


def _children() -> list[int]:
    """Pids of our direct children, dead ones that nobody waited for included."""
    me = str(os.getpid()).encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                    parent = file.read(512).rpartition(b")")[2].split(None, 2)[1]
            except OSError:  # it ended while we looked
                continue
            if parent == me:
                found.append(int(name))
    return found


def _kill_own_children(timeout_s: float) -> None:
    """SIGKILL and wait for every child, those that their deaths hand to us included."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        for pid in _children():
            os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:  # none is left
            return
        time.sleep(0.001)


def main(argv: list[str]) -> None:
    """Serve the worker at the other end of socket `argv[1]`."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    adopt_orphans()
    gc.disable()  # nothing here makes cycles, and a collection would unshare pages
    gc.freeze()
    supervisor = Supervisor(_socket.socket(fileno=int(argv[1])))
    try:
        supervisor.run()
    finally:
        supervisor.end_everything()


if __name__ == "__main__":
    main(sys.argv)
