"""What a node says it has to give."""

from __future__ import annotations

from ergates.agent.node import capacity_of, describe_worker
from ergates.agent.settings import RunSettings
from ergates.drivers import machine
from ergates.experiment.host import worker_labels
from ergates.units import GIB, Bytes, MilliCpus


def test_as_many_at_once_as_asked_for_also_beyond_the_cores() -> None:
    cores = machine.cpus_milli()
    assert capacity_of(RunSettings(jobs=100), confined=False).cpus_milli == max(100_000, cores)
    assert capacity_of(RunSettings(jobs=1), confined=False).cpus_milli == cores
    assert capacity_of(RunSettings(jobs=100, pin=True), confined=False).cpus_milli == cores
    assert capacity_of(RunSettings(jobs=100, cpus_milli=MilliCpus(1500)), confined=False).cpus_milli == 1500


def test_memory_is_what_the_user_confines_it_to_never_more_than_there_is() -> None:
    assert capacity_of(RunSettings(memory_bytes=Bytes(GIB)), confined=True).memory_bytes == GIB
    there = machine.memory_total_bytes()
    assert capacity_of(RunSettings(memory_bytes=Bytes(2 * there)), confined=False).memory_bytes <= there


def test_a_host_of_an_experiment_goes_by_its_name_there_and_any_other_by_the_machines() -> None:
    labels = worker_labels("pair", "lab", "lab-2")
    assert describe_worker(capacity_of(RunSettings(node_labels=labels), confined=False)).host == "lab-2"
    other = RunSettings(node_labels={"host": "somebody's own label"})
    assert describe_worker(capacity_of(other, confined=False)).host == machine.host_name()
