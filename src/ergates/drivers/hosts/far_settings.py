"""Settings of hosts that are other machines: `erg node` runs there, and what it answers is read here. Pure.

Its journal lies in the experiment's folder on that host, so that whoever comes after a conductor that was killed finds the
first old values: prepared again, a host goes back to what it was before the first time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

JOURNAL_FOLDER = "node"
JOURNAL_FILE = "journal.jsonl"
STEP_S = 120.0
"""What `erg node` may take on a host: it moves every thread and interrupt one by one."""
SHOWN = 3
LINES_SHOWN = 12


def prepare_words(settings: Sequence[tuple[str, str]], state: str) -> list[str]:
    """The words of `erg` that make settings there. `state`: the folder of the journal there; empty: only look."""
    wishes = [f"--set={name}={value}" for name, value in settings]
    return ["node", "prepare", *wishes, "--yes", "--json", *([f"--state={state}"] if state else ["--dry-run"])]


def restore_words(state: str) -> list[str]:
    """The words of `erg` that undo them."""
    return ["node", "restore", "--json", f"--state={state}"]


def refusal(code: int, out: str, err: str) -> str:
    """Why settings were not made, or would not be; not restored. Empty: all is well.

    Args:
        code: with which `erg node` ended there.
        out: what it printed.
        err: what it printed on standard error.
    """
    try:
        answer = msgspec.json.decode(out)
    except msgspec.DecodeError:
        return _said(code, err)
    if not isinstance(answer, dict):
        return _said(code, err)
    if answer.get("forbidden"):
        return str(answer["forbidden"])
    if answer.get("ok") is True and code == 0:
        return ""
    failed = [*_problems(answer.get("outcomes", ())), *_problems(answer.get("things", ()))]
    more = f", and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    return "; ".join(failed[:SHOWN]) + more if failed else _said(code, err)


def changes_in(err: str) -> tuple[str, ...]:
    """The lines in which it told its changes: `/proc/...: 60 -> 10`."""
    return tuple(line for line in err.splitlines() if " -> " in line or " → " in line)


def told_once(group: str, told: Mapping[str, Sequence[str]]) -> list[str]:
    """What is changed, for people: hosts on which the same is changed are one.

    Args:
        group: of the hosts.
        told: the lines of each host.
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for host, lines in told.items():
        if lines:
            alike.setdefault(tuple(lines), []).append(host)
    said = []
    for lines, hosts in alike.items():
        who = ", ".join(hosts[:SHOWN]) + (f" and {len(hosts) - SHOWN} more" if len(hosts) > SHOWN else "")
        said += [f"hosts.{group}: {who}: {line}" for line in lines[:LINES_SHOWN]]
        if len(lines) > LINES_SHOWN:
            said.append(f"hosts.{group}: {who}: and {len(lines) - LINES_SHOWN} more changes")
    return said


def _problems(things: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of outcomes of `prepare`, or of what `restore` undid; what matters has a problem and is not optional."""
    return [
        f"{thing['change']['target']}: {thing.get('problem') or 'not there now'}"
        for thing in things
        if (thing.get("problem") or thing.get("verdict") == "gone") and not thing["change"].get("optional")
    ]


def _said(code: int, err: str) -> str:
    """A message of ours begins with `erg:` and ends with the text; of anything else the last line tells most."""
    lines = [line.rstrip() for line in err.splitlines() if line.strip()]
    begin = next((number for number, line in enumerate(lines) if line.startswith("erg:")), None)
    if begin is not None:
        return "\n".join([lines[begin].removeprefix("erg:").strip(), *lines[begin + 1 :]])
    return lines[-1].strip() if lines else f"erg node ended with exit code {code} and said nothing"
