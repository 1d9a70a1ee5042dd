"""The far side of placing workers: this file is sent over ssh and run there by whatever Python >= 3.11 the host has.

It needs nothing but the standard library, and it listens to nobody but its own standard input: one request as a line of
JSON, perhaps followed by bytes; one answer as a line of JSON that begins with `MARK`, so that whatever a login script
prints is told apart. When the connection ends it ends, and with it a set-up script that still runs; a worker that was
started stays.

Where it keeps what: programs in `~/.cache/ergates/KEY`, made in one step by a rename (homes may be shared by many hosts);
what belongs to one worker in `~/.local/state/ergates/placed/CLUSTER/HOST/NUMBER`, for its owner alone.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import importlib.util
import io
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MARK = "ergates-far-side "
NEEDED = ("asyncio", "ctypes", "json", "lzma", "sqlite3", "ssl", "zlib")
"""Parts of the standard library that small installations leave out and a worker needs."""
TAIL_BYTES = 4096
PLACED = "ERGATES_PLACED"
"""In the environment of a worker and of all it starts: how `stop` knows them, whatever session they moved to."""


class Trouble(Exception):
    """Something the user can do something about, in words."""


def main() -> None:
    """Greet, then answer until nobody asks any more."""
    say(ok=True, **facts())
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        payload = sys.stdin.buffer.read(request.get("bytes", 0))
        try:
            say(ok=True, **ANSWERS[request["do"]](request, payload))
        except Trouble as trouble:
            say(ok=False, trouble=str(trouble))
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            say(ok=False, trouble=f"{place}{error.strerror or error}")


def say(**answer: Any) -> None:
    """One answer, on a line of its own even after a login script's unfinished one."""
    sys.stdout.write(f"\n{MARK}{json.dumps(answer)}\n")
    sys.stdout.flush()


# --- what this host is --------------------------------------------------------------------------


def facts() -> dict[str, Any]:
    """What decides which wheels fit, and where things are."""
    libc, version = platform.libc_ver()
    return {
        "implementation": sys.implementation.name,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "executable": getattr(sys, "_base_executable", sys.executable) or sys.executable,
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "machine": platform.machine(),
        "bits": sys.maxsize.bit_length() + 1,
        "libc": libc or ("musl" if "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or "") else ""),
        "libc_version": version or musl_version(),
        "missing": [name for name in NEEDED if importlib.util.find_spec(name) is None],
        "hostname": platform.node(),
        "state": str(state_dir()),
        "cache": str(cache_dir()),
    }


def musl_version() -> str:
    """What musl's loader prints when it is called without arguments; empty where there is none."""
    for loader in Path("/lib").glob("ld-musl-*.so.1"):
        said = subprocess.run([str(loader)], capture_output=True, text=True, check=False).stderr
        for line in said.splitlines():
            if line.startswith("Version "):
                return line.split()[1]
    return ""


def cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ergates"


def state_dir() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "ergates" / "placed"


def home_of(request: dict[str, Any]) -> Path:
    """The directory of the workers of one cluster on this host; made where it is missing, for its owner alone."""
    place = state_dir() / str(request["cluster"]) / platform.node()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


# --- the programs -------------------------------------------------------------------------------


def look(request: dict[str, Any], _payload: bytes) -> dict[str, Any]:
    """Whether the programs are here, and which workers of the cluster are."""
    return {
        "installed": (cache_dir() / request["key"] / "bin" / "python").exists(),
        "workers": {place.name: record for place, record in living(home_of(request))},
    }


def around(request: dict[str, Any], _payload: bytes) -> dict[str, Any]:
    """What the time is here, and how much room there is where `directory` is or would be."""
    place = Path(request["directory"] or cache_dir()).expanduser().absolute()
    while not place.exists():
        place = place.parent
    return {
        "now_ns": time.clock_gettime_ns(time.CLOCK_REALTIME),
        "place": str(place),
        "free_bytes": shutil.disk_usage(place).free,
        "writable": place.is_dir() and os.access(place, os.W_OK | os.X_OK),
    }


def install(request: dict[str, Any], payload: bytes) -> dict[str, Any]:
    """Unpack a tar of wheels into an environment of its own: no pip, no registry, no compiler."""
    if hashlib.sha256(payload).hexdigest() != request["sha256"]:
        raise Trouble("what arrived is not what was sent")
    final = cache_dir() / request["key"]
    final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    growing = Path(tempfile.mkdtemp(prefix=f"{request['key']}.", dir=final.parent))
    try:
        site = make_environment(growing, final)
        with tarfile.open(fileobj=io.BytesIO(payload)) as wheels:
            for member in wheels:
                content = wheels.extractfile(member)
                if content is not None:
                    unpack_wheel(zipfile.ZipFile(io.BytesIO(content.read())), site)
        try_it(growing)
        with contextlib.suppress(OSError):  # another host with the same home was first: its is as good
            growing.rename(final)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return {"at": str(final)}


def make_environment(growing: Path, final: Path) -> Path:
    """What `python -m venv --without-pip` makes, less its path in its scripts: this directory is renamed when complete.

    Returns its site-packages.
    """
    executable = facts()["executable"]
    (growing / "bin").mkdir()
    (growing / "bin" / "python").symlink_to(executable)
    (growing / "bin" / "python3").symlink_to("python")
    home, version = os.path.dirname(executable), facts()["python"]
    config = f"home = {home}\ninclude-system-site-packages = false\nversion = {version}\n"
    (growing / "pyvenv.cfg").write_text(config)
    script = growing / "bin" / "erg"
    script.write_text(f"#!{final}/bin/python\nfrom ergates.cli.main import main\n\nmain()\n")
    script.chmod(0o755)
    site = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(growing)}))
    site.mkdir(parents=True)
    return site


