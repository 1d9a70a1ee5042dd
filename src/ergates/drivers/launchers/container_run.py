"""One attempt in one container: made, attached to, started, its output taken apart into the slot's spool, its end read.

Called from the thread of its slot, which may wait for the engine; orders (kill, pause) come from the worker's thread
through the engine and are only noted here.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import Any

from ergates.drivers.machine import Roots
from ergates.drivers.output.pack import Spool
from ergates.taskqueue.launching import Launch

_FRAME = Struct(">BxxxL")
"""Header of the engine's multiplexed output: which stream (1 stdout, 2 stderr), length of what follows."""
_READ_BYTES = 262144
_INIT_FAILED = (b"[FATAL tini", b"ERROR (catatonit")
"""How the small init processes of Docker and Podman begin when they cannot start the command."""
_NAMED_SIGNALS = frozenset(int(number) for number in signal.Signals)


class NotStartedError(Exception):
    """The container could not be made or started; the message is for the user."""


@dataclass(slots=True)
class ContainerEnd:
    """What the engine said of the end."""

    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    lost: bool = False
    oom_killed: bool = False


@dataclass(slots=True)
class ContainerRun:
    """State of one attempt; written by its slot's thread, but for what is marked as an order's."""

    launch: Launch
    id: str = ""
    pid: int = 0
    started_ns: int = 0
    cpu_ns: int = 0
    # orders
    timed_out: bool = False
    killed: bool = False
    dropped: bool = False
    deadline_ns: int = 0
    kill_ns: int = 0
    paused_ns: int = 0
    output_error: OSError | None = None
    head: dict[int, bytes] = field(default_factory=dict)


def create(client: Any, run: ContainerRun, labels: dict[str, str], *, pull: bool) -> None:
    """Make the container, which does not run yet.

    Raises:
        NotStartedError: no such image, a mount whose source is missing, ...
    """
    from docker.errors import APIError, ImageNotFound

    launch = run.launch
    if not launch.image:
        raise NotStartedError("a task for a container needs an image")
    try:
        try:
            made = client.create_container_from_config(_config(client, launch, labels))
        except ImageNotFound:
            if not pull:
                raise
            client.pull(launch.image)
            made = client.create_container_from_config(_config(client, launch, labels))
    except ImageNotFound as error:
        raise NotStartedError(
            f"no image {launch.image} on this machine\n  hint: get it first: docker pull {launch.image}"
        ) from error
    except (APIError, ValueError) as error:
        raise NotStartedError(f"cannot make a container of {launch.image}: {_said(error)}") from error
    run.id = made["Id"]


def _config(client: Any, launch: Launch, labels: dict[str, str]) -> Any:
    from docker.types import Mount

    mounts = [_mount(text, launch.cwd) for text in launch.mounts]
    host = client.create_host_config(
        mounts=[Mount(target, source, type="bind", read_only=read_only) for source, target, read_only in mounts],
        mem_limit=launch.memory_limit_bytes,
        memswap_limit=launch.memory_limit_bytes,
        nano_cpus=min(launch.cpus_milli, (os.cpu_count() or 1) * 1000) * 1_000_000,
        cpuset_cpus=",".join(map(str, launch.cpu_ids)) or None,
        init=True,  # signals reach the command as they would outside, and orphans are waited for
    )
    reads = launch.stdin_data is not None or launch.stdin_path is not None
    return client.create_container_config(
        launch.image,
        list(launch.argv),
        environment=[f"{name}={value}" for name, value in {**launch.env, **launch.env_changes}.items()],
        labels=labels,
        host_config=host,
        working_dir=_directory(launch.cwd, [target for _, target, _ in mounts]),
        # What a user mounts stays the user's: files are not made by root because the engine runs as root.
        user=None if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}",
        detach=not reads,
        stdin_open=reads,
    )


def _mount(text: str, cwd: str) -> tuple[str, str, bool]:
    """`HOST:CONTAINER[:ro]`; a HOST that is not absolute is taken from the task's directory."""
    parts = text.split(":")
    if (
        len(parts) not in (2, 3)
        or not parts[0]
        or not parts[1].startswith("/")
        or parts[2:] not in ([], ["ro"], ["rw"])
    ):
        raise NotStartedError(
            f"mount {text!r}: expected HOST:CONTAINER or HOST:CONTAINER:ro with an absolute CONTAINER"
        )
    source = os.path.normpath(os.path.join(cwd, os.path.expanduser(parts[0])))
    if not os.path.exists(source):
        raise NotStartedError(f"mount {text!r}: no such file or directory: {source}")
    return source, parts[1], parts[2:] == ["ro"]


def _directory(cwd: str, targets: list[str]) -> str | None:
    """The task's directory, if it is one in the container: mounted there, or not one of this machine. Else the image's own."""
    mounted = any(cwd == target or cwd.startswith(target.rstrip("/") + "/") for target in targets)
    return cwd if mounted or not os.path.isdir(cwd) else None


def attach(client: Any, run: ContainerRun) -> Any:
    """The socket that carries the container's input and output; attached before it starts, so nothing is missed."""
    reads = run.launch.stdin_data is not None or run.launch.stdin_path is not None
    wanted = {"stdout": 1, "stderr": 1, "stream": 1, "stdin": int(reads), "logs": 0}
    return client.attach_socket(run.id, params=wanted)


