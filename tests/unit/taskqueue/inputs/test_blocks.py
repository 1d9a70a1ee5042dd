"""Cutting a stream at the ends of records."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ergates.errors import InputError
from ergates.taskqueue.inputs.blocks import RECORD_BYTES_MAX, blocks, mark_bytes
from ergates.taskqueue.inputs.request import PipeOptions
from ergates.units import Bytes


def cut(text: bytes, options: PipeOptions, chunk_bytes: int = 3) -> list[bytes]:
    chunks = [text[at : at + chunk_bytes] for at in range(0, len(text), chunk_bytes)]
    return list(blocks(chunks, options, "<stdin>"))


def size(block_bytes: int, recstart: bytes = b"", recend: bytes | None = None) -> PipeOptions:
    return PipeOptions(block_bytes=Bytes(block_bytes), recstart=recstart, recend=recend)


FASTA = b">a\n1\n>b\n2\n>c\n3\n"


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    # as GNU parallel 20221122 --pipe cuts them
    [
        (b"1\n2\n3\n4\n5\n", PipeOptions(records=2), [b"1\n2\n", b"3\n4\n", b"5\n"]),
        (b"x>a>b>c", PipeOptions(records=2, recend=b">"), [b"x>a>", b"b>c"]),
        (FASTA, PipeOptions(records=2, recstart=b">"), [b">a\n1\n>b\n2\n", b">c\n3\n"]),
        (b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", size(6), [b"1\n2\n3\n", b"4\n5\n6\n", b"7\n8\n9\n", b"10\n"]),
        (FASTA, size(6, recstart=b">"), [b">a\n1\n", b">b\n2\n", b">c\n3\n"]),
        (b"hdr" + FASTA, size(1, recstart=b">", recend=b"\n"), [b"hdr>a\n1\n", b">b\n2\n", b">c\n3\n"]),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, 2, 5, 100])
def test_blocks_are_those_of_gnu_parallel(
    text: bytes, options: PipeOptions, expected: list[bytes], chunk_bytes: int
) -> None:
    assert cut(text, options, chunk_bytes) == expected


def test_a_record_larger_than_a_block_is_a_block_of_its_own() -> None:
    assert cut(b"a\nbbbbbbbbbb\nc\n", size(4)) == [b"a\n", b"bbbbbbbbbb\n", b"c\n"]
    assert cut(b"aaaaaaaaaaaa", size(4)) == [b"aaaaaaaaaaaa"]


def test_a_block_is_filled_to_its_last_byte() -> None:
    assert cut(FASTA, size(10, recstart=b">")) == [b">a\n1\n>b\n2\n", b">c\n3\n"]
    assert cut(FASTA, size(9, recstart=b">")) == [b">a\n1\n", b">b\n2\n", b">c\n3\n"]


def test_an_empty_stream_has_no_blocks() -> None:
    assert cut(b"", size(4)) == []


@settings(max_examples=500)
@given(
    text=st.binary(max_size=120) | st.lists(st.sampled_from([b"\n", b">", b"ab", b"c"]), max_size=60).map(b"".join),
    block_bytes=st.integers(1, 20),
    records=st.none() | st.integers(1, 4),
    marks=st.sampled_from(
        [(b"", None), (b">", None), (b"", b">"), (b">", b"\n"), (b"ab", b""), (b"", b"ab"), (b">>", b">")]
    ),
    chunk_bytes=st.integers(1, 130),
)
@example(text=b">>>>", block_bytes=1, records=None, marks=(b">>", b">"), chunk_bytes=1)
@example(text=b"ab\0", block_bytes=1, records=None, marks=(b"", b"ab"), chunk_bytes=1)
@example(text=b"abab\0", block_bytes=1, records=None, marks=(b"", b"ab"), chunk_bytes=1)
def test_blocks_joined_are_the_stream_and_end_where_records_end(
    text: bytes, block_bytes: int, records: int | None, marks: tuple[bytes, bytes | None], chunk_bytes: int
) -> None:
    recstart, recend = marks
    options = PipeOptions(block_bytes=Bytes(block_bytes), records=records, recstart=recstart, recend=recend)
    found = cut(text, options, chunk_bytes)
    assert b"".join(found) == text
    assert all(found)
    end = recend if recend is not None else (b"" if recstart else b"\n")
    for index, (block, following) in enumerate(itertools.pairwise(found)):
        assert block.endswith(end)
        assert following.startswith(recstart)
        if records is None and len(block) > block_bytes:
            # It could not have been cut earlier, but inside the mark it begins with.
            least = max(0, 1 - len(end), len(recstart) if index else 0)
            assert (end + recstart) not in (block + recstart)[least : len(block) + len(recstart) - 1]
        if records is None and len(block) < block_bytes:
            # Nothing more would have fitted in: the next place to cut is beyond, or there is none.
            rest = b"".join(found[index:])
            assert rest.find(end + recstart, len(block) - len(end) + 1, block_bytes + len(recstart)) < 0
    # The chunks in which a stream comes do not matter.
    assert found == cut(text, options, max(1, len(text)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (size(0), "at least one byte"),
        (PipeOptions(records=0), "one record"),
        (size(1, recend=b""), "records need a mark"),
        (size(RECORD_BYTES_MAX + 1), "--block"),
    ],
)
def test_impossible_options_are_errors(options: PipeOptions, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cut(b"a", options)


def test_a_stream_without_ends_of_records_does_not_fill_the_memory() -> None:
    chunk = b"x" * (16 * 1024 * 1024)
    with pytest.raises(InputError, match="without an end of its records"):
        list(blocks((chunk for _ in range(1_000_000)), PipeOptions(), "<stdin>"))


def test_marks_are_typed_with_escapes() -> None:
    assert mark_bytes(r"\n>") == b"\n>"
    assert mark_bytes(r"a\tb\0\\\x41\q") == b"a\tb\0\\A\\q"
    assert mark_bytes("é") == "é".encode()
