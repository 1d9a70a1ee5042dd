"""The shape of a command: what stays the same when only its parameters change.

`sim --seed 7 --size 10 data/a.csv` and `sim --seed 8 --size 20 data/b.csv` have one shape,
`sim --seed # --size # *.csv`, so what one of them used says something about the other. Two grains are kept: `fine`
keeps words (`--policy lru`), `coarse` replaces them too, for when every word is new.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ergates.cluster.task import TaskSpec

LONGEST_READ = 2_000
"""Characters looked at: a line of 10 MB has the shape of its beginning."""
MOST_WORDS = 64
MOST_NUMBERS = 6

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WHOLE_NUMBER = re.compile(r"[+-]?([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)([kKmMgGtT]?)(?:i?[bB])?")
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_EXTENSION = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,5}$")
_INTERPRETERS = frozenset(
    {"python", "python3", "bash", "sh", "perl", "Rscript", "java", "node", "ruby", "julia", "env"}
)


@dataclass(frozen=True, slots=True)
class Shape:
    """`numbers` are the numeric parameters in order of appearance, features for the memory prediction."""

    fine: str
    coarse: str
    numbers: tuple[float, ...]


def shape_of(spec: TaskSpec) -> Shape:
    """Shape of a task's command; containers of different images never share one."""
    command = spec.command
    text = command if isinstance(command, str) else " ".join(command)
    if spec.kind == "python":
        text = text.replace("(", " ", 1)  # `train(3, 'a')`: the function is the program, the rest its parameters
    prefix = "" if spec.kind == "command" else f"{spec.kind} {spec.image or ''}".strip() + " "
    return _shape_of_text(prefix, text[:LONGEST_READ])


@lru_cache(maxsize=4096)
def _shape_of_text(prefix: str, text: str) -> Shape:
    if not text.isascii():  # bytes that are not UTF-8 are lone surrogates, which no store takes as text
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    words = text.split(None, MOST_WORDS)[:MOST_WORDS]
    numbers: list[float] = []
    fine: list[str] = []
    coarse: list[str] = []
    keep_next = True
    for position, word in enumerate(words):
        if keep_next:
            kept = word.rsplit("/", 1)[-1]
            keep_next = position == 0 and kept in _INTERPRETERS
            fine.append(kept)
            coarse.append(kept)
            continue
        name, value = _split_option(word)
        finer, coarser = _abstract(value, numbers) if value else ("", "")
        if position == 1 and not name and finer == value:
            coarser = value  # a subcommand: `git clone`, `samtools sort`
        fine.append(name + finer)
        coarse.append(name + coarser)
    return Shape(prefix + " ".join(fine), prefix + " ".join(coarse), tuple(numbers[:MOST_NUMBERS]))


def _split_option(word: str) -> tuple[str, str]:
    """`--size=3` is (`--size=`, `3`), `-j4` is (`-j`, `4`), `--size` is (`--size`, ``), `data` is (``, `data`)."""
    if not word.startswith("-") or _WHOLE_NUMBER.fullmatch(word):
        return "", word
    name, equals, value = word.partition("=")
    if equals:
        return name + equals, value
    digits = _NUMBER.search(word)
    if digits is not None and digits.end() == len(word):
        return word[: digits.start()], word[digits.start() :]
    return word, ""


def _abstract(value: str, numbers: list[float]) -> tuple[str, str]:
    """Fine and coarse form of one word; its numbers are appended to `numbers`."""
    bare = value.strip("'\"")
    whole = _WHOLE_NUMBER.fullmatch(bare)
    if whole is not None:
        numbers.append(float(whole[1]) * _SCALE[whole[2].lower()])
        return "#", "#"
    extension = _EXTENSION.search(bare)
    if "/" in bare or extension is not None:
        path = "*" + (extension[0] if extension is not None else "")
        numbers.extend(float(digits) for digits in _NUMBER.findall(bare)[:2])
        return path, path
    if any(character.isdigit() for character in bare):
        numbers.extend(float(digits) for digits in _NUMBER.findall(bare)[:2])
        return _NUMBER.sub("#", value), "*"
    return value, "*"
