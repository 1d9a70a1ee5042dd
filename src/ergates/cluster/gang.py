"""A gang: one task on several nodes at once. Its members start together, and when one ends badly all end."""

from __future__ import annotations

from msgspec import Struct


class GangSeat(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One member's place in a gang.

    Args:
        rank: 0 to `size` - 1; rank 0 leads: its worker writes the attempt down.
        size: members, each of another worker.
        role: what it is called, where the members have roles.
        hosts: of all members, in the order of their ranks.
    """

    rank: int
    size: int
    role: str = ""
    hosts: tuple[str, ...] = ()


def role_of(roles: tuple[tuple[str, int], ...], rank: int) -> str:
    """Roles are given out in the order of the ranks: two servers, then three clients."""
    for name, count in roles:
        if rank < count:
            return name
        rank -= count
    return ""
