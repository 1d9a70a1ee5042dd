"""JSON Lines and TOML tasks: every key, every wrong value, the line of every error."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.cluster.job import RetryLimits
from ergates.cluster.task import Requirement, Stdin, TaskSpec
from ergates.errors import InputError
from ergates.taskqueue.inputs.lines import Problems
from ergates.taskqueue.inputs.record_fields import TASK_KEYS
from ergates.taskqueue.inputs.records import TomlInput, jsonl_tasks, toml_tasks
from ergates.taskqueue.inputs.request import JobDefaults, TaskDefaults
from ergates.taskqueue.python_call import PythonCall, decode_call, is_call
from ergates.units import GIB, Bytes, MilliCpus, Nanoseconds

NO_DEFAULTS = TaskDefaults()


def jsonl(
    content: str | bytes, defaults: TaskDefaults = NO_DEFAULTS, problems: Problems | None = None
) -> list[TaskSpec]:
    raw = content.encode() if isinstance(content, str) else content
    return list(jsonl_tasks(lambda _: io.BytesIO(raw), "t.jsonl", defaults, problems or Problems()))


def one(**keys: object) -> TaskSpec:
    (task,) = jsonl(json.dumps({"command": "sim", **keys}))
    return task


def toml_input(
    content: str | bytes, defaults: TaskDefaults = NO_DEFAULTS, problems: Problems | None = None
) -> TomlInput:
    raw = content.encode() if isinstance(content, str) else content
    return toml_tasks(lambda _: io.BytesIO(raw), "t.toml", defaults, problems or Problems())


def toml(
    content: str | bytes, defaults: TaskDefaults = NO_DEFAULTS, problems: Problems | None = None
) -> list[TaskSpec]:
    return list(toml_input(content, defaults, problems).tasks)


def test_a_record_with_every_key() -> None:
    task = one(
        id="a", type="container", command="sim 'x y'", priority=-3, cpus=0.5, memory="2GiB", time_limit="1h30m", retries=2,
        env={"A": "b", "N": 1}, cwd="/d", labels={"size": 2.5}, resources={"gpus": 1, "a": 2, "zero": 0}, stdin="text é",
        image="debian", mounts=["/a:/b:ro"],
    )  # fmt: skip
    assert task == TaskSpec(
        command="sim 'x y'",
        kind="container",
        priority=-3,
        requirement=Requirement(
            cpus_milli=MilliCpus(500), memory_bytes=Bytes(2 * GIB), resources=(("a", 2), ("gpus", 1))
        ),
        time_limit_ns=Nanoseconds(5400 * 10**9),
        retries=2,
        env={"A": "b", "N": "1"},
        cwd="/d",
        labels={"name": "a", "size": "2.5"},
        stdin=Stdin(data="text é".encode()),
        image="debian",
        mounts=("/a:/b:ro",),
        input_bytes=Bytes(7),
    )


def test_numbers_are_bytes_and_seconds() -> None:
    task = one(memory=4096, time_limit=1.5, cpus=2)
    assert task.requirement == Requirement(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(4096))
    assert task.time_limit_ns == 1_500_000_000


def test_commands_are_lines_or_argument_vectors() -> None:
    assert one(command="a | b").command == "a | b"
    assert one(command=["sim", "", "$HOME"]).command == ("sim", "", "$HOME")
    assert one(command="line 1\nline 2", type="shell").command == "line 1\nline 2"


def test_stdin_may_be_a_file() -> None:
    assert one(stdin={"file": "in.txt"}).stdin == Stdin(path="in.txt")


def test_python_records_carry_json() -> None:
    task = one(type="python", command="pkg.mod:fn", args=[1, "é", None], kwargs={"x": [1.5]})
    assert (task.kind, task.command) == ("python", "pkg.mod:fn")
    assert task.payload is not None
    assert is_call(task.payload)
    assert decode_call(task.payload) == PythonCall(function="pkg.mod:fn", args=[1, "é", None], kwargs={"x": [1.5]})
    source = one(type="python", command="for i in range(3):\n    print(i)\n")
    assert decode_call(source.payload or b"") == PythonCall(source="for i in range(3):\n    print(i)\n")


def test_a_record_goes_before_the_defaults() -> None:
    defaults = TaskDefaults(
        cpus_milli=MilliCpus(250), priority=5, env={"A": "1", "B": "1"}, retries=3, resources=(("gpus", 1),)
    )
    (task,) = jsonl('{"command": "x", "priority": 0, "env": {"B": "2"}, "resources": {}}', defaults)
    assert task.priority == 0
    assert task.retries == 3
    assert task.env == {"A": "1", "B": "2"}
    assert task.requirement == Requirement(cpus_milli=MilliCpus(250))


def test_after_names_other_records() -> None:
    tasks = jsonl('{"id": "a", "command": "x"}\n\n# c\n{"command": "y"}\n{"command": "z", "after": ["a", 2, "1..2"]}')
    assert tasks[2].after == ((1, 1), (1, 2), (2, 2))


BAD = [
    ({"comand": "x"}, r"unknown key 'comand'[\s\S]*did you mean 'command'"),
    ({"memroy": 1}, r"did you mean 'memory'"),
    ({"timelimit": 1}, r"did you mean 'time_limit'"),
    ({"command": ""}, "command is ''"),
    ({"command": "  "}, "command is '  '"),
    ({"command": []}, r"command is \[\]"),
    ({"command": ["a", 1]}, "a list of texts"),
    ({"command": [""]}, "a list of texts"),
    ({"command": 5}, "command is 5"),
    ({"command": "a\0"}, "NUL"),
    ({"command": ["a", "\0"]}, "NUL"),
    ({"command": "it's"}, "never closed"),
    ({"command": "x | " + "y" * 140_000}, "131,071"),
    ({"command": ["x", "y" * 140_000]}, "131,071"),
    ({"type": "bash"}, "one of command, shell, python, container"),
    ({"type": ["x"]}, "one of command"),
    ({"type": "container"}, "without image"),
    ({"type": "shell", "command": ["a"]}, "one line"),
    ({"type": "python", "command": ["a"]}, "one text"),
    ({"args": [1]}, "args without type python"),
    ({"type": "python", "args": {}}, "args is not a list"),
    ({"type": "python", "kwargs": []}, "kwargs is not a table"),
    ({"priority": 1.5}, "priority is 1.5"),
    ({"priority": True}, "priority is True"),
    ({"priority": 10**12}, "a whole number"),
    ({"cpus": 0}, "at least 0.001"),
    ({"cpus": -1}, "cores"),
    ({"cpus": "2"}, "cores"),
    ({"cpus": 1e300}, "cores"),
    ({"memory": "2 bananas"}, "2GiB"),
    ({"memory": -1}, "bytes"),
    ({"memory": "9" * 400}, "bytes"),
    ({"memory": 1.5}, "bytes"),
    ({"time_limit": 0}, "above 0"),
    ({"time_limit": "soon"}, "10m"),
    ({"time_limit": 1e300}, "above 0"),
    ({"time_limit": "9" * 400}, "above 0"),
    ({"retries": -1}, "retries is -1"),
    ({"env": ["A=1"]}, "a table of texts"),
    ({"env": {"A=B": "1"}}, "impossible entry"),
    ({"env": {"": "1"}}, "impossible entry"),
    ({"env": {"A": "\0"}}, "impossible entry"),
    ({"env": {"A": None}}, r"env\.A is None"),
    ({"labels": {"a": [1]}}, r"labels\.a"),
    ({"cwd": ""}, "cwd is ''"),
    ({"after": {}}, "an id, a number"),
    ({"after": [True]}, "an id, a number"),
    ({"resources": ["gpus"]}, "a table such as"),
    ({"resources": {"gpus": 0.5}}, r"resources\.gpus is 0\.5"),
    ({"stdin": 5}, "stdin is 5"),
    ({"stdin": {"path": "x"}}, "stdin is"),
    ({"image": 1}, "image is 1"),
    ({"mounts": "a:b"}, "a list of"),
    ({"mounts": ["a"]}, "HOST:CONTAINER"),
    ({"mounts": ["a:/b:rx"]}, "HOST:CONTAINER"),
    ({"id": ""}, "id is ''"),
    ({"id": "a..b"}, "looks like a range"),
    ({"id": None}, "id is None"),
]


@pytest.mark.parametrize(("keys", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_wrong_value_is_an_error_with_its_line(keys: dict[str, object], message: str) -> None:
    content = '{"command": "ok"}\n' + json.dumps({"command": "sim", **keys})
    with pytest.raises(InputError, match=message) as caught:
        jsonl(content)
    assert caught.value.line == 2
    assert caught.value.source == "t.jsonl"
    assert caught.value.expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"command": "x"', "not JSON"),
        (b"sim --seed 1", "not JSON"),
        (b"[1, 2]", "not a table of keys"),
        (b"{}", "without command"),
        (b'"x"', "not a table"),
        (b'{"command": "\xff"}', "not JSON"),
        (b'{"command": "\\ud800"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"command": "x", "cpus": 1e999}', "not JSON"),
        (b"\0", "NUL"),
    ],
)
def test_a_line_that_is_no_record_is_an_error_with_its_line(line: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        jsonl(b'\n{"command": "ok"}\n' + line)
    assert caught.value.line == 3


def test_keep_going_skips_bad_records() -> None:
    problems = Problems(keep_going=True)
    tasks = jsonl('{"id": "a", "command": "1"}\n{"x": 1}\nnot\n{"command": "2", "after": "a"}', NO_DEFAULTS, problems)
    assert [(task.command, task.after) for task in tasks] == [("1", ()), ("2", ((1, 1),))]
    assert [error.line for error in problems.first] == [2, 3]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    record=st.dictionaries(st.sampled_from(TASK_KEYS) | st.text(max_size=5), values, max_size=5),
    raw=st.binary(max_size=60),
)
def test_arbitrary_records_give_a_task_or_an_input_error(record: dict[str, object], raw: bytes) -> None:
    for content in (json.dumps(record).encode(), json.dumps({"command": "x", **record}).encode(), raw):
        try:
            tasks = jsonl(content)
        except InputError:
            continue
        assert len(tasks) <= 1 or content is raw


# --- TOML ----------------------------------------------------------------------------------------

EXAMPLE = """
# A study of caches
[job]
key = "study-7"
name = "study"
cwd = "/data"
max_fails = 10
env = {OMP_NUM_THREADS = "1"}
labels = {paper = "x"}

