"""Alternatives, labels, paths, gangs and files: from the command line's texts, JSON Lines and TOML, to what is submitted."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.cluster.task import Alternative, Requirement, TaskSpec
from ergates.errors import InputError
from ergates.taskqueue.inputs.lines import Problems
from ergates.taskqueue.inputs.needs import (
    Role,
    checked_data,
    checked_path,
    gang_size,
    parse_alternative,
    parse_role,
)
from ergates.taskqueue.inputs.request import ArgumentList, InputRequest, PipeOptions, TaskDefaults
from ergates.taskqueue.inputs.source import derive_key, read_tasks
from ergates.units import MilliCpus, Nanoseconds


def tasks(request: InputRequest, content: str = "", problems: Problems | None = None) -> list[TaskSpec]:
    parsed = read_tasks(request, lambda _: io.BytesIO(content.encode()))
    found = list(parsed.tasks)
    if problems is not None:
        problems.first.extend(parsed.problems.first)
    return found


def one(**keys: object) -> TaskSpec:
    (task,) = tasks(InputRequest(files=("t.jsonl",)), json.dumps({"command": "sim", **keys}))
    return task


# --- the texts of options --------------------------------------------------------------------------


def test_alternatives_of_the_command_line() -> None:
    assert parse_alternative("cpus=1,gpus=1") == Alternative(resources=(("gpus", 1),))
    assert parse_alternative(" licences=2 , cpus=0.5 , a=0") == Alternative(
        cpus_milli=MilliCpus(500), resources=(("licences", 2),)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "NAME=AMOUNT"),
        ("gpus", "NAME=AMOUNT"),
        ("gpus=1,gpus=2", "each name once"),
        ("gpus=x", "a number for gpus"),
        ("gpus=-1", "a whole number for gpus"),
        ("cpus=0", "a number of cores"),
        ("cpus=nan", "a number of cores"),
        ("memory=2", "the memory is the same"),
        ("my gpus=1", "the name of a resource"),
    ],
)
def test_what_is_no_alternative(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse_alternative(text)


def test_roles_of_the_command_line() -> None:
    assert parse_role("server=1:./serve --at=a:b") == Role(name="server", count=1, command="./serve --at=a:b")
    assert parse_role("worker=3") == Role(name="worker", count=3)
    assert parse_role("server=2@rack=a,group=big:ssh a@b:c") == Role(
        name="server", count=2, command="ssh a@b:c", labels=(("group", "big"), ("rack", "a"))
    )
    assert parse_role("client=1@disk=ssd").labels == (("disk", "ssd"),)
    for text in ("server", "server=", "server=x:y", "server=0:y", "server=1:", "a b=1", "=1", "server=1:a\0b"):
        with pytest.raises(ValueError, match=r"expected|NUL"):
            parse_role(text)


@pytest.mark.parametrize("labels", ["", "big", "=big", "group=", "group=big,", "group=big,group=small"])
def test_what_are_no_labels_of_a_role(labels: str) -> None:
    with pytest.raises(ValueError, match="the labels of server: expected LABEL=VALUE"):
        parse_role(f"server=1@{labels}:./serve")


def test_roles_with_labels_become_a_requirement() -> None:
    request = InputRequest(
        template="run", defaults=TaskDefaults(roles=(parse_role("s=1@b=2,a=1:serve"), parse_role("c=2")))
    )
    (from_options,) = tasks(request)
    from_record = one(roles={"s": {"count": 1, "command": "serve", "require_labels": {"b": 2, "a": "1"}}, "c": 2})
    expected = Requirement(nodes=3, roles=(("s", 1), ("c", 2)), role_labels=(("s", (("a", "1"), ("b", "2"))),))
    assert from_options.requirement == expected == from_record.requirement
    content = '[[task]]\ncommand = "run"\nroles.s = {count = 1, require_labels = {a = "1", b = "2"}}\nroles.c = 2\n'
    assert [task.requirement for task in tasks(InputRequest(files=("t.toml",)), content)] == [expected]
    assert sorted([expected, Requirement(), Requirement(nodes=3, roles=expected.roles)])[-1] == expected


def test_a_gang_is_as_large_as_its_roles() -> None:
    roles = (Role(name="server", count=1), Role(name="client", count=3))
    assert gang_size(None, ()) == 1 and gang_size(5, ()) == 5
    assert gang_size(None, roles) == 4 and gang_size(4, roles) == 4
    with pytest.raises(ValueError, match="add up to 4"):
        gang_size(5, roles)
    with pytest.raises(ValueError, match="twice"):
        gang_size(None, (*roles, roles[0]))


def test_paths_and_places() -> None:
    assert checked_path("/data/x/") == "/data/x" and checked_path("/") == "/"
    with pytest.raises(ValueError, match="absolute"):
        checked_path("data")
    for place in ("s3://bucket/folder", "sftp://me@host/f", "host:/folder", "me@host:/f", "/shared/f"):
        assert checked_data(place) == place
    for place in ("", "folder", "host:folder", "s3:", "a b"):
        with pytest.raises(ValueError, match="expected s3"):
            checked_data(place)
    with pytest.raises(ValueError, match="password") as error:
        checked_data("sftp://me:hunter2@host/f")
    assert "hunter2" not in str(error.value)


# --- records ---------------------------------------------------------------------------------------


def test_a_record_with_every_need() -> None:
    task = one(
        **{"or": [{"cpus": 1, "gpus": 1}, {"licences": 2}]},
        require_labels={"zone": "a", "arch": "x86"}, requires=["/z", "/data/", "/z"], min_time="30m", nodes=3,
        roles={"server": 1, "client": {"count": 2, "command": ["client", "a b"]}}, inputs=["in/{#}.gz", "s3://b/k"],
        outputs="out/*.csv",
    )  # fmt: skip
    assert task == TaskSpec(
        command="sim",
        requirement=Requirement(
            alternatives=(Alternative(resources=(("gpus", 1),)), Alternative(resources=(("licences", 2),))),
            labels=(("arch", "x86"), ("zone", "a")),
            paths=("/data", "/z"),
            min_time_ns=Nanoseconds(30 * 60 * 10**9),
            nodes=3,
            roles=(("server", 1), ("client", 2)),
        ),
        inputs=("in/1.gz", "s3://b/k"),
        outputs=("out/*.csv",),
        role_commands=(("client", ("client", "a b")),),
    )


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"or": []}, "or is []"),
        ({"or": [3]}, "or is [3]"),
        ({"or": {"gpus": 1.5}}, "or: expected a whole number for gpus"),
        ({"or": {"memory": 5}}, "or: the memory is the same"),
        ({"require_labels": ["arch"]}, "require_labels is ['arch']"),
        ({"requires": "data"}, "requires: expected an absolute path"),
        ({"requires": [""]}, "requires is ''"),
        ({"min_time": "soon"}, "min_time is 'soon'"),
        ({"min_time": 0}, "min_time is 0"),
        ({"nodes": 0}, "nodes is 0"),
        ({"nodes": 10**8}, "nodes is 100000000"),
        ({"roles": {}}, "roles is {}"),
        ({"roles": {"a": "x"}}, "roles.a is 'x'"),
        ({"roles": {"a": {"count": 1, "comand": "x"}}}, "did you mean 'command'?"),
        ({"roles": {"a": {"command": "x"}}}, "roles.a has no count"),
        ({"roles": {"a": {"count": 1, "labels": {"b": "c"}}}}, "did you mean 'require_labels'?"),
        ({"roles": {"a": {"count": 1, "require_labels": "b=c"}}}, "roles.a.require_labels is 'b=c'"),
        ({"roles": {"a": {"count": 1, "require_labels": {"b": ""}}}}, "the label b of a is empty"),
        ({"roles": {"a": {"count": 1, "command": "echo 'x"}}}, "a quote is opened"),
        ({"roles": {"a": 2}, "nodes": 3}, "the roles add up to 2 nodes"),
        ({"inputs": 3}, "inputs is 3"),
        ({"outputs": ["a", "\0"]}, "NUL"),
        ({"output": "x"}, "did you mean 'outputs'?"),
    ],
)
def test_a_wrong_need_names_file_and_line(keys: dict[str, object], said: str) -> None:
    content = '{"command": "fine"}\n\n' + json.dumps({"command": "sim", **keys}) + "\n"
    with pytest.raises(InputError) as error:
        tasks(InputRequest(files=("t.jsonl",)), content)
    assert (error.value.source, error.value.line) == ("t.jsonl", 3)
    assert said in str(error.value)


def test_a_toml_file_with_needs() -> None:
    content = """
