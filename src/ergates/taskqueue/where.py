"""A small language that picks tasks: `command ~ "cachesim" and (memory >= 8G or not state == done)`.

    expression = comparison | expression and expression | expression or expression | not expression | ( expression )
    comparison = field operator value

Operators are `== != < <= > >=`, and `~ !~` for a regular expression found anywhere in a text. `not` binds closest, then
`and`, then `or`. A value is a word (`failed`), a number with its unit (`8G`, `30m`) or text in quotes. Nothing is ever
evaluated as code. What is not known (the exit code of a task that never ran) equals nothing: `!=` holds, all else does not.

The fields are in where_fields.py, the reading of text in where_words.py.
"""

from __future__ import annotations

import dataclasses
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ergates.cluster.attempt import Attempt
from ergates.errors import InputError
from ergates.taskqueue.store import TaskView
from ergates.taskqueue.where_fields import LABEL, Subject, field_named, is_number, shown_value, value_of
from ergates.taskqueue.where_words import Word, problem, words_of

DEPTH_MAX = 100
"""Of brackets and `not` inside one another."""
COMPARISONS_MAX = 300
"""Each `and` and `or` is one call inside another when a condition is judged."""

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """`field operator value`; `value` is in the field's own unit (bytes, nanoseconds, thousandths of a core)."""

    field: str
    operator: str
    value: str | int | float
    pattern: re.Pattern[str] | None = dataclasses.field(default=None, compare=False, repr=False)

    def holds(self, subject: Subject) -> bool:
        known = subject.value(self.field)
        match self.operator:
            case "==":
                return _equal(known, self.value)
            case "!=":
                return not _equal(known, self.value)
            case "~" | "!~":
                assert self.pattern is not None
                found = self.pattern.search(str(known)) is not None
                return found == (self.operator == "~")
        if isinstance(self.value, str):  # of a label: both are text
            return isinstance(known, str) and _ORDER[self.operator](known, self.value)
        number = _number(known)
        return number is not None and _ORDER[self.operator](number, self.value)


@dataclass(frozen=True, slots=True)
class Not:
    """The other tasks."""

    inner: Node

    def holds(self, subject: Subject) -> bool:
        return not self.inner.holds(subject)


@dataclass(frozen=True, slots=True)
class Both:
    """`left and right`."""

    left: Node
    right: Node

    def holds(self, subject: Subject) -> bool:
        return self.left.holds(subject) and self.right.holds(subject)


@dataclass(frozen=True, slots=True)
class Either:
    """`left or right`."""

    left: Node
    right: Node

    def holds(self, subject: Subject) -> bool:
        return self.left.holds(subject) or self.right.holds(subject)


Node = Comparison | Not | Both | Either


@dataclass(frozen=True, slots=True)
class Where:
    """A condition that was read.

    Args:
        root: of the expression.
        needs_attempts: whether a task's last attempt is asked about; else `None` can be given for it.
    """

    root: Node
    needs_attempts: bool

    def matches(self, view: TaskView, last: Attempt | None, job_labels: Mapping[str, str]) -> bool:
        """Whether it holds for a task, its newest attempt (None: there was none) and its job's labels."""
        return self.root.holds(Subject(view, last, job_labels))


def parse_where(text: str, source: str = "--where") -> Where:
    """Read a condition.

    Raises:
        InputError: it cannot be read; the message shows where.
    """
    root = _Parser(text, source).whole()
    return Where(root, any(field_named(name).of_attempt for name in _fields_of(root)))


def shown(node: Node) -> str:
    """Text that reads as `node` again."""
    match node:
        case Comparison(field=name, operator=sign, value=value):
            return f"{_shown_field(name)} {sign} {shown_value(name, value)}"
        case Not(inner=inner):
            return f"not ({shown(inner)})"
        case Both(left=left, right=right):
            return f"({shown(left)}) and ({shown(right)})"
        case Either(left=left, right=right):
            return f"({shown(left)}) or ({shown(right)})"