[job.retry_limits]
failures = 2
memory = 5

[defaults]
memory = "1GiB"
cpus = 2
priority = 1

[[task]]
id = "make"
command = "make all"

[[task]]
command = ["sim", "--seed", "1"]
after = "make"
cpus = 0.5
env.SEED = 1
"""


def test_a_toml_file_says_what_job_and_tasks_are() -> None:
    found = toml_input(EXAMPLE)
    assert found.total == 2
    assert found.job == JobDefaults(
        key="study-7", name="study", cwd="/data", max_failed_tasks=10, env={"OMP_NUM_THREADS": "1"}, labels={"paper": "x"},
        retry_limits=RetryLimits(failures=2, memory=5),
    )  # fmt: skip
    make, sim = found.tasks
    assert make.requirement == Requirement(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(GIB))
    assert sim == TaskSpec(
        command=("sim", "--seed", "1"),
        priority=1,
        requirement=Requirement(cpus_milli=MilliCpus(500), memory_bytes=Bytes(GIB)),
        env={"SEED": "1"},
        after=((1, 1),),
    )


def test_the_command_line_goes_before_the_defaults_of_the_file() -> None:
    tasks = toml(EXAMPLE, TaskDefaults(cpus_milli=MilliCpus(4000)))
    assert [task.requirement.cpus_milli for task in tasks] == [4000, 500]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("[[task]]\ncommand = \n", 2, "not TOML"),
        ("[[task]]\ncommand = 'x", 2, "not TOML"),
        ("[[task]\n", 1, "not TOML"),
        ("[task]\ncommand = 'x'\n", 1, r"\[\[task\]\] with two brackets"),
        ("\n[[tasks]]\ncommand = 'x'\n", 2, r"unknown key 'tasks'[\s\S]*did you mean 'task'"),
        ("[job]\nname = 'x'\nkye = 'y'\n", 3, r"unknown key 'kye'[\s\S]*did you mean 'key'"),
        ("[job]\nmax_fails = 0\n", 2, "max_fails is 0"),
        ("[job.retry_limits]\nfails = 1\n", 2, "did you mean 'failures'"),
        ("job = 1\n", 1, "job is not a table"),
        ("[defaults]\n\ncommand = 'x'\n", 3, "unknown key 'command'"),
        ("[defaults]\nmemory = 'x'\n", 2, "memory is 'x'"),
        ("[[task]]\ncommand = 'a'\n\n[[task]]\ncommand = 'b'\ncpus = 0\n", 6, "cpus is 0"),
        ("[[task]]\ncommand = 'a'\n\n[[task]]\ncpus = 1\n", 4, "without command"),
        ("[[task]]\ncommand = 'a'\n\n[[task]]\ncommand = 'b'\n\n[task.env]\nA = true\n", 7, r"env\.A is True"),
        ("[[task]]\ncommand = 'a'\ncpus = nan\n", 3, "cpus is nan"),
        ("[[task]]\ncommand = 'a'\nafter = 'b'\n", 1, "no such task"),
        ("[[task]]\nname = 'é'\n\n[[task]]\ncommand = 'b'\nmemory = 2024-01-01\n", 1, "without command"),
        ("task = [{command = 'a'}, {command = 5}]\n", None, "task 2: command is 5"),
        ("task = [1]\n", None, "task 1: not a table"),
        ("[[task]]\ncommand = 'a'\nx = " + "[" * 20_000, None, "nested too deeply"),
        ("[[task]]\ntype = 'python'\ncommand = 'x'\nargs = [inf]\n", 4, "cannot be written as JSON"),
        ("[[task]]\ntype = 'python'\ncommand = 'x'\nkwargs.a = 2024-01-01\n", 1, "cannot be written as JSON"),
    ],
)  # fmt: skip
def test_a_bad_toml_file_is_an_error_with_its_line(content: str, line: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        toml(content)
    assert caught.value.line == line


def test_toml_that_is_not_utf8_names_the_line() -> None:
    with pytest.raises(InputError, match=r"t\.toml:2: not UTF-8"):
        toml(b"[[task]]\ncommand = 'caf\xe9'\n")


def test_keep_going_skips_bad_toml_tasks() -> None:
    problems = Problems(keep_going=True)
    tasks = toml("[[task]]\ncommand = 'a'\n[[task]]\ncpus = 1\n[[task]]\ncommand = 'c'\n", NO_DEFAULTS, problems)
    assert [task.command for task in tasks] == ["a", "c"]
    assert problems.first[0].line == 3


@given(content=st.text(max_size=80) | st.text("[]=\"'task{}.,\n 1", max_size=60))
def test_arbitrary_toml_gives_tasks_or_an_input_error(content: str) -> None:
    for text in (content, "[[task]]\ncommand = 'x'\n" + content):
        try:
            toml(text)
        except InputError as error:
            assert error.source == "t.toml"
