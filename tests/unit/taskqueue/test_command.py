"""Which lines need a shell, and that those which do not mean the same to a real one."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergates.taskqueue.command import ARGUMENT_BYTES_MAX, argv_of, direct_words, has_unclosed_quote, too_long

DIRECT = [
    ("/bin/true", ("/bin/true",)),
    ("  sim  --seed\t1  ", ("sim", "--seed", "1")),
    ("sim 'a b' \"c d\" e\\ f", ("sim", "a b", "c d", "e f")),
    ("sim --name='it is' x", ("sim", "--name=it is", "x")),
    ("sim a'b'\"c\"d", ("sim", "abcd")),
    ("sim '' \"\"", ("sim", "", "")),
    ("sim '$HOME' '*' '~' '#' '{}' '&'", ("sim", "$HOME", "*", "~", "#", "{}", "&")),
    ('sim "a\\"b" "a\\\\b" "a\\$b" "a\\nb"', ("sim", 'a"b', "a\\b", "a$b", "a\\nb")),
    ("sim \\$HOME \\* \\'", ("sim", "$HOME", "*", "'")),
    ("sim a:b 50% x=1 --y=2 a,b @f +1 -- -", ("sim", "a:b", "50%", "x=1", "--y=2", "a,b", "@f", "+1", "--", "-")),
    ("größe naïve\u00a0space 日本", ("größe", "naïve\u00a0space", "日本")),
    ("echo hello! ]", ("echo", "hello!", "]")),
    ("test -f x", ("test", "-f", "x")),
    ("sim a\rb", ("sim", "a\rb")),
    ("sim a\x0bb\x1cc", ("sim", "a\x0bb\x1cc")),
]
SHELL = [
    "A=1 sim", "A= sim", "A+=x sim", "sim *.txt", "sim a?", "sim [ab]", "[ -f x ]", "sim ~", "sim ~/x", "sim $HOME",
    'sim "$X"',
    "sim `date`", "sim $(date)", "a | b", "a && b", "a; b", "a &", "a > b", "a 2>&1", "a < b", "(a)", "{ a; }", "sim {a,b}",
    "cd /tmp", "export A", "source x", ". x", "ulimit -n 10", "exit 3", "if true", "for i in a", ": x", "! true", "time x",
    "'cd' /tmp",
    "exec sim", "wait", "set -e", "eval x", "read x", "umask 0", "while true", "sim # comment", "a\nb",
    "sim \\\nx", "sim 'open", 'sim "open',
    "sim x\\", "", "   ", "''",
]  # fmt: skip


@pytest.mark.parametrize(("line", "argv"), DIRECT)
def test_a_line_without_shell_syntax_is_split_and_run_directly(line: str, argv: tuple[str, ...]) -> None:
    assert argv_of(line) == argv


@pytest.mark.parametrize("line", SHELL)
def test_a_line_with_shell_syntax_goes_to_the_shell_as_it_is(line: str) -> None:
    assert argv_of(line) == ("/bin/sh", "-c", line)


def test_an_argument_vector_is_run_as_it_is() -> None:
    assert argv_of(("cd", "a b", "$HOME")) == ("cd", "a b", "$HOME")


@pytest.mark.parametrize("line", ["-x; echo ran", "+x; echo ran"])
def test_a_line_that_starts_like_an_option_is_still_a_command(line: str) -> None:
    done = subprocess.run(argv_of(line), capture_output=True, text=True, check=False)
    assert done.stdout == "ran\n"


PIECES = st.sampled_from(
    ["a", "b1", " ", "  ", "\t", "'", '"', "\\", "$", "`", "*", "#", "~", "=", "é", "\u00a0", ":", "!", "^", "]", "}", "%", "\r",
     "' '", '" "', "\\'", '\\"', "\x0b", "-n", "{", "?", "x=1", "'a b'", '"\\$"', "'$'", '"a\'b"', "\udcff", "\x7f", "\x01"]
)  # fmt: skip
SHELLS = [["/bin/sh", "-c"]] + ([["bash", "--posix", "-c"]] if shutil.which("bash") else [])


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: str(shell[0]))
@settings(max_examples=150, deadline=None)
@given(lines=st.lists(st.lists(PIECES, min_size=1, max_size=10).map("".join), min_size=1, max_size=12))
def test_direct_words_are_what_a_real_shell_makes_of_the_line(shell: list[str], lines: list[str]) -> None:
    direct = [(line, words) for line in lines if (words := direct_words(line)) is not None]
    script = "\n".join(f"set -- {line}\nprintf '%s\\0' \"$@\"; printf '\\1\\0'" for line, _ in direct)
    done = subprocess.run([*shell, os.fsencode(script)], capture_output=True, check=True)
    expected = b"".join(b"".join(os.fsencode(word) + b"\0" for word in words) + b"\1\0" for _, words in direct)
    assert done.stdout == expected
    assert done.stderr == b""


@pytest.mark.parametrize(
    "line", ["sim 'x", 'sim "x', "it's", 'sim "a\\"', "sim 'a' 'b", 'sim "$HOME', 'x "', "a\\\\'b"]
)
def test_a_quote_that_never_closes_is_found(line: str) -> None:
    assert has_unclosed_quote(line)
    assert subprocess.run(["/bin/sh", "-n", "-c", line], capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize(
    "line",
    [
        "sim 'x'",
        "sim # don't",
        "cat <<'E'",
        'sim "a\\"b"',
        "sim \\'",
        'echo "$(echo "a")"',
        "",
        "a | b 'c'",
        'x "`echo \\"`"',
    ],
)
def test_closed_quotes_and_comments_are_not_taken_for_open_ones(line: str) -> None:
    assert not has_unclosed_quote(line)


@settings(max_examples=200, deadline=None)
@given(line=st.lists(PIECES | st.sampled_from(["|", ";", "(", ")", "<<", "&"]), max_size=12).map("".join))
def test_only_what_the_shell_refuses_too_is_called_unclosed(line: str) -> None:
    if has_unclosed_quote(line):
        assert (
            subprocess.run(["/bin/sh", "-n", "-c", os.fsencode(line)], capture_output=True, check=False).returncode != 0
        )


def test_the_length_limits_are_those_of_the_kernel() -> None:
    fits = "x" * ARGUMENT_BYTES_MAX
    assert too_long(("echo", fits)) is None
    assert subprocess.run(["/bin/true", fits], check=True).returncode == 0
    assert "one argument" in (too_long(("echo", fits + "x")) or "")
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["/bin/true", fits + "x"], check=True)


def test_a_long_line_is_judged_by_what_would_be_executed() -> None:
    many = "echo " + "word " * 30_000  # 150 kB, but run directly as short words
    assert too_long(many) is None
    assert "the line has 150,0" in (too_long(many + "| wc") or "")
    assert "its arguments have" in (too_long("echo " + "word " * 300_000) or "")
    assert too_long("é" * (ARGUMENT_BYTES_MAX // 2)) is None
    assert too_long("é" * (ARGUMENT_BYTES_MAX // 2 + 1)) is not None


def test_bytes_that_are_not_utf8_reach_the_program_unchanged() -> None:
    line = b"printf %s caf\xe9 '\xff\xfe'".decode("utf-8", "surrogateescape")
    done = subprocess.run([os.fsencode(word) for word in argv_of(line)], capture_output=True, check=True)
    assert done.stdout == b"caf\xe9\xff\xfe"
