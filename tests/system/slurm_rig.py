"""A whole Slurm on this machine: its own munged, slurmctld and one slurmd for each virtual node, in a folder that goes away.

`with slurm_cluster(nodes=4) as slurm:` gives a cluster whose programs are reached with `slurm.env`. It shares nothing with
a Slurm that may be installed: own configuration, key, sockets and ports on the loopback address. Nodes can crash and return.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 60.0
_NODE = "ERG_RIG_NODE"
"""Marks a node's slurmd and its steps; what they start has SLURMD_NODENAME."""
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_CONFIG = """\
ClusterName=ergates
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
ReturnToService=2
KillWait={kill_wait_s}
MinJobAge=300
SlurmdTimeout={node_timeout_s}
MessageTimeout=20
MailProg=/bin/true
"""


class SlurmCluster:
    """One running cluster. Made by `slurm_cluster`."""

    def __init__(self, folder: Path, nodes: int, cpus: int, memory_mib: int) -> None:
        self.folder = folder
        self.nodes = tuple(f"n{number + 1}" for number in range(nodes))
        self.cpus, self.memory_mib = cpus, memory_mib
        self.env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": _PATH}
        """What a program needs in its environment to talk to this cluster."""
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    # --- asking it --------------------------------------------------------------------------------

    def __call__(self, *argv: str, stdin: str = "") -> str:
        """Run one of Slurm's programs and return what it printed; fails the test when the program does."""
        ended = subprocess.run(
            argv, env=self.env, cwd=self.folder, input=stdin, capture_output=True, text=True, timeout=30, check=False
        )  # fmt: skip
        assert ended.returncode == 0, f"{argv}: {ended.stderr}"
        return ended.stdout

    def states(self) -> dict[str, str]:
        """Every job and array task that Slurm still knows, ended ones included: id to state."""
        shown = self("squeue", "--noheader", "--array", "--states=all", "--format=%i %T")
        return dict(line.split() for line in shown.splitlines())

    def in_state(self, *states: str) -> list[str]:
        """Jobs in one of these states (`PENDING`, `RUNNING`, ...)."""
        return sorted(job for job, state in self.states().items() if state in states)

    def eventually(self, look: Callable[[], T], what: str) -> T:
        """Slurm tells nobody what it does: look again until it is so."""
        until = time.monotonic() + PATIENCE_S
        while not (seen := look()):
            assert time.monotonic() < until, f"never happened: {what}\n{self.states()}\n{self.log()}"
            time.sleep(0.1)
        return seen

    def log(self) -> str:
        """The end of the controller's log, for the message of a test that failed."""
        path = self.folder / "slurmctld.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-15:]) if path.exists() else ""

    def processes(self, node: str) -> dict[int, str]:
        """What runs on a virtual node besides its slurmd: pid to command line."""
        return self._processes(f"SLURMD_NODENAME={node}")

    # --- nodes that fail ---------------------------------------------------------------------------

    def crash(self, node: str) -> None:
        """As if somebody pulled its plug: slurmd and everything that runs there is gone at once."""
        daemon = self._daemons.pop(node)
        daemon.kill()
        daemon.wait()
        # The steps first: one that saw its program die would still report it.
        _kill_all(lambda: self._processes(f"{_NODE}={node}"))
        _kill_all(lambda: self.processes(node))

    def declare_down(self, node: str) -> None:
        """Do not wait until the controller notices."""
        self("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def boot(self, node: str) -> None:
        """Start its slurmd, also after a crash."""
        self._start(node, "slurmd", "-D", "-N", node)

    # --- starting and stopping ---------------------------------------------------------------------

    def start(self, config: str) -> None:
        """Key, configuration, daemons; returns when all nodes are idle."""
        (self.folder / "munge").mkdir(mode=0o755)
        (self.folder / "state").mkdir()
        key = self.folder / "munge" / "key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        (self.folder / "slurm.conf").write_text(config)
        munge = self.folder / "munge"
        self._start(
            "munged", "munged", "--foreground", "--force", "--num-threads=2", f"--socket={munge / 'socket'}",
            f"--key-file={key}", f"--pid-file={munge / 'pid'}", f"--seed-file={munge / 'seed'}",
        )  # fmt: skip
        self.eventually((munge / "socket").exists, "munged listens")
        self._start("slurmctld", "slurmctld", "-D", "-i")
        for node in self.nodes:
            self.boot(node)
        self.eventually(self._all_idle, "all nodes are idle")

    def stop(self) -> None:
        """End the daemons, then whatever still carries our configuration in its environment."""
        for name in [*self.nodes, "slurmctld", "munged"]:
            daemon = self._daemons.pop(name, None)
            if daemon is not None:
                daemon.kill()
                daemon.wait()
        _kill_all(lambda: self._processes(f"SLURM_CONF={self.env['SLURM_CONF']}"))

    def _start(self, name: str, *argv: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            # They end with the test process even when that is killed.
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *argv],
                env={**self.env, _NODE: name}, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def _all_idle(self) -> bool:
        for name, daemon in self._daemons.items():
            assert daemon.poll() is None, f"{name} ended: {(self.folder / f'{name}.out').read_text()}\n{self.log()}"
        asked = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %t"],
            env=self.env, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        found = dict(line.split() for line in asked.stdout.splitlines())
        return all(found.get(node) == "idle" for node in self.nodes)

    def _processes(self, variable: str) -> dict[int, str]:
        ours = f"SLURM_CONF={self.env['SLURM_CONF']}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):  # ended while we looked
                    held = (entry / "environ").read_bytes().split(b"\0")
                    if ours in held and variable.encode() in held:
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found


@contextmanager
def slurm_cluster(
    nodes: int = 4,
    *,
    cpus: int = 2,
    memory_mib: int = 2000,
    partitions: Sequence[str] = (),
    kill_wait_s: int = 5,
    node_timeout_s: int = 10,
) -> Iterator[SlurmCluster]:
    """A cluster with nodes n1, n2, ... in the default partition `main`.

    Args:
        nodes: virtual nodes; each is one slurmd of this machine.
        cpus, memory_mib: what each says it has; nothing checks it against this machine.
        partitions: more lines for slurm.conf, such as `PartitionName=short Nodes=n1 MaxTime=1`.
        kill_wait_s: between TERM and KILL of a cancelled job.
        node_timeout_s: silence after which the controller calls a node down.
    """
    folder = Path(tempfile.mkdtemp(prefix="erg-slurm-"))  # a short path: it holds a Unix socket
    folder.chmod(0o755)
    ports = _free_ports(nodes + 1)
    host = socket.gethostname().split(".")[0]
    lines = [
        f"NodeName=n{number + 1} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[number + 1]}"
        f" CPUs={cpus} RealMemory={memory_mib} State=UNKNOWN"
        for number in range(nodes)
    ]
    lines.append(f"PartitionName=main Nodes=n[1-{nodes}] Default=YES MaxTime=INFINITE State=UP")
    config = _CONFIG.format(
        port=ports[0], folder=folder, user=getpass.getuser(), kill_wait_s=kill_wait_s, node_timeout_s=node_timeout_s
    )
    cluster = SlurmCluster(folder, nodes, cpus, memory_mib)
    try:
        cluster.start(config + "\n".join([*lines, *partitions]) + "\n")
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _kill_all(look: Callable[[], dict[int, str]]) -> None:
    until = time.monotonic() + PATIENCE_S
    while victims := look():
        assert time.monotonic() < until, f"cannot be killed: {victims}"
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _free_ports(count: int) -> list[int]:
    """Below those that the kernel gives to clients, so that nobody takes them before the daemons do."""
    found: list[int] = []
    port = 18000 + os.getpid() % 12000
    while len(found) < count:
        port = port + 1 if port < 32000 else 18000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found
