"""Full disks, read-only places, signals, killed helpers, clocks set back: the real command loses nothing and says so."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from erg_rig import Erg, ended, eventually

HOUR_BACK = """
import sys, time
real_ns, real_s = time.time_ns, time.time
time.time_ns = lambda: real_ns() - 3600 * 10**9
time.time = lambda: real_s() - 3600
from ergates.cli.main import main
main()
"""
"""`erg` on a machine whose clock was set back: what clock.py reads at its start is an hour less. Really setting it would
disturb everybody else on the machine."""


ON_THIS_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "ergates", *sys.argv[1:]])
"""
"""`erg` with its standard input as its controlling terminal, whose end the kernel tells it by SIGHUP."""


def gate(erg: Erg) -> str:
    """A command that says it began, and ends well when the test lets it (`open_gate`)."""
    os.mkfifo(erg.folder / "begun")
    os.mkfifo(erg.folder / "go")
    return "echo > begun; cat go"


def wait_for_gate(erg: Erg) -> None:
    assert (erg.folder / "begun").read_text() == "\n"


def open_gate(erg: Erg) -> None:
    (erg.folder / "go").write_text("")


def read_until(process: subprocess.Popen[bytes], words: str) -> str:
    """Standard error up to a line with these words."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line.decode(errors="replace")
        if words in seen:
            return seen
    raise AssertionError(f"never said {words!r}:\n{seen}")


@pytest.fixture
def mounted(erg: Erg) -> Iterator[Path]:
    """A file system of 24 MiB of its own at `small`."""
    place = erg.folder / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip(f"no right to mount a file system: {made.stderr.decode().strip()}")
    yield place
    erg.clean_up()
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Take all the room there is."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


# --- no room, no right ------------------------------------------------------------------------------


@pytest.mark.system
@pytest.mark.needs("root")
def test_a_full_disk_is_waited_for_and_nothing_is_lost(erg: Erg, mounted: Path) -> None:
    """Room runs out while a task with output runs; it is made again; every task ends with its whole output."""
    letters = "abcdefghijklmnopqrstu"
    lines = [f"head -c 100000 /dev/zero | tr '\\0' {letter}" for letter in letters]
    lines[0] = f"test -e second || {{ {gate(erg)}; }}; {lines[0]}"
    running = erg.start("run", erg.commands(*lines), "--state", "small/state", "-j", "1", "--no-progress")
    wait_for_gate(erg)
    ballast = fill(mounted)
    (erg.folder / "second").touch()
    open_gate(erg)
    said = read_until(running, "disk full")
    assert "waiting for" in said
    assert "small/state" in said
    ballast.unlink()
    end = ended(running)
    assert end.code == 0, end
    assert "going on" in end.err
    erg.check_ledger(21, state="small/state")
    assert erg.jobs("--state", "small/state")[0]["outcomes"] == {"disk_full": 1, "succeeded": 21}
    for number, letter in enumerate(letters, 1):
        assert erg.logs(str(number), "--state", "small/state") == letter.encode() * 100_000


@pytest.mark.system
@pytest.mark.needs("root")
def test_interrupted_while_the_disk_is_full(erg: Erg, mounted: Path) -> None:
    """A second Ctrl-C ends a run that cannot even write down what ended; it goes on when there is room."""
    erg.commands(f"test -e second || {{ {gate(erg)}; }}", "echo b")
    running = erg.start("run", "commands.txt", "--state", "small/state", "-j", "1", "--no-progress")
    wait_for_gate(erg)
    (erg.folder / "second").touch()
    ballast = fill(mounted)
    open_gate(erg)
    read_until(running, "disk full")
    running.send_signal(signal.SIGINT)
    read_until(running, "draining")
    running.send_signal(signal.SIGINT)
    end = ended(running)
    assert end.code == 130, end
    assert "Traceback" not in end.err
    erg.wait_until_gone()
    ballast.unlink()
    again = erg("run", "commands.txt", "--state", "small/state")
    assert again.code == 0, again
    assert "resuming, 0 of 2 done" in again.err
    erg.check_ledger(2, state="small/state")


@pytest.mark.needs("root")
def test_a_disk_that_is_full_from_the_start(erg: Erg, mounted: Path) -> None:
    assert erg("run", "echo a", "--state", "small/state").code == 0
    fill(mounted)
    run = erg("run", "echo {n}", "-p", "n=1..5000", "--state", "small/state")
    assert run.code in (1, 2), run
    assert "no room" in run.err
    assert "Traceback" not in run.err
    (mounted / "ballast").unlink()
    assert [job["id"] for job in erg.jobs("--state", "small/state")] == ["j1"], "half a job was submitted"


@pytest.mark.needs("root")
def test_a_read_only_directory(erg: Erg, mounted: Path) -> None:
    (mounted / "commands.txt").write_text("echo a\n")
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    run = erg("run", "small/commands.txt", "--state", "small/state")
    assert run.code == 2, run
    assert "small/state" in run.err
    assert "--state" in run.err
    assert "Traceback" not in run.err
    assert erg("run", "small/commands.txt").code == 0, "the input may be read-only"


@pytest.mark.needs("root")
def test_a_state_directory_that_became_read_only(erg: Erg, mounted: Path) -> None:
    assert erg("run", "echo a", "--state", "small/state").code == 0
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    run = erg("run", "echo b", "--state", "small/state")
    assert run.code == 2, run
    assert "--state" in run.err
    assert "Traceback" not in run.err


def test_a_file_where_the_state_should_be(erg: Erg) -> None:
    (erg.folder / ".ergates").write_text("mine")
    run = erg("run", "echo a")
    assert run.code == 2, run
    assert "in the way" in run.err
    assert (erg.folder / ".ergates").read_text() == "mine"


def test_a_state_directory_that_is_removed_in_mid_run(erg: Erg) -> None:
    """The run stops with a reason; it must not say "done" of results that are nowhere."""
    running = erg.start("run", erg.commands(gate(erg), "echo b"), "-j", "1")
    wait_for_gate(erg)
    shutil.rmtree(erg.folder / ".ergates")
    open_gate(erg)
    end = ended(running)
    assert end.code == 1, end
    assert "was removed" in end.err
    assert "Traceback" not in end.err
    erg.wait_until_gone()


# --- two at once ------------------------------------------------------------------------------------


def test_two_runs_of_one_job(erg: Erg) -> None:
    first = erg.start("run", erg.commands(gate(erg)))
    wait_for_gate(erg)
    second = erg("run", "commands.txt")
    assert second.code == 2, second
    assert f"run by another process (pid {first.pid})" in second.err
    open_gate(erg)
    end = ended(first)
    assert end.code == 0, end
    erg.check_ledger(1)


def test_two_runs_of_a_new_job_started_together(erg: Erg) -> None:
    """Whoever comes second is refused, and the job is there once."""
    erg.commands(gate(erg))
    both = [erg.start("run", "commands.txt") for _ in range(2)]
    wait_for_gate(erg)
    eventually(lambda: any(run.poll() is not None for run in both), "one is refused")
    refused, other = sorted(both, key=lambda run: run.poll() is None)
    end = ended(refused)
    assert end.code == 2, end
    assert "run by another process" in end.err
    open_gate(erg)
    end = ended(other)
    assert end.code == 0, end
    erg.check_ledger(1)
    assert len(erg.jobs()) == 1


def test_two_jobs_in_one_directory(erg: Erg) -> None:
    """Both complete; neither takes the other's tasks, nor cleans the other's processes away."""
    both = [erg.start("run", "echo {n}-" + name, "-p", "n=1..60", "--quiet") for name in ("a", "b")]
    for run in both:
        end = ended(run)
        assert end.code == 0, end
    erg.check_ledger(60)
    for job in erg.jobs():
        assert job["outcomes"] == {"succeeded": 60}
    texts = {erg.logs("j1/60"), erg.logs("j2/60")}
    assert texts == {b"60-a\n", b"60-b\n"}
    erg.wait_until_gone()


# --- the clock --------------------------------------------------------------------------------------


@pytest.mark.system
def test_a_clock_set_back_makes_nobody_wait_for_an_hour(erg: Erg) -> None:
    """A task that waits to be tried again, and one whose worker was killed, run at once although the clock says "earlier"."""
    flaky = "test -e second && exit 0; echo > begun; exit 1"
    os.mkfifo(erg.folder / "begun")
    running = erg.start("run", erg.commands(flaky, "test -e second || sleep 300"), "--retries", "5")
    wait_for_gate(erg)
    eventually(lambda: erg.jobs()[0]["counts"]["delayed"] == 1, "the failed task is delayed", running)
    running.kill()
    ended(running)
    (erg.folder / "second").touch()
    end = ended(erg.start("run", "commands.txt", "--retries", "5", program=(sys.executable, "-c", HOUR_BACK)))
    assert end.code == 0, end
    erg.check_ledger(2)


# --- signals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_interrupt_drains(erg: Erg, number: signal.Signals) -> None:
    running = erg.start("run", erg.commands(gate(erg), "echo b"), "-j", "1")
    wait_for_gate(erg)
    running.send_signal(number)
    read_until(running, "draining")
    open_gate(erg)
    end = ended(running)
    assert end.code == 130, end
    assert "1 done, 1 left" in end.err
    assert "go on with: erg run commands.txt -j 1" in end.err
    assert [row["state"] for row in erg.rows()] == ["done", "ready"]
    erg.wait_until_gone()


def test_two_interrupts_give_back_at_once_and_nothing_counts(erg: Erg) -> None:
    lines = ["test -e second || { echo > begun; sleep 300; }", "echo b"]
    os.mkfifo(erg.folder / "begun")
    running = erg.start("run", erg.commands(*lines), "-j", "1")
    wait_for_gate(erg)
    running.send_signal(signal.SIGINT)
    read_until(running, "draining")
    running.send_signal(signal.SIGINT)
    end = ended(running)
    assert end.code == 130, end
    erg.wait_until_gone()
    assert [row["state"] for row in erg.rows()] == ["ready", "ready"], "uncounted: there is nothing to wait for"
    (erg.folder / "second").touch()
    again = erg("run", "commands.txt")
    assert again.code == 0, again
    assert "resuming, 0 of 2 done" in again.err
    assert erg.jobs()[0]["outcomes"] == {"returned": 1, "succeeded": 2}


def test_a_closed_terminal(erg: Erg) -> None:
    """The terminal goes away: nothing may run on unseen, and nothing is lost."""
    os.mkfifo(erg.folder / "begun")
    erg.commands("test -e second || { echo > begun; sleep 300; }", "echo b")
    ours, theirs = pty.openpty()
    program = (sys.executable, "-c", ON_THIS_TERMINAL)
    running = erg.start("run", "commands.txt", "-j", "1", stdin=theirs, stdout=theirs, stderr=theirs, program=program)
    os.close(theirs)
    wait_for_gate(erg)
    os.close(ours)
    assert running.wait(timeout=60) == 130
    erg.wait_until_gone()
    (erg.folder / "second").touch()
    again = erg("run", "commands.txt")
    assert again.code == 0, again
    assert "resuming, 0 of 2 done" in again.err
    erg.check_ledger(2)


def test_nohup_is_respected(erg: Erg) -> None:
    gated = erg.commands(gate(erg))
    running = erg.start("run", gated, program=("nohup", sys.executable, "-m", "ergates"))
    wait_for_gate(erg)
    running.send_signal(signal.SIGHUP)
    open_gate(erg)
    end = ended(running)
    assert end.code == 0, end


def test_standard_output_closed_early(erg: Erg) -> None:
    """`erg run ... | head -1`"""
    running = erg.start("run", "seq 1 {n}", "-p", "n=100..400", "-k")
    assert running.stdout is not None
    assert running.stdout.readline() == b"1\n"
    running.stdout.close()
    assert running.stderr is not None
    said = running.stderr.read().decode()
    assert running.wait(timeout=60) == 141, said
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
    assert "go on with: erg run" in said
    erg.wait_until_gone()
    assert erg("run", "seq 1 {n}", "-p", "n=100..400", "--quiet").code == 0
    erg.check_ledger(301)


def test_standard_error_closed_early(erg: Erg) -> None:
    """Nobody sees the progress any more; the work goes on."""
    running = erg.start("run", erg.commands(gate(erg), "echo b"), "-j", "1")
    wait_for_gate(erg)
    assert running.stderr is not None
    running.stderr.close()
    open_gate(erg)
    assert running.wait(timeout=60) == 0
    erg.check_ledger(2)


# --- killed -----------------------------------------------------------------------------------------


def test_a_killed_run_says_what_it_resumes(erg: Erg) -> None:
    lines = [*(f"echo {n}" for n in range(10)), "test -e second || { echo > begun; sleep 300; }"]
    os.mkfifo(erg.folder / "begun")
    running = erg.start("run", erg.commands(*lines), "-j", "1")
    wait_for_gate(erg)
    eventually(lambda: erg.jobs()[0]["counts"]["done"] == 10, "ten are done", running)
    running.kill()
    ended(running)
    erg.wait_until_gone()
    (erg.folder / "second").touch()
    again = erg("run", "commands.txt")
    assert again.code == 0, again
    assert "job j1 (commands.txt): resuming, 10 of 11 done" in again.err
    erg.check_ledger(11)
    assert erg.jobs()[0]["outcomes"] == {"lost": 1, "succeeded": 11}


def busy_tasks(erg: Erg, count: int) -> str:
    return erg.commands(*(f"sh -c 'sleep 0.05; echo {n} >> effects'" for n in range(count)))


@pytest.mark.parametrize("cgroups", ["auto", "none"])
@pytest.mark.parametrize("whom", ["supervisor", "slot"])
def test_a_helper_that_is_killed_costs_no_task(erg: Erg, whom: str, cgroups: str) -> None:
    """The supervisor, or a slot's helper, dies in mid-run: `erg` makes another and goes on."""
    running = erg.start("run", busy_tasks(erg, 40), "--cpus-per-task", "0.5", "--no-progress", "--cgroups", cgroups)
    eventually(lambda: (erg.folder / "effects").exists(), "a task ran", running)
    helpers = eventually(lambda: sorted(erg.running("supervisor.py")), "helpers run", running)
    supervisor = next(pid for pid in helpers if _parent(pid) == running.pid)
    slots = [pid for pid in helpers if _parent(pid) == supervisor]
    os.kill(supervisor if whom == "supervisor" else slots[0], signal.SIGKILL)
    end = ended(running)
    assert end.code == 0, end
    erg.check_ledger(40)
    ran = Counter((erg.folder / "effects").read_text().split())
    assert set(ran) == {str(n) for n in range(40)}
    erg.wait_until_gone()


