"""Functions on a cluster: a real store, a real worker in a process of its own, results that come back through the store."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import joblib  # type: ignore[import-untyped]
import pytest
from redis_server import PrivateRedis, free_port, serving

import ergates
from ergates.clock import SystemClock
from ergates.cluster.attempt import Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.task import TaskId, TaskSpec
from ergates.drivers.stores.redis.store import RedisStore
from ergates.drivers.stores.store_file import store_address
from ergates.drivers.stores.trust import is_guarded
from ergates.errors import ErgatesError, UsageError
from ergates.functions.errors import CallNotSentError, CallTimedOutError, WorkerDiedError
from ergates.functions.joblib_backend import register
from ergates.functions.payload import encode_payload
from ergates.functions.serialise import dump_arguments, dump_function
from ergates.taskqueue.python_call import encode_call, python_call

pytestmark = pytest.mark.needs("redis")


def start_worker(url: str, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ergates", "worker", "start", "--store", url, "-j", "2", "--state", str(folder)]
    command += options
    with (folder.parent / "worker.log").open("wb") as log:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def url(server: PrivateRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store with one worker."""
    named = f"unix://{server.socket}?queue=calls"
    worker = start_worker(named, tmp_path_factory.mktemp("worker") / "state")
    yield named
    worker.terminate()
    worker.wait()


def test_results_come_in_order_from_another_process(url: str) -> None:
    pids = set(ergates.map(lambda _: os.getpid(), range(50), store=url))
    assert os.getpid() not in pids and 1 <= len(pids) <= 2
    assert list(ergates.map(lambda x: x * x, range(300), store=url)) == [x * x for x in range(300)]
    assert sorted(ergates.map(str, range(20), store=url, ordered=False)) == sorted(map(str, range(20)))


