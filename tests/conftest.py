"""What tests need that a machine may not have: skipped with a reason on yours, failed where ERGATES_REQUIRE names it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

# A shell that starts the tests in the background (or nohup) ignores these, and what is ignored stays so in children:
# the tests that interrupt programs need them as a person at a terminal has them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

CONTAINER_IMAGE = "ergates-test:latest"
"""Made by .ci/start-docker."""


@cache
def missing_docker() -> str:
    """Why there is no engine for the tests; empty when there is one."""
    from docker.errors import ImageNotFound

    from ergates.drivers.launchers.container_engine import connect
    from ergates.errors import LaunchError

    try:
        client, _ = connect()
    except LaunchError as error:
        return f"{error}\n.ci/start-docker starts one"
    try:
        client.inspect_image(CONTAINER_IMAGE)
    except ImageNotFound:
        return f"no image {CONTAINER_IMAGE}; .ci/start-docker makes it"
    finally:
        client.close()
    return ""


@cache
def missing_cgroups() -> str:
    """Why there are no control groups that we may make."""
    from ergates.drivers.cgroups.detect import detect

    found = detect("ergates-probe")
    return "" if found.tree.kind != "tree" else f"no control groups: {'; '.join(found.reasons)}"


@cache
def missing_root() -> str:
    """Why file systems cannot be mounted."""
    return "" if os.geteuid() == 0 else "needs root"


def _programs(*names: str) -> Callable[[], str]:
    """Why a test cannot start its own servers: which of these programs are not installed."""

    @cache
    def missing() -> str:
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        absent = [name for name in names if shutil.which(name, path=path) is None]
        return f"not installed: {', '.join(absent)}" if absent else ""

    return missing


@cache
def missing_postgresql() -> str:
    """Where Debian keeps the server's programs, or PATH."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")] or shutil.which("initdb")
    return "" if found else "not installed: postgresql"


@cache
def missing_network_namespaces() -> str:
    """Why several hosts cannot be played with network namespaces."""
    if os.geteuid() != 0:
        return "needs root"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() or _programs("ip")()


def _modules(*names: str) -> Callable[[], str]:
    """Which of these libraries are not installed."""

    @cache
    def missing() -> str:
        absent = [name for name in names if importlib.util.find_spec(name) is None]
        return f"not installed: {', '.join(absent)}" if absent else ""

    return missing


_ENGINES: dict[str, Callable[[], str]] = {
    "docker": missing_docker,
    "cgroups": missing_cgroups,
    "root": missing_root,
    "redis": _programs("redis-server"),
    "sentinel": _programs("redis-sentinel"),
    "postgresql": missing_postgresql,
    "sshd": _programs("sshd", "ssh", "ssh-keygen"),
    "slurm": _programs("slurmctld", "slurmd", "munged", "sbatch"),
    "netns": missing_network_namespaces,
    "rsync": _programs("rsync"),
    "fsspec": _modules("fsspec", "paramiko"),
    "s3": _modules("moto", "flask", "s3fs", "boto3"),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = {name.strip() for name in os.environ.get("ERGATES_REQUIRE", "").split(",")}
    for mark in item.iter_markers("needs"):
        for engine in mark.args:
            reason = _ENGINES[engine]()
            if reason and engine in required:
                pytest.fail(f"ERGATES_REQUIRE names {engine}: {reason}", pytrace=False)
            if reason:
                pytest.skip(reason)
