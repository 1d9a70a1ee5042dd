"""Finds a container engine, Docker or Podman, and speaks to it through the Docker SDK; ends what dead workers left in it.

Every container carries labels that say which worker made it and how to tell whether that worker is alive: its process,
start time, boot and host. So anybody can clean up after anybody, and nobody ends what a living worker runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from ergates.drivers import machine
from ergates.errors import LaunchError

Engine = Literal["auto", "docker", "podman"]

WORKER_LABEL = "ergates.worker"
OWNER_LABEL = "ergates.owner"
_TIMEOUT_S = 60
_HINT = (
    "  hint: start one (`systemctl start docker`, or `systemctl --user start podman.socket`), join the group `docker`,\n"
    "        or set DOCKER_HOST to the engine's address"
)


def connect(engine: Engine = "auto", env: Mapping[str, str] | None = None) -> tuple[Any, str]:
    """A `docker.APIClient` of an engine that answers, and the address it answers at.

    Args:
        engine: which one; `auto` takes DOCKER_HOST, else Docker, else Podman.
        env: environment to look into; None: our own.

    Raises:
        LaunchError: no SDK, or no engine that answers; the message has what each address said and what to do.
    """
    try:
        import docker
    except ImportError as error:
        raise LaunchError(
            "tasks with an image need the Docker SDK\n  hint: pip install 'ergates[containers]'"
        ) from error
    failures = []
    for address in addresses(engine, os.environ if env is None else env):
        path = address.removeprefix("unix://")
        if path != address and not os.path.exists(path):
            failures.append(f"{address}: no such socket")
            continue
        try:
            client = docker.APIClient(base_url=address, version="auto", timeout=_TIMEOUT_S)
        except docker.errors.DockerException as error:
            failures.append(f"{address}: {_innermost(error)}")
            continue
        return client, address
    listed = "".join(f"\n  {failure}" for failure in failures)
    raise LaunchError(f"no container engine answers{listed}\n{_HINT}")


def addresses(engine: Engine, env: Mapping[str, str]) -> list[str]:
    """Where to look, in this order."""
    given = env.get("DOCKER_HOST", "")
    runtime = env.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    podman = [f"unix://{runtime}/podman/podman.sock", "unix:///run/podman/podman.sock"]
    docker = [given] if given else ["unix:///var/run/docker.sock", f"unix://{runtime}/docker.sock"]
    return {"auto": docker if given else docker + podman, "docker": docker, "podman": podman}[engine]


def labels_of(worker_id: str) -> dict[str, str]:
    """What every container of this worker carries."""
    pid = os.getpid()
    owner = f"{machine.host_name()} {machine.boot_id()} {pid} {machine.pid_start_ticks(pid)} {_pid_namespace()}"
    return {WORKER_LABEL: worker_id, OWNER_LABEL: owner}


def clean_leftovers(client: Any) -> list[str]:
    """End and remove the containers of workers of this host that are certainly dead.

    Returns:
        Ids of the containers removed.
    """
    import docker

    removed = []
    for found in client.containers(all=True, filters={"label": [WORKER_LABEL]}):
        if _is_dead(found.get("Labels", {}).get(OWNER_LABEL, "")):
            with suppress(docker.errors.APIError):  # somebody cleans at the same time
                client.remove_container(found["Id"], force=True, v=True)
                removed.append(str(found["Id"]))
    return removed


def _is_dead(owner: str) -> bool:
    """Only what is certain: another boot of this very host, or this boot and pid namespace without that process."""
    parts = owner.split(" ")
    if len(parts) != 5 or parts[0] != machine.host_name():
        return False
    _, boot_id, pid, ticks, namespace = parts
    if boot_id != machine.boot_id():
        return True
    return namespace == _pid_namespace() and machine.pid_start_ticks(int(pid)) != int(ticks)


def _pid_namespace() -> str:
    with suppress(OSError):  # no /proc: then it is the same for all
        return str(Path("/proc/self/ns/pid").readlink())
    return "-"


def _innermost(error: BaseException) -> str:
    """The SDK wraps the one line that says something four times."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return str(error)
