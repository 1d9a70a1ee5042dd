"""What many machines need beyond one: a client library, a server program, ways to other hosts, and the store that was named."""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, version

from ergates.cli.doctor_checks import Finding
from ergates.cli.opened import named_store
from ergates.errors import ErgatesError


def cluster_findings() -> list[Finding]:
    """None of it is needed on one machine, so nothing that is missing is a failure; a named store that is away is a warning."""
    return [client_library(), server_program(), ways_to_hosts(), *named_store_findings()]


def client_library() -> Finding:
    """What talks to a cluster's store."""
    try:
        return Finding("store client", "ok", f"redis {version('redis')}")
    except PackageNotFoundError:
        advice = "for many machines: pip install 'ergates[cluster]'; in a clone requirements/cluster.txt"
        return Finding("store client", "ok", "not installed", advice)


def server_program() -> Finding:
    """What `erg store up` starts."""
    from ergates.drivers.stores.private_server import find_program

    try:
        path, found = find_program(None)
    except ErgatesError:
        return Finding(
            "store server", "ok", "none here", "for `erg store up` on this machine: apt install redis-server"
        )
    return Finding("store server", "ok", f"{path} {found}")


def ways_to_hosts() -> Finding:
    """What places workers on other machines."""
    there = [name for name, program in (("ssh", "ssh"), ("Slurm", "sbatch")) if shutil.which(program)]
    return Finding("other hosts", "ok", ", ".join(there) if there else "neither ssh nor Slurm here")


def named_store_findings() -> list[Finding]:
    """Whether the store that --store, ERGATES_STORE or the configuration names lets us in; nothing where none is named."""
    from ergates.drivers.stores.open_cluster import open_cluster_store

    try:
        address = named_store()
        if address is None:
            return []
        open_cluster_store(address).close()
    except ErgatesError as error:
        what, *advice = str(error).splitlines()
        return [Finding("store", "warn", what, "; ".join(line.strip() for line in advice))]
    return [Finding("store", "ok", str(address))]