[job]
data = "s3://bucket/runs"

[defaults]
require_labels = {arch = "x86", zone = "a"}
inputs = ["common/{#}.cfg"]
nodes = 2

[[task]]
command = "one"
require_labels = {zone = "b"}

[[task]]
command = "two"
nodes = 1
inputs = []
"""
    parsed = read_tasks(InputRequest(files=("t.toml",)), lambda _: io.BytesIO(content.encode()))
    assert parsed.job.data == "s3://bucket/runs"
    first, second = parsed.tasks
    assert first.requirement == Requirement(labels=(("arch", "x86"), ("zone", "b")), nodes=2)
    assert first.inputs == ("common/1.cfg",)
    assert second.requirement == Requirement(labels=(("arch", "x86"), ("zone", "a"))) and second.inputs == ()
    for line, wrong, said in (
        (3, 'data = "nowhere"', "data: expected"),
        (6, "require_labels = 3", "require_labels is 3"),
    ):
        lines = content.split("\n")
        lines[line - 1] = wrong
        with pytest.raises(InputError, match=said) as error:
            tasks(InputRequest(files=("t.toml",)), "\n".join(lines))
        assert error.value.line == line


# --- placeholders ----------------------------------------------------------------------------------


def test_values_fill_in_what_a_task_brings_and_leaves() -> None:
    request = InputRequest(
        template="sim {seed}",
        parameters=("seed=1,2", "file=a b,$(c)"),
        defaults=TaskDefaults(
            inputs=("in/{file}.gz", "plain"),
            outputs=("out/{seed}-{#}.csv", "{{seed}}"),
            roles=(
                Role(name="s", count=1, command="serve {file} | tee log"),
                Role(name="c", count=1, command="client"),
            ),
        ),
    )
    first, second, *_ = tasks(request)
    assert first.inputs == ("in/a b.gz", "plain") and first.outputs == ("out/1-1.csv", "{seed}")
    assert first.role_commands == (("s", "serve 'a b' | tee log"), ("c", ("client",)))
    assert second.inputs == ("in/$(c).gz", "plain") and second.outputs == ("out/1-2.csv", "{seed}")
    assert second.role_commands[0] == ("s", "serve '$(c)' | tee log")


def test_lists_fill_in_too_and_nothing_is_appended_to_a_path() -> None:
    request = InputRequest(
        template="gzip",
        lists=(ArgumentList(values=("a.log", "b.log")),),
        defaults=TaskDefaults(inputs=("{}", "common"), outputs=("{.}.gz",)),
    )
    assert [(task.inputs, task.outputs) for task in tasks(request)] == [
        (("a.log", "common"), ("a.gz",)),
        (("b.log", "common"), ("b.gz",)),
    ]


def test_a_parameter_that_only_a_path_uses_is_used() -> None:
    request = InputRequest(template="sim", parameters=("x=1..2",), defaults=TaskDefaults(inputs=("{x}",)))
    assert [task.inputs for task in tasks(request)] == [("1",), ("2",)]
    with pytest.raises(InputError, match="never used"):
        tasks(InputRequest(template="sim", parameters=("x=1..2",), defaults=TaskDefaults(inputs=("y",))))


def test_a_placeholder_that_nothing_is_bound_to_is_an_error() -> None:
    for request in (
        InputRequest(template="sim {x}", parameters=("x=1",), defaults=TaskDefaults(inputs=("{y}",))),
        InputRequest(files=("commands.txt",), defaults=TaskDefaults(outputs=("{y}",))),
    ):
        with pytest.raises(InputError, match=r"nothing is bound to \{y\}"):
            tasks(request, "one\ntwo\n")


def test_tasks_of_files_and_blocks_are_numbered() -> None:
    defaults = TaskDefaults(outputs=("out/{#}.txt",))
    assert [task.outputs for task in tasks(InputRequest(files=("c.txt",), defaults=defaults), "one\ntwo\n")] == [
        ("out/1.txt",),
        ("out/2.txt",),
    ]
    piped = InputRequest(template="wc", pipe=PipeOptions(records=1), defaults=defaults)
    assert [task.outputs for task in tasks(piped, "one\ntwo\n")] == [("out/1.txt",), ("out/2.txt",)]
    problems = Problems(keep_going=True)
    lines = ['{"command": "a", "outputs": "{#}"}', '{"command": "b", "outputs": "{x}"}', '{"command": "c"}']
    kept = tasks(InputRequest(files=("t.jsonl",), keep_going=True), "\n".join(lines), problems)
    assert [(task.command, task.outputs) for task in kept] == [("a", ("1",)), ("c", ())]
    assert "t.jsonl, task 2" in str(problems.first[0])


def test_needs_are_part_of_the_key() -> None:
    def key(**defaults: object) -> str:
        request = InputRequest(template="sim", defaults=TaskDefaults(**defaults))  # type: ignore[arg-type]
        return derive_key(request, lambda _: io.BytesIO())

    keys = [key(), key(nodes=2), key(requires=("/a",)), key(require_labels={"a": "b"}), key(inputs=("x",))]
    assert len(set(keys)) == len(keys)
    assert key() == key(require_labels={}), "who says nothing has the key of before"


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\n{}"), max_size=8)


befores = texts.filter(lambda text: not text.endswith("$"))
"""A dollar before a brace makes it the shell's: `${HOME}` is no placeholder."""


