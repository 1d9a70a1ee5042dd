"""`ergates.map` with real worker processes: laziness, order, errors, interrupts, and jobs that are resumed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import ergates
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.drivers.stores.state_dir import make_state_dir
from ergates.errors import UsageError
from ergates.functions.errors import CallNotSentError, WorkerDiedError


def test_thousands_of_calls_come_back_in_order() -> None:
    assert list(ergates.map(lambda x: x * x, range(5000), workers=2)) == [x * x for x in range(5000)]


def test_unordered_results_are_all_there() -> None:
    assert sorted(ergates.map(abs, range(-500, 0), workers=2, ordered=False)) == list(range(1, 501))


def test_nothing_to_do() -> None:
    assert list(ergates.map(abs, [], workers=1)) == []


def test_an_endless_generator_is_taken_from_as_there_is_room() -> None:
    taken = itertools.count()
    results = ergates.map(abs, taken, workers=2, chunk=4)
    assert list(itertools.islice(results, 10)) == list(range(10))
    results.close()
    assert next(taken) < 10 + 2 * 2 * 64


def test_an_error_of_the_iterable_comes_after_the_results_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no third")

    with pytest.raises(LookupError, match="no third"):
        list(ergates.map(abs, items(), workers=1))


def test_an_item_that_cannot_be_sent() -> None:
    with pytest.raises(CallNotSentError, match=r"argument 1 .lock. of str"):
        list(ergates.map(str, [threading.Lock()], workers=1))


def test_the_first_error_is_raised_at_its_place() -> None:
    results = ergates.map(lambda x: 10 // x, [5, 2, 0, 1], workers=1)
    assert [next(results), next(results)] == [2, 5]
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert "call_runner" not in str(caught.value.__cause__)
    with pytest.raises(StopIteration):
        next(results)


def test_errors_can_be_had_as_results() -> None:
    results: list[object] = list(ergates.map(lambda x: 10 // x, [5, 0, 1], workers=1, return_errors=True))
    first, second, third = results
    assert (first, third) == (2, 10)
    assert isinstance(second, ZeroDivisionError)


def test_calls_that_die_do_not_take_others_with_them() -> None:
    def fragile(number: int) -> int:
        if number % 100 == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    results: list[object] = list(ergates.map(fragile, range(300), workers=2, return_errors=True))
    died = [number for number, result in enumerate(results) if isinstance(result, WorkerDiedError)]
    assert died == [50, 150, 250]
    assert [result for result in results if isinstance(result, int)] == [n for n in range(300) if n % 100 != 50]


def test_a_map_that_is_let_go_of_ends_its_processes() -> None:
    def work(number: int) -> int:
        if number:
            signal.pause()
        return os.getpid()

    results = ergates.map(work, range(100), workers=1)
    pidfd = os.pidfd_open(next(results))
    results.close()
    _wait_for_end(pidfd)


def test_interrupt_ends_everything(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import os, signal, ergates
            def work(number):
                if number:
                    signal.pause()
                return os.getpid()
            for pid in ergates.map(work, range(100), workers=2):
                print(pid, flush=True)
        """)
    )
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pidfd = os.pidfd_open(int(process.stdout.readline()))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    _wait_for_end(pidfd)


