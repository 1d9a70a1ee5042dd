"""The language that picks tasks: what it means, that it reads what it shows, and that it answers nonsense with a caret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.cluster.usage import Usage
from ergates.errors import InputError
from ergates.taskqueue.store import PastFailures, TaskView
from ergates.taskqueue.where import COMPARISONS_MAX, Both, Comparison, Either, Node, Not, parse_where, shown
from ergates.taskqueue.where_fields import FIELDS
from ergates.units import GIB, Bytes, MilliCpus, Nanoseconds


def view(**fields: object) -> TaskView:
    spec = TaskSpec(
        command="./cachesim --size 4",
        priority=3,
        requirement=Requirement(cpus_milli=MilliCpus(500), memory_bytes=Bytes(8 * GIB)),
        labels={"size": "4", "who": "ann b"},
    )
    values: dict[str, object] = {
        "job": JobId("j1"), "task": TaskId(7), "state": TaskState.FAILED, "spec": spec, "past": PastFailures(),
        "attempts": 2, "not_before_ns": Nanoseconds(0), "reason": "exit code 3", "worker": "", "blocked_by": 0,
    }  # fmt: skip
    return TaskView(**(values | fields))  # type: ignore[arg-type]


LAST = Attempt(
    number=2,
    outcome=Outcome.FAILED,
    host="node7",
    exit_code=3,
    usage=Usage(wall_ns=Nanoseconds(90 * 10**9), peak_bytes=Bytes(GIB), peak_label="sampled"),
)


def holds(text: str, last: Attempt | None = LAST) -> bool:
    return parse_where(text).matches(view(), last, {"study": "one"})


@pytest.mark.parametrize(
    "text",
    [
        'command ~ "cachesim"',
        "command ~ size.[345]",
        "command !~ '^cachesim'",
        'command == "./cachesim --size 4"',
        "state == failed",
        "priority > 2 and priority <= 3",
        "memory >= 8G and memory < 8.1GiB and memory == 8589934592",
        "cpus == 0.5",
        "attempts != 1",
        'reason ~ "code [1-9]"',
        "host == node7",
        "task == 7",
        "outcome == failed",
        "exit_code == 3",
        "wall >= 1m and wall < 1m31s",
        "peak == 1GiB",
        "label.size == 4 and label.size == 4.0 and label.size < 10",
        'label.size == "4"',
        'label."who" == "ann b"',
        "label.study == one",
        'label.none == ""',
        "not state == done",
        "not (state == done or state == ready)",
        "state == done or state == failed and task == 7",
        "not state == done and task == 7",
        "(((task == 7)))",
    ],
)
def test_what_holds(text: str) -> None:
    assert holds(text)
    assert not holds(f"not ({text})")


@pytest.mark.parametrize(
    "text",
    [
        "label.size == '4.0'",
        "label.who > 3",
        "task == 7 and state == done",
        "(state == failed or state == done) and task == 8",
    ],
)
def test_what_does_not_hold(text: str) -> None:
    assert not holds(text)


def test_what_is_not_known_equals_nothing() -> None:
    assert not holds("exit_code == 0", None)
    assert not holds("exit_code < 5 or exit_code >= 5", None)
    assert holds("exit_code != 0 and wall != 1s", None)
    assert holds('host == "" and outcome !~ .', None)
    assert parse_where("wall > 3").needs_attempts
    assert not parse_where("not (state == done and label.wall > 3)").needs_attempts


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("comand ~ x", 0, "did you mean command?"),
        ("state == faild", 9, "did you mean failed?"),
        ("outcome == oom", 11, "one of succeeded"),
        ("state = failed", 6, "== compares"),
        ("priority ~ 3", 9, "is a number"),
        ("command > 3", 8, "is text"),
        ("memory > lots", 9, "expected a size"),
        ("memory > " + "9" * 400, 9, "400 characters"),
        ("wall > 3 parsecs", 9, "left over"),
        ("priority == 1.5", 12, "whole number"),
        ("priority == " + "9" * 30, 12, "whole number"),
        ("cpus == many", 8, "number of cores"),
        ('command ~ "a(b"', 10, "no regular expression"),
        ("command ~ a{99999999999999999999}", 10, "too large"),
        ('command ~ "open', 10, "not closed"),
        ("(task == 1", 10, "a bracket is not closed"),
        ("task == 1)", 9, "left over"),
        ("task ==", 7, "a value is missing"),
        ("task", 4, "compared with nothing"),
        ("", 0, "a field is missing"),
        ("task == 1 and", 13, "a field is missing"),
        ("label. == 3", 0, "no field 'label.'"),
        ("not " * 200 + "task == 1", None, "inside one another"),
        ("a" * 10_001, None, "10,001 characters"),
    ],
)
def test_nonsense_is_answered_with_a_caret(text: str, column: int | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_where(text)
    assert message in str(caught.value)
    if column is not None and len(text) <= 100:
        lines = str(caught.value).splitlines()
        place = next(i for i, line in enumerate(lines) if line.strip() == "^")
        assert lines[place - 1] == f"    {text}"
        assert lines[place] == "    " + " " * column + "^"


def test_a_long_condition_is_shown_around_the_place() -> None:
    text = " or ".join(f"task == {n}" for n in range(100)) + " or task == x or " + "task == 1 or " * 50 + "task == 2"
    with pytest.raises(InputError) as caught:
        parse_where(text)
    lines = str(caught.value).splitlines()
    caret = next(line for line in lines if line.strip() == "^")
    line = lines[lines.index(caret) - 1]
    assert line[caret.index("^")] == "x"
    assert line.strip().startswith("…") and line.endswith("…") and len(line) < 120


# --- laws -----------------------------------------------------------------------------------------

TEXT = st.text(max_size=20).filter(lambda text: "\x00" not in text)
INTEGERS = st.integers(-(10**15), 10**15)
NAMES = {
    "integer": INTEGERS,
    "cores": st.integers(0, 10**9),
    "bytes": st.integers(0, 10**15),
    "duration": st.integers(0, 10**15),
    "state": st.sampled_from([state.value for state in TaskState]),
    "outcome": st.sampled_from([outcome.value for outcome in Outcome]),
    "text": TEXT,
}
NUMBERS = ("integer", "cores", "bytes", "duration")


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    if draw(st.booleans()):
        name = "label." + draw(TEXT.filter(bool))
        value = draw(st.one_of(TEXT, INTEGERS))
        return Comparison(name, draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="])), value)
    name = draw(st.sampled_from(sorted(FIELDS)))
    kind = FIELDS[name].kind
    signs = ["==", "!=", "<", "<=", ">", ">="] if kind in NUMBERS else ["==", "!="]
    return Comparison(name, draw(st.sampled_from(signs)), draw(NAMES[kind]))


NODES: st.SearchStrategy[Node] = st.recursive(
    comparisons(),
    lambda inner: st.one_of(st.builds(Not, inner), st.builds(Both, inner, inner), st.builds(Either, inner, inner)),
    max_leaves=12,
)


@given(NODES)
def test_what_is_shown_reads_as_the_same(node: Node) -> None:
    assert parse_where(shown(node)).root == node


@given(NODES)
def test_a_condition_answers_for_every_task(node: Node) -> None:
    where = parse_where(shown(node))
    for last in (LAST, None):
        assert where.matches(view(), last, {}) is (not parse_where(f"not ({shown(node)})").matches(view(), last, {}))


PIECES = st.sampled_from(
    [
        *FIELDS,
        "label.x",
        "==",
        "!=",
        "<",
        "~",
        "!~",
        "(",
        ")",
        "and",
        "or",
        "not",
        '"',
        "'",
        "\\",
        "8G",
        "3m",
        "-1",
        "é",
        "\n",
    ]
)


@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map(" ".join)))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        where = parse_where(text)
    except InputError as error:
        assert str(error).startswith("--where: ")
    else:
        assert where.matches(view(), LAST, {}) in (True, False)


@pytest.mark.parametrize("word", ["or", "and"])
def test_a_condition_of_very_many_parts_is_refused_before_it_is_too_deep_to_judge(word: str) -> None:
    assert holds(f" {word} ".join(["task>0"] * COMPARISONS_MAX))
    with pytest.raises(InputError, match="more than 300 comparisons"):
        parse_where(f" {word} ".join(["task>0"] * 900))
