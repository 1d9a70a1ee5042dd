"""The same words give the same tasks as GNU parallel, run side by side where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import BinaryIO

import pytest

from ergates.taskqueue.command import argv_of
from ergates.taskqueue.inputs.request import InputRequest, PipeOptions, with_words
from ergates.taskqueue.inputs.source import read_tasks

EXAMPLES = [
    ["echo", "{}", ":::", "a", "b c", "d;e", "$HOME", "it's", 'a"b', "*"],
    ["echo", ":::", "a", "b"],
    ["echo", ":::", "a", "b", ":::", "c", "d"],
    ["echo {2} {1} {1}", ":::", "a", "b", ":::", "c", "d"],
    ["echo {1} {2}", ":::", "a", "b", ":::+", "c", "d", "e"],
    ["echo", ":::", "a", "b", ":::+", "1", "2", ":::", "x", "y"],
    ["echo {} {.} {/} {//} {/.} {#}", ":::", "foo", "d.e/f.g.h", "/x", "a/.hid", "x."],
    ["echo {-1} {2.} {2/} {2//} {2/.} {#}", ":::", "a", "b", ":::", "d/x.y"],
    [":::", "echo a; echo b", "echo c | cat"],
    ["{}", ":::", "echo a; echo b"],
    ["echo {} | tr a-z A-Z", ":::", "a b", "c"],
    ["echo 'a  b' {}", ":::", "x  y"],
    ["echo", "::::", "values"],
    ["echo {1} {2}", "::::", "values", ":::", "x", "y"],
    ["echo {1}-{2}", "::::", "values", "::::+", "values"],
    ["echo {#}", ":::", "a", "b"],
    ["awk 'BEGIN {print 1 + {}}'", ":::", "1", "2"],
]


def gnu_parallel(words: list[str], cwd: Path, stdin: str = "") -> str:
    if shutil.which("parallel") is None:
        if "parallel" in os.environ.get("ERGATES_REQUIRE", "").split(","):
            pytest.fail("GNU parallel is required here (ERGATES_REQUIRE) and not installed")
        pytest.skip("GNU parallel is not installed")
    done = subprocess.run(
        ["parallel", "--will-cite", "-k", "-j1", *words],
        cwd=cwd, input=stdin, capture_output=True, text=True, check=True,
        env={**os.environ, "HOME": str(cwd), "SHELL": "/bin/sh"},
    )  # fmt: skip
    return done.stdout


def ours(request: InputRequest, words: list[str], cwd: Path) -> str:
    def open_file(name: str) -> BinaryIO:
        return open(cwd / name, "rb")

    parsed = read_tasks(with_words(request, words, lambda name: False), open_file)
    outputs = [
        subprocess.run(
            argv_of(task.command), cwd=cwd, input=task.stdin.data if task.stdin else b"", capture_output=True, check=True,
            env={**os.environ, "HOME": str(cwd)},
        ).stdout.decode()
        for task in parsed.tasks
    ]  # fmt: skip
    return "".join(outputs)


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_words_give_what_gnu_parallel_gives(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "values").write_text("one\ntwo words\n\n'quoted'\n")
    assert ours(InputRequest(), words, tmp_path) == gnu_parallel(words, tmp_path)


def test_columns_are_those_of_gnu_parallel(tmp_path: Path) -> None:
    (tmp_path / "values").write_text("a\tb c\nd\te\n")
    words = ["echo {2} {1}", "::::", "values"]
    assert ours(InputRequest(colsep=r"\t"), words, tmp_path) == gnu_parallel(["--colsep", r"\t", *words], tmp_path)


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (PipeOptions(records=3), ["-N3"]),
        (PipeOptions(block_bytes=50), ["--block", "50"]),  # type: ignore[arg-type]
        (PipeOptions(block_bytes=1000), ["--block", "1000"]),  # type: ignore[arg-type]
        (PipeOptions(records=2, recend=b"0"), ["-N2", "--recend", "0"]),
        (PipeOptions(records=2, recstart=b"1"), ["-N2", "--recstart", "1"]),
    ],
)
def test_blocks_are_those_of_gnu_parallel(options: PipeOptions, flags: list[str], tmp_path: Path) -> None:
    numbers = "".join(f"{number}\n" for number in range(1, 101))
    (tmp_path / "-").write_text(numbers)
    words = ["echo block; cat"]
    assert ours(InputRequest(pipe=options), words, tmp_path) == gnu_parallel(
        ["--pipe", *flags, *words], tmp_path, numbers
    )
