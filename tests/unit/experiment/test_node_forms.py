"""Texts of the kernel that say the same are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.experiment.node_forms import (
    Form,
    cpus_of_mask,
    format_cpus,
    format_mask,
    meaning,
    parse_cpus,
    parse_frequency_khz,
    parse_switch,
    written,
)

CPUS = st.frozensets(st.integers(0, 300))


@given(CPUS)
def test_lists_and_masks_are_read_as_they_are_written(cpus: frozenset[int]) -> None:
    assert set(parse_cpus(format_cpus(cpus))) == cpus
    assert set(cpus_of_mask(format_mask(cpus))) == cpus


@pytest.mark.parametrize(
    ("one", "other", "form"),
    [
        ("always [madvise] never\n", "madvise", "choice"),
        ("0-1\n", "0,1", "cpulist"),
        ("00000000,00000003\n", "3", "mask"),
        ("007\n", "7", "number"),
        ("powersave\n", "powersave", "plain"),
        ("nonsense", "nonsense\n", "number"),
        ("", "\n", "cpulist"),
    ],
)
def test_the_same(one: str, other: str, form: Form) -> None:
    assert meaning(one, form) == meaning(other, form)


@pytest.mark.parametrize(
    ("one", "other", "form"),
    [
        ("always [madvise] never", "always", "choice"),
        ("0-1", "0-2", "cpulist"),
        ("f", "ff", "mask"),
        ("1", "-1", "number"),
    ],
)
def test_not_the_same(one: str, other: str, form: Form) -> None:
    assert meaning(one, form) != meaning(other, form)


def test_what_is_written_back() -> None:
    assert written("always [madvise] never\n", "choice") == "madvise\n"
    assert written("0-1\n", "cpulist") == "0-1\n"


@pytest.mark.parametrize("text", ["x", "3-1", "1-", "-1", "1,,x", "99999999"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match="expected cores such as"):
        parse_cpus(text)


def test_frequencies() -> None:
    assert (
        parse_frequency_khz("2.4GHz") == parse_frequency_khz("2400 mhz") == parse_frequency_khz("2400000") == 2_400_000
    )
    for text in ("fast", "0", "-1GHz", "2.4 THz"):
        with pytest.raises(ValueError, match="expected a frequency"):
            parse_frequency_khz(text)


def test_switches() -> None:
    assert parse_switch("ON") and parse_switch("1") and not parse_switch("off") and not parse_switch("False")
    with pytest.raises(ValueError, match="expected on or off"):
        parse_switch("perhaps")