def test_killing_the_caller_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import os, signal, ergates
            results = ergates.map(lambda n: (os.getpid(), signal.pause() if n else 0)[0], range(9), workers=1)
            print(next(results), flush=True)
            signal.pause()
        """)
    )
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pidfd = os.pidfd_open(int(process.stdout.readline()))
    process.kill()
    process.communicate(timeout=30)
    _wait_for_end(pidfd)
    (left,) = scratch.iterdir()
    list(ergates.map(abs, [1], workers=1))
    assert not left.exists()


def test_a_map_inside_a_map() -> None:
    def outer(count: int) -> int:
        return sum(ergates.map(abs, range(count), workers=1))

    assert list(ergates.map(outer, [3, 4], workers=2)) == [3, 6]


# --- with a name -----------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_named_job_runs_once_and_keeps_its_results(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = here / "log"

    def work(number: int) -> dict[str, Any]:
        with log.open("a") as file:
            file.write("x")
        print("working on", number)
        return {"square": number * number, "raw": b"\0" * number}

    expected = [{"square": n * n, "raw": b"\0" * n} for n in range(20)]
    assert list(ergates.map(work, range(20), workers=2, job="squares")) == expected
    assert capsys.readouterr().out.splitlines() == [f"working on {n}" for n in range(20)]
    assert list(ergates.map(work, range(20), workers=2, job="squares")) == expected
    assert len(log.read_text()) == 20
    with closing(make_state_dir(here).open_store()) as store:
        (status,) = store.jobs()
        assert (status.name, status.total, status.counts["done"]) == ("squares", 20, 20)
        (first,) = store.tasks(status.id, limit=1)
        assert str(first.spec.command).endswith(".work(0)")


def test_after_mending_only_what_failed_runs_again(here: Path) -> None:
    log = here / "log"

    def work(number: int, *, broken: bool) -> int:
        with log.open("a") as file:
            file.write(f"{number} ")
        if broken and number == 3:
            raise ValueError("three is too much")
        return number

    with pytest.raises(ValueError, match="three is too much") as caught:
        list(ergates.map(lambda n: work(n, broken=True), range(6), workers=1, job="numbers"))
    assert "in work" in str(caught.value.__cause__)
    before = log.read_text().split()
    assert "3" in before
    assert list(ergates.map(lambda n: work(n, broken=False), range(6), workers=1, job="numbers")) == list(range(6))
    again = log.read_text().split()[len(before) :]
    assert sorted(again) == sorted({"0", "1", "2", "3", "4", "5"} - set(before) | {"3"})


def test_a_job_goes_on_after_its_program_was_killed(here: Path) -> None:
    script = here / "script.py"
    script.write_text(
        textwrap.dedent("""
            import sys, ergates
            from pathlib import Path
            def work(number):
                with open("log", "a") as file:
                    file.write(f"{number} ")
                if number == 5 and sys.argv[1:] != ["again"] and not Path("free").exists():
                    Path("fifo").read_text()
                return number
            print(*ergates.map(work, range(10), workers=1, job="numbers"))
        """)
    )
    os.mkfifo("fifo")
    process = subprocess.Popen([sys.executable, script])
    with Path("fifo").open("w"):  # opens when call 5 runs
        store = SqliteStore(here / ".ergates" / "ergates.db")
        while store.status(store.jobs()[0].id).counts["done"] < 5:  # what ended is committed within a moment
            time.sleep(0.01)
        store.close()
        process.kill()
        process.wait(30)
    Path("free").touch()
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == [str(number) for number in range(10)]
    runs = Path("log").read_text().split()
    assert sorted(runs) == sorted([*map(str, range(10)), "5"])


def test_other_items_under_the_same_name_are_refused(here: Path) -> None:
    assert list(ergates.map(len, [{"a", "b"}, "abc"], workers=1, job="lengths")) == [2, 3]
    assert list(ergates.map(len, [{"b", "a"}, "abc"], workers=1, job="lengths")) == [2, 3]
    with pytest.raises(UsageError, match="made of 2 items, now there are 3"):
        ergates.map(len, ["a", "abc", "d"], workers=1, job="lengths")
    with pytest.raises(UsageError, match=r"number 2 was len..abc.."):
        ergates.map(len, [{"a", "b"}, "abcd"], workers=1, job="lengths")


def test_a_call_of_a_job_that_kills_its_process(here: Path) -> None:
    def fragile(number: int) -> int:
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    results: list[object] = list(ergates.map(fragile, range(3), workers=1, job="fragile", return_errors=True))
    first, second, third = results
    assert (first, third) == (0, 2)
    assert isinstance(second, WorkerDiedError)
    assert "SIGKILL" in str(second)


def _wait_for_end(pidfd: int) -> None:
    import select

    assert select.select([pidfd], [], [], 30)[0], "a worker process was left behind"
    os.close(pidfd)
