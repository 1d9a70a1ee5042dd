"""What is read of a host: here, and from trees made up."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ergates import __version__
from ergates.agent.host_facts import FactRoots, host_facts

CPUINFO = """processor\t: 0
model name\t: Made Up 9000
microcode\t: 0x1f
flags\t\t: fpu hypervisor sse

processor\t: 1
model name\t: Another
"""


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def made_up(tmp_path: Path) -> FactRoots:
    write(
        tmp_path,
        {
            "proc/cpuinfo": CPUINFO,
            "proc/meminfo": "MemTotal:  1000 kB\nMemAvailable: 600 kB\nSwapTotal: 0 kB",
            "proc/cmdline": "isolcpus=2,3 mitigations=off token=hunter2",
            "proc/loadavg": "0.10 0.20 0.30 1/2 3",
            "proc/sys/kernel/random/boot_id": str(tmp_path),
            "proc/sys/kernel/randomize_va_space": "2",
            "proc/self/cgroup": "",
            "sys/devices/system/cpu/online": "0-3",
            "sys/devices/system/cpu/isolated": "2-3",
            "sys/devices/system/cpu/smt/active": "1",
            "sys/devices/system/cpu/intel_pstate/no_turbo": "1",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance",
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "powersave",
            "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor": "powersave",
            "sys/devices/system/node/node0/x": "",
            "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "64",
            "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
            "sys/class/dmi/id/sys_vendor": "QEMU",
            "etc/os-release": 'PRETTY_NAME="Some Linux 1"',
            "run/chrony/chronyd.pid": "7",
            "run/.containerenv": "",
        },
    )
    return FactRoots(
        proc=tmp_path / "proc", sys=tmp_path / "sys", etc=tmp_path / "etc", run=tmp_path / "run", root=tmp_path
    )


def test_what_a_tree_says(tmp_path: Path) -> None:
    facts = host_facts(made_up(tmp_path))
    expected = {
        "cpu_model": "Made Up 9000", "microcode": "0x1f", "virtual_machine": "QEMU", "container": "podman",
        "kernel_options": ["isolcpus=2,3", "mitigations=off"], "cores_online": "0-3", "cores_isolated": "2-3",
        "smt": True, "turbo": False, "governor": "performance, powersave", "hugepages": {"2048kB": "64"},
        "transparent_hugepages": "madvise", "system": "Some Linux 1", "time_kept_by": "chrony", "numa_nodes": 1,
        "memory_bytes": 1_024_000, "memory_available_bytes": 614_400, "load_average": "0.10 0.20 0.30 1/2 3",
        "ergates": __version__,
    }  # fmt: skip
    assert {name: facts.get(name) for name in expected} == expected
    assert "hunter2" not in str(facts)


def test_settings_are_read_anew_and_what_lasts_is_not(tmp_path: Path) -> None:
    roots = made_up(tmp_path)
    host_facts(roots)
    (tmp_path / "sys/devices/system/cpu/intel_pstate/no_turbo").write_text("0")
    (tmp_path / "proc/cpuinfo").write_text("")
    facts = host_facts(roots)
    assert (facts["turbo"], facts["cpu_model"]) == (True, "Made Up 9000")


def test_a_host_that_tells_nothing(tmp_path: Path) -> None:
    facts = host_facts(FactRoots(*(tmp_path for _ in range(5))))
    assert facts["kernel"] == os.uname().release and "governor" not in facts and "cpu_model" not in facts


def test_this_host_can_be_put_on_record() -> None:
    facts = host_facts()
    assert facts["memory_bytes"] > 0 and facts["cores_usable"] == sorted(os.sched_getaffinity(0))
    assert isinstance(facts["time_synchronised"], bool)
    assert msgspec.json.decode(msgspec.json.encode(facts)) == facts
