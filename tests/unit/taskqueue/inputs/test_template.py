"""Placeholders, what fills them, and that values stay data."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergates.errors import InputError
from ergates.taskqueue.command import argv_of
from ergates.taskqueue.inputs.template import Template, UnboundError, has_positional, part_of


def fill(text: str | None, *values: str, number: int = 1) -> str | tuple[str, ...]:
    return Template(text, {}, range(len(values))).command(values, number)


def fill_named(text: str, **values: str) -> str | tuple[str, ...]:
    named = {name: column for column, name in enumerate(values)}
    return Template(text, named, tuple(named.values())).command(tuple(values.values()), 1)


def run(command: str | tuple[str, ...]) -> bytes:
    return subprocess.run([os.fsencode(word) for word in argv_of(command)], capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("value", "parts"),
    # value: {.} {/} {//} {/.}, as GNU parallel 20221122 prints them
    [
        ("foo", ("foo", "foo", ".", "foo")),
        ("foo/", ("foo/", "", ".", "")),
        ("a.b/c", ("a.b/c", "c", "a.b", "c")),
        ("a/b.c.d", ("a/b.c", "b.c.d", "a", "b.c")),
        ("/x", ("/x", "x", "/", "x")),
        (".hid", ("", ".hid", ".", "")),
        ("a/.hid", ("a/", ".hid", "a", "")),
        ("x.", ("x", "x.", ".", "x")),
        ("a/b.", ("a/b", "b.", "a", "b")),
        ("/", ("/", "", "/", "")),
        ("", ("", "", ".", "")),
    ],
)
def test_endings_take_what_gnu_parallel_takes(value: str, parts: tuple[str, ...]) -> None:
    assert tuple(part_of(value, ending) for ending in (".", "/", "//", "/.")) == parts


@pytest.mark.parametrize(
    ("text", "values", "command"),
    [
        ("sim {}", ("a b",), ("sim", "a b")),
        ("sim --in {} --out {.}.png", ("d/x.jpg",), ("sim", "--in", "d/x.jpg", "--out", "d/x.png")),
        ("sim {1} {2} {1}", ("a", "b"), ("sim", "a", "b", "a")),
        ("sim {-1} {2.} {2/} {2//} {2/.}", ("a", "d/x.y"), ("sim", "d/x.y", "d/x", "x.y", "d", "x")),
        ("sim {}", ("a", "b"), ("sim", "a", "b")),
        ("sim x{}y", ("a", "b"), ("sim", "xa by")),
        ("sim", ("a", "b c"), ("sim", "a", "b c")),
        ("sim '{}'", ("a b",), ("sim", "a b")),
        ("sim {#}", ("a",), ("sim", "1")),
        ("sim {}", ("$(rm -rf /); `x` 'y' \"z\" *",), ("sim", "$(rm -rf /); `x` 'y' \"z\" *")),
        ("sim '{\"a\": {}}'", ("1",), ("sim", '{"a": 1}')),
        ("awk '{print $1}' {}", ("f",), ("awk", "{print $1}", "f")),
        ("awk '{if (x) {print $1}}' {}", ("f",), ("awk", "{if (x) {print $1}}", "f")),
        ("sim '{{}}' {}", ("f",), ("sim", "{}", "f")),
        ("sim '{{x}} {{1}} {{#}}' {1}", ("f",), ("sim", "{x} {1} {#}", "f")),
        ("{} -v", ("cd",), ("cd", "-v")),
        ("sim {}", ("",), ("sim", "")),
        ("{}", ("echo a | wc",), "echo a | wc"),
        (None, ("echo a",), "echo a"),
        ("sim {} > {.}.out", ("a b.c",), "sim 'a b.c' > 'a b'.out"),
        ("sim {} > out/{}.txt", ("7",), "sim 7 > out/7.txt"),
        ("echo ${HOME} {}", ("1",), "echo ${HOME} 1"),
        ("echo {} >x", ("2",), "echo 2 >x"),
        ("echo {}>x", ("2",), "echo '2'>x"),
        ("echo $A{}", ("b",), "echo $A'b'"),
        ('echo "$A{}" "a{}"', ("b",), 'echo "$A"\'b\'"" "ab"'),
        ("{} | wc", ("if",), "'if' | wc"),
        ("{}=1 sim; x", ("A",), "'A'=1 sim; x"),
        ("{} sim | x", ("A=1",), "'A=1' sim | x"),
        ("sim {} | x", ("a", "b c"), "sim a 'b c' | x"),
    ],
)
def test_placeholders_are_filled_in(text: str | None, values: tuple[str, ...], command: str | tuple[str, ...]) -> None:
    assert fill(text, *values) == command


def test_named_placeholders() -> None:
    assert fill_named("sim --seed {seed} {file/.}", seed="1", file="a/b.c") == ("sim", "--seed", "1", "b")
    assert fill_named("sim {my-name}", **{"my-name": "x"}) == ("sim", "x")
    assert fill_named("sim {the column/}", **{"the column": "a/b"}) == ("sim", "b")
    assert fill_named("sim {} {1} {2}", a="x", b="y") == ("sim", "x", "y", "x", "y")
    assert fill_named("sim {a}", a="{b}") == ("sim", "{b}")
    assert fill_named("sim {a}{b}; x", a="1", b="2") == "sim '1''2'; x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sim {sed}", r"nothing is bound to \{sed\}\n.*\n.*did you mean \{seed\}\?"),
        ("sim {zzz}", r"\{zzz\}[\s\S]*-p NAME=VALUES[\s\S]*\{\{zzz\}\}"),
        ("sim {3}", r"nothing is bound to \{3\}"),
        ("sim {0}", r"\{0\}"),
        ("sim {-3}", r"\{-3\}"),
        ("sim {sed.}", r"did you mean"),
        ("sim {%}", "slots are not known"),
        ("sim {²}", r"\{²\}"),
        ("a\0b", "NUL"),
    ],
)
def test_an_unbound_name_is_an_error_with_the_nearest_known(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fill_named(text, seed="1", size="2")


def test_names_with_dots_where_such_names_are_bound() -> None:
    values = {"server.address": "10.0.0.1", "server.file": "/d/x.tar.gz", "server": "s"}
    text = "p {server.address} {server.file/.} {server.file.} {server} {a,b} 'x {1.5} {a. b}'"
    assert fill_named(text.replace(" {a,b}", ""), **values) == (
        "p", "10.0.0.1", "x.tar", "/d/x.tar", "s", "x {1.5} {a. b}"
    )  # fmt: skip
    for unbound in ("{server.adress}", "{client.address}", "{server.address.port}", "{server.adress/}"):
        with pytest.raises(UnboundError) as caught:
            fill_named(f"p {unbound}", **values)
        assert caught.value.name == unbound[1:-1]


def test_names_with_dots_are_only_braces_elsewhere() -> None:
    assert fill_named("p '{server.address}' {seed}", seed="1") == ("p", "{server.address}", "1")


def test_nothing_to_fill_braces_with_is_an_error() -> None:
    with pytest.raises(InputError, match=r"nothing is bound to \{\}"):
        fill("find . -exec rm {} +")


@pytest.mark.parametrize("text", ["x {}", "x {1}", "x {.}", "x {2/}", "{-1}"])
def test_positional_placeholders_are_noticed(text: str) -> None:
    assert has_positional(text)


@pytest.mark.parametrize("text", ["x", "x {seed}", "x {{}}", "x ${1}", "x {#}", "x {a,b}", "awk '{print $1}'"])
def test_other_braces_are_not_positional(text: str) -> None:
    assert not has_positional(text)


# --- data never becomes code: every template below prints its value through a real shell ---------

SAFE_PLACES = [
    "printf %s {v}",
    "printf %s '{v}'",
    'printf %s "{v}"',
    "printf %s {v} | cat",
    "printf %s '{v}' | cat",
    'printf %s "{v}" | cat',
    'x={v}; printf %s "$x"',
    'x="{v}"; printf %s "$x"',
    'x=$(printf %s. {v}); printf %s "${x%.}"',
    'x="$(printf %s. {v})"; printf %s "${x%.}"',
    'x="$(printf %s. "{v}")"; printf %s "${x%.}"',
    'x="$(printf %s. \'{v}\')"; printf %s "${x%.}"',
    'E=; printf %s "$E{v}" # it\'s',
    'x="$(true){v}"; printf %s "$x"',
    'x="$(true "a" | : )"; printf %s "{v}"',
    'x="$(true \'a\')$( (true) ){v}"; printf %s "$x"',
    "E=; printf %s $E{v}",
    "(printf %s {v})",
    "if true; then printf %s {v}; fi",
    "case {v} in *) printf %s {v};; esac",
    'echo "a" >/dev/null; printf %s "{v}"',
    "printf %s \\\\{v} | cut -c2-2000000 -z | tr -d '\\000'",
]
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20) | st.text(
    "ab '\"\\$`*~#(){};|&<>!=\n\t-", max_size=16
)
BYTES = st.binary(max_size=10).filter(lambda raw: b"\0" not in raw).map(os.fsdecode)


@pytest.mark.parametrize("text", SAFE_PLACES)
@settings(max_examples=40, deadline=None)
@given(value=TEXTS | BYTES | st.sampled_from(["1", "a", "-n", "x.y/z"]))
def test_a_value_goes_through_a_real_shell_unchanged(text: str, value: str) -> None:
    assert run(fill_named(text, v=value)) == os.fsencode(value)


RISKY_PLACES = ["cat <<E\n{v}\nE", "echo `echo {v}`", "echo $(({v}))", "echo \\{v} | x", "true # {v}", "echo ${X:-{v}}",
                'x="$(case a in a) echo {v};; esac)"', 'echo "\\{v}" | x', "echo $'{v}'", "((x={v}))"]  # fmt: skip


@pytest.mark.parametrize("text", RISKY_PLACES)
def test_where_quoting_is_not_certain_only_harmless_values_are_let_in(text: str) -> None:
    assert "x-1.txt" in fill_named(text, v="x-1.txt")
    for value in ("a b", "$(id)", "'", "`", "a\nb", ""):
        with pytest.raises(InputError, match="cannot be quoted safely"):
            fill_named(text, v=value)


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from(
            [
                "{v}",
                "{v}",
                " ",
                "'",
                '"',
                "\\",
                "$",
                "$(",
                ")",
                "(",
                "`",
                "${",
                "}",
                "a",
                "#",
                "<<",
                ";",
                "case ",
                "$((",
                "\n",
                "x=",
                "echo ",
            ]
        ),
        min_size=1,
        max_size=14,
    )
)
def test_no_template_lets_a_value_run_a_command(pieces: list[str]) -> None:
    """Whatever the template's quotes: a value full of commands never creates its file (here: never prints its word)."""
    text = "".join(pieces)
    for value in (
        "';echo PWNED>&2;'",
        '";echo PWNED>&2;"',
        "$(echo PWNED>&2)",
        "`echo PWNED>&2`",
        "\necho PWNED>&2\n",
        ")\necho PWNED>&2 #",
    ):
        try:
            command = fill_named(text, v=value)
        except InputError:
            continue
        if isinstance(command, tuple):
            continue  # no shell, no code
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/nowhere"},
        )
        # The shell's own complaints quote the value; a line of its own is what the echo would make.
        assert b"PWNED" not in done.stderr.splitlines()


@settings(max_examples=300)
@given(text=st.text("ab{}1.#/%$'\"\\ -²é", max_size=25), values=st.lists(TEXTS, max_size=3))
def test_arbitrary_templates_give_a_command_or_an_input_error(text: str, values: list[str]) -> None:
    try:
        command = fill(text, *values)
    except InputError:
        return
    assert isinstance(command, str | tuple)
