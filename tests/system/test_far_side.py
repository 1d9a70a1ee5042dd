"""The far side's program without ssh: on Pythons of other versions, without pip or venv, with noisy and hostile company."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ergates.drivers.placers.conversation import Conversation, open_conversation
from ergates.drivers.placers.far_tags import tags_of
from ergates.drivers.placers.ssh_words import HostError
from ergates.drivers.placers.wheelhouse import Bundle, Wheelhouse, WheelhouseError

pytestmark = pytest.mark.system
BARE = "import sys; sys.modules.update(dict.fromkeys(['pip', 'ensurepip', 'venv', 'setuptools', 'distutils'])); "
RECEIVE = "import sys; r = sys.stdin.buffer; exec(compile(r.read(int(r.readline())), 'far_side.py', 'exec'))"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheels")


def far_side(home: Path, python: str = sys.executable, before: str = "") -> list[str]:
    """A command that gives the far side a home of its own."""
    return ["/bin/sh", "-c", f'{before} HOME="{home}" exec {python} -I -c "$0"', BARE + RECEIVE]


def with_far_side(command: Sequence[str], work: Any, timeout_s: float = 40.0) -> Any:
    async def run() -> Any:
        async with open_conversation(command, timeout_s=timeout_s) as talk:
            return await work(talk)

    return asyncio.run(run())


async def installed(talk: Conversation, wheels: Path) -> tuple[Bundle, Path]:
    bundle = await Wheelhouse(wheels).bundle(tags_of(talk.facts))
    answer = await talk.ask("install", bundle.tar, key="k", sha256=bundle.sha256)
    return bundle, Path(answer["at"])


def other_pythons() -> list[str]:
    """Interpreters >= 3.11 of other versions that this machine has."""
    found: dict[str, str] = {}
    names = [
        "/usr/bin/python3",
        *(f"python3.{n}" for n in range(11, 15)),
        *map(str, Path.home().glob(".pyenv/versions/*/bin/python3")),
    ]
    for name in names:
        tried = [name, "-I", "-c", "import sys; print(sys.version_info[:3]); sys.exit(sys.version_info < (3, 11))"]
        if shutil.which(name):
            ended = subprocess.run(tried, capture_output=True, text=True, check=False)
            if ended.returncode == 0:
                found.setdefault(ended.stdout, name)
    return sorted(found.values())


@pytest.mark.parametrize("python", other_pythons())
def test_our_programs_start_there_without_pip_or_venv(python: str, tmp_path: Path, wheels: Path) -> None:
    _, environment = with_far_side(far_side(tmp_path, python), lambda talk: installed(talk, wheels))
    shown = subprocess.run(
        [environment / "bin" / "erg", "--version"], capture_output=True, text=True, check=True, env={}
    )
    assert shown.stdout.startswith("erg ")
    where = "import sys, redis; print(sys.prefix, redis.__file__)"
    seen = subprocess.run([environment / "bin" / "python", "-c", where], capture_output=True, text=True, check=True)
    prefix, library = seen.stdout.split()
    assert prefix == str(environment)
    assert library.startswith(prefix)


def test_what_arrives_damaged_is_refused_and_leaves_nothing(tmp_path: Path, wheels: Path) -> None:
    async def damaged(talk: Conversation) -> None:
        bundle = await Wheelhouse(wheels).bundle(tags_of(talk.facts))
        with pytest.raises(HostError, match="not what was sent"):
            await talk.ask("install", bundle.tar[:-1] + b"x", key="k", sha256=bundle.sha256)

    with_far_side(far_side(tmp_path), damaged)
    assert not (tmp_path / ".cache/ergates/k").exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, wheels: Path) -> None:
    (tmp_path / ".cache").write_text("in the way")
    with pytest.raises(HostError, match=r"\.cache.*: Not a directory"):
        with_far_side(far_side(tmp_path), lambda talk: installed(talk, wheels))


def test_login_scripts_may_print(tmp_path: Path) -> None:
    facts = with_far_side(far_side(tmp_path, before="echo; echo Welcome; printf 'no end of line';"), _facts)
    assert facts["state"] == f"{tmp_path}/.local/state/ergates/placed"


async def _facts(talk: Conversation) -> dict[str, Any]:
    return talk.facts


def test_a_login_that_never_answers_is_given_up_and_ended(tmp_path: Path) -> None:
    mark = f"ERG_TEST_MARK={tmp_path}"
    with pytest.raises(HostError, match="did not answer in time"):
        with_far_side(["env", mark, "sh", "-c", "sleep 1000 & wait"], _facts, timeout_s=0.3)
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and mark in environment_of(pid)]


def environment_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def test_the_same_wheels_are_gathered_once_and_always_give_the_same_bundle(tmp_path: Path) -> None:
    async def twice() -> None:
        async with open_conversation(far_side(tmp_path)) as talk:
            tags = tags_of(talk.facts)
        first = Wheelhouse(tmp_path / "cache")
        one, two = await asyncio.gather(first.bundle(tags), first.bundle(tags))
        assert one is two
        assert first.gathered == 1
        later = Wheelhouse(tmp_path / "cache")
        assert await later.bundle(tags) == one
        assert later.gathered == 0

    asyncio.run(twice())


def test_no_wheels_for_a_platform_is_said_with_its_name(tmp_path: Path) -> None:
    async def gather() -> None:
        async with open_conversation(far_side(tmp_path)) as talk:
            tags = tags_of({**talk.facts, "machine": "vax"})
        with pytest.raises(WheelhouseError, match=r"Python 3\.\S+ on manylinux_\w+_vax: .*msgspec"):
            await Wheelhouse(tmp_path / "cache").bundle(tags)
        assert not list((tmp_path / "cache").iterdir())

    asyncio.run(gather())
