"""What a worker may use: options, node file, orders; the last word wins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ergates.agent.limits import Limits, NodeFile, machine_memory, read_node_file
from ergates.cluster.node import NodeCapacity, WorkerOrders
from ergates.errors import InputError
from ergates.taskqueue.slots import UNLIMITED
from ergates.units import GIB, MIB, Bytes, MilliCpus

BASE = NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(256 * MIB), labels={"rack": "a1", "os": "linux"})


def test_without_a_word_the_options_hold() -> None:
    assert Limits(BASE, None).capacity() == (BASE, UNLIMITED)
    assert Limits(BASE, 2).capacity() == (BASE, 2)


def test_the_store_wins_over_the_file_and_the_file_over_the_options() -> None:
    limits = Limits(BASE, 4)
    limits.file = WorkerOrders(cpus_milli=MilliCpus(1500), jobs=3, labels={"rack": "b2", "disk": "fast"})
    limits.store = WorkerOrders(cpus_milli=MilliCpus(1000), memory_bytes=Bytes(64 * MIB), labels={"os": "", "x": "y"})
    capacity, jobs = limits.capacity()
    assert (capacity.cpus_milli, capacity.memory_bytes, jobs) == (1000, 64 * MIB, 3)
    assert capacity.labels == {"rack": "b2", "disk": "fast", "x": "y"}, "an empty value takes a label away"


def test_nobody_gets_more_memory_than_there_is() -> None:
    limits = Limits(BASE, None)
    limits.store = WorkerOrders(memory_bytes=Bytes(1 << 60))
    assert limits.capacity()[0].memory_bytes == machine_memory()


def test_more_at_once_than_cores_means_it() -> None:
    limits = Limits(BASE, None)
    limits.store = WorkerOrders(jobs=100)
    assert limits.capacity()[0].cpus_milli == 100_000
    pinned = Limits(BASE, None, pin=True)
    pinned.store = WorkerOrders(jobs=100)
    assert pinned.capacity()[0].cpus_milli == 2000


def test_give_back_means_something_only_with_drain() -> None:
    said = []
    for file, store in (
        (WorkerOrders(give_back=True), WorkerOrders()),
        (WorkerOrders(give_back=True), WorkerOrders(drain=True)),
        (WorkerOrders(), WorkerOrders(drain=True, give_back=True)),
    ):
        limits = Limits(BASE, None)
        limits.file, limits.store = file, store
        said.append((limits.drain, limits.give_back))
    assert said == [(False, False), (True, False), (True, True)]


def test_a_node_file_is_read_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    file = NodeFile(str(path))
    assert not file.changed(), "a file that is not there limits nothing"
    path.write_text('cpus = 1.5\nmemory = "2GiB"\njobs = 3\ndrain = true\n[labels]\nrack = "b2"\n')
    assert file.changed()
    assert file.orders == WorkerOrders(
        cpus_milli=MilliCpus(1500), memory_bytes=Bytes(2 * GIB), jobs=3, drain=True, labels={"rack": "b2"}
    )
    assert not file.changed()
    path.unlink()
    assert file.changed()
    assert file.orders == WorkerOrders()


def test_a_file_with_a_mistake_leaves_the_limits_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text("cpus = 2\n")
    file = NodeFile(str(path))
    assert file.changed()
    path.write_text("cpus = 2\nmemmory = 3\n")
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match="did you mean memory"):
        file.changed()
    assert file.orders.cpus_milli == 2000
    assert not file.changed(), "it is complained about once"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpus = 0", "a number of cores"),
        ("cpus = true", "a number of cores"),
        ('memory = "lots"', "a size"),
        ("jobs = 1.5", "tasks at once"),
        ('drain = "yes"', "true or false"),
        ("[labels]\nrack = 2", "a table of words"),
        ("cpus = ", "TOML"),
    ],
)
def test_mistakes_say_what_was_expected(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=expected):
        read_node_file(str(path))
