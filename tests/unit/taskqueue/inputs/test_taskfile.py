"""Files of command lines and of distComp lines, and telling them apart."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.cluster.task import Requirement, TaskSpec
from ergates.errors import InputError
from ergates.taskqueue.inputs.lines import Problems
from ergates.taskqueue.inputs.request import TaskDefaults
from ergates.taskqueue.inputs.taskfile import distcomp_tasks, format_of, shell_tasks
from ergates.taskqueue.python_call import PythonCall, decode_call
from ergates.units import GIB, Bytes, MilliCpus, Nanoseconds

NO_DEFAULTS = TaskDefaults()


def opener(content: bytes) -> Callable[[str], io.BytesIO]:
    return lambda name: io.BytesIO(content)


def open_binary(name: str) -> BinaryIO:
    return open(name, "rb")


def shell(content: bytes, defaults: TaskDefaults = NO_DEFAULTS, problems: Problems | None = None) -> list[TaskSpec]:
    return list(shell_tasks(opener(content), "tasks.txt", defaults, problems or Problems()))


def distcomp(content: bytes, defaults: TaskDefaults = NO_DEFAULTS, problems: Problems | None = None) -> list[TaskSpec]:
    return list(distcomp_tasks(opener(content), "old.txt", defaults, problems or Problems()))


def commands(content: bytes) -> list[str | tuple[str, ...]]:
    return [task.command for task in shell(content)]


def test_every_line_is_a_task_as_it_stands() -> None:
    lines = ["sim --seed 1", "  echo 'a: b' | wc  ", 'grep "größe" x:y:z', "sim --seed 1", "a#b #c"]
    assert commands("\n".join(lines).encode()) == lines


def test_blank_lines_and_comments_are_left_out() -> None:
    assert commands(b"#!/bin/sh\n\n   \n\t# indented\nrun 1\n\n#end\nrun 2") == ["run 1", "run 2"]


def test_windows_line_ends_and_a_byte_order_mark_are_taken_off() -> None:
    assert commands(b"\xef\xbb\xbfrun 1\r\nrun 2\r\n\r\n") == ["run 1", "run 2"]


def test_bytes_that_are_not_utf8_survive() -> None:
    (command,) = commands(b"cat caf\xe9\n")
    assert isinstance(command, str)
    assert command.encode("utf-8", "surrogateescape") == b"cat caf\xe9"


def test_defaults_apply_to_every_task() -> None:
    defaults = TaskDefaults(
        cpus_milli=MilliCpus(50),
        memory_bytes=Bytes(7),
        resources=(("gpus", 1),),
        time_limit_ns=Nanoseconds(9),
        retries=2,
        priority=3,
        env={"A": "b"},
        labels={"l": "m"},
        cwd="/x",
    )
    (task,) = shell(b"run", defaults)
    assert task == TaskSpec(
        command="run",
        priority=3,
        requirement=Requirement(cpus_milli=MilliCpus(50), memory_bytes=Bytes(7), resources=(("gpus", 1),)),
        time_limit_ns=Nanoseconds(9),
        retries=2,
        env={"A": "b"},
        labels={"l": "m"},
        cwd="/x",
    )


def test_an_image_makes_containers() -> None:
    (task,) = shell(b"run", TaskDefaults(image="debian", mounts=("/a:/b",)))
    assert (task.kind, task.image, task.mounts) == ("container", "debian", ("/a:/b",))


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"ok\nsim 'open\n", 2, "never closed"),
        (b'# c\n\nsim "open', 3, "never closed"),
        (b"ok\na\0b\n", 2, "NUL"),
        ("ok\n".encode("utf-16"), 1, "iconv"),
        ("ok\n".encode("utf-16-le"), 1, "iconv"),
        (b"\x1f\x8b\x08\0\0\0", 1, "binary or compressed"),
        (b"ok\nok\necho " + b"x" * 10_000_000, 3, "131,071"),
        (b"ok\necho " + b"x y " * 2_500_000, 2, "2,097,152"),
        (b"a | " + b"b" * 140_000, 1, "--pipe"),
    ],
)
def test_a_line_that_cannot_run_is_an_error_with_its_place(content: bytes, line: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        shell(content)
    assert str(caught.value).startswith(f"tasks.txt:{line}: ")
    assert message in str(caught.value)
    assert caught.value.expected
    assert caught.value.hint


def test_keep_going_skips_bad_lines_and_remembers_them() -> None:
    problems = Problems(keep_going=True)
    tasks = shell(b"a\nb '\nc\n\0\nd", TaskDefaults(), problems)
    assert [task.command for task in tasks] == ["a", "c", "d"]
    assert problems.count == 2
    assert [error.line for error in problems.first] == [2, 4]


def test_keep_going_keeps_a_hundred_errors_at_most() -> None:
    problems = Problems(keep_going=True)
    assert shell(b"'\n" * 1000, TaskDefaults(), problems) == []
    assert (problems.count, len(problems.first)) == (1000, 100)


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(InputError, match=r"missing.txt: cannot be read: No such file or directory"):
        list(shell_tasks(open_binary, "/nowhere/missing.txt", TaskDefaults(), Problems()))
    with pytest.raises(InputError, match="Is a directory"):
        list(shell_tasks(open_binary, "/", TaskDefaults(), Problems()))


@given(content=st.binary(max_size=300), keep_going=st.booleans())
def test_arbitrary_bytes_give_tasks_or_an_input_error(content: bytes, keep_going: bool) -> None:
    for parse in (shell, distcomp):
        try:
            tasks = parse(content, TaskDefaults(), Problems(keep_going=keep_going))
        except InputError as error:
            assert error.line is not None
            assert not keep_going
        else:
            assert all(task.command for task in tasks)


# --- distComp: what it got wrong, one test each ---------------------------------------------------


def test_distcomp_fields_become_priority_memory_and_cores() -> None:
    (task,) = distcomp(b"shell:4:2:3:./cachesim PARAM1 PARAM2\n")
    assert task.command == "./cachesim PARAM1 PARAM2"
    assert task.kind == "command"
    assert task.priority == 4
    assert task.requirement == Requirement(cpus_milli=MilliCpus(3000), memory_bytes=Bytes(2 * GIB))


def test_distcomp_zeros_leave_the_defaults() -> None:
    (task,) = distcomp(b"shell:0:0:0:x", TaskDefaults(cpus_milli=MilliCpus(500), memory_bytes=Bytes(9), priority=8))
    assert task.priority == 0
    assert task.requirement == Requirement(cpus_milli=MilliCpus(500), memory_bytes=Bytes(9))


def test_a_distcomp_command_may_hold_any_colon() -> None:
    tasks = distcomp(b"shell:1:1:1:scp a:b host:c:d\nshell:1:1:1::::\n")
    assert [task.command for task in tasks] == ["scp a:b host:c:d", ":::"]


def test_identical_distcomp_lines_stay_distinct() -> None:
    assert len(distcomp(b"shell:1:1:1:x\n" * 3)) == 3


def test_distcomp_keeps_text_that_is_not_ascii() -> None:
    assert distcomp("shell:1:1:1:echo größe 日本".encode())[0].command == "echo größe 日本"
    assert distcomp(b"shell:1:1:1:echo \xe9")[0].command == "echo \udce9"


def test_distcomp_python_lines_are_python_tasks() -> None:
    source, function = distcomp(b"python:1:1:1:print('a:b')\npython:1:1:1:package.module:main\n")
    assert (source.kind, source.command) == ("python", "print('a:b')")
    assert decode_call(source.payload or b"") == PythonCall(source="print('a:b')")
    assert decode_call(function.payload or b"") == PythonCall(function="package.module:main")


def test_distcomp_comments_and_blank_lines_are_left_out() -> None:
    assert [task.command for task in distcomp(b"# c\n\n  shell:1:1:1:a #b \n")] == ["a #b"]


@pytest.mark.parametrize(
    "line",
    ["shell:1:1:x", "shell:-1:1:1:x", "shell:1.5:1:1:x", "bash:1:1:1:x", "Shell:1:1:1:x", "shell:1:1:1:", "shell:1:1:1:  ",
     "shell: 1:1:1:x", "shell:1:1", "ls", "shell:1:1:1:it's", "shell:²:1:1:x", "shell:9999999999:1:1:x"],
)  # fmt: skip
def test_a_line_that_does_not_fit_distcomp_is_an_error_with_its_place(line: str) -> None:
    with pytest.raises(InputError, match=r"^old\.txt:2: "):
        distcomp(f"shell:1:1:1:ok\n{line}\n".encode())


def test_distcomp_python_source_must_be_text() -> None:
    with pytest.raises(InputError, match=r"old\.txt:1: Python source that is not UTF-8"):
        distcomp(b"python:1:1:1:print('\xe9')")


# --- telling formats apart -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.jsonl", b"", "jsonl"),
        ("x.TOML", b"", "toml"),
        ("x.ndjson", b"", "jsonl"),
        ("-", b'# c\n{"command": "x"}\n', "jsonl"),
        ("-", b'{ "command": "x"}\n', "jsonl"),
        ("-", b"{ echo a; }\n", "commands"),
        ("x.txt", b"# c\nshell:1:1:1:a\n\npython:0:0:0:b\n", "distcomp"),
        ("x.txt", b"a\nshell:1:1:1:a\n", "commands"),
        ("x.txt", b"shell:1:1:a\n", "commands"),
        ("x.txt", b"", "commands"),
        ("x.txt", b"# only\n", "commands"),
    ],
)
def test_the_format_is_recognised(name: str, content: bytes, expected: str) -> None:
    assert format_of(opener(content), name) == expected


def test_a_distcomp_file_with_one_bad_line_is_not_taken_for_commands() -> None:
    with pytest.raises(InputError, match=r"x\.txt:3: .*\n.*shell:4:2:2:.*\n.*--format commands"):
        format_of(opener(b"shell:1:1:1:a\nshell:1:1:1:b\nshell:1:1:c\n"), "x.txt")


def test_recognising_stops_at_the_first_plain_line() -> None:
    read: list[int] = []

    class Lines(io.BytesIO):
        def __next__(self) -> bytes:
            read.append(1)
            return super().__next__()

    format_of(lambda name: Lines(b"a\n" * 1000), "x.txt")
    assert len(read) == 1