class _Parser:
    """Recursive descent over the words; every step either takes a word or says what was expected."""

    def __init__(self, text: str, source: str) -> None:
        self._text, self._source = text, source
        self._words = words_of(text, source)
        self._next = self._depth = self._comparisons = 0

    def whole(self) -> Node:
        node = self._either()
        if self._word.kind != "end":
            raise self._problem(f"{self._word.text!r} is left over", expected="`and`, `or`, or the end")
        return node

    def _either(self) -> Node:
        node = self._both()
        while self._take("or"):
            node = Either(node, self._both())
        return node

    def _both(self) -> Node:
        node = self._one()
        while self._take("and"):
            node = Both(node, self._one())
        return node

    def _one(self) -> Node:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._problem(f"more than {DEPTH_MAX} brackets and `not` inside one another")
        if self._take("not"):
            node: Node = Not(self._one())
        elif self._take("("):
            node = self._either()
            if not self._take(")"):
                raise self._problem("a bracket is not closed", expected="`)`, `and` or `or`")
        else:
            node = self._comparison()
        self._depth -= 1
        return node

    def _comparison(self) -> Comparison:
        self._comparisons += 1
        if self._comparisons > COMPARISONS_MAX:
            raise self._problem(f"more than {COMPARISONS_MAX} comparisons", expected="one `~` with a | b | c in it")
        name = self._field()
        sign = self._word
        if sign.kind != "operator":
            raise self._problem(f"{name} is compared with nothing", expected="== != < <= > >= ~ or !~")
        self._check_operator(name, sign)
        self._next += 1
        word = self._word
        if word.kind not in ("word", "quoted"):
            raise self._problem("a value is missing", expected="a word, a number, or text in quotes")
        self._next += 1
        if sign.text in ("~", "!~"):
            return Comparison(name, sign.text, word.value, self._pattern(word))
        try:
            value = value_of(name, word)
        except ValueError as error:
            raise self._refused(error, word) from error
        return Comparison(name, sign.text, value)

    def _field(self) -> str:
        word = self._word
        if word.kind != "word":
            raise self._problem("a field is missing", expected="command, state, priority, ... or `not` or `(`")
        try:
            name = word.value
            if name == LABEL and self._words[self._next + 1].kind == "quoted":  # label."with blanks"
                self._next += 1
                name += self._word.value
            field_named(name)
        except ValueError as error:
            raise self._refused(error, word) from error
        self._next += 1
        return name

    def _check_operator(self, name: str, sign: Word) -> None:
        is_text = not is_number(name)
        if sign.text in ("~", "!~") and not is_text:
            raise self._problem(f"{name} is a number: {sign.text} is for text", expected="== != < <= > or >=")
        if sign.text in _ORDER and is_text and not name.startswith(LABEL):
            raise self._problem(f"{name} is text: {sign.text} is for numbers", expected="== != ~ or !~")

    def _pattern(self, word: Word) -> re.Pattern[str]:
        try:
            with warnings.catch_warnings():  # of what may mean something else in a later Python
                warnings.simplefilter("ignore")
                return re.compile(word.value)
        except re.error as error:
            raise problem(
                self._text,
                self._source,
                word.at,
                f"{word.value!r} is no regular expression: {error}",
                hint="a backslash before a character takes its meaning away: \\( \\. \\+",
            ) from error
        except (OverflowError, RecursionError) as error:
            raise problem(self._text, self._source, word.at, "this regular expression is too large") from error

    @property
    def _word(self) -> Word:
        return self._words[self._next]

    def _take(self, mark: str) -> bool:
        if self._word.kind in ("mark", "keyword") and self._word.text == mark:
            self._next += 1
            return True
        return False

    def _refused(self, error: ValueError, word: Word) -> InputError:
        """An error says what is wrong, and perhaps what there is."""
        message, *known = error.args
        return problem(self._text, self._source, word.at, str(message), expected=known[0] if known else "")

    def _problem(self, message: str, expected: str = "") -> InputError:
        return problem(self._text, self._source, self._word.at, message, expected=expected)


def _equal(known: str | int | float | None, value: str | int | float) -> bool:
    if isinstance(value, str) or known is None:
        return known == value
    number = _number(known)
    return number is not None and number == value


def _number(known: str | int | float | None) -> int | float | None:
    """A label may hold a number."""
    if not isinstance(known, str):
        return known
    try:
        return float(known)
    except ValueError:
        return None


def _fields_of(node: Node) -> Iterator[str]:
    match node:
        case Comparison(field=name):
            yield name
        case Not(inner=inner):
            yield from _fields_of(inner)
        case Both(left=left, right=right) | Either(left=left, right=right):
            yield from _fields_of(left)
            yield from _fields_of(right)


def _shown_field(name: str) -> str:
    return LABEL + shown_value(name, name.removeprefix(LABEL)) if name.startswith(LABEL) else name
