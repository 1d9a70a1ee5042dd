"""A node that is a folder: files that answer as the kernel's do, services, modules, cards, swap and threads, all kept in files.

Because everything is a file, a process that is killed leaves the node as a killed process leaves a machine, and "as it was" can
be checked byte for byte. `seen` is called before and after each thing that is changed.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ergates.drivers.nodes.tree import NodeTree
from ergates.experiment.node_forms import choices, format_cpus, format_mask, meaning, parse_cpus

CARD, NIC = "0000:01:00.0", "0000:02:00.0"
_CPU = "sys/devices/system/cpu"
_NUMBERS = ("nr_hugepages", "scaling_min_freq", "scaling_max_freq", "no_turbo", "boost", "disable")
_DEPENDENCIES = {"msr": ("msr",), "vfio_pci": ("vfio", "vfio_pci_core", "vfio_pci")}


class KilledError(BaseException):
    """Stands for a SIGKILL where a process cannot be spared."""


class FakeNode(NodeTree):
    """Like the machine itself, below a root."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.refused: dict[str, int] = {}
        self.deaf: set[str] = set()
        self.vanishing: set[str] = set()
        self.pages_max = 10**6
        self.seen: Callable[[str], None] = lambda what: None
        self.log: list[str] = []

    # --- what the code under test calls ---------------------------------------------------------

    def write(self, path: str, text: str) -> None:
        self._change(path, lambda: self._written(path, text))

    def run(self, argv: Sequence[str]) -> tuple[int, str]:
        match list(argv):
            case ["modprobe", "--show-depends", "--", name]:
                needs = _DEPENDENCIES.get(name.replace("-", "_"))
                if needs is None:
                    return 1, f"modprobe: FATAL: Module {name} not found"
                return 0, "\n".join(f"insmod /lib/modules/6.1/kernel/{each.replace('_', '-')}.ko.xz" for each in needs)
            case ["modprobe", "--", name]:
                return self._program(" ".join(argv), lambda: (self.root / f"sys/module/{name}").mkdir())
            case ["rmmod", "--", name]:
                return self._program(" ".join(argv), lambda: (self.root / f"sys/module/{name}").rmdir())
            case ["systemctl", "show", _, "--", *units]:
                return 0, "\n\n".join(self._unit(unit) for unit in units)
            case ["systemctl", ("start" | "stop") as verb, "--", unit]:
                state = "active" if verb == "start" else "inactive"
                return self._program(" ".join(argv), lambda: self._put(f"run/systemd/system/{unit}", state))
            case ["swapoff", name]:
                return self._program(" ".join(argv), lambda: self._swap(name, None))
            case ["swapon", "-p", priority, name]:
                return self._program(" ".join(argv), lambda: self._swap(name, int(priority)))
            case ["swapon", name]:
                return self._program(" ".join(argv), lambda: self._swap(name, -1))
            case _:
                raise AssertionError(f"nobody should run {argv}")

    def program(self, name: str) -> str | None:
        return f"/usr/bin/{name}"

    def affinity(self, tid: int) -> tuple[int, ...]:
        return parse_cpus(self.read(f"proc/{tid}/cpus"))

    def set_affinity(self, tid: int, cpus: Sequence[int]) -> None:
        self._change(f"thread {tid}", lambda: self._put(f"proc/{tid}/cpus", format_cpus(cpus)))

    # --- for tests ------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, bytes]:
        """Every file and link, but for what was remembered."""
        found: dict[str, bytes] = {}
        for folder, names, files in os.walk(self.root):
            here = Path(folder)
            names[:] = [name for name in names if here / name != self.root / "var"]
            for name in [*names, *files]:
                path = here / name
                key = str(path.relative_to(self.root))
                if path.is_symlink():
                    found[key] = str(path.readlink()).encode()
                elif path.is_file():
                    found[key] = path.read_bytes()
                else:
                    found[f"{key}/"] = b""
        return found

    def put(self, path: str, text: str) -> None:
        """As somebody else would change it, or as it was from the beginning."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        self._put(path, text)

    def thread(self, tid: int, cpus: str, *, parent: int = 1, kernel: bool = False, start: int = 500) -> None:
        flags = 0x00200000 if kernel else 0
        fields = ["S", str(parent), "0", "0", "0", "0", str(flags), *["0"] * 12, str(start)]
        for folder in (f"proc/{tid}", f"proc/{tid}/task/{tid}"):
            self.put(f"{folder}/stat", f"{tid} (a (b) c) {' '.join(fields)}")
        self.put(f"proc/{tid}/cpus", cpus)
        self.put(f"proc/{tid}/comm", "something")

    # --- how the kernel behaves -----------------------------------------------------------------

    def _change(self, what: str, effect: Callable[[], None]) -> None:
        self.seen(what)
        if what in self.refused:
            raise OSError(self.refused[what], os.strerror(self.refused[what]), what)
        if what in self.vanishing:
            (self.root / what).unlink()
            self.vanishing.remove(what)
        if what not in self.deaf:
            self.log.append(what)
            effect()
        self.seen(what)

    def _program(self, line: str, effect: Callable[[], None]) -> tuple[int, str]:
        try:
            self._change(line, effect)
        except OSError as error:
            return 1, f"{line.split()[0]}: {error.strerror}"
        return 0, ""

    def _put(self, path: str, text: str) -> None:
        (self.root / path).write_text(text if text.endswith("\n") else f"{text}\n")

    def _written(self, path: str, text: str) -> None:
        if not (self.root / path).exists() and not path.endswith("bind"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        name, word = path.rpartition("/")[2], text.strip()
        old = (self.root / path).read_text() if (self.root / path).exists() else ""
        if name in ("enabled", "defrag"):
            words = choices(old)
            _require(word in words)
            self._put(path, " ".join(f"[{each}]" if each == word else each for each in words))
        elif name == "scaling_governor":
            self._governor(path.rpartition("/")[0], old.strip(), word)
        elif name == "energy_performance_preference":
            governor = self.text(path.replace(name, "scaling_governor"))
            if governor == "performance" and word != "performance":
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            self._put(path, word)
        elif name in _NUMBERS:
            _require(word.isdigit())
            self._number(path, name, int(word))
        elif name == "smp_affinity_list":
            cpus = set(parse_cpus(word)) & set(self.online_cpus())
            _require(bool(cpus))
            self._put(path, format_cpus(cpus))
        elif name in ("default_smp_affinity", "cpumask"):
            self._put(path, format_mask(parse_cpus(meaning(word, "mask"))).lstrip("0"))
        elif path == f"{_CPU}/smt/control":
            self._smt(word)
        elif name in ("bind", "unbind"):
            self._bind(path.split("/")[-2], word, name == "bind")
        elif name == "driver_override":
            self._put(path, word or "(null)")
        else:
            self._put(path, word)

    def _governor(self, folder: str, old: str, new: str) -> None:
        """As intel_pstate: its own preference goes with the governor `performance`, and comes back with another."""
        _require(new in (self.text(f"{folder}/scaling_available_governors") or "").split())
        self._put(f"{folder}/scaling_governor", new)
        preference, saved = (
            f"{folder}/energy_performance_preference",
            self.root.parent / f"{folder.replace('/', '_')}.saved",
        )
        if not self.exists(preference) or old == new:
            return
        if new == "performance":
            saved.write_text(self.text(preference) or "")
            self._put(preference, "performance")
        elif saved.exists():
            self._put(preference, saved.read_text())

    def _number(self, path: str, name: str, number: int) -> None:
        folder = path.rpartition("/")[0]
        if name == "nr_hugepages":
            number = min(number, self.pages_max)
        if name == "scaling_min_freq":
            _require(number <= int(self.text(f"{folder}/scaling_max_freq") or 0))
        if name == "scaling_max_freq":
            number = number // 1000 * 1000
            _require(number >= int(self.text(f"{folder}/scaling_min_freq") or 0))
        self._put(path, str(number))
        if name in ("no_turbo", "boost") and number == (name == "boost"):
            for policy in self.glob(f"{_CPU}/cpufreq/policy*"):
                self._put(f"{policy}/scaling_max_freq", self.text(f"{policy}/cpuinfo_max_freq") or "")

    def _smt(self, word: str) -> None:
        """The upper half of the cores are the siblings: with them their files go, and interrupts bound to them run everywhere."""
        _require(word in ("on", "off"))
        cpus = parse_cpus(self.text(f"{_CPU}/possible") or "")
        away = self.root.parent / "offline"
        if word == (self.text(f"{_CPU}/smt/control")):
            return
        siblings = cpus[len(cpus) // 2 :]
        for cpu in siblings:
            for path in (f"{_CPU}/cpufreq/policy{cpu}", f"{_CPU}/cpu{cpu}/cpuidle"):
                here, there = self.root / path, away / path
                source, target = (here, there) if word == "off" else (there, here)
                if source.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(source, target)
        online = cpus[: len(cpus) // 2] if word == "off" else cpus
        self._put(f"{_CPU}/online", format_cpus(online))
        self._put(f"{_CPU}/smt/control", word)
        for path in self.glob("proc/irq/[0-9]*/smp_affinity_list"):
            if not set(parse_cpus(self.text(path) or "")) & set(online):
                self._put(path, format_cpus(online))
        for path in self.glob("proc/[0-9]*/cpus"):
            if not set(parse_cpus(self.text(path) or "")) & set(online):
                self._put(path, format_cpus(online))

    def _bind(self, driver: str, address: str, bind: bool) -> None:
        device, folder = self.root / f"sys/bus/pci/devices/{address}", self.root / f"sys/bus/pci/drivers/{driver}"
        if not folder.exists() or bind == (device / "driver").is_symlink():
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        if bind:
            override = (device / "driver_override").read_text().strip()
            if override not in ("(null)", driver):
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            (device / "driver").symlink_to(f"../../drivers/{driver}")
        else:
            (device / "driver").unlink()

    def _unit(self, unit: str) -> str:
        state = self.text(f"run/systemd/system/{unit}")
        return f"Id={unit}\nLoadState={'loaded' if state else 'not-found'}\nActiveState={state or 'inactive'}"

    def _swap(self, name: str, priority: int | None) -> None:
        heading, *lines = self.read("proc/swaps").splitlines()
        if priority is None:
            lines = [line for line in lines if line.split()[0] != name]
        else:
            priority = priority if priority >= 0 else -2 - sum(int(line.split()[4]) < 0 for line in lines)
            lines.append(f"{name} partition 1000 0 {priority}")
        self._put("proc/swaps", "\n".join([heading, *lines]))


def _require(true: bool) -> None:
    if not true:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def build_node(root: Path, *, cpus: int = 4, vendor: str = "intel", nodes: int = 2, interrupts: int = 4) -> FakeNode:
    """A machine with all that can be set: `intel` has no_turbo and energy preferences, `amd` has boost and none; `bare` has no
    cpufreq, idle states, systemd or modules, as a virtual machine."""
    root.mkdir(parents=True)
    node = FakeNode(root)
    everyone = format_cpus(range(cpus))
    node.put("proc/sys/kernel/random/boot_id", "11111111-2222-3333-4444-555555555555")
    node.put("proc/cpuinfo", "processor : 0\nflags : fpu tsc" + (" hypervisor" if vendor == "bare" else ""))
    node.put("proc/cmdline", "quiet isolcpus=3 mitigations=off")
    for name in ("online", "possible"):
        node.put(f"{_CPU}/{name}", everyone)
    node.put(f"{_CPU}/isolated", "")
    _kernel(node, nodes)
    for number in range(interrupts):
        node.put(f"proc/irq/{24 + number}/smp_affinity_list", everyone if number % 2 else str(number % cpus))
    node.put("proc/irq/default_smp_affinity", format_mask(range(cpus)).lstrip("0"))
    node.put("sys/devices/virtual/workqueue/cpumask", format_mask(range(cpus)).lstrip("0"))
    _threads(node, everyone, cpus)
    _cards(node)
    if vendor != "bare":
        _cores(node, cpus, vendor)
        _system(node)
    return node


def _kernel(node: FakeNode, nodes: int) -> None:
    for name, value in (
        ("randomize_va_space", "2"), ("perf_event_paranoid", "2"), ("nmi_watchdog", "1"), ("soft_watchdog", "1"),
        ("watchdog", "1"), ("numa_balancing", "1"), ("timer_migration", "1"),
    ):  # fmt: skip
        node.put(f"proc/sys/kernel/{name}", value)
    node.put("proc/sys/vm/swappiness", "60")
    node.put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    node.put("sys/kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never")
    for size in (2048, 1048576):
        for number in range(nodes):
            node.put(f"sys/devices/system/node/node{number}/hugepages/hugepages-{size}kB/nr_hugepages", str(3 * number))
    clock = "sys/devices/system/clocksource/clocksource0"
    node.put(f"{clock}/available_clocksource", "tsc hpet acpi_pm")
    node.put(f"{clock}/current_clocksource", "hpet")
    areas = ("/dev/sda2 partition 1000 0 -2", "/dev/sdc9 partition 1000 0 5", "/dev/sdb2 partition 1000 0 -3")
    node.put("proc/swaps", "\n".join(("Filename Type Size Used Priority", *areas)))


def _cores(node: FakeNode, cpus: int, vendor: str) -> None:
    node.put(f"{_CPU}/smt/control", "on")
    node.put(*((f"{_CPU}/intel_pstate/no_turbo", "0") if vendor == "intel" else (f"{_CPU}/cpufreq/boost", "1")))
    for cpu in range(cpus):
        policy = f"{_CPU}/cpufreq/policy{cpu}"
        governors = "performance powersave" + (" schedutil" if vendor == "amd" else "")
        files = {
            "affected_cpus": str(cpu), "scaling_available_governors": governors, "scaling_governor": "powersave",
            "cpuinfo_min_freq": "800000", "cpuinfo_max_freq": "3600000", "scaling_min_freq": "800000",
            "scaling_max_freq": "3000000", "base_frequency": "2400000",
        }  # fmt: skip
        if vendor == "intel":
            files["energy_performance_available_preferences"] = "default performance balance_performance power"
            files["energy_performance_preference"] = "balance_performance"
        for name, text in files.items():
            node.put(f"{policy}/{name}", text)
        for state, (name, latency) in enumerate((("POLL", 0), ("C1", 2), ("C1E", 10), ("C6", 133))):
            folder = f"{_CPU}/cpu{cpu}/cpuidle/state{state}"
            node.put(f"{folder}/name", name)
            node.put(f"{folder}/latency", str(latency))
            node.put(f"{folder}/disable", "0")
        node.put(f"{_CPU}/cpu{cpu}/power/pm_qos_resume_latency_us", "0")


def _system(node: FakeNode) -> None:
    for unit, state in (("irqbalance.service", "active"), ("cron.service", "active"), ("tuned.service", "inactive")):
        node.put(f"run/systemd/system/{unit}", state)
    node.put("proc/modules", "ext4 1 0 - Live 0x0")
    (node.root / "sys/module/ext4").mkdir(parents=True)


def _threads(node: FakeNode, everyone: str, cpus: int) -> None:
    node.thread(1, everyone)
    node.thread(2, everyone, kernel=True)
    node.thread(100, everyone)
    node.thread(101, str(cpus - 1), parent=100)


def _cards(node: FakeNode) -> None:
    for address, driver in ((CARD, "ixgbe"), (NIC, "igb")):
        device = f"sys/bus/pci/devices/{address}"
        node.put(f"{device}/class", "0x020000")
        node.put(f"{device}/driver_override", "(null)")
        (node.root / f"sys/bus/pci/drivers/{driver}").mkdir(parents=True)
        (node.root / f"{device}/driver").symlink_to(f"../../drivers/{driver}")
        node.put(f"{device}/net/eth-{driver}/operstate", "down" if address == CARD else "up")
    (node.root / "sys/bus/pci/drivers/vfio-pci").mkdir()