def unpack_wheel(wheel: zipfile.ZipFile, site: Path) -> None:
    """As pip does, for wheels without scripts or headers: libraries of `NAME.data` lie beside the rest."""
    for name in wheel.namelist():
        parts = name.split("/")
        if parts[0].endswith(".data"):
            if parts[1] not in ("purelib", "platlib"):
                continue
            parts = parts[2:]
        target = site.joinpath(*parts)
        if ".." in parts or name.startswith("/"):
            raise Trouble(f"a wheel names a place outside of itself: {name}")
        if name.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(wheel.read(name))


def try_it(environment: Path) -> None:
    """Import the compiled parts once: a wheel for another machine shows here, not in a worker's log."""
    tried = subprocess.run(
        [str(environment / "bin" / "python"), "-I", "-c", "import ergates, msgspec, redis, click, cloudpickle"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode != 0:
        raise Trouble(f"the installed programs do not start: {tried.stderr.strip().splitlines()[-1:]}")


# --- set-up and workers -------------------------------------------------------------------------


def set_up(request: dict[str, Any], payload: bytes) -> dict[str, Any]:
    """Run the user's script (it says with `#!` by what) to its end; its output stays in `setup.log`."""
    home = home_of(request)
    script, log = home / "setup", home / "setup.log"
    script.unlink(missing_ok=True)
    with os.fdopen(os.open(script, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700), "wb") as file:
        file.write(payload)
    command = [str(script)] if payload.startswith(b"#!") else ["/bin/sh", str(script)]
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            cwd=request.get("cwd") or os.path.expanduser("~"),
            env={**clean_environment(), **request.get("environment", {})}, start_new_session=True,
        )  # fmt: skip
    wait_for(process)
    return {"code": process.returncode, "log": str(log), "tail": tail_of(log)}


def wait_for(process: subprocess.Popen[bytes]) -> None:
    """Until it has ended; it is killed, and we end, when whoever waits is gone."""
    while process.poll() is None:
        # Nothing is sent while we work: a standard input that can be read has ended.
        if select.select([sys.stdin.buffer], [], [], 0.1)[0]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            sys.exit(1)


def erg(request: dict[str, Any], _payload: bytes) -> dict[str, Any]:
    """Run the `erg` that was installed here to its end; say how it ended and what it printed."""
    program = cache_dir() / request["key"] / "bin" / "python"
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [str(program), "-I", "-m", "ergates", *request["words"]],
            stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            cwd=os.path.expanduser("~"), env=clean_environment(), start_new_session=True,
        )  # fmt: skip
        wait_for(process)
        out.seek(0)
        err.seek(0)
        said = {"out": out.read().decode(errors="replace"), "err": err.read().decode(errors="replace")}
    return {"code": process.returncode, "erg": str(program.with_name("erg")), **said}


def start(request: dict[str, Any], _payload: bytes) -> dict[str, Any]:
    """Start one worker that outlives this connection. `files` hold secrets: for the owner alone."""
    home = home_of(request) / str(request["number"])
    home.mkdir(mode=0o700, exist_ok=True)
    with alone(home):
        return record_of(home) or begin(request, home)


