"""What a store of many machines must do with gangs whose roles ask for labels of their own. A test file of a driver subclasses
`RolesContract` next to `GangsContract`; the rig is the same.
"""

from __future__ import annotations

import random
from typing import cast

import pytest
from store_gangs_contract import gang, whole
from store_rig import LEASE_NS, SECOND, Rig, Store, at, look, recount, register, states, submit

from ergates.cluster.task import JobId, Requirement, TaskSpec
from ergates.errors import UsageError
from ergates.taskqueue.gang_roles import kind_of
from ergates.taskqueue.store import Assembling, Commit, Exchanged, Lease, Offer, PastFailures, Returned, Want
from ergates.taskqueue.unfit import UnfitClasses
from ergates.units import GIB, Bytes

Labels = tuple[tuple[str, str], ...]
ROLES = (("server", 1), ("client", 2))
BY_GROUP = (("server", (("group", "big"),)), ("client", (("group", "small"),)))


def roles(
    *, counts: tuple[tuple[str, int], ...] = ROLES, labels: tuple[tuple[str, Labels], ...] = BY_GROUP, priority: int = 0
) -> TaskSpec:
    return gang(sum(count for _, count in counts), roles=counts, role_labels=labels, priority=priority)


class Node:
    """A worker that judges what it is offered by its labels, as real ones do, and has room for a member whenever it is asked."""

    def __init__(self, store: Store, name: str, now: float = 0, **labels: str) -> None:
        self.store, self.name, self.labels = store, name, labels
        self._unfit = UnfitClasses(
            lambda needed, _: None if kind_of(needed, self.labels) else "no role", lambda: self.labels
        )
        self.leases: list[Lease] = []
        register(store, name, f"h-{name}", now)

    def look(self, now: float = 0) -> Exchanged:
        """One exchange without a want; what is on offer is judged."""
        return self.exchange((), now)

    def sit(self, now: float = 0) -> Exchanged:
        """Ask for a seat if one is on offer, whatever else is."""
        offers = self.look(now).offers
        unfit = self._unfit.ids(now_ns=0)
        fit = [offer for offer in offers if offer.requirement.nodes > 1 and offer.class_id not in unfit]
        return self.exchange(tuple(want(offer) for offer in fit[:1]), now)

    def exchange(self, wants: tuple[Want, ...], now: float) -> Exchanged:
        answer = self.store.exchange(self.name, [], wants, at(now), unfit=self._unfit.ids(now_ns=0))
        self._unfit.offered(answer.offers, now_ns=0)
        self.leases += answer.leases
        return answer


def want(offer: Offer) -> Want:
    return Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=1)


def judged(*nodes: Node, now: float = 0) -> None:
    """All have seen what is on offer, and the store knows what they make of it."""
    for _ in range(2):
        for node in nodes:
            node.look(now)


def gangs_of(*nodes: Node, now: float = 0) -> list[tuple[int, str]]:
    """Rank and role of the one member that each of them got."""
    for node in nodes:
        node.look(now)
    places = []
    for node in nodes:
        (lease,) = node.leases
        assert lease.gang is not None
        places.append((lease.gang.rank, lease.gang.role))
    return places


def assembling(store: Store) -> bool:
    return cast(Assembling, store).assembling() is not None


