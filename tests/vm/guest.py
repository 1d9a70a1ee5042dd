"""A small virtual machine with Debian's own kernel, for what the kernel underneath lacks: pure cgroup v2, netem, power cuts.

The guest has this machine's files (shared read-only, with changes kept in the guest's memory), its own kernel, and a
disk of its own where asked. It runs one shell script as root and powers off. KVM is used where a guest boots with it within some
seconds; else emulation, which is some ten times slower.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNEL_PACKAGE = "linux-image-cloud-amd64"
MODULES = ("virtio_pci", "virtiofs", "overlay", "virtio_blk", "sch_netem", "veth")
BEGIN, EXIT = "ERGATES-GUEST-BEGINS", "ERGATES-GUEST-ENDS"
FSD_PLACES = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

_INIT_TAIL = f"""
$B mkdir -p /low /rw /new
$B mount -t virtiofs -o ro host /low
$B mount -t tmpfs -o size=75% t /rw
$B mkdir -p /rw/upper /rw/work
$B mount -t overlay -o lowerdir=/low,upperdir=/rw/upper,workdir=/rw/work o /new
$B mount -t proc p /new/proc
$B mount -t sysfs s /new/sys
$B mount -t devtmpfs d /new/dev
$B mkdir -p /new/dev/shm /new/dev/pts
for place in tmp run dev/shm; do $B mount -t tmpfs t /new/$place; done
$B mount -t devpts -o ptmxmode=666 p /new/dev/pts
$B mount -t cgroup2 c /new/sys/fs/cgroup
$B ip link set lo up
$B hostname guest
if [ -b /dev/vda ]; then $B mkdir -p /new/run/disk; $B mount -t ext4 /dev/vda /new/run/disk; fi
$B cp /job.sh /new/run/job.sh
echo {BEGIN}
$B chroot /new /bin/bash /run/job.sh
echo {EXIT} $?
$B sync
$B poweroff -f
"""


def missing() -> str:
    """Why no guest can be run here; empty when one can."""
    programs = ("qemu-system-x86_64", "busybox", "cpio", "depmod", "dpkg-deb", "apt-get")
    absent = [name for name in programs if shutil.which(name, path=_PATH) is None]
    if not any(Path(place).exists() for place in FSD_PLACES):
        absent.append("virtiofsd")
    if os.geteuid() != 0:
        return "needs root"
    return f"not installed: {', '.join(absent)}" if absent else ""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a guest's script did."""

    exit_code: int
    output: str


class Running:
    """A guest that runs its script now. Its output comes line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def lines(self) -> Iterator[str]:
        """Of the script; ends when the script does, or the power."""
        assert self._process.stdout is not None
        begun = False
        for raw in self._process.stdout:
            line = raw.rstrip("\r\n")
            if begun:
                yield line
            begun = begun or line.endswith(BEGIN)
            if line.startswith(EXIT):
                return

    def cut_power(self) -> None:
        """What the guest had not forced to its disk is lost."""
        self._process.kill()
        self._process.wait()


def run(script: str, *, disk: Path | None = None, memory_mib: int = 2048) -> Finished:
    """Run a script to its end.

    Raises:
        AssertionError: the guest did not get there; the message has what it said.
    """
    seen: list[str] = []
    with started(script, disk=disk, memory_mib=memory_mib) as guest:
        for line in guest.lines():
            if line.startswith(EXIT):
                return Finished(int(line.split()[1]), "\n".join(seen))
            seen.append(line)
    raise AssertionError("the guest ended without finishing its script:\n" + "\n".join(seen[-50:]))


@contextmanager
def started(script: str, *, disk: Path | None = None, memory_mib: int = 2048) -> Iterator[Running]:
    """A guest that runs `script` with bash; ended, whatever it does, at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="ergates-guest-") as name:
        folder = Path(name)
        (folder / "initrd").write_bytes(_initial_ram_disk() + _archive({"job.sh": script.encode()}))
        socket = folder / "files.sock"
        server = _share_files(socket)
        try:
            command = _machine(folder / "initrd", socket, memory_mib, kvm=kvm_works())
            if disk is not None:
                command += ["-drive", f"file={disk},if=virtio,format=raw,cache=writeback"]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            try:
                yield Running(process)
            finally:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
        finally:
            server.kill()
            server.communicate()


def make_disk(path: Path, size_mib: int = 256) -> None:
    """An empty ext4 file system for `disk`."""
    with path.open("wb") as file:
        file.truncate(size_mib * 1024**2)
    subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True, env={**os.environ, "PATH": _PATH})


