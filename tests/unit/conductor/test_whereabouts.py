"""Which host is asked first for a member's folder."""

from __future__ import annotations

from ergates.conductor.whereabouts import Whereabouts
from ergates.experiment.host import ExperimentHost

HOSTS = [ExperimentHost(name=f"n{number}", group="lab", address="") for number in range(4)]
OTHER = ExperimentHost(name="m", group="other", address="")


def names(where: Whereabouts, attempt: str, member: str, known: str = "") -> list[str]:
    return [host.name for host in where.order("lab", attempt, member, known)]


def test_all_of_the_group_in_their_order_where_nothing_is_known() -> None:
    assert names(Whereabouts([OTHER, *HOSTS]), "a", "0-x") == ["n0", "n1", "n2", "n3"]


def test_first_who_the_store_names() -> None:
    assert names(Whereabouts(HOSTS), "a", "0-x", "n2") == ["n2", "n0", "n1", "n3"]
    assert names(Whereabouts(HOSTS), "a", "0-x", "vm") == ["n0", "n1", "n2", "n3"]


def test_who_has_another_member_of_the_attempt_is_asked_last() -> None:
    where = Whereabouts(HOSTS)
    where.found(HOSTS[0], "a", "0-x")
    where.found(HOSTS[2], "a", "1-x")
    assert names(where, "a", "2-x") == ["n1", "n3", "n0", "n2"]
    assert names(where, "b", "2-x") == ["n0", "n1", "n2", "n3"]


def test_who_had_the_rank_the_last_time_is_asked_first_unless_it_has_another_now() -> None:
    where = Whereabouts(HOSTS)
    where.found(HOSTS[3], "a", "1-x")
    assert names(where, "b", "1-x") == ["n3", "n0", "n1", "n2"]
    where.found(HOSTS[3], "b", "0-x")
    assert names(where, "b", "1-x") == ["n0", "n1", "n2", "n3"]
