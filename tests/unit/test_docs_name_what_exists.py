"""Documents name files, tests and commands that exist: a link to nothing is worse than none."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from ergates.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks/README.md"])
_LINK = re.compile(r"\]\(([^)\s#]+)?(?:#([^)\s]+))?\)")
_TEST = re.compile(r"`(?:tests/)?((?:system|contract|unit|simulation|vm)/[\w/]+\.py)(?:::(\w+))?`")
_PROGRAM = re.compile(r"`((?:benchmarks|src|examples|tests)/[\w/.-]+\.\w+)`")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def anchors(document: Path) -> set[str]:
    headings = _HEADING.findall(document.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in _LINK.findall(document.read_text()):
        if ":" in target:
            continue
        there = (document.parent / target).resolve() if target else document
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_tests_and_programs_are_there(document: Path) -> None:
    text = document.read_text()
    for path, test in _TEST.findall(text):
        file = ROOT / "tests" / path
        assert file.exists(), path
        assert not test or f"def {test}(" in file.read_text(), f"{path}::{test}"
    for path in _PROGRAM.findall(text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_verbs_and_options_are_known(document: Path) -> None:
    """Of lines that begin with `erg`: every word up to the first that is no verb, and every long option after it."""
    for line in re.findall(r"^(?:\$ )?(erg .*)$", document.read_text(), re.MULTILINE):
        for words in re.split(r"&&|\||  +|[;#]", re.sub(r"'[^']*'|\"[^\"]*\"", "quoted", line)):
            command, options = called(words.split())
            known = {option for parameter in command.params for option in parameter.opts}
            for option in options:
                assert option in known, f"{option} in {line!r}"


def called(words: list[str]) -> tuple[click.Command, list[str]]:
    """What a line calls, and the long options it gives."""
    command: click.Command = cli
    if not words or words[0] != "erg":
        return command, []
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, " ".join(words)
        command, rest = found, rest[1:]
    ours = rest[: rest.index("--")] if "--" in rest else rest
    ours = ours[: ours.index(":::")] if ":::" in ours else ours
    return command, [word.partition("=")[0] for word in ours if re.fullmatch(r"--[a-z_-]+(=.*)?", word)]