def _parent(pid: int) -> int:
    with suppress(OSError):  # ended while we looked
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


@pytest.mark.parametrize("cgroups", ["auto", "none"])
def test_everything_killed_at_once(erg: Erg, cgroups: str) -> None:
    """`erg`, its supervisor and the slots die together, as in an out-of-memory kill of a whole group."""
    running = erg.start("run", busy_tasks(erg, 40), "--cpus-per-task", "0.5", "--no-progress", "--cgroups", cgroups)
    eventually(lambda: (erg.folder / "effects").exists(), "a task ran", running)
    for pid in [running.pid, *erg.running("supervisor.py")]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ended(running)
    again = erg("run", "commands.txt", "--cpus-per-task", "0.5", "--no-progress")
    assert again.code == 0, again
    erg.check_ledger(40)
    erg.wait_until_gone()


@pytest.mark.system
def test_a_task_that_kills_its_own_helper_is_quarantined(erg: Erg) -> None:
    """A poison task fails in words after its allowance; the others go on."""
    run = erg("run", erg.commands("sh -c 'kill -9 $PPID; sleep 10'", "echo b"), "-j", "1")
    assert run.code == 1, run
    assert "quarantined" in run.err
    assert [row["state"] for row in erg.rows()] == ["failed", "done"]
    erg.wait_until_gone()


def test_what_a_task_leaves_behind_ends_with_it(erg: Erg) -> None:
    run = erg("run", "setsid sleep 300 > /dev/null 2>&1 & echo a")
    assert run.code == 0, run
    erg.wait_until_gone()
