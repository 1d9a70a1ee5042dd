"""What the store on Redis writes into chunks and rows comes out as it went in."""

from __future__ import annotations

import pytest

from ergates.cluster.attempt import Attempt, Kept, Outcome, Output
from ergates.cluster.task import Stdin, TaskSpec
from ergates.cluster.usage import Usage
from ergates.drivers.stores.redis.chunks import ChunkCache, decode_part, encode_chunk, parts_of
from ergates.drivers.stores.redis.names import merged
from ergates.drivers.stores.redis.rows import entry_rows, pack_attempt, unpack_entry, unpack_kept
from ergates.drivers.stores.redis.scripts import script
from ergates.errors import UsageError
from ergates.units import Bytes, Nanoseconds, UsdMicros


def test_a_chunk_keeps_commands_that_are_no_text() -> None:
    specs = [
        TaskSpec(command="plain"),
        TaskSpec(command="caf\udce9"),
        TaskSpec(command=("a", "\udcff"), stdin=Stdin(data=b"\xff")),
    ]
    ((field, value),) = encode_chunk(3, 1537, specs)
    assert (field, parts_of(value), decode_part(value)) == ("3", None, specs)


def test_a_large_chunk_is_cut_into_parts_that_each_stand_alone() -> None:
    specs = [TaskSpec(command=f"{number}", payload=bytes(20_000)) for number in range(100)]
    (_, table), *parts = encode_chunk(0, 1, specs)
    starts = parts_of(table)
    assert starts is not None and len(starts) == len(parts) > 1
    for start, (field, value) in zip(starts, parts, strict=True):
        assert field == f"0.{start}"
        assert decode_part(value)[0] == specs[start]


def test_text_that_is_none_is_refused_with_the_number_of_the_task() -> None:
    with pytest.raises(UsageError, match="task 514"):
        encode_chunk(1, 513, [TaskSpec(command="c"), TaskSpec(command="c", env={"A": "\udce9"})])


def test_short_commands_cost_a_few_bytes() -> None:
    ((_, value),) = encode_chunk(0, 1, [TaskSpec(command=f"./run {number}") for number in range(512)])
    assert len(value) < 512 * 6


def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    cache = ChunkCache(2)
    for field in "ab":
        cache.put("u", field, [])
    assert cache.get("u", "a") == []
    cache.put("u", "c", [])
    assert cache.get("u", "b") is None and cache.get("u", "a") == []
    cache.forget("u")
    assert cache.get("u", "a") is None


def test_rows_know_who_ran_them() -> None:
    full = Attempt(
        number=2,
        outcome=Outcome.OOM_KILLED,
        worker="other",
        host="elsewhere",
        started_ns=Nanoseconds(10**18),
        ended_ns=Nanoseconds(10**18 + 5),
        signal=9,
        reason="killed \udcff",
        usage=Usage(wall_ns=Nanoseconds(5), peak_bytes=Bytes(7), peak_label="cgroup", cost_usd_micros=UsdMicros(3)),
        output=Output(pack="p", offset=3, stdout_bytes=2, stderr_bytes=1),
        predicted_bytes=99,
    )
    mine = Attempt(number=1, outcome=Outcome.SUCCEEDED, worker="w", host="h", exit_code=0)
    nobodys = Attempt(number=3, outcome=Outcome.LOST)
    kept = Kept(stdout=b"\0" * 10_000, result=b"r")
    entry = (
        b"12-1",
        [
            b"w", b"w h",
            b"7", pack_attempt(full, None, "w", "h"),
            b"8", pack_attempt(mine, kept, "w", "h"),
            b"9 dead far", pack_attempt(nobodys, None, "w", "h"),
        ],
    )  # fmt: skip
    one, two, three = unpack_entry(entry)
    assert (one.row, two.row, three.row, entry_rows(entry)) == (10, 11, 12, 3)
    assert (one.task, one.attempt.worker, one.attempt.reason) == (7, "other", "killed \\udcff")
    assert (one.attempt.usage, one.attempt.output, one.attempt.signal) == (full.usage, full.output, 9)
    assert two.attempt == mine
    assert two.kept is not None and unpack_kept(two.kept) == kept and len(two.kept) < 200
    assert (three.attempt.worker, three.attempt.host) == ("dead", "far")


def test_a_usual_row_is_small() -> None:
    usual = Attempt(
        number=1, outcome=Outcome.SUCCEEDED, worker="w", host="h", started_ns=Nanoseconds(10**18), exit_code=0,
        ended_ns=Nanoseconds(10**18), usage=Usage(wall_ns=Nanoseconds(10**9), cpu_ns=Nanoseconds(10**9), peak_bytes=Bytes(10**8)),
    )  # fmt: skip
    assert len(pack_attempt(usual, None, "w", "h")) < 100


def test_ranges_are_merged_and_cut() -> None:
    assert merged([(5, 9), (-3, 2), (3, 3), (20, 10), (8, 99)], 30) == [(1, 3), (5, 30)]


@pytest.mark.parametrize("name", ["exchange", "publish", "cancel"])
def test_a_script_is_known_by_what_it_says(name: str) -> None:
    made = script(name)
    assert made is script(name) and len(made.sha) == 40
    assert b"local META" in made.source
