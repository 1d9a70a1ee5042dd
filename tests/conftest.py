"""What tests need that a machine may not have: skipped with a reason on yours, failed where ERGATES_REQUIRE names it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import cache

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


_ENGINES: dict[str, Callable[[], str]] = {
    "docker": missing_docker,
    "cgroups": missing_cgroups,
    "root": missing_root,
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
