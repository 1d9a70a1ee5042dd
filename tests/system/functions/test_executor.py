"""The Executor with real worker processes: what concurrent.futures promises, and what happens when calls misbehave."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ergates
from ergates.errors import UsageError
from ergates.functions.errors import (
    CallNotSentError,
    CallTimedOutError,
    FunctionNotLoadedError,
    RemoteError,
    ResultNotSentError,
    WorkerDiedError,
)


@pytest.fixture(scope="module")
def executor() -> Iterator[ergates.Executor]:
    with ergates.Executor(workers=2) as opened:
        yield opened


def test_it_is_an_executor(executor: ergates.Executor) -> None:
    assert isinstance(executor, concurrent.futures.Executor)
    future = executor.submit(divmod, 7, 2)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(30) == (3, 1)
    assert executor.submit(int, "ff", base=16).result(30) == 255


def test_calls_run_in_other_processes(executor: ergates.Executor) -> None:
    pids = {executor.submit(os.getpid).result(30) for _ in range(4)}
    assert os.getpid() not in pids
    assert len(pids) <= 2


def test_lambdas_and_closures(executor: ergates.Executor) -> None:
    offset = 40
    assert executor.submit(lambda x: x + offset, 2).result(30) == 42


def test_arrays(executor: ergates.Executor) -> None:
    array = np.arange(12, dtype=np.int64).reshape(3, 4)
    result = executor.submit(np.multiply, array, 2).result(30)
    np.testing.assert_array_equal(result, array * 2)
    assert result.dtype == np.int64


def test_large_arguments_and_results(executor: ergates.Executor) -> None:
    data = os.urandom(1024) * (50 * 1024)
    assert executor.submit(lambda blob: blob[::-1], data).result(60) == data[::-1]


def test_exceptions_keep_their_type_and_bring_the_remote_traceback(executor: ergates.Executor) -> None:
    class TooHot(ValueError):
        def __init__(self, degrees: int) -> None:
            super().__init__(f"{degrees} degrees")
            self.degrees = degrees

        def __reduce__(self) -> tuple[type, tuple[int]]:
            return type(self), (self.degrees,)

    def cook(degrees: int) -> None:
        raise TooHot(degrees)

    error = executor.submit(cook, 300).exception(30)
    assert isinstance(error, TooHot)
    assert error.degrees == 300
    assert "in cook" in str(error.__cause__)


def test_an_exception_that_cannot_travel_becomes_text(executor: ergates.Executor) -> None:
    class Holding(Exception):
        def __init__(self) -> None:
            super().__init__("holds a lock")
            self.lock = threading.Lock()

    class Picky(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    def hold() -> None:
        raise Holding

    def pick() -> None:
        raise Picky(1, 2)

    held = executor.submit(hold).exception(30)
    assert isinstance(held, RemoteError)
    assert "Holding: holds a lock" in str(held)
    picked = executor.submit(pick).exception(30)
    assert isinstance(picked, RemoteError)
    assert "Picky: 1 and 2" in str(picked)
    assert "in pick" in str(picked.__cause__)


def test_what_cannot_be_sent_fails_its_future_and_says_which(executor: ergates.Executor) -> None:
    lock = threading.Lock()
    with pytest.raises(CallNotSentError, match=r"argument 2 .lock"):
        executor.submit(print, 1, lock).result(30)
    with pytest.raises(CallNotSentError, match="cannot be sent to a worker process"):
        executor.submit(lambda: lock).result(30)
    with pytest.raises(ResultNotSentError, match="returned a lock that cannot be sent back"):
        executor.submit(threading.Lock).result(30)


def test_a_module_the_worker_cannot_import_is_said_in_words(executor: ergates.Executor) -> None:
    module = type(sys)("only_here")
    exec("def f(): pass", module.__dict__)
    sys.modules["only_here"] = module
    try:
        future = executor.submit(module.f)
        with pytest.raises(FunctionNotLoadedError, match="No module named 'only_here'"):
            future.result(30)
    finally:
        del sys.modules["only_here"]


def test_sys_exit_in_a_call_does_not_end_anything(executor: ergates.Executor) -> None:
    assert isinstance(executor.submit(sys.exit, 3).exception(30), SystemExit)
    assert executor.submit(abs, -1).result(30) == 1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda: os._exit(7), "exited with code 7"),
        (lambda: os._exit(0), "ended before the function returned"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"),
    ],
    ids=["exit", "exit-0", "kill", "segv"],
)
def test_a_call_that_kills_its_process_fails_alone(
    executor: ergates.Executor, how: object, said: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    def die() -> None:
        with log.open("a") as file:
            file.write("x")
        how()  # type: ignore[operator]

    def work(number: int) -> int:
        return number * number

    before = [executor.submit(work, number) for number in range(200)]
    doomed = executor.submit(die)
    after = [executor.submit(work, number) for number in range(200)]
    error = doomed.exception(60)
    assert isinstance(error, WorkerDiedError)
    assert isinstance(error, concurrent.futures.BrokenExecutor)
    assert "3 times" in str(error)
    assert said in str(error)
    assert [future.result(60) for future in before + after] == [number * number for number in range(200)] * 2
    assert 3 <= len(log.read_text()) <= 4  # tried three times, and once more if it was not certain that it did it


def test_calls_can_be_cancelled_before_they_began(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ergates.Executor(workers=1, chunk=1) as executor:
        running = executor.submit(Path.read_text, fifo)
        waiting = [executor.submit(abs, -number) for number in range(5)]
        assert waiting[2].cancel()
        fifo.write_text("go on")  # waits for the reader: then the first call runs for certain
        assert not running.cancel()
        assert running.result(30) == "go on"
        assert [future.result(30) for future in waiting if not future.cancelled()] == [0, 1, 3, 4]
    assert waiting[2].cancelled()


def test_shutdown_can_cancel_what_waits(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    executor = ergates.Executor(workers=1, chunk=1)
    running = executor.submit(Path.read_text, fifo)
    waiting = [executor.submit(abs, -number) for number in range(5)]
    with fifo.open("w") as file:
        executor.shutdown(wait=False, cancel_futures=True)
        file.write("go on")
    assert running.result(30) == "go on"
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    executor.shutdown()


def test_leaving_the_block_waits_for_everything_and_leaves_no_process_and_no_file() -> None:
    with ergates.Executor(workers=2) as executor:
        pids = {executor.submit(os.getpid).result(30) for _ in range(20)}
        folder = executor._pool.folder
        futures = [executor.submit(lambda x: x, number) for number in range(1000)]
    assert [future.result(0) for future in futures] == list(range(1000))
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not folder.exists()


def test_a_time_limit_ends_the_call_and_not_its_neighbours() -> None:
    with ergates.Executor(workers=1, time_limit=0.3) as executor:
        quick = [executor.submit(abs, -number) for number in range(20)]
        slow = executor.submit(signal.pause)
        after = [executor.submit(abs, -number) for number in range(20)]
        with pytest.raises(CallTimedOutError, match="time limit of 300 ms"):
            slow.result(30)
        assert isinstance(slow.exception(), TimeoutError)
        assert [future.result(30) for future in quick + after] == list(range(20)) * 2


def test_retries_of_calls_that_raise(tmp_path: Path) -> None:
    def flaky(path: Path) -> int:
        with path.open("a") as file:
            file.write("x")
        if path.stat().st_size < 3:
            raise OSError("not yet")
        return path.stat().st_size

    with ergates.Executor(workers=1, retries=2) as executor:
        assert executor.submit(flaky, tmp_path / "log").result(30) == 3
        with pytest.raises(FileNotFoundError):
            executor.submit(os.stat, tmp_path / "missing").result(30)


def test_map_as_the_standard_library_has_it(executor: ergates.Executor) -> None:
    assert list(executor.map(pow, range(5), [2] * 5, chunksize=3)) == [0, 1, 4, 9, 16]
    assert list(executor.map(abs, [])) == []
    with pytest.raises(TimeoutError):
        list(executor.map(time.sleep, [2], timeout=0.01))


def test_asyncio(executor: ergates.Executor) -> None:
    async def run() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*[loop.run_in_executor(executor, abs, -number) for number in range(50)])

    assert asyncio.run(run()) == list(range(50))


def test_calls_that_use_an_executor_themselves(executor: ergates.Executor) -> None:
    def outer(count: int) -> int:
        with ergates.Executor(workers=2) as inner:
            return sum(inner.map(abs, range(count)))

    assert executor.submit(outer, 10).result(60) == 45


def test_what_calls_print_comes_out_here(executor: ergates.Executor, capsys: pytest.CaptureFixture[str]) -> None:
    def speak() -> None:
        print("hällo")
        print("so to say", file=sys.stderr)

    executor.submit(speak).result(30)
    captured = capsys.readouterr()
    assert captured.out == "hällo\n"
    assert captured.err == "so to say\n"


def test_short_calls_behind_a_long_one_move_to_an_idle_worker(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def work(path: Path | None) -> str:
        return "short" if path is None else path.read_text()

    with ergates.Executor(workers=2, chunk=64) as executor:
        executor.submit(work, None).result(30)
        long = executor.submit(work, fifo)
        short = [executor.submit(work, None) for _ in range(100)]
        # Behind the long one on its worker there are up to 63, and it ends only when they have.
        done = concurrent.futures.wait(short, timeout=60, return_when=concurrent.futures.ALL_COMPLETED)
        stuck = len(done.not_done)
        fifo.write_text("long")
        assert long.result(30) == "long"
    assert stuck <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers=0: expected a whole number, at least 1"),
        ({"chunk": 0}, "chunk=0"),
        ({"retries": -1}, "retries=-1"),
        ({"time_limit": "soon"}, "time_limit='soon': expected seconds"),
        ({"memory": "lots"}, "memory='lots': expected bytes"),
        ({"memory": "900TiB"}, "needs more than the"),
        ({"cpus": 0}, "cpus=0"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ergates.Executor(**arguments)  # type: ignore[arg-type]


def test_importing_ergates_is_light() -> None:
    script = "import sys; before = set(sys.modules); import ergates; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == ["ergates"]


def test_a_script_that_forgets_its_executor_still_finishes_and_ends(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import ergates
            class Thing:
                def __init__(self, value): self.value = value
            def double(thing):
                return Thing(thing.value * 2)
            executor = ergates.Executor(workers=1)
            future = executor.submit(double, Thing(21))
            result = future.result()
            assert type(result) is Thing, type(result)
            print(result.value)
            executor.submit(print, "last words")
        """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("42\nlast words\n", "", 0)
