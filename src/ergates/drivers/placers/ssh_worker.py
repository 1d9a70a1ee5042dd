"""How a worker is started on a host, and the store file that it is given there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ergates.drivers.placers.hosts import Host
from ergates.drivers.placers.ssh_up import placed_by
from ergates.drivers.stores.address import StoreAddress
from ergates.drivers.stores.store_file import store_file_text

STORE_FILE = "store.toml"


def start_command(host: Host, start_options: Sequence[str]) -> list[str]:
    """The worker's argument vector on a host; its store file holds the secrets."""
    words = ["python", "-I", "-m", "ergates", "worker", "start", "--store", f"{{home}}/{STORE_FILE}"]
    words += ["--placed-by", placed_by(host.name)]
    if host.cpus_milli is not None:
        words += ["--cpus", f"{host.cpus_milli / 1000:g}"]
    if host.memory_bytes is not None:
        words += ["--memory", str(host.memory_bytes)]
    for name, value in host.labels.items():
        words += ["--label", f"{name}={value}"]
    return [*words, *start_options]


def store_files(address: StoreAddress) -> dict[str, bytes]:
    """The store file as a host gets it, and the client's certificate beside it where the store asks for one."""
    files: dict[str, bytes] = {}
    if address.cert:
        files["client.crt"] = Path(address.cert).read_bytes()
        address = replace(address, cert="client.crt")
    if address.key:
        files["client.key"] = Path(address.key).read_bytes()
        address = replace(address, key="client.key")
    files[STORE_FILE] = store_file_text(address).encode()
    return files


def is_loopback(name: str) -> bool:
    """Whether a host's name means the machine on which it is used."""
    return name in ("localhost", "::1") or name.startswith("127.")