class RolesContract:
    """Who may sit, who is dealt which role, what is never started."""

    def test_ranks_follow_the_roles_in_whatever_order_seats_are_taken(self, rig: Rig) -> None:
        job = submit(rig.store, [roles()]).id
        small, other, big = (Node(rig.store, f"w{n}", group=group) for n, group in enumerate(("small", "small", "big")))
        for node in (small, other):
            assert node.sit().seat is not None
        big.sit()
        assert gangs_of(big, small, other) == [(0, "server"), (1, "client"), (2, "client")]
        assert {lease.gang.hosts for node in (small, big) for lease in node.leases if lease.gang} == {
            ("h-w2", "h-w0", "h-w1")
        }
        assert states(rig.store, job) == {1: "leased"}
        recount(rig.store)

    def test_a_role_has_no_more_seats_than_it_says(self, rig: Rig) -> None:
        submit(rig.store, [roles(), TaskSpec(command="other", priority=-1)])
        first, second = Node(rig.store, "w1", group="big"), Node(rig.store, "w2", group="big")
        clients = [Node(rig.store, f"c{n}", group="small") for n in (1, 2)]
        assert first.sit().seat is not None
        answer = second.sit()
        assert answer.seat is None and [offer.requirement.nodes for offer in answer.offers] == [1]
        assert [offer.requirement.nodes for offer in first.look().offers] == [1]
        for node in clients:
            node.sit()
        assert gangs_of(first, *clients) == [(0, "server"), (1, "client"), (2, "client")]
        assert second.leases == []

    def test_who_knows_only_now_that_its_role_is_full_gets_no_seat(self, rig: Rig) -> None:
        """The second was offered the gang before it could say which role it can take."""
        submit(rig.store, [roles()])
        nodes = [Node(rig.store, f"w{n}", group=group) for n, group in enumerate(("big", "big", "small", "small"))]
        offers = [node.look().offers for node in nodes]
        assert all(offers)
        assert nodes[0].sit().seat is not None
        answer = nodes[1].exchange((want(offers[1][0]),), 0)
        assert answer.seat is None and answer.offers == ()
        seat = nodes[2].sit().seat
        assert seat is not None and (seat.taken, seat.size) == (2, 3)

    def test_it_is_not_offered_while_nobody_can_take_one_of_its_roles(self, rig: Rig) -> None:
        submit(rig.store, [roles()])
        nodes = [Node(rig.store, f"w{n}", group="small") for n in range(4)]
        judged(*nodes)
        assert [node.look(2).offers for node in nodes] == [()] * 4
        assert not assembling(rig.store)
        late = Node(rig.store, "big", now=4, group="big")
        late.sit(4)
        for node in nodes[:2]:
            assert node.look(4).offers or node.look(4).seat
            node.sit(4)
        assert gangs_of(late, *nodes[:2], now=4) == [(0, "server"), (1, "client"), (2, "client")]

    def test_it_is_not_offered_while_two_roles_have_too_few_between_them(self, rig: Rig) -> None:
        """Three could take either role alone, and together they ask for four."""
        both = (("left", (("rack", "a"),)), ("right", (("rack", "a"),)))
        submit(rig.store, [roles(counts=(("left", 2), ("right", 2)), labels=both)])
        nodes = [Node(rig.store, f"w{n}", rack="a") for n in range(3)]
        others = [Node(rig.store, f"x{n}", rack="b") for n in range(3)]
        judged(*nodes, *others)
        assert [node.look(2).offers for node in (*nodes, *others)] == [()] * 6
        assert not assembling(rig.store)

    def test_who_can_take_several_roles_never_stands_in_the_way(self, rig: Rig) -> None:
        """The first could be server or client and sits first; the second can be nothing but a server."""
        labels = (("server", (("group", "big"),)), ("client", (("disk", "ssd"),)))
        submit(rig.store, [roles(counts=(("server", 1), ("client", 1)), labels=labels)])
        able = Node(rig.store, "w1", group="big", disk="ssd")
        server = Node(rig.store, "w2", group="big", disk="hdd")
        assert able.sit().seat is not None
        server.sit()
        assert gangs_of(able, server) == [(1, "client"), (0, "server")]

    def test_a_role_without_labels_takes_anybody(self, rig: Rig) -> None:
        submit(rig.store, [roles(labels=BY_GROUP[:1])])
        bigs = [Node(rig.store, f"w{n}", group="big") for n in range(2)]
        none = Node(rig.store, "none")
        none.sit()
        for node in bigs:
            node.sit()
        assert gangs_of(*bigs, none) == [(0, "server"), (2, "client"), (1, "client")]

    def test_labels_may_change_while_it_assembles(self, rig: Rig) -> None:
        submit(rig.store, [roles()])
        node, server = Node(rig.store, "w1", group="big"), Node(rig.store, "w2", group="big")
        small = [Node(rig.store, f"c{n}", group="small") for n in (1, 2)]
        judged(node, server, *small)
        assert node.sit().seat is not None and server.sit().seat is None
        node.labels = {"group": "small"}
        assert node.look(1).seat is not None, "it can be a client now, and a client is wanted"
        assert server.sit(1).seat is not None
        node.labels = {"group": "big"}
        assert node.look(2).seat is None, "the server's seat is another's by now"
        node.labels = {"group": "neither"}
        assert node.look(3).seat is None
        for client in small:
            client.sit(4)
        assert gangs_of(server, *small, now=4) == [(0, "server"), (1, "client"), (2, "client")]

    def test_a_member_that_runs_keeps_its_role(self, rig: Rig) -> None:
        job = submit(rig.store, [roles(counts=(("server", 1), ("client", 1)))]).id
        server, client = Node(rig.store, "w1", group="big"), Node(rig.store, "w2", group="small")
        server.sit()
        client.sit()
        places = gangs_of(server, client)
        server.labels, client.labels = {"group": "small"}, {}
        for node in (server, client):
            assert node.look(1).revoked == ()
        assert places == [(0, "server"), (1, "client")] and states(rig.store, job) == {1: "leased"}

    def test_a_seat_of_a_role_is_free_again_when_its_worker_goes(self, rig: Rig) -> None:
        submit(rig.store, [roles(counts=(("server", 1), ("client", 1)))])
        server, spare = Node(rig.store, "w1", group="big"), Node(rig.store, "w2", group="big")
        client = Node(rig.store, "c", group="small")
        judged(server, spare, client)
        assert server.sit().seat is not None and spare.sit().seat is None
        rig.store.leave("w1", at(1))
        assert spare.sit(2).seat is not None
        silent = LEASE_NS / SECOND + 5
        server = Node(rig.store, "w1", now=silent, group="big")
        client.look(silent)
        assert server.sit(silent).seat is not None
        client.sit(silent)
        assert gangs_of(server, client, now=silent) == [(0, "server"), (1, "client")]

    def test_another_gang_has_its_turn_where_a_role_is_nobodys(self, rig: Rig) -> None:
        submit(rig.store, [roles(priority=5)])
        plain = submit(rig.store, [gang(2)], key="plain").id
        nodes = [Node(rig.store, f"w{n}", group="small") for n in range(2)]
        judged(*nodes)
        for node in nodes:
            (offer,) = node.look(2).offers
            assert offer.job == plain
            node.sit(2)
        assert gangs_of(*nodes, now=2) == [(0, ""), (1, "")]

    def test_the_numbers_of_roles_are_no_classes(self, rig: Rig) -> None:
        """A worker that fits some roles only is offered everything else."""
        submit(rig.store, [roles(), *(gang(2, cpus_milli=100 * n) for n in range(1, 4))])
        node = Node(rig.store, "w1", group="big")
        Node(rig.store, "w2")
        judged(node)
        rig.store.cancel(JobId("j1"), [(1, 1)], "", at(2))
        for task in range(2, 5):
            (offer,) = node.look(task * 2).offers
            assert offer.requirement.cpus_milli == (task - 1) * 100
            rig.store.cancel(JobId("j1"), [(task, task)], "", at(task * 2))

    def test_what_was_asked_for_comes_back_as_it_was(self, rig: Rig) -> None:
        task = roles(counts=(("server", 1), ("client", 1)))
        job = submit(rig.store, [task, TaskSpec(command="old", requirement=Requirement(nodes=2, roles=ROLES[:1]))]).id
        again = rig.open()
        assert [view.spec.requirement for view in again.tasks(job)] == [
            task.requirement,
            Requirement(nodes=2, roles=ROLES[:1]),
        ]
        assert {offer.requirement.role_labels for offer in again.waiting(job)} == {BY_GROUP, ()}
        server, client = Node(again, "w1", group="big"), Node(again, "w2", group="small")
        server.sit()
        client.sit()
        server.look()
        assert {lease.spec.requirement for node in (server, client) for lease in node.leases} == {task.requirement}

    def test_roles_are_kept_when_it_comes_back_needing_more(self, rig: Rig) -> None:
        job = submit(rig.store, [roles(counts=(("server", 1), ("client", 1)))]).id
        server, client = Node(rig.store, "w1", group="big"), Node(rig.store, "w2", group="small")
        client.sit()
        server.sit()
        gangs_of(server, client)
        (lease,) = server.leases
        more = Requirement(nodes=2, roles=(("server", 1), ("client", 1)), role_labels=BY_GROUP, memory_bytes=Bytes(GIB))
        back = Returned(past=PastFailures(memory=1), requirement=more)
        ended = Commit(job=job, task=lease.task, fence=lease.fence, attempt=None, verdict=back)
        assert rig.store.exchange("w1", [ended], [], at(1)).refused == ()
        server.leases, client.leases = [], []
        client.look(2)
        client.sit(2)
        server.sit(2)
        assert gangs_of(server, client, now=2) == [(0, "server"), (1, "client")]
        assert server.leases[0].spec.requirement == more
        assert whole(server.leases[0]).fence > lease.fence and look(rig.store, "w1", now=3).revoked == ()

    def test_roles_that_nobody_could_ever_fill_are_refused(self, rig: Rig) -> None:
        for wrong, said in (
            (Requirement(nodes=3, roles=ROLES[:1], role_labels=BY_GROUP[:1]), "a gang of 3 nodes has roles for 1"),
            (Requirement(nodes=3, roles=ROLES, role_labels=(("sever", ()),)), "its role sever"),
        ):
            with pytest.raises(UsageError, match=said):
                submit(rig.store, [TaskSpec(command="x", requirement=wrong)])
        assert rig.store.jobs() == ()

    @pytest.mark.parametrize("seed", range(20))
    def test_it_starts_exactly_where_its_roles_can_be_filled(self, rig: Rig, seed: int) -> None:
        rng = random.Random(f"{seed}/roles")
        names = ["p", "q", "r"][: rng.randint(1, 3)]
        labels = tuple((role, ((rng.choice("abc"), "1"),)) for role in names if rng.random() < 0.8)
        counts = tuple((role, rng.randint(1, 2)) for role in names)
        needed = dict(labels)
        if not labels or sum(count for _, count in counts) < 2:
            return  # no gang, or one of members that are all alike
        submit(rig.store, [roles(counts=counts, labels=labels)])
        nodes = [
            Node(rig.store, f"w{n}", 0, **{name: "1" for name in "abc" if rng.random() < 0.5})
            for n in range(rng.randint(2, 6))
        ]
        judged(*nodes)
        rng.shuffle(nodes)
        for now in (2, 4):
            for node in nodes:
                node.sit(now)
        for node in nodes:
            node.look(6)
        members = [(node, lease.gang) for node in nodes for lease in node.leases if lease.gang]
        wanted = [set(needed.get(role, ())) for role, count in counts for _ in range(count)]
        assert len(members) == (
            len(wanted) if _can_be_filled(wanted, [set(node.labels.items()) for node in nodes]) else 0
        )
        for node, seat in members:
            assert set(node.labels.items()) >= set(needed.get(seat.role, ())), seat
        assert [seat.role for _, seat in sorted(members, key=lambda pair: pair[1].rank)] == [
            role for role, count in counts for _ in range(count) if members
        ]


def _can_be_filled(wanted: list[set[tuple[str, str]]], there: list[set[tuple[str, str]]]) -> bool:
    """Try every way to give the first role to somebody, then the others."""
    if not wanted:
        return True
    return any(
        _can_be_filled(wanted[1:], [*there[:place], *there[place + 1 :]])
        for place, labels in enumerate(there)
        if labels >= wanted[0]
    )
