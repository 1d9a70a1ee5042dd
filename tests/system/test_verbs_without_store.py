"""Every command that works on a cluster, against no server, a frozen reply and a wrong password: it says what to do, and ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from erg_rig import Erg
from redis_server import Server, free_port, serving

from ergates.cli.command_table import SECTIONS

pytestmark = [pytest.mark.needs("redis"), pytest.mark.system]
SECRET, GUESS = "right-password", "wrong-password"
VERBS = (
    ("run", "true"), ("submit", "true"), ("close", "j1"), ("edit", "j1", "--set", "priority=1"), ("retry", "j1"),
    ("cancel", "j1"), ("forget", "j1"), ("pause", "j1"), ("resume", "j1"), ("status",), ("status", "j1"), ("top", "--once"),
    ("wait", "j1"),
    ("logs", "j1/1"), ("explain", "j1"), ("explain", "j1/1"), ("export", "j1"), ("report",), ("worker", "start"),
    ("worker", "list"), ("worker", "set", "w1", "--cpus", "1"), ("worker", "drain", "--all"), ("controller", "--once"),
)  # fmt: skip
NOT_OF_A_STORE = {"doctor", "config", "completion", "simulate", "store", "distcomp", "experiment", "node"}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("locked"), f"requirepass {SECRET}") as server:
        yield server


def test_no_command_is_forgotten() -> None:
    known = {name for section, commands in SECTIONS for name, _ in commands}
    assert known == {words[0] for words in VERBS} | NOT_OF_A_STORE


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_nobody_there_and_a_wrong_password(words: tuple[str, ...], erg: Erg, locked: Server, tmp_path: Path) -> None:
    gone = f"redis://127.0.0.1:{free_port()}"
    cases = (
        (gone, "", ("no server there", "hint: start it")),
        (locked.url, "", ("wants a password", "ERGATES_STORE_PASSWORD")),
        (locked.url, GUESS, ("wrong password for the user 'default'", "ERGATES_STORE_PASSWORD")),
    )
    for url, password, says in cases:
        env = {"ERGATES_STORE": url, "ERGATES_WORKER_STATE": str(tmp_path / "state")}
        shown = erg(*words, env={**env, **({"ERGATES_STORE_PASSWORD": password} if password else {})})
        assert shown.code == 1, f"{words} at {url}: {shown}"
        assert "Traceback" not in shown.err and GUESS not in shown.err
        for each in says:
            assert each in shown.err, f"{words} at {url}: {shown}"
        assert shown.out == b""
    assert not (tmp_path / ".ergates").exists(), "a store of this directory was made instead"
