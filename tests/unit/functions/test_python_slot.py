"""The warm interpreter on its own: a real process, spoken to over its socket as the worker does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ergates.cluster.attempt import Output
from ergates.drivers.launchers import wire
from ergates.drivers.output.read import read_output
from ergates.functions.payload import encode_payload, read_kept_result
from ergates.functions.serialise import dump_arguments, load_result, raised, save_function

Ended = dict[str, Any]


class Slot:
    """The worker's end of one slot."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = socket.socketpair()
        self.folder, self.packs = folder, folder / "packs"
        self.socket, self.buffer, self.sequence = ours, bytearray(), 0
        self.frames: deque[tuple[int, Any]] = deque()
        self.ended: list[Ended] = []
        self.running: list[tuple[int, int, int]] = []
        command = [sys.executable, "-m", "ergates.functions.python_slot", str(theirs.fileno())]
        self.process = subprocess.Popen(
            [*command, str(folder / "out"), str(folder / "err"), "slot-1.pack"],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        ours.settimeout(30)
        kind, pid = self._next()
        assert (kind, pid) == (wire.READY, self.process.pid)

    def _next(self) -> tuple[int, Any]:
        while not self.frames:
            data = self.socket.recv(1 << 20)
            if not data:
                raise EOFError
            self.buffer += data
            self.frames += wire.decode(self.buffer)
        return self.frames.popleft()

    def _take(self, ended: list[tuple[Any, ...]], running: tuple[int, int, int] | None) -> None:
        self.ended += [dict(zip(wire.ENDED_FIELDS, values, strict=True)) for values in ended]
        if running is not None:
            self.running.append(running)

    def environment(self, values: dict[bytes, bytes]) -> None:
        self.socket.sendall(wire.encode(wire.ENVIRONMENT, values))

    def launch(self, *payloads: bytes, **fields: Any) -> None:
        launches = []
        for payload in payloads:
            self.sequence += 1
            values: dict[str, Any] = dict.fromkeys(wire.LAUNCH_FIELDS)
            values |= {
                "sequence": self.sequence,
                "argv": (),
                "changes": {},
                "removed": (),
                "cwd": os.fsencode(self.folder),
                "grace_ns": 0,
                "cpu_ids": (),
                "output_folder": os.fsencode(self.packs),
                "payload": payload,
            }
            launches.append(tuple((values | fields)[name] for name in wire.LAUNCH_FIELDS))
        self.socket.sendall(wire.encode(wire.LAUNCH, launches))

    def wait(self, count: int = 1) -> list[Ended]:
        """The next `count` ends."""
        while len(self.ended) < count:
            kind, (ended, running) = self._next()
            assert kind == wire.REPORT
            self._take(ended, running)
        taken, self.ended = self.ended[:count], self.ended[count:]
        return taken

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.launch(self.payload(function, *args, **kwargs))
        (ended,) = self.wait()
        return load_result(ended["result"])

    def payload(self, function: Callable[..., Any], *args: Any, keep: bool = False, **kwargs: Any) -> bytes:
        path = save_function(function, self.folder / "functions")
        return encode_payload(path, dump_arguments(function, args, kwargs), keep=keep)

    def output(self, ended: Ended) -> tuple[bytes, bytes]:
        return read_output(self.packs, output_of(ended))


def output_of(ended: Ended) -> Output:
    return Output(**{name: ended[name] for name in ("pack", "offset", "stdout_bytes", "stderr_bytes")})


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[Slot]:
    opened = Slot(tmp_path)
    yield opened
    opened.socket.close()
    assert opened.process.wait(30) is not None


def task(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_calls_return_values(slot: Slot) -> None:
    offset = 40
    assert slot.call(lambda x, *, y: x + y + offset, 1, y=1) == 42
    assert slot.call(divmod, 7, 2) == (3, 1)
    assert slot.call(lambda pair, options: (pair, options), (1, 2), {"x": 3}) == ((1, 2), {"x": 3})


def test_a_batch_of_calls_is_reported_in_order_and_in_few_frames(slot: Slot) -> None:
    double = slot.payload(lambda x: x * 2, 21)
    slot.launch(*[double] * 500)
    ends = slot.wait(500)
    assert [end["sequence"] for end in ends] == list(range(1, 501))
    assert {load_result(end["result"]) for end in ends} == {42}
    assert {(end["exit_code"], end["signal"], end["error"]) for end in ends} == {(0, None, None)}


def test_state_stays_warm_between_calls_of_one_function(slot: Slot) -> None:
    seen: list[int] = []

    def remember(value: int) -> list[int]:
        seen.append(value)
        return list(seen)

    assert slot.call(remember, 1) == [1]
    assert slot.call(remember, 2) == [1, 2]
    assert seen == []


def test_an_exception_comes_back_with_its_type_and_the_remote_traceback(slot: Slot) -> None:
    class TooHot(Exception):
        pass

    def cook(degrees: int) -> None:
        raise TooHot(f"{degrees} degrees")

    slot.launch(slot.payload(cook, 300))
    (ended,) = slot.wait()
    assert ended["exit_code"] == 1
    assert raised(ended["result"])
    error = load_result(ended["result"])
    assert type(error) is TooHot
    assert str(error) == "300 degrees"
    assert "in cook" in str(error.__cause__)
    assert "call_runner" not in str(error.__cause__)


def test_what_a_call_prints_goes_to_the_pack_and_a_kept_result_lies_behind_it(slot: Slot) -> None:
    def speak(text: str) -> str:
        print(text)
        print("so to say", file=sys.stderr)
        os.system("echo a child speaks")
        return text.upper()

    slot.launch(slot.payload(speak, "hällo", keep=True), slot.payload(speak, "b"))
    first, second = slot.wait(2)
    # What the child wrote is there first: Python's own text is flushed when the call has ended.
    assert sorted(slot.output(first)[0].decode().split("\n")) == ["", "a child speaks", "hällo"]
    assert slot.output(first)[1] == b"so to say\n"
    assert load_result(read_kept_result(slot.packs, output_of(first))) == "HÄLLO"
    assert b"b\n" in slot.output(second)[0]
    assert second["offset"] > first["offset"] + first["stdout_bytes"] + first["stderr_bytes"]


def test_a_kept_result_of_a_silent_call_is_found(slot: Slot) -> None:
    slot.launch(slot.payload(abs, -5, keep=True))
    (ended,) = slot.wait()
    assert slot.output(ended) == (b"", b"")
    assert load_result(read_kept_result(slot.packs, output_of(ended))) == 5


def test_a_result_that_cannot_be_pickled_is_an_error_that_says_so(slot: Slot) -> None:
    error = slot.call(lambda: (number for number in range(3)))
    assert "that cannot be sent back" in str(error)
    assert "generator" in str(error)


def test_tasks_of_files_print_what_they_return(slot: Slot) -> None:
    slot.folder.joinpath("cooking.py").write_text(
        textwrap.dedent("""
            class Oven:
                @staticmethod
                def bake(name, minutes=10):
                    return {"name": name, "minutes": minutes}
            def kinds():
                return {1}
            def nothing():
                pass
            def fail():
                raise RuntimeError("burnt")
        """)
    )
    slot.launch(
        task(function="cooking:Oven.bake", args=["bréad"], kwargs={"minutes": 3}),
        task(function="cooking:kinds"),
        task(function="cooking:nothing"),
        task(function="cooking:fail"),
        task(function="cooking:missing"),
        task(function="no_such_module:f"),
        task(source="import sys\nprint(__name__, args, kwargs)\nsys.exit(7)", args=[1], kwargs={"x": 2}),
        task(source="raise SystemExit('so be it')"),
        task(source="x = = 1"),
    )
    ends = slot.wait(9)
    outputs = [slot.output(end) for end in ends]
    assert [end["exit_code"] for end in ends] == [0, 0, 0, 1, 1, 1, 7, 1, 1]
    assert json.loads(outputs[0][0]) == {"name": "bréad", "minutes": 3}
    assert outputs[1][0] == b"{1}\n"
    assert outputs[2] == (b"", b"")
    assert outputs[3][1].endswith(b"RuntimeError: burnt\n")
    assert b"missing" in outputs[4][1]
    assert b"No module named 'no_such_module'" in outputs[5][1]
    assert outputs[6][0] == b"__main__ [1] {'x': 2}\n"
    assert outputs[7][1] == b"so be it\n"
    assert b"SyntaxError" in outputs[8][1]


def test_directory_variables_and_input_are_those_of_the_call(slot: Slot, tmp_path: Path) -> None:
    def look() -> tuple[str, str | None, str | None, str]:
        return os.getcwd(), os.environ.get("BASE"), os.environ.get("MORE"), sys.stdin.read()

    slot.environment({b"BASE": b"1", b"PATH": os.environb[b"PATH"]})
    (tmp_path / "input").write_text("from a file")
    payload = slot.payload(look)
    slot.launch(payload, changes={b"MORE": b"2"}, stdin_data=b"hello")
    slot.launch(payload, removed=(b"BASE",), cwd=b"/", stdin_path=os.fsencode(tmp_path / "input"))
    slot.launch(payload)
    slot.launch(payload, cwd=b"/no/such/place")
    *ends, lost = slot.wait(4)
    assert [load_result(end["result"]) for end in ends] == [
        (str(tmp_path), "1", "2", "hello"),
        ("/", None, None, "from a file"),
        (str(tmp_path), "1", None, ""),
    ]
    assert lost["started_ns"] == 0
    assert lost["error"] == "not started: /no/such/place: No such file or directory"


def test_a_long_call_is_reported_as_running_and_does_not_hold_back_the_ends_before_it(
    slot: Slot, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    slot.launch(slot.payload(abs, -1), slot.payload(lambda path: Path(path).read_text(), str(fifo)))
    (first,) = slot.wait(1)  # would time out if it waited for the second
    assert first["sequence"] == 1
    while not slot.running:
        _, (ended, running) = slot._next()
        slot._take(ended, running)
    assert slot.running[0][:2] == (2, slot.process.pid)
    fifo.write_text("go on")
    (second,) = slot.wait(1)
    assert load_result(second["result"]) == "go on"


def test_a_call_with_a_time_limit_is_announced_before_it_runs(slot: Slot) -> None:
    slot.launch(slot.payload(abs, -1), time_limit_ns=10**9)
    slot.wait(1)
    assert slot.running[0][0] == 1


def test_term_reports_what_ended_and_ends_the_process_at_once(slot: Slot, tmp_path: Path) -> None:
    slot.launch(slot.payload(abs, -1), slot.payload(lambda: signal.pause()))
    while not slot.running:
        _, (ended, running) = slot._next()
        slot._take(ended, running)
    slot.process.send_signal(signal.SIGTERM)
    (first,) = slot.wait(1)
    assert first["sequence"] == 1
    with pytest.raises(EOFError):
        slot.wait(1)
    assert slot.process.wait(30) == 0


def test_the_end_of_the_socket_ends_a_running_call_and_its_children(slot: Slot, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    os.mkfifo(pid_file)

    def spawn(path: str) -> None:
        with subprocess.Popen(["sleep", "1000"]) as child:
            Path(path).write_text(str(child.pid))

    slot.launch(slot.payload(spawn, str(pid_file)))
    pid = int(pid_file.read_text())
    pidfd = os.pidfd_open(pid)
    slot.socket.close()
    assert slot.process.wait(30) == 0
    _wait_for_end(pidfd)
    os.close(pidfd)


def _wait_for_end(pidfd: int) -> None:
    import select

    assert select.select([pidfd], [], [], 30)[0], "the child of a call outlived the slot"


def test_modules_loaded_at_start_are_few() -> None:
    script = "import sys, ergates.functions.python_slot; print(*sorted(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"asyncio", "msgspec", "cloudpickle", "numpy", "rich", "click", "sqlite3"}


def test_a_launch_that_waits_can_be_dropped_without_being_run(slot: Slot, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    slot.launch(
        slot.payload(lambda path: Path(path).read_text(), str(fifo)), slot.payload(abs, -1), slot.payload(abs, -2)
    )
    slot.socket.sendall(wire.encode(wire.KILL, (2, 0)))
    (dropped,) = slot.wait(1)
    assert (dropped["sequence"], dropped["flags"], dropped["started_ns"]) == (2, wire.KILLED, 0)
    fifo.write_text("go on")
    first, third = slot.wait(2)
    assert [load_result(first["result"]), load_result(third["result"])] == ["go on", 2]


def test_a_function_file_that_was_changed_is_loaded_again(slot: Slot, tmp_path: Path) -> None:
    path = save_function(lambda: "as it was", tmp_path / "functions", "job.pickle")
    payload = encode_payload(path, dump_arguments(abs, (), {}))
    slot.launch(payload)
    (before,) = slot.wait()
    save_function(lambda: "mended", tmp_path / "functions", "job.pickle")
    os.utime(path, ns=(1, 1))  # whatever the resolution of the file system's clock
    slot.launch(payload)
    (after,) = slot.wait()
    assert [load_result(before["result"]), load_result(after["result"])] == ["as it was", "mended"]