def start(client: Any, run: ContainerRun) -> None:
    """Raises NotStartedError: the command does not exist, a device is missing, ..."""
    from docker.errors import APIError

    try:
        client.start(run.id)
    except APIError as error:
        raise NotStartedError(_not_found(run.launch) if "not found" in str(error) else _said(error)) from error
    state = client.inspect_container(run.id)["State"]
    run.pid = state["Pid"]


def pump(stream: Any, run: ContainerRun, spool: Spool) -> None:
    """Feed its input and take its output until it closes both streams."""
    raw: socket.socket = stream._sock if hasattr(stream, "_sock") else stream
    raw.settimeout(None)
    feeder: threading.Thread | None = None
    if run.launch.stdin_data is not None or run.launch.stdin_path is not None:
        feeder = threading.Thread(target=_feed, args=(raw, run.launch), daemon=True)
        feeder.start()
    buffer = bytearray()
    with suppress(ConnectionResetError):  # the engine cuts the line when the container is removed by somebody
        while data := raw.recv(_READ_BYTES):
            buffer += data
            _take_frames(buffer, run, spool)
    if feeder is not None:
        with suppress(OSError):  # so that a feeder whose container never read its input comes to an end
            raw.shutdown(socket.SHUT_RDWR)
        feeder.join()


def _feed(raw: socket.socket, launch: Launch) -> None:
    with suppress(OSError):  # it ended without reading all of its input: its right
        if launch.stdin_path is not None:
            with open(launch.stdin_path, "rb") as file:
                raw.sendfile(file)
        else:
            raw.sendall(launch.stdin_data or b"")
        raw.shutdown(socket.SHUT_WR)


def _take_frames(buffer: bytearray, run: ContainerRun, spool: Spool) -> None:
    at = 0
    with memoryview(buffer) as view:
        while len(buffer) - at >= _FRAME.size:
            number, length = _FRAME.unpack_from(view, at)
            begin = at + _FRAME.size
            if len(buffer) - begin < length:
                break
            piece = view[begin : begin + length]
            run.head.setdefault(number, bytes(piece[:200]))
            _keep(piece, spool.err_fd if number == 2 else spool.out_fd, run)
            piece.release()
            at = begin + length
    del buffer[:at]


def _keep(piece: memoryview, fd: int, run: ContainerRun) -> None:
    """To the spool; with a full disk the container may go on, and its end says what was lost."""
    if run.output_error is not None:
        return
    at = 0
    try:
        while at < len(piece):
            at += os.write(fd, piece[at:])
    except OSError as error:
        run.output_error = error


def end_of(client: Any, run: ContainerRun) -> ContainerEnd:
    """Wait until the container is over and say how it ended.

    An engine reports a signal N as exit code 128 + N, as shells do; so codes that name a signal are taken for one.
    """
    code = int(client.wait(run.id, timeout=None)["StatusCode"])
    state = client.inspect_container(run.id)["State"]
    oom_killed = bool(state.get("OOMKilled"))
    if code in (126, 127) and run.head.get(2, b"").startswith(_INIT_FAILED):
        said = run.head[2].decode(errors="replace").strip()
        return ContainerEnd(error=_not_found(run.launch) if code == 127 else f"cannot run {run.launch.argv[0]}: {said}")
    if code > 128 and code - 128 in _NAMED_SIGNALS:
        return ContainerEnd(signal=code - 128, oom_killed=oom_killed)
    return ContainerEnd(exit_code=code, oom_killed=oom_killed)


def close_stream(stream: Any) -> None:
    """Close the answer, the file the SDK made of its socket, and the socket, in the one order that complains of nothing."""
    response = getattr(stream, "_response", None)
    raw = getattr(stream, "_sock", None)
    if response is not None:
        response.close()
    stream.close()
    if raw is not None:
        raw.close()


def group_of(run: ContainerRun, controller: str, file_name: str, roots: Roots) -> Path | None:
    """The container's control group on this machine; None when it is over, or the engine runs on another machine."""
    with suppress(OSError):
        for line in (roots.proc / str(run.pid) / "cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            if run.id not in path or (names and controller not in names.split(",")):
                continue
            folder = roots.cgroup / (controller if names else "") / path.lstrip("/")
            if (folder / file_name).exists():
                return folder
    return None


def cpu_ns_of(run: ContainerRun, roots: Roots) -> int:
    """CPU time of everything in the container so far; 0 when unknown."""
    with suppress(OSError, ValueError):
        folder = group_of(run, "cpuacct", "cpuacct.usage", roots)
        if folder is not None:
            return int((folder / "cpuacct.usage").read_text())
        folder = group_of(run, "cpu", "cpu.stat", roots)
        if folder is not None:
            fields = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
            return int(fields.get("usage_usec", 0)) * 1000
    return 0


def _not_found(launch: Launch) -> str:
    return f"command not found: {launch.argv[0]} (in image {launch.image})"


def _said(error: BaseException) -> str:
    """The engine's own words, without the SDK's frame around them."""
    return str(getattr(error, "explanation", None) or error).strip()
