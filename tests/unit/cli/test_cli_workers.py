"""Which workers a command means, and how they are listed."""

from __future__ import annotations

import pytest

from ergates.cli.worker_list import shortest_ids, worker_lines
from ergates.cli.worker_start import moment_ns
from ergates.cli.workers_chosen import choose_workers
from ergates.cluster.node import NodeCapacity, WorkerInfo, WorkerLoad, WorkerOrders, WorkerStatus
from ergates.errors import UsageError
from ergates.units import GIB, Bytes, MilliCpus, Nanoseconds


def worker(name: str, host: str, standing: str = "live", orders: WorkerOrders | None = None) -> WorkerStatus:
    capacity = NodeCapacity(cpus_milli=MilliCpus(4000), memory_bytes=Bytes(8 * GIB), labels={"rack": "a1"})
    return WorkerStatus(
        info=WorkerInfo(id=name, host=host, capacity=capacity, placed_by="ssh:" + host),
        standing=standing,
        beat_age_ns=Nanoseconds(3_000_000_000),
        leases=2,
        orders=orders or WorkerOrders(),
        load=WorkerLoad(running=2, cpus_milli_held=MilliCpus(2000), used_bytes=Bytes(GIB), ended=1200, failed=3),
    )


WORKERS = (worker("aa11", "n1"), worker("aa22", "n1"), worker("bb33", "n2"), worker("cc44", "n3", "left"))


def chosen(*words: str, hosts: tuple[str, ...] = (), everybody: bool = False) -> list[str]:
    return [each.info.id for each in choose_workers(WORKERS, words, hosts=hosts, everybody=everybody)]


def test_by_the_beginning_of_the_id_by_host_or_all() -> None:
    assert chosen("bb", "aa2") == ["aa22", "bb33"]
    assert chosen(hosts=("n1",)) == ["aa11", "aa22"]
    assert chosen("bb33", hosts=("n1",)) == ["aa11", "aa22", "bb33"]
    assert chosen(everybody=True) == ["aa11", "aa22", "bb33"], "who has left hears nothing"


@pytest.mark.parametrize(
    ("words", "hosts", "everybody", "message"),
    [
        ((), (), False, "which workers"),
        (("aa11",), (), True, "which workers"),
        (("aa",), (), False, "the beginning of 2 workers"),
        (("cc44",), (), False, "no worker 'cc44'"),
        ((), ("n9",), False, "no worker on host 'n9'"),
    ],
)
def test_what_means_nobody_or_several(
    words: tuple[str, ...], hosts: tuple[str, ...], everybody: bool, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        choose_workers(WORKERS, words, hosts=hosts, everybody=everybody)


def test_the_table_shows_what_holds_now() -> None:
    orders = WorkerOrders(cpus_milli=MilliCpus(3000), labels={"rack": "", "disk": "fast"}, drain=True)
    heading, row = worker_lines([worker("aa11bb22cc", "n1", orders=orders)], 200)
    assert heading.split() == [
        "id", "host", "from", "state", "beat", "cpus", "memory", "running", "ended", "failed", "labels", "note",
    ]  # fmt: skip
    assert row.split() == [
        "aa11bb22", "n1", "ssh:n1", "live", "3", "s", "2/3", "12", "%", "of", "8", "GiB", "2", "1200", "3", "disk=fast",
        "to", "drain",
    ]  # fmt: skip


def test_no_workers_says_how_to_get_some() -> None:
    assert "erg worker start" in " ".join(worker_lines([], 80))


def test_ids_are_as_long_as_they_must_be() -> None:
    assert shortest_ids(["aaaaaaaa-1", "bbbbbbbb-2"]) == 8
    assert shortest_ids(["aaaaaaaa-1", "aaaaaaaa-2"]) == 10


def test_when_an_allocation_ends() -> None:
    assert moment_ns("1000000000") == 10**18
    assert moment_ns("2001-09-09T01:46:40Z") == 10**18
    with pytest.raises(UsageError, match="expected"):
        moment_ns("tomorrow")
