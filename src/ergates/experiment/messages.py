"""What the members of a run tell each other on its board. All members read all messages in one order, so all decide alike."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from ergates.experiment.run import Seated


class Joined(Struct, frozen=True, tag=True):
    """A member is there; nothing starts before all are."""

    seat: Seated


class ProgramReady(Struct, frozen=True, tag=True):
    """A program has shown that it is ready, or has started where it has nothing to show."""

    program: str


class ProgramEnded(Struct, frozen=True, tag=True):
    """`ok`: it ended well. Otherwise `problem` says in words how, with the last lines of its standard error."""

    program: str
    ok: bool
    problem: str = ""


class MemberFailed(Struct, frozen=True, tag=True):
    """The run cannot go on, for another reason than a program's end: a full disk, a time limit, an order from outside.

    `of_run`: the problem is the whole run's, not this member's.
    """

    problem: str
    of_run: bool = False


class MemberClosed(Struct, frozen=True, tag=True):
    """A member runs nothing any more and has written down what there was."""


Message = Joined | ProgramReady | ProgramEnded | MemberFailed | MemberClosed


class Said(Struct, frozen=True, kw_only=True):
    """A message as it stands on the board.

    Args:
        rank: who said it.
        number: of its messages, from 1: one that was sent again, because nobody knew whether it had arrived, counts once.
        message: what.
    """

    rank: int
    number: int
    message: Message


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Said)


def encode_said(said: Said) -> bytes:
    """One message, for the board."""
    return _encoder.encode(said)


def decode_said(data: bytes) -> Said:
    """Read one. Raises msgspec.DecodeError when it is none (a member of another version)."""
    return _decoder.decode(data)