@given(st.lists(texts, min_size=1, max_size=4), befores, texts)
def test_any_value_goes_into_a_path_as_it_is(values: list[str], before: str, after: str) -> None:
    request = InputRequest(
        template="sim {}",
        lists=(ArgumentList(values=tuple(values)),),
        defaults=TaskDefaults(inputs=(f"{before}{{}}{after}",)),
    )
    whole = [f"{before}{value}{after}" for value in values]
    if any(leads_out(text) for text in whole):
        with pytest.raises(InputError, match="expected"):
            list(tasks(request))
    else:
        assert [task.inputs for task in tasks(request)] == [(text,) for text in whole]


def leads_out(text: str) -> bool:
    return not text or text[0] in "/~" or ".." in text.split("/") or "\r" in text


@pytest.mark.parametrize("value", ["../x", "a/../../b", "/etc/passwd", "~/x", "", "s3://user:secret@bucket/x"])
def test_a_value_that_leads_out_is_refused_with_its_task(value: str) -> None:
    request = InputRequest(
        template="sim {}", lists=(ArgumentList(values=("fine", value)),), defaults=TaskDefaults(inputs=("{}",))
    )
    with pytest.raises(InputError, match="task 2: ") as refused:
        list(tasks(request))
    assert "secret" not in str(refused.value)
