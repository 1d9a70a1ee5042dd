"""Hosts that are reached by ssh: a folder on each, a worker in it, and what it wrote brought here when a run has ended.

Workers are placed as `erg worker up` does it. They reach the store by themselves where it is one for other machines, and through
a tunnel (ssh_tunnel.py) where it listens on this machine's loopback only: then the network is asked for nothing but ssh.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ergates.clock import SystemClock
from ergates.drivers.hosts.local_workers import Place, check_setup
from ergates.drivers.hosts.ssh_folder import FarFolder
from ergates.drivers.hosts.ssh_settings import SshSettings
from ergates.drivers.hosts.ssh_tunnel import Tunnel
from ergates.drivers.placers.far_tags import tags_of
from ergates.drivers.placers.hosts import Host, named_hosts
from ergates.drivers.placers.many_hosts import HostReport, HostRun, ManyHosts
from ergates.drivers.placers.placed_hosts import PlacedHosts
from ergates.drivers.placers.roster_watch import RosterWatch
from ergates.drivers.placers.ssh_command import Ssh, SshOptions
from ergates.drivers.placers.ssh_up import SshUp, UpPlan
from ergates.drivers.placers.ssh_words import HostError, Reason
from ergates.drivers.placers.ssh_worker import is_loopback, start_command, store_files
from ergates.drivers.placers.wheelhouse import Wheelhouse
from ergates.drivers.stores.address import StoreAddress
from ergates.drivers.stores.open_cluster import open_cluster_store
from ergates.drivers.stores.store_file import read_store_file
from ergates.errors import ErgatesError, UsageError
from ergates.experiment.host import (
    ADDRESS_VARIABLE,
    FOLDER_VARIABLE,
    HERE_VARIABLE,
    HOST_VARIABLE,
    WHOLE_HOST,
    ExperimentHost,
    worker_labels,
)
from ergates.experiment.layout import FOLDER_SUFFIX
from ergates.experiment.spec import HostGroup
from ergates.units import MIB, SECOND_NS

T = TypeVar("T")
CONFIG_VARIABLE = "ERGATES_SSH_CONFIG"
"""A file of ssh's configuration to use instead of the user's own."""
PARALLEL = 32
STEP_S, STOP_S = 60.0, 10.0
LEAST_FREE_BYTES = 256 * MIB
"""The programs of a worker are 30 MiB; below this a host is full for every purpose."""
CLOCK_TOLERATED_NS = SECOND_NS // 20
_OF_WORKER_UP = re.compile(
    r" a host that still boots: --wait 5m|, or (name one with )?--(python PATH|host-keys accept-new)"
)
"""Hints that only `erg worker up` can follow."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class SshHosts:
    """The Protocol `Hosts` for one group of kind `ssh`.

    Args:
        group: of the file.
        place: of the experiment, on this machine.
        say: told what is worth knowing though nothing went wrong.
    """

    def __init__(self, group: HostGroup, place: Place, say: Callable[[str], None] = print) -> None:
        self._group, self._place, self._say = group, place, say
        self._kept = place.hosts / f"{group.name}.ssh"
        self._new = not self._kept.exists()
        self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = os.environ.get(CONFIG_VARIABLE)
        self._ssh = Ssh(self._kept, SshOptions(config=Path(config) if config else None))
        self._hosts = named_hosts(",".join(group.hosts))
        whose = f"{os.uname().nodename}:{os.getuid()}:{place.folder.resolve()}:{group.name}"
        self._key = hashlib.sha256(os.fsencode(whose)).hexdigest()[:12]
        self._cluster = f"experiment-{self._key}"
        self._settings = SshSettings(group, self._cluster, say)
        name = _UNSAFE.sub("_", place.folder.name.removesuffix(FOLDER_SUFFIX))
        self._folders = {
            host.name: FarFolder(
                self._ssh.command(host), name=f"{name}-{self._key}", directory=group.directory, key=self._key
            )
            for host in self._hosts
        }
        self._addresses: dict[str, str] = {}
        self._bases: dict[str, str] = {}
        self._settings_before: dict[str, str] = {}
        self._tunnels: dict[str, Tunnel] = {}

    # --- before anything is started ---------------------------------------------------------------

    def check(self) -> None:
        """See `Hosts.check`: ssh, Python, room on the disk, settings; a clock that is off is said, and no reason to refuse.

        Where settings are wanted our programs are placed there: they alone know what the host has.
        """
        try:
            check_setup(self._group, self._place)
            self._places_to_send()
            self._refuse_if(asyncio.run(self._many().each(self._hosts, self._look)), "cannot serve")
        except UsageError:
            if self._new:  # nothing was begun, so nothing stays
                shutil.rmtree(self._kept, ignore_errors=True)
                with suppress(OSError):
                    self._place.hosts.rmdir()
                    self._place.folder.rmdir()
            raise

    async def _look(self, run: HostRun) -> None:
        async with run.reached() as talk:
            tags_of(talk.facts)
            clock = SystemClock()
            begun_ns = clock.now_ns()
            around = await talk.ask("around", directory=self._group.directory, timeout_s=STEP_S)
            trip_ns = clock.now_ns() - begun_ns
            self._check_room(around)
            if self._settings.wanted:
                await self._settings.look(run, talk)
        ahead_ns = clock_ahead_ns(begun_ns, trip_ns, around["now_ns"])
        if abs(ahead_ns) > CLOCK_TOLERATED_NS:
            self._say(
                f"hosts.{self._group.name}: {run.host.name}: its clock is {abs(ahead_ns) / SECOND_NS:.2f} s"
                f" {'ahead' if ahead_ns > 0 else 'behind'}: times of day on different hosts cannot be compared"
            )
        run.now("up")

    def _check_room(self, around: Mapping[str, Any]) -> None:
        if not around["writable"]:
            raise HostError(
                Reason(f"{around['place']} cannot be written there", "`directory` of the group names another")
            )
        if around["free_bytes"] < LEAST_FREE_BYTES:
            free_mib = around["free_bytes"] // MIB
            hint = "make room there, or name another place: `directory` of the group"
            raise HostError(Reason(f"only {free_mib} MiB are free at {around['place']}", hint))

    def _places_to_send(self) -> list[tuple[str, Path]]:
        """What is sent, by its name there: below the file's folder as it lies there, anything else by its last name."""
        found: dict[str, Path] = {}
        for text in self._group.send:
            path = Path(os.path.abspath(self._place.here / Path(text).expanduser()))
            if not path.exists():
                raise UsageError(
                    f"hosts.{self._group.name}: send {text!r}: no such file\n  expected: paths relative to {self._place.here}"
                )
            inside = path.is_relative_to(self._place.here)
            name = str(path.relative_to(self._place.here)) if inside else path.name
            if found.setdefault(name, path) != path:
                raise UsageError(f"hosts.{self._group.name}: send: {path} and {found[name]} would both be {name} there")
        return list(found.items())

    # --- folders ------------------------------------------------------------------------------------

    def up(self) -> tuple[ExperimentHost, ...]:
        """See `Hosts.up`: a folder on each, with what is sent, set up once; then its settings."""
        self._threads(self._make_ready, "could not be made ready")
        if self._settings.wanted or any(self._settings_before.values()):
            self._settings.tell([host.name for host in self._hosts])
            self._refuse_if(asyncio.run(self._many().each(self._hosts, self._prepare)), "could not be prepared")
        return tuple(
            ExperimentHost(name=host.name, group=self._group.name, address=self._addresses[host.name])
            for host in self._hosts
        )

    def _make_ready(self, host: Host) -> None:
        folder = self._folders[host.name]
        self._addresses[host.name] = self._ssh.reached_as(host)
        self._bases[host.name], notes = folder.ready()
        self._settings_before[host.name] = str(notes.get("settings", ""))
        places = self._places_to_send()
        sent = digest_of(places)
        if notes.get("sent") != sent:
            folder.send(places)
            folder.note("sent", sent)
        if self._group.setup:
            script = (self._place.here / self._group.setup).read_bytes()
            done = hashlib.sha256(sent.encode() + script).hexdigest()
            if notes.get("set_up") != done:
                self._set_up(host, script)
                folder.note("set_up", done)

    async def _prepare(self, run: HostRun) -> None:
        name = run.host.name
        before, wanted = self._settings_before[name], self._settings.text
        async with run.reached() as talk:
            if before not in ("", wanted):  # what is not wanted any more goes back first
                await self._settings.undo(run, talk, self._bases[name])
            await asyncio.to_thread(self._folders[name].note, "settings", wanted)
            if wanted:
                await self._settings.make(run, talk, self._bases[name])
        run.now("up")

    def _set_up(self, host: Host, script: bytes) -> None:
        async def work(run: HostRun) -> None:
            async with run.reached() as talk:
                answer = await talk.ask(
                    "set_up", script, cluster=self._cluster, cwd=self._here(host), environment=self._environment(host)
                )
            if answer["code"] != 0:
                last = [line for line in answer["tail"].splitlines() if line.strip()][-1:] or ["it printed nothing"]
                what = f"setup {self._group.setup} failed there, exit code {answer['code']}: {last[0][:300]}"
                raise HostError(Reason(what, f"all it printed: {answer['log']} there"))
            run.now("up")

        (report,) = asyncio.run(self._many().each([host], work))
        if report.failed:
            raise HostError(Reason(report.trouble, report.hint))

    def _here(self, host: Host) -> str:
        return f"{self._base(host)}/here"

    def _base(self, host: Host) -> str:
        if host.name not in self._bases:
            self._bases[host.name] = self._folders[host.name].ready()[0]
        return self._bases[host.name]

    def _environment(self, host: Host) -> dict[str, str]:
        return {
            HOST_VARIABLE: host.name,
            ADDRESS_VARIABLE: self._addresses.get(host.name) or self._ssh.reached_as(host),
            HERE_VARIABLE: self._here(host),
            FOLDER_VARIABLE: f"{self._base(host)}/runs",
        }

    # --- workers ------------------------------------------------------------------------------------

    def start_workers(self, store_file: Path, experiment: str) -> None:
        """See `Hosts.start_workers`; returns when the store has heard from each."""
        address = read_store_file(store_file)
        tunnelled = bool(address.socket) or all(is_loopback(name) for name, _ in address.hosts)
        if tunnelled:
            self._open_tunnels(address)
        files = {} if tunnelled else store_files(address)
        with closing(open_cluster_store(address)) as store, closing(RosterWatch(store)) as watch:
            # Of each host its own store file where a tunnel leads to it.
            groups = [[host] for host in self._hosts] if tunnelled else [list(self._hosts)]
            reports = asyncio.run(self._start_all(groups, watch, files, address, experiment))
        self._refuse_if(reports, "have no worker")

    async def _start_all(
        self,
        groups: Sequence[Sequence[Host]],
        watch: RosterWatch,
        files: dict[str, bytes],
        address: StoreAddress,
        name: str,
    ) -> list[HostReport]:
        wheelhouse, gate = Wheelhouse(), asyncio.Semaphore(PARALLEL)

        async def start(hosts: Sequence[Host]) -> list[HostReport]:
            own = files or store_files(replace(address, hosts=(), socket=self._tunnels[hosts[0].name].socket))
            plan = UpPlan(
                cluster=self._cluster,
                command=lambda host: self._command(host),
                files=own,
                environment=self._environment,
            )
            labelled = [self._labelled(host, name) for host in hosts]
            async with gate:
                return await SshUp(self._many(), wheelhouse, watch, PlacedHosts(self._kept), plan).run(labelled)

        done = await asyncio.gather(*(start(hosts) for hosts in groups))
        return [report for reports in done for report in reports]

    def _labelled(self, host: Host, experiment: str) -> Host:
        return replace(
            host,
            cpus_milli=self._group.cpus_milli or host.cpus_milli,
            memory_bytes=self._group.memory_bytes or host.memory_bytes,
            labels=host.labels | worker_labels(experiment, self._group.name, host.name),
        )

    def _command(self, host: Host) -> list[str]:
        return start_command(host, ("--resource", f"{WHOLE_HOST}=1", "--state", f"{self._base(host)}/state"))

    def _open_tunnels(self, address: StoreAddress) -> None:
        target = address.socket or f"127.0.0.1:{address.hosts[0][1]}"
        for host in self._hosts:
            tunnel = self._tunnels.get(host.name)
            if tunnel is not None and tunnel.target != target:
                tunnel.close()
                tunnel = None
            if tunnel is None:
                folder = self._folders[host.name]
                self._tunnels[host.name] = Tunnel(self._ssh, host, folder, self._key, target, self._say)
                self._tunnels[host.name].start()

        def wait(host: Host) -> None:
            try:
                self._tunnels[host.name].wait()
            except HostError:
                del self._tunnels[host.name]
                raise

        self._threads(wait, "cannot be given a way to the store")

    # --- files ----------------------------------------------------------------------------------------

    def gather(self, host: ExperimentHost, folder: str, into: Path) -> None:
        """See `Hosts.gather`; `folder` is its name below the experiment's folder. Raises ErgatesError: it was not brought."""
        try:
            self._folders[host.name].gather(folder, into)
        except HostError as error:
            raise ErgatesError(f"{host.name}: {folder} was not brought here: {error}") from error

    def forget(self, host: ExperimentHost, folders: Sequence[str]) -> None:
        """See `Hosts.forget`."""
        try:
            self._folders[host.name].forget(folders)
        except HostError as error:
            raise ErgatesError(f"{host.name}: folders of runs were not deleted there: {error}") from error

    # --- the end ------------------------------------------------------------------------------------

    def down(self) -> None:
        """See `Hosts.down`. Folders of runs that were not forgotten stay, and are said.

        Raises:
            ErgatesError: a host was not reached, or something there does not end; the others are down.
        """
        try:
            reports = asyncio.run(self._many().each(self._hosts, self._stop))
            self._refuse_if(reports, "could not be cleared", usage=False)
            self._threads(self._clear, "could not be cleared", usage=False)
        finally:
            for tunnel in self._tunnels.values():
                tunnel.close()
            self._tunnels.clear()
            for folder in self._folders.values():
                folder.close()

    async def _stop(self, run: HostRun) -> None:
        async with run.reached() as talk:
            answer = await talk.ask(
                "stop", cluster=self._cluster, now=True, grace_s=STOP_S, timeout_s=2 * STOP_S + STEP_S
            )
            if answer["left"]:
                pids = ", ".join(str(pid) for pid in answer["left"])
                raise HostError(Reason(f"processes that do not end: {pids}", "look there with ps"))
            if self._settings.wanted:
                await self._settings.undo(run, talk, await asyncio.to_thread(self._base, run.host))
        run.now("down")

    def _clear(self, host: Host) -> None:
        left = self._folders[host.name].remove()
        self._bases.pop(host.name, None)
        if left:
            self._say(
                f"hosts.{self._group.name}: {host.name}: not gathered or not put back, and left there: {', '.join(left)}"
            )

    # --- all at once --------------------------------------------------------------------------------

    def _many(self) -> ManyHosts:
        return ManyHosts(self._ssh, parallel=PARALLEL)

    def _threads(self, work: Callable[[Host], None], what: str, *, usage: bool = True) -> None:
        """Do it on every host; those on which it failed are all named."""

        def one(host: Host) -> HostReport:
            try:
                work(host)
            except HostError as error:
                return HostReport(host=host.name, state="failed", trouble=error.reason.what, hint=error.reason.hint)
            return HostReport(host=host.name, state="up")

        with ThreadPoolExecutor(PARALLEL) as pool:
            self._refuse_if(list(pool.map(one, self._hosts)), what, usage=usage)

    def _refuse_if(self, reports: Iterable[HostReport], what: str, *, usage: bool = True) -> None:
        failed = [report for report in reports if report.failed]
        if not failed:
            return
        lines = [f"hosts.{self._group.name}: {len(failed)} of {len(self._hosts)} hosts {what}"]
        for report in failed:
            lines.append(f"  {report.host}: {report.trouble}")
            hint = _OF_WORKER_UP.sub("", report.hint)
            lines += [f"    hint: {hint}"] if hint else []
        raise (UsageError if usage else ErgatesError)("\n".join(lines))


def clock_ahead_ns(begun_ns: int, trip_ns: int, there_ns: int) -> int:
    """How far a clock is ahead of ours (negative: behind) at least; 0 when the way to it may be all that was seen."""
    early, late = there_ns - (begun_ns + trip_ns), there_ns - begun_ns
    return early if early > 0 else late if late < 0 else 0


def digest_of(places: Iterable[tuple[str, Path]]) -> str:
    """Of names, sizes and times of change of all that is sent: whether it has to be sent again."""
    digest = hashlib.sha256()
    for name, path in places:
        inner = [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]
        for one in inner:
            seen = one.lstat()
            digest.update(
                f"{name}\0{one.relative_to(path)}\0{seen.st_mode}\0{seen.st_size}\0{seen.st_mtime_ns}\n".encode()
            )
    return digest.hexdigest()
