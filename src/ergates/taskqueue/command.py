"""Does a command line need a shell? Most do not, and starting a program directly saves a whole process.

A line is *direct* when a POSIX shell would do nothing with it but split it into words and take quotes away. Everything
else (pipes, redirections, variables, globs, `~`, comments, assignments before the program, words only a shell knows)
goes to `/bin/sh -c`. In doubt the shell gets it: that is always right, only slower.

A table of words and three regular expressions do it, in about 1 µs for a plain line (`shlex`, which walks every
character in Python, takes 20 to 100 µs).
"""

from __future__ import annotations

import os
import re

SHELL = "/bin/sh"

ARGUMENT_BYTES_MAX = 128 * 1024 - 1
"""MAX_ARG_STRLEN of Linux (32 pages), less the closing NUL."""
ARGV_BYTES_MAX = 2 * 1024 * 1024
"""A quarter of the usual 8 MiB stack, where Linux draws the line (execve(2)); the environment counts against it too."""

_RESERVED = "! { } [[ ]] if then else elif fi do done case esac while until for in select function time coproc"
# Special and regular built-ins of POSIX sh, and what bash and dash add, unless every system also has a program of that
# name (echo, printf, test, [, true, false, kill, pwd, env, nice, ...).
_BUILTIN = """
    . : break continue eval exec exit export readonly return set shift times trap unset
    alias bg bind builtin caller cd command compgen complete declare dirs disown enable fc fg getopts hash history jobs
    let local logout mapfile popd pushd read readarray shopt source suspend type typeset ulimit umask unalias wait
"""
RESERVED_WORDS = frozenset(_RESERVED.split())
SHELL_WORDS = RESERVED_WORDS | frozenset(_BUILTIN.split())

_PLAIN = re.compile(r"""[^\n|&;<>()$`\\"'*?\[#~{]*""")
_PART = r"""(?:[^ \t\n|&;<>()$`\\"'*?\[#~{]++|'[^']*+'|"(?:[^"\\$`]|\\[^\n])*+"|\\[^\n])"""
_DIRECT = re.compile(rf"(?:[ \t]++|{_PART})*+")
_WORD = re.compile(rf"{_PART}++")
_PLAIN_WORD = re.compile(r"[^ \t]+")
_QUOTED = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)""", re.DOTALL)
_ESCAPED_IN_DOUBLE = re.compile(r"""\\([$`"\\])""")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_OPEN_DOUBLE = re.compile(r'"(?:[^"\\]|\\.)*+\\?', re.DOTALL)


def argv_of(command: str | tuple[str, ...]) -> tuple[str, ...]:
    """The argument vector that runs a task's command: its own words, or `/bin/sh -c` and the line.

    Bytes that are not UTF-8 are lone surrogates here (surrogateescape); `os.fsencode` gives them back.

    Args:
        command: a line without NUL, or an argument vector, which is returned as it is.
    """
    if isinstance(command, tuple):
        return command
    words = direct_words(command)
    if words is not None:
        return words
    # `sh -c -x` would read the line as an option; a blank before it changes nothing else.
    return (SHELL, "-c", f" {command}" if command[:1] in ("-", "+") else command)


def direct_words(line: str) -> tuple[str, ...] | None:
    """The words of a line without shell syntax, quotes taken away; None when the line needs a shell."""
    if _PLAIN.fullmatch(line):
        words = _PLAIN_WORD.findall(line)
    elif _DIRECT.fullmatch(line):
        words = [_unquoted(word) for word in _WORD.findall(line)]
    else:
        return None
    if not words or not words[0] or words[0] in SHELL_WORDS or _ASSIGNMENT.match(words[0]):
        return None
    return tuple(words)


def has_unclosed_quote(line: str) -> bool:
    """Whether a quote is opened for certain and never closed, so that no shell could run the line.

    Only what comes before any shell syntax is judged: after a `#`, a `<<` or a `$(` quotes may mean something else.
    """
    match = _DIRECT.match(line)
    rest = line[match.end() :] if match else line
    # A closed quote would have been consumed, so a single quote here has no partner.
    return rest[:1] == "'" or (rest[:1] == '"' and _OPEN_DOUBLE.fullmatch(rest) is not None)


def too_long(command: str | tuple[str, ...]) -> str | None:
    """Why Linux could not start this command for its length, in words; None when it can."""
    shortest = len(command) if isinstance(command, str) else sum(map(len, command)) + 2 * len(command)
    if shortest <= ARGUMENT_BYTES_MAX // 4:  # UTF-8 has at most 4 bytes for a character
        return None
    argv = argv_of(command)
    sizes = [len(os.fsencode(argument)) for argument in argv]
    if max(sizes) > ARGUMENT_BYTES_MAX:
        what = "the line" if argv[0] == SHELL and len(argv) == 3 else "one argument"
        return f"{what} has {max(sizes):,} bytes, and Linux passes at most {ARGUMENT_BYTES_MAX:,} in one argument"
    total_bytes = sum(sizes) + 9 * len(sizes)  # a NUL and a pointer each
    if total_bytes > ARGV_BYTES_MAX:
        return f"its arguments have {total_bytes:,} bytes, and Linux passes at most {ARGV_BYTES_MAX:,} to a program"
    return None


def _unquoted(word: str) -> str:
    if "'" not in word and '"' not in word and "\\" not in word:
        return word
    return _QUOTED.sub(_without_quotes, word)


def _without_quotes(match: re.Match[str]) -> str:
    single, double, escaped = match.groups()
    if single is not None:
        return str(single)
    if double is not None:
        return _ESCAPED_IN_DOUBLE.sub(r"\1", double) if "\\" in double else str(double)
    return str(escaped)