def begin(request: dict[str, Any], home: Path) -> dict[str, Any]:
    """Nobody else starts this one at the same time."""
    for name, text in request["files"].items():
        write_private(home / name, base64.b64decode(text))
    log = home / "worker.log"
    command = [word.replace("{home}", str(home)) for word in request["command"]]
    command[0] = str(cache_dir() / request["key"] / "bin" / command[0]) if request["key"] else command[0]
    environment = {**clean_environment(), **request.get("environment", {}), PLACED: str(home)}
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            cwd=os.path.expanduser("~"), env=environment, start_new_session=True,
        )  # fmt: skip
    record = {
        "pid": process.pid, "start_ticks": start_ticks(process.pid), "boot_id": boot_id(),
        "key": request["key"], "name": request["name"],
    }  # fmt: skip
    write_private(home / "pid.json", json.dumps(record).encode())
    return record


@contextlib.contextmanager
def alone(home: Path) -> Iterator[None]:
    """Two people may bring up the same host."""
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def alive(request: dict[str, Any], _payload: bytes) -> dict[str, Any]:
    """Whether a worker runs, and the end of what it printed."""
    home = home_of(request) / str(request["number"])
    log = home / "worker.log"
    return {"alive": record_of(home) is not None, "log": str(log), "tail": tail_of(log)}


def stop(request: dict[str, Any], _payload: bytes) -> dict[str, Any]:
    """End the cluster's workers on this host and all they started; say what there was, and what would not go.

    The workers are asked first and alone: TERM lets what runs end, a second TERM gives it back, both in order.
    """
    home = home_of(request)
    workers = [int(record["pid"]) for _, record in living(home)]
    found = sorted({*workers, *marked(home)})
    for grace_s in (0.5, request["grace_s"]) if request["now"] else (request["grace_s"], request["grace_s"]):
        if wait_gone(lambda: workers, 0.0):
            send(workers, signal.SIGTERM)
            wait_gone(lambda: workers, grace_s)

    def everything() -> list[int]:
        return sorted({*workers, *marked(home)})

    send(everything(), signal.SIGTERM)
    killed = wait_gone(everything, 2.0 if found else 0.0)
    send(killed, signal.SIGKILL)
    left = wait_gone(everything, 5.0)
    if not left:
        forget(home)
    return {"found": found, "killed": killed, "left": left}


def forget(home: Path) -> None:
    """Nothing runs: what let a worker into the store goes; logs stay."""
    for place in home.iterdir():
        if place.is_dir():
            for path in place.iterdir():
                if path.name != "worker.log":
                    path.unlink()


# --- processes ----------------------------------------------------------------------------------


def living(home: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Workers that run, each with its directory."""
    records = [(place, record_of(place)) for place in sorted(home.iterdir()) if place.name.isdigit()]
    return [(place, record) for place, record in records if record is not None]


def record_of(place: Path) -> dict[str, Any] | None:
    """What was written when it was started, None when that very process is gone: pids are used again."""
    try:
        record: dict[str, Any] = json.loads((place / "pid.json").read_text())
    except FileNotFoundError:
        return None
    same = record["boot_id"] == boot_id() and record["start_ticks"] == start_ticks(record["pid"])
    return record if same else None


def marked(home: Path) -> list[int]:
    """Living processes that a worker of this directory started, however they were detached."""
    needle, found = f"{PLACED}={home}/".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # ended while we looked, or somebody else's
                words = (entry / "environ").read_bytes().split(b"\0")
                if any(word.startswith(needle) for word in words) and start_ticks(int(entry.name)):
                    found.append(int(entry.name))
    return found


def wait_gone(sought: Callable[[], list[int]], seconds: float) -> list[int]:
    """Who is left after at most `seconds`. Nothing announces the end of processes that are not our children."""
    until = time.monotonic() + seconds
    while left := [pid for pid in sought() if start_ticks(pid)]:
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    return left


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def start_ticks(pid: int) -> int:
    """When a process started, in ticks since the boot; 0 when there is none or it is only not yet waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def clean_environment() -> dict[str, str]:
    """Without what belongs to this connection: a worker that outlives it must not point to its agent."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}


def write_private(path: Path, content: bytes) -> None:
    """Complete or not at all, and never readable by others."""
    growing = path.with_name(f"{path.name}.new")
    growing.unlink(missing_ok=True)
    with os.fdopen(os.open(growing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    growing.replace(path)


def tail_of(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")


ANSWERS: dict[str, Callable[[dict[str, Any], bytes], dict[str, Any]]] = {
    "look": look,
    "around": around,
    "install": install,
    "set_up": set_up,
    "erg": erg,
    "start": start,
    "alive": alive,
    "stop": stop,
}

if __name__ == "__main__":
    main()
