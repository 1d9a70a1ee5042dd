"""A table for people: aligned columns that fit the terminal. Pure: rows in, lines out.

One column may be elastic; it is shortened first when the terminal is narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ergates.cli.wording import shortened

_GAP = "  "
_ELASTIC_MIN = 8


@dataclass(frozen=True, slots=True)
class Column:
    """Heading and behaviour of one column; `elastic` columns give way when the terminal is narrow."""

    heading: str
    align: Literal["left", "right"] = "left"
    elastic: bool = False


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Heading and rows; at most `width` characters a line where the elastic column allows it (None: no limit).

    A column that is empty in every row is left out.
    """
    kept = [i for i, _ in enumerate(columns) if not rows or any(row[i] for row in rows)]
    widths = {i: max([len(columns[i].heading), *(len(clean(row[i])) for row in rows)]) for i in kept}
    elastic = [i for i in kept if columns[i].elastic]
    if width is not None and elastic:
        excess = sum(widths.values()) + len(_GAP) * (len(kept) - 1) - width
        for i in elastic:
            cut = min(max(0, excess), max(0, widths[i] - max(_ELASTIC_MIN, len(columns[i].heading))))
            widths[i] -= cut
            excess -= cut
    lines = [_line(columns, [column.heading for column in columns], kept, widths)]
    lines += [_line(columns, row, kept, widths) for row in rows]
    return lines


def clean(text: str) -> str:
    """Text that cannot move the cursor or change colours: control characters and stray bytes are shown, not sent."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def _line(columns: Sequence[Column], cells: Sequence[str], kept: Sequence[int], widths: dict[int, int]) -> str:
    shown = []
    for i in kept:
        cell = shortened(clean(cells[i]), widths[i])
        shown.append(cell.rjust(widths[i]) if columns[i].align == "right" else cell.ljust(widths[i]))
    return _GAP.join(shown).rstrip()
