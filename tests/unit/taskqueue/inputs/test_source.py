"""The one door: requests to tasks, command-line words to requests, and keys."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ergates.cluster.task import Requirement, Stdin, TaskSpec
from ergates.errors import InputError, UsageError
from ergates.taskqueue.command import argv_of
from ergates.taskqueue.inputs.request import (
    ArgumentList,
    InputRequest,
    PipeOptions,
    TaskDefaults,
    input_files,
    split_words,
    with_words,
)
from ergates.taskqueue.inputs.source import derive_key, read_tasks
from ergates.units import Bytes, MilliCpus


def opener(files: dict[str, bytes]) -> Callable[[str], io.BytesIO]:
    def open_file(name: str) -> io.BytesIO:
        if name not in files:
            raise FileNotFoundError(2, "No such file or directory", name)
        return io.BytesIO(files[name])

    return open_file


def tasks(request: InputRequest, **files: bytes) -> list[TaskSpec]:
    return list(
        read_tasks(request, opener({"-" if name == "stdin" else name: raw for name, raw in files.items()})).tasks
    )


def commands(request: InputRequest, **files: bytes) -> list[str | tuple[str, ...]]:
    return [task.command for task in tasks(request, **files)]


# --- words of the command line ---------------------------------------------------------------------


def test_words_are_split_at_the_lists() -> None:
    assert split_words(["sim", "{}", ":::", "a", "b", ":::+", "1", "2", "::::", "f", "-", "::::+", "g"]) == (
        ("sim", "{}"),
        (
            ArgumentList(values=("a", "b")),
            ArgumentList(values=("1", "2"), linked=True),
            ArgumentList(file="f"),
            ArgumentList(file="-"),
            ArgumentList(file="g", linked=True),
        ),
    )
    assert split_words([]) == ((), ())


@pytest.mark.parametrize("words", [["x", ":::"], ["x", ":::", ":::", "a"], ["x", "::::"], ["x", ":::+", "a"]])
def test_lists_without_values_are_usage_errors(words: list[str]) -> None:
    with pytest.raises(UsageError, match=r"expected|hint"):
        split_words(words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], InputRequest(files=("-",))),
        (["tasks.txt"], InputRequest(files=("tasks.txt",))),
        (["tasks.txt", "-"], InputRequest(files=("tasks.txt", "-"))),
        (["sim --seed 1"], InputRequest(template="sim --seed 1")),
        (["sim", "{}", ":::", "a"], InputRequest(template="sim {}", lists=(ArgumentList(values=("a",)),))),
        ([":::", "a"], InputRequest(lists=(ArgumentList(values=("a",)),))),
        (["gzip {}"], InputRequest(template="gzip {}", lists=(ArgumentList(file="-"),))),
    ],
)
def test_words_say_what_is_meant(words: list[str], expected: InputRequest) -> None:
    assert with_words(InputRequest(), words, lambda name: name == "tasks.txt") == expected


def test_with_parameters_even_the_name_of_a_file_is_a_template() -> None:
    request = with_words(InputRequest(parameters=("a=1",)), ["tasks.txt"], lambda name: True)
    assert request.template == "tasks.txt"


# --- files -------------------------------------------------------------------------------------------


def test_files_are_read_one_after_another() -> None:
    request = InputRequest(files=("a", "b", "-"))
    assert commands(request, a=b"1\n2", b=b"shell:1:2:3:x\n", stdin=b"z\n") == ["1", "2", "x", "z"]


def test_a_given_format_is_kept() -> None:
    request = InputRequest(files=("a",), format="commands")
    assert commands(request, a=b"shell:1:1:1:x\n") == ["shell:1:1:1:x"]
    with pytest.raises(InputError, match=r"^a:2: "):
        commands(replace(request, format="distcomp"), a=b"shell:1:1:1:x\nls\n")
    with pytest.raises(InputError, match=r"^a:1: .*JSON"):
        commands(replace(request, format="jsonl"), a=b"ls\n")


@pytest.mark.parametrize("name", ["tasks.txt", "tasks.jsonl", "tasks.toml"])
@pytest.mark.parametrize("content", [b"", b"\n\n", b"# nothing\n"])
def test_an_empty_file_is_an_error(name: str, content: bytes) -> None:
    with pytest.raises(InputError, match=rf"no commands in {name}"):
        list(read_tasks(InputRequest(files=(name,)), opener({name: content})).tasks)


def test_empty_standard_input_is_an_error() -> None:
    with pytest.raises(InputError, match="no commands in <stdin>"):
        tasks(InputRequest(files=("-",)), stdin=b"")


def test_a_missing_file_is_an_error_before_any_task() -> None:
    with pytest.raises(InputError, match=r"gone\.txt: cannot be read: No such file"):
        read_tasks(InputRequest(files=("gone.txt",)), opener({}))


def test_keep_going_with_nothing_left_is_an_error() -> None:
    with pytest.raises(InputError, match=r"none of 2 commands can be used[\s\S]*a:1: "):
        tasks(InputRequest(files=("a",), keep_going=True), a=b"'\n\"\n")


def test_records_are_read_one_file_at_a_time() -> None:
    with pytest.raises(InputError, match="one at a time"):
        read_tasks(InputRequest(files=("a.jsonl", "b.jsonl")), opener({"a.jsonl": b"", "b.jsonl": b""}))


def test_a_toml_file_names_its_job() -> None:
    content = b'[job]\nkey = "k"\nname = "study"\n[[task]]\ncommand = "x"\n'
    parsed = read_tasks(InputRequest(files=("t.toml",)), opener({"t.toml": content}))
    assert (parsed.total, parsed.name, parsed.source, parsed.job.key) == (1, "study", "t.toml", "k")


# --- templates ----------------------------------------------------------------------------------------


def test_parameters_are_crossed_and_become_labels() -> None:
    request = InputRequest(template="sim --seed {seed} --size {size}", parameters=("seed=1..2", "size=1,4"))
    parsed = read_tasks(request, opener({}))
    assert (parsed.total, parsed.name) == (4, "sim")
    found = list(parsed.tasks)
    assert [task.command for task in found] == [
        ("sim", "--seed", seed, "--size", size) for seed in ("1", "2") for size in ("1", "4")
    ]
    assert found[3].labels == {"seed": "2", "size": "4"}


def test_labels_are_text_even_where_values_are_not() -> None:
    request = InputRequest(template="cat {f}", parameters=("f=@list",))
    (task,) = tasks(request, list=b"caf\xe9 \xc3\xa9\n")
    assert task.command == ("cat", "caf\udce9 é")
    assert task.labels == {"f": "caf\\xe9 é"}


def test_own_labels_go_before_those_of_parameters() -> None:
    request = InputRequest(
        template="sim {seed}", parameters=("seed=1",), defaults=TaskDefaults(labels={"seed": "mine", "a": "b"})
    )
    assert tasks(request)[0].labels == {"seed": "mine", "a": "b"}


def test_parameters_lists_and_a_table_go_together() -> None:
    request = InputRequest(
        template="sim {a} {p} {}", parameters=("p=x,y",), grid="g.csv", lists=(ArgumentList(values=("1", "2")),)
    )
    found = list(read_tasks(request, opener({"g.csv": b"a,unused\n7,u\n8,v\n"})).tasks)
    assert [task.command for task in found][:3] == [
        ("sim", "7", "x", "1"),
        ("sim", "7", "x", "2"),
        ("sim", "7", "y", "1"),
    ]
    assert len(found) == 8
    assert found[0].labels == {"a": "7", "unused": "u", "p": "x"}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            InputRequest(template="sim {seed}", parameters=("seed=1", "size=1")),
            r"-p size=1: the parameter size is never used",
        ),
        (InputRequest(template="sim", parameters=("seed=1",)), r"write \{seed\} where its value belongs"),
        (
            InputRequest(template="sim {seed}", parameters=("sed=1",)),
            r"nothing is bound to \{seed\}[\s\S]*did you mean \{sed\}",
        ),
        (InputRequest(template="sim {a}", parameters=("a=1", "a=2")), "'a' is bound twice"),
        (InputRequest(template="sim {a}", parameters=("a=1",), grid="g"), "'a' is bound twice"),
        (InputRequest(template="sim {x}", parameters=("x=1",), grid="g"), "no column is never used|no column"),
        (InputRequest(parameters=("a=1",)), "nothing to run"),
        (InputRequest(), "nothing to run"),
        (InputRequest(template="sim {}"), r"nothing is bound to \{\}"),
        (InputRequest(template="sim {2}", lists=(ArgumentList(values=("a",)),)), r"nothing is bound to \{2\}"),
        (
            InputRequest(template="{1}{2}", parameters=("a=1",), lists=(ArgumentList(values=("",)),)),
            "is bound|never used",
        ),
        (InputRequest(template="{1} x", lists=(ArgumentList(values=("",)),)), "without a program"),
        (InputRequest(template="sim 'x {}", lists=(ArgumentList(values=("a",)),)), "never closed"),
        (InputRequest(lists=(ArgumentList(values=("it's",)),)), "never closed"),
        (InputRequest(lists=(ArgumentList(values=("",)),)), "an empty command"),
        (InputRequest(template="sim {} | x", lists=(ArgumentList(values=("y" * 140_000,)),)), "131,071"),
        (InputRequest(template="sim {}", lists=(ArgumentList(values=("y" * 140_000,)),)), "131,071"),
        (InputRequest(template="", lists=()), "an empty command|nothing to run"),
        (InputRequest(template="sim", pipe=PipeOptions(), parameters=("a=1",)), "--pipe takes no values"),
        (InputRequest(pipe=PipeOptions()), "--pipe without a command"),
        (InputRequest(template="sim {}", pipe=PipeOptions()), r"nothing is bound to \{\}"),
    ],
)
def test_requests_that_make_no_sense_are_errors(request_: InputRequest, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tasks(request_, g=b"a,b\n1,2\n", stdin=b"x\n")


def test_a_template_alone_is_one_task() -> None:
    assert commands(InputRequest(template="sim --seed 1")) == [("sim", "--seed", "1")]
    assert commands(InputRequest(template="sim | wc")) == ["sim | wc"]


def test_numbers_of_tasks_count_those_that_are_kept() -> None:
    request = InputRequest(
        template="echo {#} $(({1}))", lists=(ArgumentList(values=("1", "a b", "3")),), keep_going=True
    )
    parsed = read_tasks(request, opener({}))
    assert [task.command for task in parsed.tasks] == ["echo 1 $((1))", "echo 2 $((3))"]
    assert parsed.problems.count == 1


def test_defaults_apply_to_templates() -> None:
    request = InputRequest(template="sim", defaults=TaskDefaults(cpus_milli=MilliCpus(50), priority=2))
    (task,) = tasks(request)
    assert (task.requirement, task.priority) == (Requirement(cpus_milli=MilliCpus(50)), 2)


# --- blocks -------------------------------------------------------------------------------------------


def test_a_pipe_gives_each_task_a_block() -> None:
    request = InputRequest(template="wc -l", pipe=PipeOptions(records=2))
    found = tasks(request, stdin=b"a\nb\nc\n")
    assert [(task.command, task.stdin, task.input_bytes) for task in found] == [
        (("wc", "-l"), Stdin(data=b"a\nb\n"), 4),
        (("wc", "-l"), Stdin(data=b"c\n"), 2),
    ]
    assert commands(replace(request, template="sim {#} > out.{#}"), stdin=b"a\nb\nc\n")[1] == "sim 2 > out.2"


def test_an_empty_pipe_is_an_error() -> None:
    with pytest.raises(InputError, match="no commands in <stdin>"):
        tasks(InputRequest(template="wc", pipe=PipeOptions()), stdin=b"")


# --- keys ---------------------------------------------------------------------------------------------

BASE = InputRequest(
    files=("a",), template=None, cwd="/d", defaults=TaskDefaults(env={"A": "1", "B": "2"}, memory_bytes=Bytes(5))
)


def key(request: InputRequest, **files: bytes) -> str:
    return derive_key(request, opener({"-" if name == "stdin" else name: raw for name, raw in files.items()}))


def test_the_same_input_has_the_same_key() -> None:
    turned = replace(BASE, defaults=TaskDefaults(memory_bytes=Bytes(5), env={"B": "2", "A": "1"}))
    assert key(BASE, a=b"x\n") == key(turned, a=b"x\n")
    assert key(BASE, a=b"x\n") == key(replace(BASE, files=("renamed",)), renamed=b"x\n")
    assert key(BASE, a=b"x\n") == key(replace(BASE, keep_going=True), a=b"x\n")
    assert len(key(BASE, a=b"x\n")) == 32


@pytest.mark.parametrize(
    "changed",
    [
        replace(BASE, cwd="/e"),
        replace(BASE, format="commands"),
        replace(BASE, defaults=TaskDefaults()),
        replace(BASE, defaults=replace(BASE.defaults, priority=0)),
        replace(BASE, files=("a", "a")),
        replace(BASE, template="x"),
        replace(BASE, template="caf\udce9"),
        replace(BASE, parameters=("a=1",)),
        replace(BASE, lists=(ArgumentList(values=("1",)),)),
        replace(BASE, colsep=","),
        replace(BASE, grid="g"),
        replace(BASE, pipe=PipeOptions()),
    ],
)
def test_every_part_of_the_input_counts_for_the_key(changed: InputRequest) -> None:
    files = {"a": b"x\n", "g": b"", "stdin": b""}
    assert key(changed, **files) != key(BASE, **files)


def test_the_content_of_every_file_counts_for_the_key() -> None:
    assert key(BASE, a=b"x\ny\n") != key(BASE, a=b"x\nz\n")
    request = InputRequest(
        template="x {p} {a} {}", parameters=("p=@values",), grid="grid", lists=(ArgumentList(file="list"),)
    )
    files = {"values": b"1\n", "grid": b"a\n1\n", "list": b"2\n"}
    assert input_files(request) == ("grid", "values", "list")
    keys = {key(request, **files)} | {key(request, **{**files, name: b"other\n"}) for name in files}
    assert len(keys) == 4


def test_a_file_that_cannot_be_read_has_no_key() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        key(BASE)


@pytest.mark.parametrize(
    ("request_", "content", "expected"),
    [
        (InputRequest(files=("-",)), b"a\nb\n", ["a", "b"]),
        (InputRequest(files=("-",)), b"shell:1:1:1:a\nshell:1:1:1:b\n", ["a", "b"]),
        (InputRequest(template="x {a} | y", grid="-"), b"a\n1\n2\n", ["x 1 | y", "x 2 | y"]),
        (
            InputRequest(template="x {a} | y", grid="-", grid_format="jsonl"),
            b'{"a":1}\n{"a":2}\n',
            ["x 1 | y", "x 2 | y"],
        ),
        (
            InputRequest(template="x {1} | y", lists=(ArgumentList(file="-"),), colsep=","),
            b"1,a\n2,b\n",
            ["x 1 | y", "x 2 | y"],
        ),
        (InputRequest(template="x {2} | y", lists=(ArgumentList(file="-"),) * 2), b"1\n", ["x 1 | y"]),
        (InputRequest(template="x | y", pipe=PipeOptions(records=1)), b"1\n2\n", ["x | y", "x | y"]),
    ],
)
def test_the_key_may_be_taken_between_opening_and_reading_one_spooled_input(
    request_: InputRequest, content: bytes, expected: list[str]
) -> None:
    spooled = io.BytesIO(content)

    def rewound(name: str) -> AbstractContextManager[io.BytesIO]:
        spooled.seek(0)
        return nullcontext(spooled)

    parsed = read_tasks(request_, rewound)
    derive_key(request_, rewound)
    assert [task.command for task in parsed.tasks] == expected


# --- whatever comes in ----------------------------------------------------------------------------------


@given(
    content=st.binary(max_size=200),
    name=st.sampled_from(["x", "x.jsonl", "x.toml", "-"]),
    form=st.sampled_from(["auto", "commands", "distcomp", "jsonl", "toml"]),
    keep_going=st.booleans(),
)
def test_arbitrary_files_give_tasks_or_an_input_error(content: bytes, name: str, form: str, keep_going: bool) -> None:
    request = InputRequest(files=(name,), format=form, keep_going=keep_going)  # type: ignore[arg-type]
    try:
        found = list(read_tasks(request, opener({name: content})).tasks)
    except InputError as error:
        assert error.exit_code == 2
        return
    assert found
    for task in found:
        assert argv_of(task.command)


def test_a_line_of_every_byte_reaches_a_real_shell_unchanged() -> None:
    every = bytes(byte for byte in range(1, 256) if byte not in (ord("'"), ord("\n"), ord("\r")))
    (task,) = tasks(InputRequest(files=("a",)), a=b"printf %s '" + every + b"' | cat\n")
    done = subprocess.run(
        [word.encode("utf-8", "surrogateescape") for word in argv_of(task.command)], capture_output=True, check=True
    )
    assert done.stdout == every