def fail_on_three(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def test_a_worker_unpickles_nothing_from_a_store_that_lets_everybody_in(tmp_path: Path) -> None:
    """Whoever reaches such a store could run code here; a call from a task file is plain data, and welcome."""
    mark = tmp_path / "mark"
    arguments = dump_arguments(Path.touch, (mark,), {})
    calls = (encode_payload(dump_function(Path.touch), arguments), encode_call(python_call("print(6 * 7)", [], {})))
    specs = [TaskSpec(command="call", kind="python", payload=payload) for payload in calls]
    port = free_port()
    (tmp_path / "redis").mkdir()
    with PrivateRedis(tmp_path / "redis", "--port", str(port)) as server:
        store = RedisStore(server.client, queue="open")
        job = store.submit(JobSpec(key="calls", cwd=str(tmp_path)), specs, SystemClock().now_ns()).id
        worker = start_worker(f"redis://127.0.0.1:{port}?queue=open", tmp_path / "state", "--until-empty")
        assert worker.wait(60) == 0
        ends = {task: attempt for _, task, attempt in store.attempts(job)}
        store.close()
    assert ends[TaskId(1)].outcome is Outcome.NOT_STARTED and "asks for no password" in ends[TaskId(1)].reason
    assert ends[TaskId(2)].outcome is Outcome.SUCCEEDED
    assert not mark.exists()


def test_what_a_call_raises_is_raised_here(url: str) -> None:
    with pytest.raises(ValueError, match="three") as caught:
        list(ergates.map(fail_on_three, range(5), store=url))
    assert "fail_on_three" in str(caught.value.__cause__)
    values: list[object] = list(ergates.map(fail_on_three, range(5), store=url, return_errors=True))
    assert isinstance(values[3], ValueError) and values[:3] == [0, 1, 2]


def test_a_call_that_fails_is_tried_again(url: str, tmp_path: Path) -> None:
    mark = tmp_path / "tried"

    def once(_: int) -> str:
        if not mark.exists():
            mark.touch()
            raise RuntimeError("first time")
        return "second time"

    assert list(ergates.map(once, [1], store=url, retries=1)) == ["second time"]


def test_a_call_that_ends_its_process(url: str) -> None:
    values = list(ergates.map(lambda x: os._exit(9) if x == 1 else x, range(3), store=url, return_errors=True))
    assert (values[0], values[2]) == (0, 2)
    assert isinstance(values[1], WorkerDiedError)


def test_a_call_that_takes_too_long(url: str) -> None:
    with pytest.raises(CallTimedOutError):
        list(ergates.map(lambda _: threading.Event().wait(60), [1], store=url, time_limit="1s"))


def test_what_is_printed_comes_out_here(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    list(ergates.map(lambda x: print("said", x), [7], store=url))
    assert "said 7" in capfd.readouterr().out


def test_letting_go_cancels_a_job_without_a_name(url: str, server: PrivateRedis) -> None:
    results = ergates.map(lambda x: threading.Event().wait(30) if x else x, range(200), store=url)
    assert next(results) == 0
    results.close()
    store = RedisStore(server.client, queue="calls")
    assert store.jobs()[0].phase == "cancelled"
    store.close()


def test_a_named_job_goes_on_where_it_stopped(url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def note(number: int) -> int:
        with log.open("a") as file:
            file.write(f"{number}\n")
        return -number

    assert list(ergates.map(note, range(10), store=url, job="named")) == [-number for number in range(10)]
    assert list(ergates.map(note, range(10), store=url, job="named")) == [-number for number in range(10)]
    assert sorted(map(int, log.read_text().split())) == list(range(10)), "nothing ran twice"
    with pytest.raises(UsageError, match="made of other items"):
        ergates.map(note, range(10, 20), store=url, job="named")


def test_pickles_need_a_store_with_a_password(server: PrivateRedis) -> None:
    with pytest.raises(UsageError, match="only a store with a password"):
        ergates.map(str, [1], store="redis://127.0.0.1:1")


def test_a_password_that_nobody_asks_for_guards_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server without one takes any."""
    with serving(tmp_path / "open", "save ''") as server:
        monkeypatch.setenv("ERGATES_STORE", "")
        monkeypatch.setenv("ERGATES_STORE_PASSWORD", "anything")
        with pytest.raises(ErgatesError):
            ergates.map(str, [1], store=f"redis://default@127.0.0.1:{server.port}")
    with serving(tmp_path / "closed", "save ''", "requirepass secret") as server:
        monkeypatch.setenv("ERGATES_STORE_PASSWORD", "secret")
        assert is_guarded(store_address(server.url))


def test_a_socket_that_others_may_write_guards_nothing(server: PrivateRedis) -> None:
    address = store_address(f"unix://{server.socket}")
    assert is_guarded(address)
    server.socket.parent.chmod(0o755)
    server.socket.chmod(0o777)
    assert not is_guarded(address)
    server.socket.chmod(0o700)


def test_what_cannot_be_sent_leaves_no_job(url: str, server: PrivateRedis) -> None:
    store = RedisStore(server.client, queue="calls")
    before = len(store.jobs())
    with pytest.raises(CallNotSentError, match="argument 1"):
        ergates.map(str, [1, threading.Lock()], store=url)
    big = bytes(100_000)
    with pytest.raises(CallNotSentError, match="holds"):
        ergates.map(lambda _: len(big), [1], store=url)
    assert len(store.jobs()) == before
    store.close()


def test_an_executor(url: str) -> None:
    with ergates.ClusterExecutor(url, name="mine") as executor:
        futures = [executor.submit(pow, number, 2) for number in range(100)]
        assert [future.result() for future in futures] == [number**2 for number in range(100)]
        assert isinstance(executor.submit(lambda: 1 / 0).exception(), ZeroDivisionError)
        assert list(executor.map(str, range(5))) == list("01234")
        assert executor.workers == 2
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(str)


def test_an_executor_survives_its_server(tmp_path: Path) -> None:
    """Killed and started again under it: every future is settled, once."""
    (tmp_path / "redis").mkdir()
    with PrivateRedis(tmp_path / "redis") as own:
        named = f"unix://{own.socket}"
        worker = start_worker(named, tmp_path / "state")
        try:
            with ergates.ClusterExecutor(named) as executor:
                futures = [executor.submit(pow, number, 2) for number in range(50)]
                futures[0].result()
                own.kill()
                futures += [executor.submit(pow, number, 2) for number in range(50, 60)]
                own.start()
                assert [future.result() for future in futures] == [number**2 for number in range(60)]
        finally:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def test_calls_that_a_server_forgot_with_its_last_second_are_sent_again(tmp_path: Path) -> None:
    log, worker = tmp_path / "redis" / "appendonlydir", None
    log.parent.mkdir()
    with PrivateRedis(log.parent, "--appendfsync", "always") as own:
        named = f"unix://{own.socket}"
        with ergates.ClusterExecutor(named) as executor:
            store = RedisStore(own.client)

            def sent(total: int) -> None:
                while store.jobs()[0].total < total:
                    time.sleep(0.02)

            futures = [executor.submit(pow, 0, 2)]
            sent(1)
            shutil.copytree(log, tmp_path / "before")
            futures += [executor.submit(pow, number, 2) for number in range(1, 20)]
            sent(20)
            own.kill()
            shutil.rmtree(log)
            shutil.copytree(tmp_path / "before", log)
            own.start()
            futures += [executor.submit(pow, number, 2) for number in range(20, 30)]
            worker = start_worker(named, tmp_path / "state")
            try:
                assert [future.result(60) for future in futures] == [number**2 for number in range(30)]
            finally:
                store.close()
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()


def test_futures_that_were_not_sent_can_be_cancelled(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with PrivateRedis(tmp_path / "redis") as own:
        executor = ergates.ClusterExecutor(f"unix://{own.socket}")
        own.kill()
        first = executor.submit(str, 1)
        while not first.running():  # then it is being sent, again and again
            pass
        second = executor.submit(str, 2)
        executor.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(CancelledError):
            second.result()
        own.start()
        assert not first.done()
        store = RedisStore(own.client)
        while not (jobs := store.jobs()) or not jobs[0].total:  # made again, for it was lost with the last second
            time.sleep(0.05)
        store.set_phase(jobs[0].id, "cancelled", SystemClock().now_ns())
        with pytest.raises(ErgatesError, match="cancelled"):
            first.result()
        store.close()


def test_joblib(url: str) -> None:
    register()
    for options in ({"store": url}, {}):
        with joblib.parallel_config("ergates", **options):
            squares = joblib.Parallel(n_jobs=2)(joblib.delayed(pow)(number, 2) for number in range(200))
            assert squares == [number**2 for number in range(200)]
            with pytest.raises(ZeroDivisionError):
                joblib.Parallel(n_jobs=2)(joblib.delayed(divmod)(1, number) for number in range(2))
