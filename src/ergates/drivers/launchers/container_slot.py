"""A slot of the container launcher: a queue of attempts and a thread that runs them one after another."""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ergates.clock import Clock
from ergates.cluster.attempt import Output
from ergates.drivers.launchers import container_run
from ergates.drivers.launchers.container_run import ContainerEnd, ContainerRun, NotStartedError
from ergates.drivers.launchers.scratch import VARIABLE, SlotScratch, remove_tree
from ergates.drivers.output.pack import FULL, Spool
from ergates.drivers.output.read import output_folder
from ergates.taskqueue.launching import AttemptKey, Ended, LaunchEvent, Started
from ergates.units import Nanoseconds


class ContainerSlot:
    """Runs what it is given, in order.

    Args:
        client: of the engine, for this slot's thread alone; closed with it.
        name: of its spool files and its pack.
        spool_folder, state_dir: where the spools and the packs go.
        labels: of every container.
        pull: get images that are not here.
        clock: for the times in events.
        events: takes what happened.
        scratch: containers are given a scratch directory of this machine; not where the engine is on another.
    """

    def __init__(
        self,
        client: Any,
        name: str,
        *,
        spool_folder: Path,
        state_dir: Path,
        labels: dict[str, str],
        pull: bool,
        clock: Clock,
        events: SimpleQueue[LaunchEvent],
        scratch: bool = True,
    ) -> None:
        self._client, self._labels, self._pull, self._clock, self._events = client, labels, pull, clock, events
        self._state_dir = state_dir
        self._spool_paths = (spool_folder / f"{name}.out", spool_folder / f"{name}.err")
        self._spool = Spool(str(self._spool_paths[0]), str(self._spool_paths[1]), f"{name}.pack")
        self._scratch_path = str(spool_folder.absolute() / f"{name}.dir") if scratch else ""
        self._scratch = SlotScratch(self._scratch_path)
        self._queue: deque[ContainerRun | None] = deque()
        self._arrived = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._current: ContainerRun | None = None
        self.running: ContainerRun | None = None
        """Set from the moment its container runs until its end is known."""
        self.thread = threading.Thread(target=self._work, name="ergates-container", daemon=True)
        self.thread.start()

    def queue(self, run: ContainerRun | None) -> None:
        """Add an attempt; None ends the thread when it gets there."""
        with self._lock:
            self._queue.append(run)
        self._arrived.release()

    def stop(self) -> None:
        """Forget what waits; the thread ends when what runs has ended."""
        with self._lock:
            self._queue.clear()
            self._queue.append(None)
        self._arrived.release()

    def take_out(self, key: AttemptKey) -> ContainerRun | None:
        """The attempt of this key, if it is the current one. One that waits is dropped, and reported as killed."""
        with self._lock:
            if self._current is not None and self._current.launch.key == key:
                return self._current
            for run in self._queue:
                if run is not None and run.launch.key == key and not run.dropped:
                    run.dropped = run.killed = True
                    self._report(run, ContainerEnd(error="not started: ended while it waited"), Output())
        return None

    # --- the slot's thread --------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while True:
                self._arrived.acquire()
                with self._lock:
                    run = self._queue.popleft()
                    self._current = run if run is not None and not run.dropped else None
                if run is None:
                    return
                if not run.dropped:
                    self._run(run)
        finally:
            self._spool.close()
            for path in self._spool_paths:
                path.unlink(missing_ok=True)
            if self._scratch_path:
                remove_tree(self._scratch_path)
            self._client.close()

    def _run(self, run: ContainerRun) -> None:
        try:
            self._spool.open()
            if self._scratch_path:
                self._give_scratch(run)
            container_run.create(self._client, run, self._labels, pull=self._pull)
            end = self._watch(run)
        except NotStartedError as error:
            end = ContainerEnd(error=str(error))
        except Exception as error:  # the engine went away: its SDK and what that uses have no common error
            if isinstance(error, OSError) and error.errno in FULL:
                run.output_error = error
            end = ContainerEnd(error=f"its container was lost: {type(error).__name__}: {error}", lost=True)
        output = self._keep_output(run)
        if run.id:
            with suppress(Exception):  # somebody removed it, or the engine is gone: the next start cleans up
                self._client.remove_container(run.id, force=True, v=True)
        self._scratch.clear()
        with self._lock:
            self._current = self.running = None
        self._report(run, end, output)

    def _give_scratch(self, run: ContainerRun) -> None:
        """Its scratch directory is at the same place within."""
        path, launch = self._scratch.ready(), run.launch
        run.launch = replace(
            launch,
            mounts=(*launch.mounts, f"{path}:{path}"),
            env_changes={VARIABLE.decode(): path, **launch.env_changes},
        )

    def _watch(self, run: ContainerRun) -> ContainerEnd:
        stream = container_run.attach(self._client, run)
        try:
            container_run.start(self._client, run)
            run.started_ns = self._clock.now_ns()
            if run.launch.time_limit_ns is not None:
                run.deadline_ns = run.started_ns + run.launch.time_limit_ns
            with self._lock:
                self.running = run
            self._events.put(Started(key=run.launch.key, pid=run.pid, at_ns=Nanoseconds(run.started_ns)))
            container_run.pump(stream, run, self._spool)
        finally:
            container_run.close_stream(stream)
        return container_run.end_of(self._client, run)

    def _keep_output(self, run: ContainerRun) -> Output:
        folder = output_folder(self._state_dir, run.launch.output_job)
        try:
            if self._spool.out_fd < 0:
                return Output()
            pack, offset, out_bytes, err_bytes = self._spool.keep(os.fsencode(folder))
        except OSError as error:
            run.output_error = error
            return Output()
        return Output(pack=pack, offset=offset, stdout_bytes=out_bytes, stderr_bytes=err_bytes) if pack else Output()

    def _report(self, run: ContainerRun, end: ContainerEnd, output: Output) -> None:
        error, exit_code, number = end.error, end.exit_code, end.signal
        if run.output_error is not None and error is None:
            error, exit_code, number = f"its output could not be kept: {run.output_error.strerror}", None, None
        self._events.put(
            Ended(
                key=run.launch.key,
                started_ns=Nanoseconds(0 if end.error is not None and not end.lost else run.started_ns),
                ended_ns=self._clock.now_ns(),
                exit_code=exit_code,
                signal=number,
                error=error,
                lost=end.lost,
                disk_full=run.output_error is not None and run.output_error.errno in FULL,
                timed_out=run.timed_out,
                killed=run.killed,
                oom_killed=end.oom_killed,
                cpu_ns=Nanoseconds(run.cpu_ns),
                output=output,
            )
        )
