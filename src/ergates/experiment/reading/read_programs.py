"""`[programs.NAME]`: what the hosts of each role start, when, and how it ends."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Sequence

from ergates.experiment.reading.read_problems import nearest
from ergates.experiment.reading.read_sweep import NAME, NAME_WORDS
from ergates.experiment.reading.read_table import Table, kind_of
from ergates.experiment.spec import Program, Ready, Role, TimedSignal
from ergates.units import Nanoseconds

ONLY_PROGRAM = "program"
"""Name of the one that `[program]` means."""
_OUTPUT_ONLY = ("stdout",)
"""Patterns that keep no file but the output, which is always kept."""
_SIGNALS = {each.name.removeprefix("SIG"): each.value for each in signal.Signals}


def read_programs(document: Table, roles: Sequence[Role]) -> tuple[Program, ...]:
    """All of `[programs]`, or the one of `[program]`."""
    found = []
    if "program" in document:
        if "programs" in document:
            document.problems.add(
                ("program",), "both [program] and [programs]", hint="give the one a name: [programs.NAME]"
            )
        found.append(_program(document, "program", ONLY_PROGRAM, roles))
    table = document.table("programs")
    for name in () if table is None else table.data:
        assert table is not None
        if not NAME.fullmatch(name):
            table.wrong(name, "cannot be the name of a program", expected=NAME_WORDS)
        found.append(_program(table, name, name, roles))
    if not found:
        document.problems.add(
            ("programs",),
            "no program, so there is nothing to run",
            expected='[programs.NAME] with command = "..."',
        )
    return tuple(found)


def _program(parent: Table, key: str, name: str, roles: Sequence[Role]) -> Program:
    raw = parent.raw(key)
    if isinstance(raw, str | list):  # server = "./serve": nothing but its command
        table = Table({"command": raw}, parent.path, f"{parent.shown} {key}".strip(), parent.problems)
        table.path = (*parent.path, key)
    else:
        found = parent.table(key)
        if found is None:
            return Program(name=name, role="", command="")
        table = found
    program = Program(
        name=name,
        role=_role(table, roles),
        command=_command(table),
        order=table.integer("order", 0),
        ready=_ready(table),
        start_ns=table.duration("start", Nanoseconds(0)),
        stop_ns=table.duration("stop"),
        background=table.flag("background"),
        stop_signal=_signal(table, "stop_signal", "TERM"),
        grace_ns=table.duration("grace", Nanoseconds(5 * 10**9)),
        signals=tuple(_timed(each) for each in table.tables("signals")),
        success=_success(table),
        env=table.named_texts("env"),
        cwd=table.text("cwd"),
        gather=_gather(table),
    )
    table.end()
    return program


def _gather(table: Table) -> tuple[str, ...]:
    """An empty list means no file, though no list means all of them."""
    patterns = table.texts("gather")
    return _OUTPUT_ONLY if not patterns and "gather" in table else patterns


def _role(table: Table, roles: Sequence[Role]) -> str:
    names = [role.name for role in roles]
    if "role" not in table:
        table.raw("role")
        if len(names) != 1 and names:
            table.problems.add(table.path, f"{table.shown} has no role", expected="role = one of " + ", ".join(names))
        return names[0] if names else ""
    role = table.text("role")
    if role not in names:
        table.wrong("role", f"no role {role!r}", hint=nearest(role, names))
        return names[0] if names else ""
    return role


def _command(table: Table) -> str:
    """A program named by a path, `./serve`, is beside the file: where it runs there is nothing yet, unless `cwd` is given."""
    raw = table.raw("command")
    beside = "cwd" not in table
    if isinstance(raw, list):
        words = table.texts("command")
        return shlex.join((_beside(words[0]), *words[1:]) if words and beside else words)
    if raw is None:
        table.problems.add(
            table.path, f"{table.shown} has no command", expected='command = "./program --option {axis}"'
        )
        return ""
    text = table.text("command", empty=False)
    return _beside(text) if beside else text


def _beside(text: str) -> str:
    return f"{{here}}/{text.removeprefix('./')}" if text.startswith(("./", "../")) else text


def _ready(table: Table) -> Ready | None:
    inner = table.table("ready")
    if inner is None:
        return None
    port = inner.raw("port")
    if isinstance(port, int) and not isinstance(port, bool):
        if not 0 < port < 65536:
            inner.wrong("port", f"is {port}", expected="1 to 65535")
        port = str(port)
    elif port is not None and not isinstance(port, str):
        inner.wrong("port", f"is {kind_of(port)}", expected='a port such as 8080 or "{port}"')
        port = "0"
    line = inner.text("line")
    _check_pattern(inner, "line", line)
    ready = Ready(
        port=port or "",
        line=line,
        file=inner.text("file"),
        within_ns=inner.duration("within", Nanoseconds(30 * 10**9)),
    )
    given = [name for name, value in (("port", ready.port), ("line", ready.line), ("file", ready.file)) if value]
    if len(given) != 1:
        table.wrong(
            "ready",
            "says not how" if not given else f"says {' and '.join(given)}",
            expected='exactly one of port = 8080, line = "listening" and file = "socket"',
        )
        ready = Ready(file="?")
    inner.end()
    return ready


def _check_pattern(table: Table, key: str, text: str) -> None:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        table.wrong(
            key, f"not a regular expression: {error}", expected="Python's; a text in '...' keeps its backslashes"
        )


def _timed(table: Table) -> TimedSignal:
    if "after" not in table or "signal" not in table:
        table.problems.add(table.path, f"{table.shown} is not whole", expected='{ after = "5s", signal = "USR1" }')
    timed = TimedSignal(after_ns=table.duration("after", Nanoseconds(0)), signal=_signal(table, "signal", "TERM"))
    table.end()
    return timed


def _signal(table: Table, key: str, default: str) -> str:
    """`TERM`, whether it was written so, as SIGTERM or as 15."""
    raw = table.raw(key)
    if isinstance(raw, int) and not isinstance(raw, bool):
        name = next((known for known, number in _SIGNALS.items() if number == raw), "")
        word = str(raw)
    else:
        word = table.text(key, default)
        name = word.upper().removeprefix("SIG")
    if name not in _SIGNALS:
        table.wrong(key, f"no signal {word!r}", hint=nearest(word.upper().removeprefix("SIG"), _SIGNALS))
        return default
    return name


def _success(table: Table) -> tuple[int, ...]:
    raw = table.raw("success")
    if raw is None:
        return (0,)
    codes = raw if isinstance(raw, list) else [raw]
    if not codes or any(isinstance(code, bool) or not isinstance(code, int) or not 0 <= code < 256 for code in codes):
        table.wrong("success", "are no exit codes", expected="a list such as [0, 3]")
        return (0,)
    return tuple(codes)