@cache
def kvm_works() -> bool:
    """Whether a guest comes up with KVM: nested virtualisation often opens /dev/kvm and then hangs."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with tempfile.TemporaryDirectory(prefix="ergates-guest-") as name:
        initrd = Path(name, "initrd")
        busybox = _statically_linked_busybox().read_bytes()
        init = f"#!/bin/busybox sh\necho {BEGIN}\n/bin/busybox poweroff -f\n".encode()
        initrd.write_bytes(_archive({"bin/busybox": busybox, "init": init}, executable=True))
        command = _machine(initrd, None, 256, kvm=True)
        try:
            answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=15, check=False)
        except subprocess.TimeoutExpired:
            return False
        return BEGIN.encode() in answer.stdout


def _machine(initrd: Path, socket: Path | None, memory_mib: int, *, kvm: bool) -> list[str]:
    accelerator = ["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg,thread=multi", "-cpu", "max"]
    command = ["qemu-system-x86_64", *accelerator, "-smp", "2", "-m", str(memory_mib), "-nographic", "-no-reboot"]
    command += ["-nodefaults", "-serial", "stdio", "-kernel", str(_kernel()), "-initrd", str(initrd)]
    command += ["-append", "console=ttyS0 quiet panic=-1 psi=1"]
    if socket is not None:
        command += ["-object", f"memory-backend-memfd,id=mem,size={memory_mib}M,share=on", "-numa", "node,memdev=mem"]
        command += ["-chardev", f"socket,id=files,path={socket}"]
        command += ["-device", "vhost-user-fs-pci,chardev=files,tag=host"]
    return command


def _share_files(socket: Path) -> subprocess.Popen[bytes]:
    program = next(place for place in FSD_PLACES if Path(place).exists())
    command = [program, f"--socket-path={socket}", "-o", "source=/", "-o", "cache=auto", "-o", "sandbox=chroot"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert server.stderr is not None
    for line in server.stderr:  # says so when it listens
        if b"Waiting for vhost-user socket connection" in line:
            break
    return server


@cache
def _package() -> Path:
    """The unpacked kernel package, fetched once."""
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ergates-tests" / "kernel"
    if not (cached / "unpacked").exists():
        shutil.rmtree(cached, ignore_errors=True)
        cached.mkdir(parents=True)
        depends = subprocess.run(
            ["apt-cache", "depends", KERNEL_PACKAGE], check=True, capture_output=True, text=True
        ).stdout
        name = next(line.split()[-1] for line in depends.splitlines() if "Depends: linux-image" in line)
        subprocess.run(["apt-get", "download", "-qq", name], cwd=cached, check=True, stderr=subprocess.DEVNULL)
        (package,) = cached.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, cached / "files"], check=True)
        (version,) = (cached / "files" / "lib" / "modules").iterdir()
        subprocess.run(["depmod", "-b", cached / "files", version.name], check=True, env={**os.environ, "PATH": _PATH})
        (cached / "unpacked").touch()
    return cached / "files"


def _kernel() -> Path:
    (kernel,) = (_package() / "boot").glob("vmlinuz-*")
    return kernel


@cache
def _initial_ram_disk() -> bytes:
    (version,) = (_package() / "lib" / "modules").iterdir()
    modules: dict[str, Path] = {}
    for module in MODULES:
        answer = subprocess.run(
            ["modprobe", "-d", _package(), "-S", version.name, "--show-depends", module],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": _PATH},
        )
        for line in answer.stdout.splitlines():
            if line.startswith("insmod"):
                file = Path(line.split()[1])
                modules.setdefault(file.name, file)
    init = "#!/bin/busybox sh\nB=/bin/busybox\n$B mount -t proc p /proc; $B mount -t sysfs s /sys\n"
    init += "$B mount -t devtmpfs d /dev\n"
    init += "".join(f"$B insmod /modules/{name}\n" for name in modules) + _INIT_TAIL
    files = {"bin/busybox": _statically_linked_busybox().read_bytes(), "init": init.encode()}
    files |= {f"modules/{name}": file.read_bytes() for name, file in modules.items()}
    return _archive(files, executable=True)


def _statically_linked_busybox() -> Path:
    found = shutil.which("busybox", path=_PATH)
    assert found is not None
    return Path(found)


def _archive(files: dict[str, bytes], *, executable: bool = False) -> bytes:
    """A compressed cpio archive as the kernel takes it; several may follow one another."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place in ("proc", "sys", "dev"):
            (folder / place).mkdir()
        for place, content in files.items():
            (folder / place).parent.mkdir(exist_ok=True)
            (folder / place).write_bytes(content)
            if executable:
                (folder / place).chmod(0o755)
        listing = "\n".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))
        made = subprocess.run(
            ["cpio", "--create", "--format=newc", "--quiet"],
            cwd=folder,
            input=listing.encode(),
            capture_output=True,
            check=True,
        )
    return gzip.compress(made.stdout, 1)
