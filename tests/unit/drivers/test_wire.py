from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ergates.drivers.launchers import wire

BODIES = st.recursive(
    st.none() | st.integers(-(2**62), 2**62) | st.binary(max_size=50) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple),
    max_leaves=12,
)


@given(st.lists(st.tuples(st.integers(0, 255), BODIES), max_size=8), st.integers(1, 64))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    frames: list[tuple[int, object]], piece_bytes: int
) -> None:
    stream = b"".join(wire.encode(kind, body) for kind, body in frames)
    buffer = bytearray()
    found: list[tuple[int, object]] = []
    for at in range(0, len(stream), piece_bytes):
        buffer += stream[at : at + piece_bytes]
        found += wire.decode(buffer)
    assert found == frames
    assert not buffer


def test_a_large_result_comes_through() -> None:
    data = bytes(range(256)) * 100_000
    assert wire.decode(bytearray(wire.encode(wire.REPORT, ([(1, data)], None)))) == [(wire.REPORT, ([(1, data)], None))]
