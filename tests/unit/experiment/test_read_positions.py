"""Lines of keys: exactly those of a text whose author wrote down where each key went."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.experiment.reading.read_positions import Path, line_of, lines_of

TEXT = r'''# [no.table] = "at all"
top = 1
"quoted key" = "a # b = [c]"   # x = 1
'single "quoted"' = 'C:\path\'
dotted . "in.side" .deep = true

[table]   # behind
inline = { a = 1, "b.c" = { d = "}" }, list = [1, { e = 2 }] }
list = [
  1, # one
  [2,
   3],
  "]",

  { x = 1,  y = [ 4 ] },
]
basic = """
[header] # in a text
key = "value\""" still
"""
ends = """quotes inside: ""\""""""
literal = \'\'\'
[[also]] \ no
it's''\'\'\'
after = 1979-05-27 07:32:00

[ table . sub ]
key=1
[[array]]
name = "first"
[array.inner]
key = 1
[[array.list]]
[[array.list]]
z = 1
[[array]]
name = "second"
[[array.list]]
z = 2
["a.b"."c\u0064"]
last = +1_000'''.replace("\\'\\'\\'", "'''")

EXPECTED: dict[Path, int] = {
    ("top",): 2,
    ("quoted key",): 3,
    ('single "quoted"',): 4,
    ("dotted",): 5,
    ("dotted", "in.side", "deep"): 5,
    ("table",): 7,
    ("table", "inline"): 8,
    ("table", "inline", "b.c", "d"): 8,
    ("table", "inline", "list", 1, "e"): 8,
    ("table", "list"): 9,
    ("table", "list", 0): 10,
    ("table", "list", 1): 11,
    ("table", "list", 1, 1): 12,
    ("table", "list", 2): 13,
    ("table", "list", 3): 15,
    ("table", "list", 3, "y", 0): 15,
    ("table", "basic"): 17,
    ("table", "ends"): 21,
    ("table", "literal"): 22,
    ("table", "after"): 25,
    ("table", "sub"): 27,
    ("table", "sub", "key"): 28,
    ("array",): 29,
    ("array", 0): 29,
    ("array", 0, "name"): 30,
    ("array", 0, "inner"): 31,
    ("array", 0, "inner", "key"): 32,
    ("array", 0, "list", 0): 33,
    ("array", 0, "list", 1): 34,
    ("array", 0, "list", 1, "z"): 35,
    ("array", 1): 36,
    ("array", 1, "name"): 37,
    ("array", 1, "list", 0): 38,
    ("array", 1, "list", 0, "z"): 39,
    ("a.b", "cd"): 40,
    ("a.b", "cd", "last"): 41,
}


def test_the_text_is_toml() -> None:
    assert tomllib.loads(TEXT)["a.b"] == {"cd": {"last": 1000}}


@pytest.mark.parametrize("path", EXPECTED, ids=str)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_each_key_is_on_its_line(path: Path, end: str) -> None:
    assert lines_of(TEXT.replace("\n", end))[path] == EXPECTED[path]


def test_what_is_not_there_is_where_it_would_stand() -> None:
    lines = lines_of(TEXT)
    assert line_of(lines, ("array", 1, "missing")) == 36
    assert line_of(lines, ("table", "sub", "key", "deeper")) == 28
    assert line_of(lines, ("nowhere",)) is None


def test_no_document_at_all() -> None:
    assert dict(lines_of("")) == {}
    assert dict(lines_of("# only a comment")) == {}


def paths_in(value: Any, path: Path = ()) -> set[Path]:
    """All that a document holds."""
    found = {path} if path else set()
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found |= paths_in(inner, (*path, key))
    return found


KEYS = st.text(alphabet="ab_-1 .\"'#=[]{}\\é", min_size=0, max_size=4)
TEXTS = st.text(alphabet="ab \n\"'#=[]{},\\", max_size=8)


def quoted(text: str) -> str:
    shown = "".join({'"': '\\"', "\\": "\\\\", "\n": "\\n"}.get(each, each) for each in text)
    return f'"{shown}"'


def multiline(text: str) -> str:
    return '"""' + text.replace("\\", "\\\\").replace('"""', '""\\"') + '\\n"""'


SCALARS = st.one_of(
    st.integers(-9, 9).map(str),
    st.booleans().map(lambda each: str(each).lower()),
    TEXTS.map(quoted),
    TEXTS.map(multiline),
    st.just("1979-05-27T07:32:00Z"),
    st.just("'# [literal] = \"'"),
)
Drawn = Any


@st.composite
def inline_values(draw: Drawn, depth: int = 2) -> str:
    kind = draw(st.sampled_from(["scalar", "scalar", "list", "table"])) if depth else "scalar"
    if kind == "scalar":
        scalar: str = draw(SCALARS)
        return scalar
    inner = [draw(inline_values(depth=depth - 1)) for _ in range(draw(st.integers(0, 3)))]
    if kind == "list":
        gap: str = draw(st.sampled_from(["", " ", "\n", " # ], not yet\n  "]))
        return "[" + gap + "".join(f"{each},{gap}" for each in inner) + "]"
    keys = draw(st.lists(KEYS, min_size=len(inner), max_size=len(inner), unique=True))
    return "{ " + ", ".join(f"{quoted(key)} = {value}" for key, value in zip(keys, inner, strict=True)) + " }"


@st.composite
def documents(draw: Drawn) -> tuple[str, dict[Path, int]]:
    """A document, and the line of each pair and header, noted while it was written."""
    text, lines = "", {}

    def pairs(path: Path) -> None:
        nonlocal text
        for key in draw(st.lists(KEYS, max_size=3, unique=True)):
            text += draw(st.sampled_from(["", "\n", "# x = [\n", "  "]))
            lines[(*path, key)] = text.count("\n") + 1
            text += f"{quoted(key)} = {draw(inline_values())}{draw(st.sampled_from(['', ' # y']))}\n"

    pairs(())
    for number in range(draw(st.integers(0, 3))):
        name = f"t{number}"
        for index in range(draw(st.integers(0, 2))):
            lines[(name, index)] = text.count("\n") + 1
            text += f"[[ {name} ]]\n"
            pairs((name, index))
        name = f"s{number}"
        lines[(name, "x.y")] = text.count("\n") + 1
        text += f'[{name}."x.y"]\n'
        pairs((name, "x.y"))
    return text, lines


@given(documents())
def test_any_document_gets_its_own_lines_and_every_key_has_one(drawn: tuple[str, dict[Path, int]]) -> None:
    text, written = drawn
    found = lines_of(text)
    assert {path: found[path] for path in written} == written
    assert paths_in(tomllib.loads(text)) == set(found)
